"""Measure how sure classifiers may be: temperatures, thresholds for foreign pictures and their cost, over sizes of tasks.

On episodes of validation classes, of every size that their classes and pictures allow. Some classes of an episode are left out of its
support: their queries belong nowhere, and show how sure a classifier is of what it cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize

from episodes import ImageTable
from episodes.counter_random import random_bits
from fewshot.classifiers import INDUCTIVE, NEEDS_STATISTICS, build_classifier
from fewshot.classifiers.answers import Answers, answer_all, sizes, surface_over
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.calibration import calibration_error
from fewshot.classifiers.calibration_episodes import QUERIES_OF_A_SIZE, Cell, cells, halves_of
from fewshot.classifiers.confidence import RATES, Confidence
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.classifiers.surface import Floats, Surface
from fewshot.classifiers.thresholds import Split, measure_thresholds
from fewshot.embedding.embed import Embeddings

_PRIOR = np.array([2.0, 0.25, 0.5, 0.05, 0.05, 0.1])  # how far coefficients are from 0, where nothing else holds them
_HOTTEST = 7.0  # logarithm of a temperature, either way: 1,000
_ALIKE = 5  # queries of a class count as one: they are right or wrong together
_HALVINGS = 4  # of the classes


def measure_confidence(
    embeddings: Embeddings,
    table: ImageTable,
    statistics: Statistics | None,
    seed: int,
    *,
    source: str = "validation episodes",
    classifiers: Sequence[str] | None = None,
    queries: int = QUERIES_OF_A_SIZE,
) -> dict[str, Confidence]:
    """The confidence of every inductive classifier; empty where the classes are too few or too small.

    Where there are twice as many classes as an episode needs, they are halved a few times: each half measures the calibration error of
    what was fitted on the other, and the share of foreign pictures that the other's thresholds accept, which tells the level at which
    thresholds of all classes hold on new ones. What is kept is fitted on all.

    Args:
        embeddings: of the rows of `table`.
        table: classes that the encoder was not trained on.
        statistics: of the training classes; classifiers that need them are left out without.
        seed: of the episodes.
        source: whose pictures these are, in words.
        classifiers: their names; all inductive ones unless given.
        queries: of the episodes' own classes, about, for every size.
    """
    embeddings, table = _readable(embeddings, table)
    whole = cells(table, seed, queries)
    if not whole:
        return {}
    halvings = _halvings(table, seed, queries)
    found = {}
    for name in INDUCTIVE if classifiers is None else classifiers:
        if statistics is not None or name not in NEEDS_STATISTICS:
            scorer = FeatureScorer(embeddings, build_classifier(name, statistics=statistics))
            splits: list[Split] = []
            for one, other in halvings:
                answered = answer_all(scorer, one), answer_all(scorer, other)
                splits += [answered, answered[::-1]]
            found[name] = _confidence(answer_all(scorer, whole), splits, source)
    return found


def _halvings(table: ImageTable, seed: int, queries: int) -> list[tuple[list[Cell], list[Cell]]]:
    """Some cells of both halves of the classes, several times; none where a half has too few."""
    found = []
    for number in range(_HALVINGS):
        key = random_bits(seed, "halving", number) >> 1
        one, other = (cells(half, key, queries, every=2) for half in halves_of(table, key))
        found.append((one, other))
    return found if all(one and other for one, other in found) else []


def fit_temperature_surface(answers: Sequence[Answers]) -> Surface:
    """The surface of log temperatures under which the labels are most likely, every size weighing the same.

    A weak normal prior about a temperature of 1 holds what data do not: where every answer is right, a temperature would go to 0.
    """
    terms = sizes(answers, 2)  # (C, 6)
    queries = sum(len(each.labels) for each in answers) / _ALIKE

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        total, slope = 0.0, np.zeros_like(_PRIOR)
        for each, row in zip(answers, terms, strict=True):
            value, derivative = _likelihood(each, float(row @ coefficients))
            total += value / len(answers)
            slope += derivative * row / len(answers)
        prior = coefficients / _PRIOR
        return queries * total + 0.5 * float(prior @ prior), queries * slope + prior / _PRIOR

    best = minimize(loss, np.zeros_like(_PRIOR), jac=True, method="L-BFGS-B")
    return surface_over(best.x, answers)


def _likelihood(answers: Answers, log_temperature: float) -> tuple[float, float]:
    """Mean -log p(true class) at a temperature, and its derivative by the temperature's logarithm."""
    scaled = answers.below_best * np.exp(-np.clip(log_temperature, -_HOTTEST, _HOTTEST))
    weights = np.exp(scaled)
    total = weights.sum(1)
    own = scaled[np.arange(len(scaled)), answers.labels]
    expected = np.einsum("mn,mn->m", weights, scaled) / total
    return float((np.log(total) - own).mean()), float((own - expected).mean())


def _confidence(answers: Sequence[Answers], splits: Sequence[Split], source: str) -> Confidence:
    surface = fit_temperature_surface(answers)
    thresholds, costs = measure_thresholds(answers, splits, surface)
    tried = [_errors(asked, fit_temperature_surface(fitted)) for fitted, asked in splits] or [_errors(answers, surface)]
    before, after = np.mean(tried, axis=0)
    return Confidence(
        surface,
        RATES,
        thresholds,
        costs,
        float(before),
        float(after),
        bool(splits),
        sum(len(each.foreign) for each in answers),
        source,
    )


def _errors(answers: Sequence[Answers], temperatures: Surface) -> tuple[float, float]:
    """Expected calibration error without and with temperatures, the mean over sizes."""
    found = [
        [calibration_error(each.known, each.labels, temperature) for temperature in (1.0, float(warm))]
        for each in answers
        for warm in [np.exp(temperatures(each.ways, each.shots))]
    ]
    before, after = np.mean(found, axis=0)
    return float(before), float(after)


def _readable(embeddings: Embeddings, table: ImageTable) -> tuple[Embeddings, ImageTable]:
    """Without the pictures that could not be read."""
    kept = np.flatnonzero(embeddings.readable.numpy())
    rows = torch.from_numpy(kept)
    return Embeddings(embeddings.features[rows], embeddings.readable[rows], {}, embeddings.computed), table.select_rows(
        kept
    )
