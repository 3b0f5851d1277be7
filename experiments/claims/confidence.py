"""Does confidence mean accuracy, and does `--reject` refuse as many foreign pictures as it says?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
import torch

from episodes import EpisodeSampler, ImageTable
from episodes.counter_random import random_bits
from episodes.episode import OUTSIDE
from experiments.claims.base import REPORTED_ON, Data, Row
from fewshot import Embeddings, FeatureScorer, build_classifier
from fewshot.classifiers.calibrate import measure_confidence
from fewshot.classifiers.calibration import expected_calibration_error
from fewshot.classifiers.calibration_episodes import leave_classes_out
from fewshot.classifiers.kinds import Calibration
from fewshot.classifiers.shipped import shipped_calibration
from fewshot.classifiers.statistics import shipped_statistics

NAME = "Confidence and --reject"
CLAIM = """`predict` calls confidence calibrated, by a task's ways and shots, and `--reject 0.05` says that 5 % of pictures of foreign
classes are taken for one of a task's. In each of ways 2, 5, 10, 20 and shots 1, 2, 5, 10: the expected calibration error (15 bins),
the share of foreign pictures that is accepted, and how far the told share of refused own pictures is from the true one; the rows give
the cells' extremes. *Own domain*: one half of the classes of omniglot base, or of tin val and tin novel together, calibrates, the
other half is measured, and the other way round. The others are what ships with an encoder, measured on sets that chose nothing; where
a set has fewer classes than ways and three foreign ones, as many ways as it can. Finite episodes alone make the error 0.5 to 1.5
points and part the shares."""

WAYS, SHOTS, RATE = (2, 5, 10, 20), (1, 2, 5, 10), 0.05
QUERIES, FEWEST_FOREIGN = 1200, 3  # own queries of a cell, about; foreign classes
OWN = (
    ("tiny", ("omniglot/base",), ("prototype", "gda")),
    ("tiny", ("tin/val", "tin/novel"), ("prototype",)),
    ("lite2", ("tin/val", "tin/novel"), ("prototype", "auto")),
)
SHIPPED = (("tiny", ("prototype", "gda")), ("lite2", ("prototype",)))


@dataclass(frozen=True)
class Figures:
    """Of one cell, in per cent: expected calibration error, confidence less accuracy, foreign pictures accepted, told cost less true."""

    error: float
    bias: float
    accepted: float
    cost: float


def measure(data: Data) -> Iterator[Row]:
    """On the encoders' own domains with a bar, then on others."""
    for backbone, folders, names in OWN:
        table, embeddings = joined(data, folders, backbone)
        statistics = shipped_statistics(backbone)
        for name in names:
            cells = []
            for calibrates, measured in both_ways(table, 0):
                known = measure_confidence(embeddings, calibrates, statistics, 0, classifiers=[name], queries=QUERIES)
                cells.append(figures(embeddings, measured, backbone, name, Calibration((known[name],))))
            average = [Figures(*np.mean([astuple(each[i]) for each in cells], axis=0)) for i in range(len(cells[0]))]
            yield from rows(
                average, f"{' and '.join(folders)}, the other half of the classes, {backbone}, {name}", bar=True
            )
    for backbone, names in SHIPPED:
        for folder in REPORTED_ON:
            table, embeddings = data.embedded(folder, backbone)
            for name in names:
                found = figures(embeddings, table, backbone, name, shipped_calibration(backbone)[name])
                yield from rows(found, f"{folder}, {backbone} as it ships, {name}", bar=False)


def rows(cells: Sequence[Figures], on: str, *, bar: bool) -> Iterator[Row]:
    """The extremes over cells."""
    high = 4.0 if bar else np.inf
    yield Row(
        "calibration error, largest of the cells", on, max(cell.error for cell in cells), high=high, unit="points"
    )
    yield Row("calibration error, mean of the cells", on, float(np.mean([cell.error for cell in cells])), unit="points")
    low, high = (3.0, 7.0) if bar else (-np.inf, np.inf)
    for what, pick in (("least", min), ("most", max)):
        accepted = pick(cell.accepted for cell in cells)
        yield Row(f"foreign pictures accepted, {what}", on, accepted, nominal=100 * RATE, low=low, high=high)
    yield Row("cost told less true cost, farthest", on, max((c.cost for c in cells), key=abs), unit="points")


def figures(
    embeddings: Embeddings, table: ImageTable, backbone: str, name: str, calibration: Calibration
) -> list[Figures]:
    """Of every cell."""
    scorer = FeatureScorer(
        embeddings, build_classifier(name, statistics=shipped_statistics(backbone)), calibration=calibration
    )
    return [_figures(scorer, table, calibration, ways, shots) for ways in WAYS for shots in SHOTS]


def _figures(scorer: FeatureScorer, table: ImageTable, calibration: Calibration, ways: int, shots: int) -> Figures:
    most = int((table.counts >= shots + 5).sum()) - FEWEST_FOREIGN
    ways = min(ways, most)
    sampler = EpisodeSampler(
        table,
        ways=ways + min(ways + 3, most - ways + FEWEST_FOREIGN),
        shots=shots,
        queries=5,
        seed=random_bits(77, "claims", ways, shots) >> 1,
        episodes=max(40, QUERIES // (5 * ways)),
    )
    batch = leave_classes_out(sampler.batch(0, len(sampler)), ways)
    traits = scorer.traits(batch)
    chances = np.exp(scorer(batch).astype(np.float64))
    sure, labels = chances.max(-1), batch.query_labels
    own = labels >= 0
    right = (chances.argmax(-1) == labels)[own]
    accepted = sure >= calibration.threshold(RATE, traits)[:, None]
    told = float(calibration.cost(RATE, traits).mean())
    return Figures(
        100 * expected_calibration_error(sure[own], right),
        100 * float(sure[own].mean() - right.mean()),
        100 * float(accepted[labels == OUTSIDE].mean()),
        100 * (told - float((~accepted[own]).mean())),
    )


def joined(data: Data, folders: Sequence[str], backbone: str) -> tuple[ImageTable, Embeddings]:
    """Several folders as one table."""
    parts = [data.embedded(folder, backbone) for folder in folders]
    offsets = np.cumsum([0, *(len(table.class_names) for table, _ in parts)])
    labels = np.concatenate([table.labels + offset for (table, _), offset in zip(parts, offsets, strict=False)])
    names = tuple(
        f"{folder}/{name}" for folder, (table, _) in zip(folders, parts, strict=True) for name in table.class_names
    )
    features = torch.cat([embeddings.features for _, embeddings in parts])
    readable = torch.cat([embeddings.readable for _, embeddings in parts])
    return ImageTable(list(range(len(labels))), labels, names), Embeddings(features, readable, {}, 0)


def both_ways(table: ImageTable, seed: int) -> Iterator[tuple[ImageTable, ImageTable]]:
    """Each half of the classes, drawn by a seed, with the other half."""
    order = np.random.default_rng(seed).permutation(len(table.class_names))
    halves = [_only(table, half) for half in np.array_split(order, 2)]
    yield halves[0], halves[1]
    yield halves[1], halves[0]


def _only(table: ImageTable, classes: npt.NDArray[np.int64]) -> ImageTable:
    """The same rows, with the labels of these classes alone."""
    labels = np.where(np.isin(table.labels, classes), table.labels, -1)
    return ImageTable(table.items, labels, table.class_names)
