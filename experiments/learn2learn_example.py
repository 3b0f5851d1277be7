"""learn2learn's example of ANIL beside this package's training: the same network, the same folders, as many episodes of the same size.

`python -m experiments.learn2learn_example DATA`, where DATA holds class folders base, val and novel.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from episodes import EpisodeSampler, evaluate, read_class_folders
from episodes.interop import import_learn2learn
from fewshot import TrainConfig, embed_images, train
from fewshot.adaptation.meta import score_of
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers import build_classifier
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.console import Console
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.family import EncoderFamily
from fewshot.images.augmentation import Augmentation
from fewshot.registry import ENCODERS

EXAMPLE = Path(__file__).parents[1] / "examples" / "learn2learn" / "anil_fc100.py"
WAYS, SHOTS, LAST = 5, 5, 10  # as in the example; and how many of its last iterations its test accuracy is the mean of
Answer = tuple[str, float, float, float]  # whose, accuracy and its half-width, processor seconds


class Cnn4(VisionEncoder):
    """The example's network without its head.

    Its batch norms take the batch's own statistics in training, as there, and the running ones afterwards, so that a picture's
    embedding does not depend on its company (in the example it does, in tests too).
    """

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.name, self.embed_dim, self.image_size = "cnn4", 256, 32
        model = import_learn2learn().vision.models.CNN4(output_size=WAYS, hidden_size=64, embedding_size=256)
        self.layers = nn.ModuleList(model.features)
        self.blocks = list(self.layers)
        self.unfreeze_last(0)
        self.eval()

    def _stem(self, images: Tensor) -> Tensor:
        return images

    def _run(self, hidden: Tensor, blocks: Sequence[nn.Module]) -> Tensor:
        for block in blocks:
            block.train(torch.is_grad_enabled())
            hidden = block(hidden)
        return hidden

    def _head(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(1)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """None."""
        yield from ()


@ENCODERS.register("cnn4:<seed>", "learn2learn's CNN4 with random weights")
class Cnn4Family(EncoderFamily):
    """By the seed of its weights."""

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """See `EncoderFamily.load`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(backbone.partition(":")[2]))
            return Cnn4()

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """See `EncoderFamily.from_state`."""
        encoder = Cnn4()
        encoder.load_state_dict(state)
        return encoder


def theirs(data: Path, iterations: int, tasks: int, seed: int) -> Answer:
    """The example as it is, its accuracy on test tasks the mean of what its last iterations print."""
    spec = importlib.util.spec_from_file_location("anil_fc100", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    printed, started, here = io.StringIO(), time.process_time(), Path.cwd()
    try:
        os.chdir(data)
        with contextlib.redirect_stdout(printed):
            example.main(ways=WAYS, shots=SHOTS, meta_bsz=tasks, iters=iterations, cuda=0, seed=seed)
    finally:
        os.chdir(here)
    seconds = time.process_time() - started
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("Meta Test Accuracy")]
    found = np.array([float(line.split()[-1]) for line in lines[-LAST:]])
    return "learn2learn's example", float(found.mean()), 1.96 * float(found.std(ddof=1)) / len(found) ** 0.5, seconds


def ours(data: Path, epochs: int, tasks: int, seed: int, method: Any, output: Path) -> list[Answer]:
    """Our training of the same network by as many episodes, measured by its own method, and by prototypes."""
    config = TrainConfig(
        train_data=data / "base", val_data=data / "val", output=output, backbone=f"cnn4:{seed}", unfreeze_blocks=4,
        method=method, inner_lr=0.1, inner_steps=5, epochs=epochs, batch_size=tasks * WAYS * 2 * SHOTS, ways=WAYS, shots=SHOTS,
        queries=SHOTS, visual_lr=1e-3, classifier_lr=1e-3, augmentation=Augmentation((1.0, 1.0), 0.0, 0.0), views=1, mix=1.0,
        val_episodes=100, val_queries=SHOTS, workers=0, precision="32", no_cache=True, seed=seed, quiet=True,
    )  # fmt: skip
    started = time.process_time()
    train(config, Console(quiet=True))
    seconds = time.process_time() - started
    loaded = load_checkpoint(output)
    table = read_class_folders(data / "novel")
    sampler = EpisodeSampler(table, ways=WAYS, shots=SHOTS, queries=SHOTS, episodes=600)
    embeddings = embed_images(loaded.encoder, table.items, precision="32")
    scores: dict[str, Any] = {"by prototypes": FeatureScorer(embeddings, build_classifier("prototype"))}
    if loaded.own_method is not None:
        scores["by its own steps"] = score_of(
            loaded.own_method, loaded.scale, loaded.encoder, table, embeddings, precision="32"
        )
    results = {name: evaluate(sampler, score) for name, score in scores.items()}
    return [(f"ours, --method {method}, {name}", r.mean, r.ci95, seconds) for name, r in results.items()]


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.learn2learn_example", description=__doc__)
    parser.add_argument("data", type=Path, help="holds class folders base, val and novel")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--tasks", type=int, default=16, help="training episodes of a step")
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    data, tasks, seed = given.data.resolve(), given.tasks, given.seed
    steps = given.epochs * -(-len(read_class_folders(data / "base")) // (tasks * WAYS * 2 * SHOTS))
    print(f"{steps} steps of {tasks} episodes, {WAYS}-way {SHOTS}-shot, {SHOTS} queries a class\n")
    print("| who | accuracy on new classes | processor seconds |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sides: list[Callable[[], list[Answer]]] = [
            lambda: [theirs(data, steps, tasks, seed)],
            *(
                partial(ours, data, given.epochs, tasks, seed, method, Path(folder) / method)
                for method in ("anil", "prototypical")
            ),
        ]
        for side in sides:
            for who, accuracy, half, seconds in side():
                print(f"| {who} | {100 * accuracy:.1f} ± {100 * half:.1f} | {seconds:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
