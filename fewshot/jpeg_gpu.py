"""JPEG decoding on the GPU that computes, where there is one: a few processor cores cannot feed it.

The pictures it is not made for (other formats, CMYK, cut off) are decoded as everywhere else. nvJPEG's pixels are not libjpeg's to
the last bit, so it is used only where a check at the start finds embeddings within 1e-3 (cosine) of those from the processor's
pixels, and never at precision 32.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fewshot.encoders.base import VisionEncoder
from fewshot.images import LONGEST, UnreadableImage, clip_tensors, crop_corner, normalise, resized

NAME = "nvjpeg-1"  # in cache keys: a change that moves a pixel renames it
TOLERANCE = 1e-3  # of cosine similarity, between embeddings of both decoders' pixels
_PIXELS = 16_000_000  # decoded together at most: 50 MB, and 200 MB more while one such picture is resized
_ORIENTATION = 0x0112

# Files, (bytes,) uint8 each -> RGB (3, H, W) uint8 on the device; RuntimeError where it cannot read one of them.
DecodeJpegs = Callable[[list[Tensor]], list[Tensor]]


class GpuDecoder:
    """Picture files -> CLIP's test transform of them, (3, size, size) uint8 on the device; called from several threads."""

    name = NAME

    def __init__(self, device: torch.device, size: int, decode: DecodeJpegs) -> None:
        self._device, self._size, self._decode = device, size, decode
        self._one = threading.Lock()  # the decoder works on one list at a time; so memory is bounded by one

    def __call__(self, files: Sequence[bytes]) -> list[Tensor | UnreadableImage]:
        """The transform of each file, or why it cannot be read."""
        found: dict[int, Tensor | UnreadableImage] = {}
        headers = {place: header for place, data in enumerate(files) if (header := read_header(data)) is not None}
        for group in _groups(headers):
            decoded = self.together([files[place] for place in group])
            for place, picture in zip(group, decoded, strict=True):
                if picture is not None:
                    found[place] = self._transform(picture, headers[place][1])
        left = [place for place in range(len(files)) if place not in found]
        found.update(zip(left, clip_tensors([files[place] for place in left], self._size), strict=True))
        moved = {place: pixels for place in left if isinstance(pixels := found[place], Tensor)}
        if moved:
            found.update(zip(moved, torch.stack(list(moved.values())).to(self._device), strict=True))
        return [found[place] for place in range(len(files))]

    def together(self, files: list[bytes]) -> list[Tensor | None]:
        """Decoded pictures; None for each that the decoder refuses, which spoils the list it is in."""
        try:
            with self._one:
                return list(self._decode([torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]))
        except RuntimeError:
            return [None] if len(files) == 1 else [self.together([data])[0] for data in files]

    def _transform(self, pixels: Tensor, orientation: int) -> Tensor:
        upright = turned(pixels, orientation)
        height, width = upright.shape[1:]
        wide, high = resized(width, height, self._size)
        if (wide, high) != (width, height):
            values = F.interpolate(upright[None].float(), (high, wide), mode="bicubic", antialias=True)[0]
            upright = values.round_().clamp_(0, 255).to(torch.uint8)
        left, top = crop_corner(wide, high, self._size)
        return upright[:, top : top + self._size, left : left + self._size]


def read_header(data: bytes) -> tuple[int, int] | None:
    """(pixels, EXIF orientation) of a JPEG that both decoders see alike; None for every other file.

    Left to the processor: what is not a plain grey or YCbCr JPEG, what ends before its end marker (of which the decoders think
    differently), threads of pictures, which are cropped before they are resized, and very large ones, which are decoded at a
    reduced scale.
    """
    if not data.startswith(b"\xff\xd8") or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    try:
        image = Image.open(io.BytesIO(data))
        plain = image.format == "JPEG" and image.mode in ("RGB", "L") and image.info.get("adobe_transform", 1) == 1
        pixels = image.width * image.height
        if not plain or pixels > _PIXELS or max(image.size) > LONGEST * min(image.size):
            return None
        return pixels, int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever is wrong with it, the processor's decoder says so in its own words
        return None


