"""Does confidence mean accuracy, and does `--reject` refuse as many foreign pictures as it says?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from episodes import EpisodeSampler, ImageTable
from episodes.counter_random import random_bits
from episodes.episode import OUTSIDE
from experiments.claims.base import REPORTED_ON, Data, Row
from fewshot import Embeddings, FeatureScorer, build_classifier
from fewshot.classifiers import INDUCTIVE
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
other half is measured, and the other way round, for four random halvings (omniglot: two), whose answers are taken together; that classes
of one half are harder than those of the other is chance, and where each half is taken alone it adds to the error. The others are what
ships with an encoder, measured on sets that chose nothing; where a set has fewer classes than ways and three foreign ones, as many ways as
it can."""

WAYS, SHOTS, RATE = (2, 5, 10, 20), (1, 2, 5, 10), 0.05
QUERIES, FEWEST_FOREIGN = 1200, 3  # own queries of a cell, about; foreign classes
FEW = ("prototype", "logistic", "auto")  # of the second encoder: the ones that are recommended
OWN = (
    ("tiny", ("tin/val", "tin/novel"), INDUCTIVE, 4),
    ("lite2", ("tin/val", "tin/novel"), FEW, 4),
    ("tiny", ("omniglot/base",), INDUCTIVE, 2),
)
"""Encoder, its own domain, classifiers, halvings: of few classes more, as more hangs on which are in which half."""
SHIPPED = (("tiny", ("prototype", "gda")), ("lite2", ("prototype",)))


@dataclass(frozen=True)
class Figures:
    """Of one cell, in per cent: expected calibration error, foreign pictures accepted, told cost less true."""

    error: float
    accepted: float
    cost: float


@dataclass(frozen=True, eq=False)
class Answered:
    """What a classifier said in one cell.

    Attributes:
        sure: (M,) confidence of pictures of the tasks' own classes.
        right: (M,) whether they were named rightly.
        refused: (M,) whether they were answered with "unknown".
        accepted: (O,) whether pictures of foreign classes were not.
        told: the share of own pictures that is refused, as the program says.
    """

    sure: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    refused: npt.NDArray[np.bool_]
    accepted: npt.NDArray[np.bool_]
    told: float


def measure(data: Data) -> Iterator[Row]:
    """On the encoders' own domains with a bar, for every classifier that has a calibration, then on others."""
    for backbone, folders, names, halvings in OWN:
        for name, halves in halves_answered(*joined(data, folders, backbone), backbone, names, halvings).items():
            yield from own_rows(halves, f"{' and '.join(folders)}, {backbone}, {name}")
    for backbone, names in SHIPPED:
        for folder in REPORTED_ON:
            table, embeddings = data.embedded(folder, backbone)
            for name in names:
                found = cells_answered(table, embeddings, backbone, name, shipped_calibration(backbone)[name])
                yield from rows([figures([each]) for each in found], f"{folder}, {backbone} as it ships, {name}")


def halves_answered(
    table: ImageTable, embeddings: Embeddings, backbone: str, names: Sequence[str], halvings: int
) -> dict[str, list[list[Answered]]]:
    """Classifier -> the cells of every half of the classes, calibrated on the other half."""
    statistics = shipped_statistics(backbone)
    found: dict[str, list[list[Answered]]] = {name: [] for name in names}
    for seed in range(halvings):
        for calibrates, measured in both_ways(table, seed):
            known = measure_confidence(embeddings, calibrates, statistics, seed, classifiers=names, queries=QUERIES)
            for name in names:
                found[name].append(cells_answered(measured, embeddings, backbone, name, Calibration((known[name],))))
    return found


def own_rows(halves: Sequence[Sequence[Answered]], on: str) -> Iterator[Row]:
    """The extremes over cells of all halves (H, C) together, with bars, and of the error with each half alone."""
    together = [figures(cell) for cell in zip(*halves, strict=True)]
    alone = np.mean([[figures([cell]).error for cell in half] for half in halves], axis=0)
    error, mean, least, most, cost = rows(together, on)
    yield replace(error, high=4.0)
    yield mean
    yield Row("the same with each half alone, largest of the cells", on, float(alone.max()), unit="points")
    yield from (replace(each, low=3.0, high=7.0) for each in (least, most))
    yield cost


def rows(cells: Sequence[Figures], on: str) -> list[Row]:
    """The extremes over cells."""
    found = [
        Row("calibration error, largest of the cells", on, max(cell.error for cell in cells), unit="points"),
        Row("calibration error, mean of the cells", on, float(np.mean([cell.error for cell in cells])), unit="points"),
    ]
    for what, pick in (("least", min), ("most", max)):
        accepted = pick(cell.accepted for cell in cells)
        found.append(Row(f"foreign pictures accepted, {what}", on, accepted, nominal=100 * RATE))
    cost = max((cell.cost for cell in cells), key=abs)
    return [*found, Row("cost told less true cost, farthest", on, cost, unit="points")]


def figures(answered: Sequence[Answered]) -> Figures:
    """Of the answers of one cell, those of several halves together."""
    sure, right, refused, accepted = (
        np.concatenate([getattr(each, part) for each in answered]) for part in ("sure", "right", "refused", "accepted")
    )
    told = float(np.average([each.told for each in answered], weights=[len(each.refused) for each in answered]))
    return Figures(
        100 * expected_calibration_error(sure, right),
        100 * float(accepted.mean()),
        100 * (told - float(refused.mean())),
    )


def cells_answered(
    table: ImageTable, embeddings: Embeddings, backbone: str, name: str, calibration: Calibration
) -> list[Answered]:
    """What was answered in every cell."""
    scorer = FeatureScorer(
        embeddings, build_classifier(name, statistics=shipped_statistics(backbone)), calibration=calibration
    )
    return [_answered(scorer, table, calibration, ways, shots) for ways in WAYS for shots in SHOTS]


def _answered(scorer: FeatureScorer, table: ImageTable, calibration: Calibration, ways: int, shots: int) -> Answered:
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
    accepted = sure >= calibration.threshold(RATE, traits)[:, None]
    told = float(calibration.cost(RATE, traits).mean())
    return Answered(sure[own], (chances.argmax(-1) == labels)[own], ~accepted[own], accepted[labels == OUTSIDE], told)


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
