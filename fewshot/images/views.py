"""Test-time views: the picture, and variants of it whose embeddings are averaged (`--embed_views`, `fewshot.embedding.embed`).

A centre zoom shows the object larger, a mirror image is what every natural picture could have been; their mean embedding has less of
what depends on framing. Test-time augmentation as in Krizhevsky et al. 2012 (ten crops), for prototypes and queries alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from episodes.decoding import UnreadableImage
from fewshot.images.transform import Pixels, clip_pixels, crop_corner


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    Attributes:
        zoom: how much larger than in CLIP's test transform the middle of the picture appears.
        mirrored: left and right swapped.
    """

    zoom: float = 1.0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """Stands for the view in cache keys; '' for the picture as it is, whose keys are those of one view."""
        return "" if self == View() else f"zoom{self.zoom}{'-mirrored' if self.mirrored else ''}"


#: What `--embed_views N` averages: the first N of these.
VIEWS = (View(), View(1.25), View(mirrored=True), View(1.25, mirrored=True))


def view_pixels(data: bytes, size: int, view: View) -> Pixels:
    """The bytes of a picture file -> one view of it, (3, size, size) uint8; the zoom is taken from the file's own pixels.

    Raises:
        UnreadableImage: see `episodes.decoding.decode`.
    """
    large = round(size * view.zoom)
    pixels = clip_pixels(data, large)
    left, top = crop_corner(large, large, size)
    pixels = pixels[:, top : top + size, left : left + size]
    return np.ascontiguousarray(pixels[:, :, ::-1] if view.mirrored else pixels)


def view_tensors(files: Sequence[bytes], size: int, view: View) -> list[Tensor | UnreadableImage]:
    """`view_pixels` of each file as a tensor, or why it cannot be read."""
    found: list[Tensor | UnreadableImage] = []
    for data in files:
        try:
            found.append(torch.from_numpy(view_pixels(data, size, view)))
        except UnreadableImage as error:
            found.append(error)
    return found
