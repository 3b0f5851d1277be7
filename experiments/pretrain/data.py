"""Training pictures held whole in memory as uint8, and the guard that no held-out class is among them.

Forty thousand pictures of 64 x 64 are half a gigabyte: decoding them once and keeping them beats any loader,
on a CPU as on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

SIZE = 64


@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded class folders: pixels (n, 3, size, size) uint8, labels (n,) int64, class names by label."""

    pixels: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Pictures:
        """The same on a device."""
        return Pictures(self.pixels.to(device), self.labels.to(device), self.class_names)


def decode(path: Path, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """One picture as CLIP's preprocessing frames it: bicubic to the short side, centre crop, RGB (3, size, size)."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    scale = size / min(width, height)
    if scale != 1:
        wide, high = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
        width, height = image.size
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def load_pictures(root: Path, size: int = SIZE) -> Pictures:
    """Decode every ``<root>/<class>/<picture>``; classes and pictures in name order, so labels never move."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder of class folders; unpack the image sets there first")
    names: list[str] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        if not files:
            continue
        pixels.extend(decode(path, size) for path in files)
        labels.extend([len(names)] * len(files))
        names.append(folder.name)
    if not names:
        raise FileNotFoundError(f"{root}: no class folder with a .jpg, .jpeg or .png picture was found")
    return Pictures(torch.from_numpy(np.stack(pixels)), torch.tensor(labels), tuple(names))


def class_folders(root: Path) -> set[str]:
    """The class folder names under ``root``; empty where the folder is absent."""
    return {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()


def alphabet(name: str) -> str:
    """``Korean_character14`` -> ``Korean``."""
    return name.rpartition("_character")[0]


def check_no_leak(data: Path, photo_classes: tuple[str, ...], character_classes: tuple[str, ...]) -> None:
    """Raise ``ValueError`` if a class of tin val or novel or a novel alphabet is to be trained on."""
    held_out = class_folders(data / "tin" / "val") | class_folders(data / "tin" / "novel")
    leaked = held_out.intersection(photo_classes)
    novel = {alphabet(name) for name in class_folders(data / "omniglot" / "novel")}
    leaked |= novel.intersection(alphabet(name) for name in character_classes)
    if leaked:
        raise ValueError(f"{data}: held-out classes are among the training classes: {sorted(leaked)}; remove them")
