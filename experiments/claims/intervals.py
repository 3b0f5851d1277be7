"""Two 95 % intervals: does each cover what it is said to be of?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from episodes import ImageTable, Results
from experiments.claims.base import Data, Row
from experiments.claims.worlds import World, accuracy
from fewshot import Embeddings

NAME = "Intervals of an accuracy"
CLAIM = """`evaluate`, `--compare`, `score` and the report give two 95 % intervals: over episodes of this pool, and for new classes,
the second by a jackknife over classes. Simulation: benchmarks of 7 to 50 classes with 25 pictures each, drawn from a world of 1,500
Gaussian classes whose accuracy is known from 8,000 episodes; 300 episodes a benchmark, 5-way. Pictures: omniglot's classes are halved at
random; the accuracy on one half must lie within the interval of the other's, both intervals taken together (the halvings share classes,
so they are not independent)."""

SIZES = (7, 10, 20, 50)
BENCHMARKS = 125  # of each size and number of shots: 1,000 in all
HALVINGS = 60


def measure(data: Data) -> Iterator[Row]:
    """Coverage in the simulation, then on halves of omniglot's classes."""
    yield from simulation(BENCHMARKS)
    for folder, backbone in (("omniglot/base", "tiny"), ("omniglot/novel", "tiny"), ("omniglot/novel", "lite2")):
        yield from halves(*data.embedded(folder, backbone), f"{folder.replace('/', ' ')}, {backbone}")


def simulation(benchmarks: int, sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Iterator[Row]:
    """Rows of both intervals, for each number of shots, and for each number of classes."""
    generator = np.random.default_rng(seed)
    world = World.of(generator)
    found: dict[tuple[int, int], list[tuple[bool, bool]]] = {}
    for shots in (1, 5):
        truth = accuracy(*world.benchmark(generator, 1500, 25), shots=shots, episodes=8000, seed=seed).mean
        for classes in sizes:
            tries = [
                accuracy(*world.benchmark(generator, classes, 25), shots=shots, episodes=300, seed=number)
                for number in range(benchmarks)
            ]
            found[shots, classes] = [_covered(each, truth) for each in tries]
    everything = [pair for pairs in found.values() for pair in pairs]
    on = f"simulation, {len(everything):,} benchmarks"
    yield _row("coverage, for new classes", on, [new for new, _ in everything], bar=True)
    yield _row("coverage of new classes by the interval over episodes", on, [pool for _, pool in everything])
    for (shots, classes), pairs in found.items():
        size = f"simulation, {classes} classes, {shots} shot{'s' if shots > 1 else ''}"
        yield _row("coverage, for new classes", size, [new for new, _ in pairs])
        yield _row("coverage of new classes by the interval over episodes", size, [pool for _, pool in pairs])


def _covered(results: Results, truth: float) -> tuple[bool, bool]:
    low, high = results.new_classes
    return low <= truth <= high, abs(results.mean - truth) <= results.ci95


def _row(what: str, on: str, covered: list[bool], bar: bool = False) -> Row:
    share, count = 100 * float(np.mean(covered)), len(covered)
    error = 1.96 * math.sqrt(max(share * (100 - share), 1e-9) / count)
    return Row(what, on, share, ci95=error, nominal=95, low=92 if bar else -math.inf, high=98 if bar else math.inf)


def halves(table: ImageTable, embeddings: Embeddings, on: str, halvings: int = HALVINGS) -> Iterator[Row]:
    """Coverage of one half of the classes by the interval of the other half."""
    for shots in (1, 5):
        new, pool = [], []
        for number in range(halvings):
            order = np.random.default_rng(number).permutation(len(table.class_names))
            first, second = (_accuracy_on(table, embeddings, part, shots, number) for part in np.array_split(order, 2))
            new.append(_agree(first, second))
            pool.append(abs(first.mean - second.mean) <= math.hypot(first.ci95, second.ci95))
        size = f"{on}, {shots} shot{'s' if shots > 1 else ''}, {halvings} halvings"
        yield Row(
            "coverage of held-out classes, for new classes",
            size,
            100 * float(np.mean(new)),
            nominal=95,
            low=92,
            high=98,
        )
        yield Row(
            "coverage of held-out classes by the interval over episodes", size, 100 * float(np.mean(pool)), nominal=95
        )


def _accuracy_on(
    table: ImageTable, embeddings: Embeddings, classes: npt.NDArray[np.int64], shots: int, seed: int
) -> Results:
    rows = np.flatnonzero(np.isin(table.labels, classes))
    chosen = Embeddings(embeddings.features[rows], embeddings.readable[rows], {}, len(rows))
    return accuracy(table.select_rows(rows), chosen, shots=shots, episodes=300, seed=seed)


def _agree(first: Results, second: Results) -> bool:
    """Whether two accuracies differ by no more than both intervals allow; in log-odds, where they are symmetric."""
    (middle, half), (other, other_half) = (_log_odds(each) for each in (first, second))
    return abs(middle - other) <= math.hypot(half, other_half)


def _log_odds(results: Results) -> tuple[float, float]:
    low, high = (math.log(share / (1 - share)) for share in results.new_classes)
    return (low + high) / 2, (high - low) / 2
