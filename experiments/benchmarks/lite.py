"""EfficientNet-Lite with folded batch norms and channels last, against timm's own model of the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.benchmarks.encoder import BATCH, bare
from experiments.benchmarks.measure import Row, in_turn, quotients
from fewshot.device import autocast, resolve_precision
from fewshot.encoders import load_encoder
from fewshot.encoders.lite import RELEASES, network, weights_path


def run(scratch: Path, quick: bool) -> list[Row]:
    """Every installed size, in the precision that `auto` resolves to."""
    return [_row(name, quick) for name in RELEASES if weights_path(name) is not None]


def _row(name: str, quick: bool) -> Row:
    encoder = load_encoder(name)
    precision = resolve_precision("auto", encoder.device)
    images = torch.randn(BATCH, 3, encoder.image_size, encoder.image_size)
    batches, rounds = (4, 3) if quick else (8, 5)
    sides = {"ours": bare(encoder, images, batches), "timm": _theirs(network(name), images, batches // 2)}
    seconds = in_turn(sides, rounds)
    rate = [batches * BATCH / value for value in seconds["ours"]]
    their_rate = [batches // 2 * BATCH / value for value in seconds["timm"]]
    versus = f"timm in batches of {BATCH}, {precision} autocast"
    return Row(f"bare {name}, {precision}", rate, their_rate, "pictures/s", versus, quotients(rate, their_rate), 1.5)


def _theirs(model: Any, images: Tensor, batches: int) -> Callable[[], None]:
    """Timm's model as it is, under the same autocast."""
    precision = resolve_precision("auto", images.device)

    def run_batches() -> None:
        with torch.inference_mode(), autocast(precision, images.device):
            for _ in range(batches):
                model(images)

    return run_batches