def turned(pixels: Tensor, orientation: int) -> Tensor:
    """(3, H, W) as stored -> upright, by EXIF's orientation 1 to 8; other numbers mean nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 2)
    across, down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    axes = [axis for axis, mirrored in ((2, across), (1, down)) if mirrored]
    return pixels.flip(axes) if axes else pixels


def _groups(headers: dict[int, tuple[int, int]]) -> Iterator[list[int]]:
    """Places of pictures that are decoded together."""
    group: list[int] = []
    held = 0
    for place, (pixels, _) in headers.items():
        if group and held + pixels > _PIXELS:
            yield group
            group, held = [], 0
        group.append(place)
        held += pixels
    if group:
        yield group


def gpu_decoder(encoder: VisionEncoder) -> GpuDecoder | None:
    """The decoder of the encoder's GPU; None without one, where torchvision cannot use it, or where the check fails."""
    if encoder.device.type != "cuda":
        return None
    try:
        return checked(GpuDecoder(encoder.device, encoder.image_size, _nvjpeg(encoder.device)), encoder)
    except (ImportError, AttributeError, RuntimeError):  # a build without nvJPEG, or a driver that lacks it
        return None


def checked(decoder: GpuDecoder, encoder: VisionEncoder) -> GpuDecoder | None:
    """The decoder, or None and a warning where its pixels give other embeddings.

    Raises:
        RuntimeError: it refused a picture of the check.
    """
    apart = distance(decoder, encoder)
    if apart <= TOLERANCE:
        return decoder
    warnings.warn(
        f"JPEGs are decoded by the processor: embeddings from the GPU's decoder are {apart:.1e} (1 - cosine) from them, more "
        f"than {TOLERANCE:g}",
        stacklevel=3,
    )
    return None


def distance(decoder: GpuDecoder, encoder: VisionEncoder) -> float:
    """The largest 1 - cosine between embeddings of the check's pictures by both decoders.

    Raises:
        RuntimeError: the decoder refused one of them.
    """
    files = check_pictures()
    decoded = decoder.together(files)
    if any(pixels is None for pixels in decoded):
        raise RuntimeError("the decoder refuses plain JPEGs")
    sides = [decoder(files), clip_tensors(files, encoder.image_size)]
    with torch.inference_mode():
        both = []
        for side in sides:
            pixels = torch.stack([part for part in side if isinstance(part, Tensor)]).to(encoder.device)
            both.append(encoder(normalise(pixels, encoder)))
    return float((1 - (both[0] * both[1]).sum(1)).max())


def check_pictures() -> list[bytes]:
    """Small JPEGs with detail at every scale: colour at full and at half resolution, grey, progressive, odd sides."""
    settings: list[dict[str, Any]] = [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"subsampling": 2, "progressive": True},
        {},
    ]
    made = []
    for number, setting in enumerate(settings):
        rng = np.random.default_rng(number)
        picture = sum(_noise(rng, side) / 2**power for power, side in enumerate((4, 8, 16, 32, 64)))
        values = np.clip(128 + 50 * np.asarray(picture), 0, 255).astype(np.uint8)
        image = Image.fromarray(values)
        buffer = io.BytesIO()
        (image.convert("L") if not setting else image).save(buffer, "JPEG", quality=90, **setting)
        made.append(buffer.getvalue())
    return made


def _noise(rng: np.random.Generator, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    coarse = torch.from_numpy(rng.standard_normal((1, 3, side, side)))
    return F.interpolate(coarse, (301, 403), mode="bilinear")[0].permute(1, 2, 0).numpy()


def _nvjpeg(device: torch.device) -> DecodeJpegs:
    """torchvision's decoder on `device`; raises where it has none."""
    from torchvision.io import ImageReadMode

    decode = torch.ops.image.decode_jpegs_cuda  # the function around it warns of its age in every call

    def run(files: list[Tensor]) -> list[Tensor]:
        decoded: list[Tensor] = decode(files, ImageReadMode.RGB.value, device)
        return decoded

    return run
