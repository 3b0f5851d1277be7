"""Where does tuning the encoder on a task's support set help, where not, and what does it cost?

    python -m experiments.adaptation --data DIR

DIR holds omniglot/novel, pacs/sketch and grocery as class folders. Adaptation against none with the embedded encoder, on the same
episodes, 5-way at 1 and 5 shots, prototypes as classifier. Prints a Markdown table, a row as soon as it is known.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from episodes import EpisodeSampler, PairedDifference, Results, evaluate, paired_difference, read_class_folders
from episodes.errors import DataError
from fewshot.adaptation import ADAPTER_NAMES, AdaptedScorer, build_adapter
from fewshot.classifiers import build_classifier
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.device import Precision, resolve_device
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder

SETS = {"omniglot novel": "omniglot/novel", "pacs sketch": "pacs/sketch", "grocery": "grocery"}
HEAD = ("set", "shots", "adapted", "episodes", "none, %", "adapted, %", "difference", "tuned", "seconds a task")


@dataclass(frozen=True)
class Arguments:
    """Adaptation against none, paired on the same episodes."""

    data: Path  # folder that holds the image sets as class folders
    sets: tuple[str, ...] = tuple(SETS)  # which of them: "omniglot novel", "pacs sketch", "grocery"
    adapters: tuple[str, ...] = ADAPTER_NAMES
    shots: tuple[int, ...] = (1, 5)
    ways: int = 5
    queries: int = 15
    episodes: int = 600
    seed: int = 0
    backbone: str = "tiny"
    device: str = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        none, adapted: mean accuracies in [0, 1].
        difference: adapted - none over the same episodes.
        tuned: share of the tasks in which a rate above 0 was chosen.
        seconds: that a task took, over and above embedding every picture once.
    """

    data: str
    shots: int
    adapter: str
    none: float
    adapted: float
    difference: PairedDifference
    tuned: float
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """As in `HEAD`."""
        points = f"{100 * self.difference.mean:+.1f} ± {100 * self.difference.ci95:.1f}"
        accuracies = (f"{100 * self.none:.1f}", f"{100 * self.adapted:.1f}")
        counts = (str(self.shots), self.adapter, str(self.difference.episodes))
        return (self.data, *counts, *accuracies, points, f"{100 * self.tuned:.0f} %", f"{self.seconds:.2f}")


def compare(arguments: Arguments, name: str) -> Iterator[Row]:
    """The rows of one image set."""
    encoder = load_encoder(arguments.backbone, device=resolve_device(arguments.device))
    table = read_class_folders(arguments.data / SETS[name])
    embeddings = embed_images(encoder, table.items, precision=arguments.precision)
    scorer = partial(FeatureScorer, classifier=build_classifier("prototype"), device=encoder.device)
    for shots in arguments.shots:
        episodes = EpisodeSampler(
            table,
            ways=arguments.ways,
            shots=shots,
            queries=arguments.queries,
            seed=arguments.seed,
            episodes=arguments.episodes,
            max_shots=max(arguments.shots),
        )
        none: Results = evaluate(episodes, scorer(embeddings))
        for adapter in arguments.adapters:
            adapted = AdaptedScorer(
                encoder, build_adapter(adapter), table, embeddings, scorer, precision=arguments.precision
            )
            started = time.perf_counter()
            results = evaluate(episodes, adapted)
            seconds = (time.perf_counter() - started) / len(episodes)
            tuned = sum(rate > 0 for _, rate in adapted.rates) / len(episodes)
            difference = paired_difference(results, none)
            yield Row(name, shots, adapter, none.mean, results.mean, difference, tuned, seconds)


def line(cells: tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def run(arguments: Arguments) -> None:
    """Print the table.

    Raises:
        DataError: an image set is not known.
    """
    unknown = [name for name in arguments.sets if name not in SETS]
    if unknown:
        raise DataError(f"unknown image sets {', '.join(unknown)}; expected some of {', '.join(SETS)}")
    print(line(HEAD), line(("---",) * len(HEAD)), sep="\n", flush=True)
    for name in arguments.sets:
        for row in compare(arguments, name):
            print(line(row.cells()), flush=True)


if __name__ == "__main__":
    run(tyro.cli(Arguments, description=__doc__))
