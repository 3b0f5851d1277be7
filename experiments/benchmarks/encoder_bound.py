"""How much of the bare encoder's pace is left to a whole cold `predict`: of JPEGs of 500 x 375, read and decoded by the same cores."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.benchmarks.encoder import BATCH, bare
from experiments.benchmarks.inputs import tasks, vit_b_32
from experiments.benchmarks.measure import Row, in_turn, quotients
from fewshot.classifiers import build_classifier
from fewshot.device import resolve_precision
from fewshot.encoders import load_encoder
from fewshot.predict import predict

_TASKS = 8


def run(scratch: Path, quick: bool) -> list[Row]:
    """ViT-B/32's shape on 8 tasks; both sides in one process, in turn, with the weights loaded."""
    root = tasks(scratch / f"tasks-{_TASKS}", _TASKS)
    encoder = load_encoder(str(vit_b_32(scratch)))
    batches = 2 * torch.get_num_threads()
    computed: list[int] = []

    def cold() -> None:
        found = predict(root, encoder, build_classifier("prototype"), find_truth=False)
        assert len(found.frame) == len(found.results.row)
        computed.append(found.embeddings.computed)

    sides = {"bare": bare(encoder, torch.randn(BATCH, 3, 224, 224), batches), "cold": cold}
    seconds = in_turn(sides, 1 if quick else 5)
    rate = [computed[0] / value for value in seconds["cold"]]
    bare_rate = [batches * BATCH / value for value in seconds["bare"]]
    precision = resolve_precision("auto", encoder.device)
    return [
        Row("predict, encoder-bound part", rate, bare_rate, "pictures/s", f"bare encoder in batches, {precision}",
            quotients(rate, bare_rate), 0.85, note=f"{computed[0]:,} distinct JPEGs of 500 x 375, read and decoded by the same cores"),
    ]  # fmt: skip
