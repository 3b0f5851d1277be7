"""JPEG decoding on the GPU that computes, where there is one: a few processor cores cannot feed it.

The pictures it is not made for (other formats, CMYK, cut off, ...) are decoded as everywhere else. nvJPEG's pixels are not
libjpeg's to the last bit, so it is used only where a check, once a process, finds them within three quarters of a level of 255 (root
mean square) of the processor's after the test transform: errors of that size move no embedding of `tiny` by 1e-3 (1 - cosine).
"""

from __future__ import annotations

import contextlib
import functools
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

from episodes.decoding import UnreadableImage, decode
from fewshot.images.transform import LONGEST, clip_tensors, crop_corner, resize_and_crop, resized

NAME = "nvjpeg-1"  # in cache keys: a change that moves a pixel renames it
TOLERANCE = 0.75  # levels of 255, root mean square over a picture
_PIXELS = 16_000_000  # decoded together at most: 50 MB, and 200 MB more while one such picture is resized
_SCALE = 32  # times the size: a shorter side beyond it is more than the card's filter takes in one go
_ORIENTATION = 0x0112

# Files, (bytes,) uint8 each -> RGB (3, H, W) uint8 on the device; RuntimeError where it cannot read one of them.
DecodeJpegs = Callable[[list[Tensor]], list[Tensor]]


class GpuDecoder:
    """Picture files -> CLIP's test transform of them, (3, size, size) uint8 on the CPU; called from several threads.

    All that happens on the card happens in a stream of its own, which has run empty before the next thread has its turn: nvJPEG
    writes into memory without asking whether other work in the stream that owns it is done.
    """

    name = NAME

    def __init__(self, device: torch.device, size: int, decode_jpegs: DecodeJpegs) -> None:
        self._device, self._size, self._decode = device, size, decode_jpegs
        self._one = threading.Lock()  # so that memory is bounded by what one call takes
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, files: Sequence[bytes]) -> list[Tensor | UnreadableImage]:
        """The transform of each file, or why it cannot be read."""
        found: dict[int, Tensor | UnreadableImage] = {}
        headers = {place: header for place, data in enumerate(files) if (header := read_header(data, self._size))}
        for group in _groups(headers):
            transformed = self._together([files[place] for place in group], [headers[place][1] for place in group])
            found |= {place: pixels for place, pixels in zip(group, transformed, strict=True) if pixels is not None}
        left = [place for place in range(len(files)) if place not in found]
        found.update(zip(left, clip_tensors([files[place] for place in left], self._size), strict=True))
        return [found[place] for place in range(len(files))]

    def _together(self, files: list[bytes], orientations: list[int]) -> list[Tensor | None]:
        """The transforms; None for each file that the decoder refuses, which spoils the list it is in."""
        try:
            with self._one, torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext():
                try:
                    decoded = self._decode([torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files])
                    parts = [self._transform(*each) for each in zip(decoded, orientations, strict=True)]
                    return list(torch.stack(parts).cpu())
                except RuntimeError:
                    if self._stream is not None:  # what the decoder has begun it may still be writing
                        torch.cuda.synchronize(self._device)
                    raise
        except torch.cuda.OutOfMemoryError:
            raise  # other pixels for want of memory would be other numbers from one run to the next
        except RuntimeError:
            if len(files) == 1:
                return [None]
            return [self._together([data], [turn])[0] for data, turn in zip(files, orientations, strict=True)]

    def _transform(self, pixels: Tensor, orientation: int) -> Tensor:
        upright = turned(pixels, orientation)
        height, width = upright.shape[1:]
        wide, high = resized(width, height, self._size)
        if (wide, high) != (width, height):
            values = F.interpolate(upright[None].float(), (high, wide), mode="bicubic", antialias=True)[0]
            upright = values.round_().clamp_(0, 255).to(torch.uint8)
        left, top = crop_corner(wide, high, self._size)
        return upright[:, top : top + self._size, left : left + self._size]


