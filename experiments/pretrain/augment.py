"""Augmentation of a whole batch at once, in torch, on whatever device holds the pictures.

Every random number comes from a CPU generator that the caller seeds with the step, so a batch is a pure
function of (seed, step) on every device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Draw from [low, high), evenly."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def normalise(pixels: Tensor) -> Tensor:
    """(B, 3, h, w) values in [0, 1] -> CLIP's mean 0 and deviation 1 a channel."""
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels - mean) / std


def eval_batch(pixels: Tensor, size: int) -> Tensor:
    """uint8 (B, 3, s, s) -> normalised float (B, 3, size, size), no randomness."""
    x = pixels.float() / 255
    if x.shape[-1] != size:
        x = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return normalise(x)


def sample(
    pixels: Tensor, theta: Tensor, size: int, shift: Tensor | None = None, padding: str = "reflection"
) -> Tensor:
    """Bilinear resampling of (B, 3, s, s) by affine ``theta`` (B, 2, 3), plus a displacement (B, size, size, 2)."""
    grid = F.affine_grid(theta, [len(pixels), 3, size, size], align_corners=False)
    if shift is not None:
        grid = grid + shift
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def crop_boxes(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Random resized crops with flips as affine matrices (B, 2, 3); area in [smallest, 1]."""
    area = uniform(generator, (count,), smallest, 1.0)
    ratio = uniform(generator, (count,), math.log(3 / 4), math.log(4 / 3)).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    flip = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * flip, height
    theta[:, 0, 2] = (1 - width) * uniform(generator, (count,), -1, 1)
    theta[:, 1, 2] = (1 - height) * uniform(generator, (count,), -1, 1)
    return theta


def colour_matrices(count: int, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Saturation, hue and brightness as one matrix a picture (B, 3, 3), and contrast (B, 1, 1, 1).

    Hue is a rotation about the grey axis; one picture in eight loses its colour, which leaves shape to learn
    from.
    """
    grey = torch.tensor([0.299, 0.587, 0.114]).expand(3, 3)
    axis = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    angle = uniform(generator, (count, 1, 1), -0.4, 0.4) * strength
    hue = angle.cos() * torch.eye(3) + (1 - angle.cos()) * axis + angle.sin() * cross
    saturation = 1 + uniform(generator, (count, 1, 1), -0.5, 0.5) * strength
    saturation = saturation * (torch.rand(count, 1, 1, generator=generator) > 0.125)
    brightness = 1 + uniform(generator, (count, 1, 1), -0.35, 0.35) * strength
    matrix = brightness * (saturation * torch.eye(3) + (1 - saturation) * grey) @ hue
    contrast = 1 + uniform(generator, (count, 1, 1, 1), -0.35, 0.35) * strength
    return matrix, contrast


def outline(x: Tensor) -> Tensor:
    """A drawing of a photograph: dark where the grey value changes (B, 3, h, w) in [0, 1]."""
    grey = x.mean(1, keepdim=True)
    across = F.pad(grey, (1, 1, 0, 0), mode="replicate")
    down = F.pad(grey, (0, 0, 1, 1), mode="replicate")
    edge = (across[..., 2:] - across[..., :-2]).abs() + (down[..., 2:, :] - down[..., :-2, :]).abs()
    return (1 - 2 * edge).clamp(0, 1).expand(-1, 3, -1, -1)


def augment_photos(pixels: Tensor, size: int, smallest: float, strength: float, generator: torch.Generator) -> Tensor:
    """uint8 (B, 3, s, s) -> normalised (B, 3, size, size): crop, flip, colour, rarely a drawing."""
    count, device = len(pixels), pixels.device
    x = sample(pixels.float() / 255, crop_boxes(count, smallest, generator).to(device), size)
    matrix, contrast = (part.to(device) for part in colour_matrices(count, strength, generator))
    x = torch.bmm(matrix, x.flatten(2)).view_as(x)
    level = x.mean((1, 2, 3), keepdim=True)
    x = ((x - level) * contrast + level).clamp(0, 1)
    drawn = torch.nonzero(torch.rand(count, generator=generator) < 0.04 * strength).flatten().to(device)
    if len(drawn):
        x[drawn] = outline(x[drawn])
    return normalise(x)


def augment_characters(pixels: Tensor, turns: Tensor, size: int, strength: float, generator: torch.Generator) -> Tensor:
    """uint8 (B, 3, s, s) dark ink on white, ``turns`` (B,) quarter turns -> normalised (B, 3, size, size).

    A small affine and elastic distortion imitates another hand; two in five get other ink and paper colours.
    """
    count, device = len(pixels), pixels.device
    angle = turns * (math.pi / 2) + uniform(generator, (count,), -0.25, 0.25) * strength
    scale = uniform(generator, (count,), 0.85, 1.2)
    shear = uniform(generator, (count,), -0.25, 0.25) * strength
    theta = torch.zeros(count, 2, 3)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    theta[:, 0, 0], theta[:, 0, 1] = cos, cos * shear - sin
    theta[:, 1, 0], theta[:, 1, 1] = sin, sin * shear + cos
    theta[:, :, 2] = uniform(generator, (count, 2), -0.12, 0.12)
    shift = torch.randn(count, 2, 5, 5, generator=generator) * (0.05 * strength)
    shift = F.interpolate(shift, size=(size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    ink = 1 - pixels.float() / 255
    ink = sample(ink, theta.to(device), size, shift.to(device), padding="zeros")
    plain = (torch.rand(count, 1, generator=generator) < 0.6).float()
    front = uniform(generator, (count, 3), 0, 1) * (1 - plain)
    back = uniform(generator, (count, 3), 0, 1) * (1 - plain) + plain
    # Ink that cannot be told from its paper teaches nothing: push the two apart.
    near = ((front - back).abs().mean(1, keepdim=True) < 0.25).float()
    front = front * (1 - near) + ((back.mean(1, keepdim=True) < 0.5).float()) * near
    front, back = front.to(device).view(count, 3, 1, 1), back.to(device).view(count, 3, 1, 1)
    return normalise(back + (front - back) * ink)


def mix(x: Tensor, probability: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Mixup or cutmix within the batch: (mixed x, partner (B,) int64, share of the own picture (B,) float).

    Zhang et al. 2018, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899. One rectangle for the batch, one
    share a picture: the first keeps cutmix a slice copy, the second costs nothing.
    """
    count, size = len(x), x.shape[-1]
    partner = torch.randperm(count, generator=generator)
    chance = torch.rand(4, generator=generator)
    own = torch.ones(count)
    if chance[0] >= probability:
        return x, torch.arange(count, device=x.device), own.to(x.device)
    if chance[1] < 0.5:
        share = torch.rand(count, generator=generator) * 0.5 + 0.5
        own = torch.where(torch.rand(count, generator=generator) < 0.8, share, own).to(x.device)
        weight = own.view(-1, 1, 1, 1)
        return x * weight + x[partner.to(x.device)] * (1 - weight), partner.to(x.device), own
    side = torch.rand(1, generator=generator).sqrt().item() * 0.75 * size
    high = max(1, round(side * math.exp((chance[2].item() - 0.5) * 0.6)))
    wide = max(1, round(side * side / high))
    high, wide = min(high, size - 1), min(wide, size - 1)
    top, left = (
        int(chance[3].item() * (size - high + 1)),
        int(torch.randint(size - wide + 1, (1,), generator=generator)),
    )
    x = x.clone()
    x[:, :, top : top + high, left : left + wide] = x[partner.to(x.device), :, top : top + high, left : left + wide]
    return x, partner.to(x.device), torch.full((count,), 1 - high * wide / size**2, device=x.device)
