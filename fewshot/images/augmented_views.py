"""Pictures of a table as an encoder takes them, augmented by key: anew each time, or in V fixed views.

A view is a pure function of (seed, row, view). V of them bound what can be seen of a picture, so that what a frozen trunk makes
of each can be kept; which of them stands at a place of a step is drawn by the place's key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from episodes.counter_random import random_bits
from episodes.decoding import decode, read_bytes
from fewshot.images.augmentation import Augmentation
from fewshot.images.transform import Pixels, clip_pixels


def view_of(key: int, views: int) -> int:
    """Which of the V views a place of a step shows."""
    return key % views


class PictureSource:
    """Decoded and augmented pictures by (row, key); see `fewshot.training.steps.Source`. It can be sent to worker processes."""

    dtype = torch.uint8

    def __init__(
        self,
        items: Sequence[Any],
        image_size: int,
        augmentation: Augmentation | None,
        *,
        views: int | None = None,
        seed: int = 0,
        read: Callable[[Any], bytes] = read_bytes,
    ) -> None:
        """Store what is read and how it is augmented; nothing is opened yet.

        Args:
            items: those of the table.
            image_size: pictures become (3, image_size, image_size).
            augmentation: None is CLIP's test transform.
            views: every picture has this many fixed augmented views; None augments anew each time.
            seed: of the fixed views.
            read: gives the bytes of an item.
        """
        self.shape = (3, image_size, image_size)
        self.items, self._augmentation, self._views, self._seed, self._read = items, augmentation, views, seed, read
        self._augment: Callable[[Any, int], Pixels] | None = None  # built where it is used: it need not be picklable

    def __len__(self) -> int:
        return len(self.items)

    def __call__(self, row: int, key: int) -> Tensor:
        """(3, H, W) uint8.

        Raises:
            UnreadableImage: the file cannot be read or decoded.
        """
        if self._views is None:
            return self._pictures(row, [random_bits(key, row)])[0]
        return self._pictures(row, [self._key(row, view_of(key, self._views))])[0]

    def views(self, row: int) -> Tensor:
        """(V, 3, H, W) uint8: all views of a picture, from one decoding; one view where V is not set. Raises as `__call__`."""
        return torch.stack(self._pictures(row, [self._key(row, view) for view in range(self._views or 1)]))

    def _key(self, row: int, view: int) -> int:
        return random_bits(self._seed, "view", row, view)

    def _pictures(self, row: int, keys: list[int]) -> list[Tensor]:
        data, size = self._read(self.items[row]), self.shape[1]
        if self._augmentation is None:
            return [torch.from_numpy(clip_pixels(data, size))] * len(keys)
        if self._augment is None:
            self._augment = self._augmentation.build(size)
        # Twice the target size in the smallest crop, as in the test transform.
        image = decode(data, at_least=math.ceil(2 * size / math.sqrt(self._augmentation.crop_scale[0])))
        return [torch.from_numpy(self._augment(image, key)) for key in keys]