def read_header(data: bytes, size: int) -> tuple[int, int] | None:
    """(pixels, EXIF orientation) of a JPEG that both decoders see alike; None for every other file.

    Left to the processor: what is not a plain grey or YCbCr JPEG, what ends before its end marker (of which the decoders think
    differently), threads of pictures, which are cropped before they are resized, and very large ones, which are decoded at a
    reduced scale.
    """
    if not data.startswith(b"\xff\xd8") or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG",))
        pixels, short = image.width * image.height, min(image.size)
        within = pixels <= _PIXELS and max(image.size) <= LONGEST * short and short <= _SCALE * size
        if image.format != "JPEG" or not within or not _plain_colours(image):
            return None
        return pixels, int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever is wrong with it, the processor's decoder says so in its own words
        return None


def _plain_colours(image: Any) -> bool:
    """Grey, or YCbCr: not CMYK, nor RGB, which is said by Adobe's marker or, without any, by the components' names."""
    if image.mode != "RGB":
        return bool(image.mode == "L")
    if "adobe_transform" in image.info:
        return bool(image.info["adobe_transform"] == 1)
    return "jfif" in image.info or [layer[0] for layer in image.layer] == [1, 2, 3]


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


def gpu_decoder(device: torch.device, size: int) -> GpuDecoder | None:
    """The decoder of a GPU, the same one in every call; None where there is none, or where its check fails, which is told once."""
    if device.type != "cuda":
        return None
    with _DECIDING:
        return _decided(device, size)


_DECIDING = threading.Lock()


@functools.cache
def _decided(device: torch.device, size: int) -> GpuDecoder | None:
    decode_jpegs = nvjpeg(device)
    return None if decode_jpegs is None else checked(GpuDecoder(device, size, decode_jpegs), size)


def checked(decoder: GpuDecoder, size: int) -> GpuDecoder | None:
    """The decoder, or None and a warning where its pixels are others or it does not work."""
    apart = distance(decoder, size)
    if apart <= TOLERANCE:
        return decoder
    warnings.warn(
        f"JPEGs are decoded by the processor: the pixels of the GPU's decoder are up to {apart:.1f} levels (root mean square) from "
        f"them, more than {TOLERANCE:g}; inf: it does not work",
        stacklevel=4,
    )
    return None


def distance(decoder: GpuDecoder, size: int) -> float:
    """The largest root mean square difference between both decoders' pixels of a check's picture; infinite if it refuses one."""
    largest = 0.0
    for data in check_pictures():
        found = decoder._together([data], [1])[0]
        if found is None:
            return float("inf")
        expected = torch.from_numpy(resize_and_crop(decode(data), size))
        largest = max(largest, float((found.float() - expected.float()).square().mean().sqrt()))
    return largest


@functools.cache
def check_pictures() -> tuple[bytes, ...]:
    """Small JPEGs with detail at every scale: colour at full, half and quarter resolution, progressive, grey; odd sides."""
    settings: tuple[dict[str, Any], ...] = (
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"subsampling": 2, "progressive": True},
        {},
    )
    made = []
    for number, setting in enumerate(settings):
        rng = np.random.default_rng(number)
        picture = sum(_noise(rng, side) / 2**power for power, side in enumerate((4, 8, 16, 32, 64)))
        image = Image.fromarray(np.clip(128 + 50 * np.asarray(picture), 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        (image if setting else image.convert("L")).save(buffer, "JPEG", quality=90, **setting)
        made.append(buffer.getvalue())
    return tuple(made)


def _noise(rng: np.random.Generator, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    coarse = torch.from_numpy(rng.standard_normal((1, 3, side, side)))
    return F.interpolate(coarse, (301, 403), mode="bilinear")[0].permute(1, 2, 0).numpy()


def nvjpeg(device: torch.device) -> DecodeJpegs | None:
    """Torchvision's decoder on `device`; None where its build has none."""
    from torchvision.io import ImageReadMode

    decode_jpegs = getattr(
        torch.ops.image, "decode_jpegs_cuda", None
    )  # the function around it warns of its age in every call
    if decode_jpegs is None:
        return None

    def run(files: list[Tensor]) -> list[Tensor]:
        decoded: list[Tensor] = decode_jpegs(files, ImageReadMode.RGB.value, device)
        return decoded

    return run
