"""A training step with the frozen-trunk cache against one without, ViT-B/32's shape; both on the same fixed views."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from episodes import EpisodeSampler, ImageTable, read_class_folders
from experiments.benchmarks.inputs import class_folders, vit_b_32
from experiments.benchmarks.measure import Row, quotients
from fewshot import Augmentation, EpisodeLoader, EpisodeTensors
from fewshot.device import autocast, resolve_precision
from fewshot.embedding.hidden_states import HiddenStates, hidden_states_key
from fewshot.embedding.hidden_states_compute import compute_hidden_states
from fewshot.encoders import load_encoder
from fewshot.images.augmented_views import PictureSource
from fewshot.training import EpisodicModel, TrainConfig
from fewshot.training.model import StepLosses
from fewshot.training.optimiser import build_optimiser, trained_parameters

VIEWS, SEED = 2, 0


def run(scratch: Path, quick: bool) -> list[Row]:
    """8-way 1-shot 3-query steps of 32 pictures; everything from the loader to the optimiser's step."""
    table = read_class_folders(class_folders(scratch / "training", 12, 6))
    steps, rounds = (4, 2) if quick else (10, 3)
    rows = []
    for blocks, bar in ((2, 2.2), (6, 1.25)):
        runner = Runner(scratch, table, blocks, vit_b_32(scratch), torch.device("cpu"))
        losses = [runner.first_loss(trunk) for trunk in (runner.hidden_states, None)]
        seconds = runner.rounds(steps, rounds)
        note = f"loss of the first step {losses[0]:.6f} with, {losses[1]:.6f} without; making the trunk is not counted"
        rows.append(
            Row(f"training step, --unfreeze_blocks {blocks} of 12", seconds["cache"], seconds["none"], "s", "without the trunk cache",
                quotients(seconds["none"], seconds["cache"]), bar, note=note)
        )  # fmt: skip
    return rows


class Runner:
    """A model and both sources of its steps."""

    def __init__(self, scratch: Path, table: ImageTable, blocks: int, weights: Path, device: torch.device) -> None:
        config = TrainConfig(train_data=scratch, unfreeze_blocks=blocks)
        self._table = table
        encoder = load_encoder(str(weights), device=device)
        encoder.unfreeze_last(blocks)
        self._model = EpisodicModel(encoder, len(table.class_names)).to(device)
        self._optimiser = build_optimiser(self._model, config)
        self._device, self._precision = device, resolve_precision("auto", device)
        key = hidden_states_key(encoder, table.items, views=VIEWS, augmentation=Augmentation(), seed=SEED)
        source = PictureSource(table.items, encoder.image_size, Augmentation(), views=VIEWS, seed=SEED)
        self.hidden_states: HiddenStates = compute_hidden_states(
            scratch / "trunks", key, encoder.n_frozen, encoder, source, workers=2
        )

    def rounds(self, steps: int, rounds: int) -> dict[str, list[float]]:
        """Seconds a step with the cache and with none, in turn; a first round warms up."""
        seconds: dict[str, list[float]] = {"cache": [], "none": []}
        for number in range(rounds + 1):
            for name, trunk in (("cache", self.hidden_states), ("none", None)):
                taken = self.train(steps, trunk) / steps
                if number:
                    seconds[name].append(taken)
        return seconds

    def train(self, steps: int, trunk: HiddenStates | None) -> float:
        """Seconds of `steps` steps with a loader of their own."""
        started = time.perf_counter()
        for batch in self._loader(steps, trunk):
            self._step(batch.to(self._device))
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - started

    def first_loss(self, trunk: HiddenStates | None) -> float:
        """The loss of the first step, which then is not taken."""
        with torch.no_grad():
            return float(self._loss(next(iter(self._loader(1, trunk))).to(self._device)))

    def _loader(self, steps: int, trunk: HiddenStates | None) -> EpisodeLoader:
        self._model.cached_blocks = trunk.n_frozen if trunk is not None else None
        return EpisodeLoader(
            EpisodeSampler(self._table, ways=8, shots=1, queries=3, episodes=steps),
            self._model.encoder.image_size,
            augmentation=Augmentation(),
            views=VIEWS,
            seed=SEED,
            workers=0 if trunk is not None else 2,
            source=trunk,
        )

    def _loss(self, batch: EpisodeTensors) -> torch.Tensor:
        labels = batch.support_labels, batch.query_labels
        with autocast(self._precision, self._device):
            losses: StepLosses = self._model(batch.images, *labels, batch.classes, batch.n_way, batch.step)
        return losses.total

    def _step(self, batch: EpisodeTensors) -> None:
        loss = self._loss(batch)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(trained_parameters(self._model).values()), 1.0)
        self._optimiser.step()
