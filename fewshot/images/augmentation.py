"""Training augmentation: torchvision's transforms v2, every draw keyed.

The settings are importable without torch, so that the command line can show them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from episodes.errors import UsageError
from fewshot.limits import Within, check

if TYPE_CHECKING:
    from PIL import Image

    from fewshot.images.transform import Pixels


@dataclass(frozen=True)
class Augmentation:
    """Training augmentation with torchvision's transforms v2; `None` and 0 switch a part off.

    Attributes:
        crop_scale: share of the area that a random resized crop keeps, lowest and highest.
        flip: probability of a horizontal flip; 0 for characters and other things with a handedness.
        colour: strength of brightness, contrast and saturation jitter (hue a quarter of it).
        randaugment: number of RandAugment operations (Cubuk et al. 2019, arXiv 1909.13719), 0 for none.
        rotation: degrees of random rotation either way.
    """

    crop_scale: tuple[Annotated[float, Within(0, 1, above=True)], Annotated[float, Within(0, 1, above=True)]] = (
        0.5,
        1.0,
    )
    flip: Annotated[float, Within(0, 1)] = 0.5
    colour: Annotated[float, Within(0, 2)] = 0.2
    randaugment: Annotated[int, Within(0, 100)] = 0
    rotation: Annotated[float, Within(0, 360)] = 0.0

    def __post_init__(self) -> None:
        check(self)
        low, high = self.crop_scale
        if low > high:
            raise UsageError(f"crop_scale is {low} {high}: expected the lower share first, such as {high} {low}")

    def build(self, size: int) -> Callable[[Image.Image, int], Pixels]:
        """A function (RGB picture, key) -> (3, size, size) uint8, whose result depends on nothing but these two."""
        import numpy as np
        import torch
        from torchvision.transforms import v2

        steps: list[Any] = []
        if self.rotation:
            steps.append(v2.RandomRotation(self.rotation, interpolation=v2.InterpolationMode.BILINEAR, fill=255))
        steps.append(
            v2.RandomResizedCrop(
                size, scale=self.crop_scale, interpolation=v2.InterpolationMode.BICUBIC, antialias=True
            )
        )
        if self.flip:
            steps.append(v2.RandomHorizontalFlip(self.flip))
        if self.randaugment:
            steps.append(v2.RandAugment(num_ops=self.randaugment))
        if self.colour:
            steps.append(v2.ColorJitter(self.colour, self.colour, self.colour, self.colour / 4))
        pipeline = v2.Compose(steps)

        def augment(image: Image.Image, key: int) -> Pixels:
            with torch.random.fork_rng(
                devices=[]
            ):  # torchvision draws from the global generator: key it, then put it back
                torch.manual_seed(key)
                result = np.asarray(pipeline(image))
            return np.ascontiguousarray(result.transpose(2, 0, 1))

        return augment
