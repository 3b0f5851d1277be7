"""Measure how sure classifiers may be: temperatures, thresholds for foreign pictures and their cost, over sizes of tasks.

On episodes of validation classes, of every size that their classes and pictures allow. Some classes of an episode are left out of its
support: their queries belong nowhere, and show how sure a classifier is of what it cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from episodes import ImageTable
from episodes.episode import OUTSIDE
from fewshot.classifiers import INDUCTIVE, NEEDS_STATISTICS, build_classifier
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.calibration import apply_temperature, calibration_error
from fewshot.classifiers.calibration_episodes import QUERIES_OF_A_SIZE, Cell, cells, halves_of
from fewshot.classifiers.confidence import RATES, Confidence, log_odds
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.classifiers.surface import TERMS, Floats, Surface, design
from fewshot.embedding.embed import Embeddings

_PRIOR = np.array([2.0, 0.25, 0.5, 0.05, 0.05, 0.1])  # how far coefficients are from 0, where nothing else holds them
_HOTTEST = 7.0  # logarithm of a temperature, either way: 1,000
_ALIKE = 5  # queries of a class count as one: they are right or wrong together


@dataclass(frozen=True, eq=False)
class Answers:
    """A classifier's log-probabilities (M, N) with labels (M,) for a cell's own queries, and (O, N) for its foreign ones."""

    ways: int
    shots: int
    known: Floats
    labels: npt.NDArray[np.int64]
    foreign: Floats

    @cached_property
    def below_best(self) -> Floats:
        """(M, N) how far each class is below its row's best."""
        gaps: Floats = self.known - self.known.max(1, keepdims=True)
        return gaps


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

    Where there are twice as many classes as an episode needs, each half of them measures the calibration error of what was fitted on
    the other; what is kept is fitted on all.

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
    halves = [cells(half, seed, queries) for half in halves_of(table, seed)]
    apart = all(halves)
    found = {}
    for name in INDUCTIVE if classifiers is None else classifiers:
        if statistics is not None or name not in NEEDS_STATISTICS:
            scorer = FeatureScorer(embeddings, build_classifier(name, statistics=statistics))
            answered = _answer_all(scorer, whole)
            one, other = (_answer_all(scorer, half) for half in halves) if apart else (answered, answered)
            errors = [_errors(one, fit_temperature_surface(other)), _errors(other, fit_temperature_surface(one))]
            found[name] = _confidence(answered, np.mean(errors, axis=0), apart, source)
    return found


def fit_temperature_surface(answers: Sequence[Answers]) -> Surface:
    """The surface of log temperatures under which the labels are most likely, every size weighing the same.

    A weak normal prior about a temperature of 1 holds what data do not: where every answer is right, a temperature would go to 0.
    """
    terms = design([each.ways for each in answers], [each.shots for each in answers])  # (C, 6)
    queries = sum(len(each.labels) for each in answers) / _ALIKE

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        total, slope = 0.0, np.zeros(TERMS)
        for each, row in zip(answers, terms, strict=True):
            value, derivative = _likelihood(each, float(row @ coefficients))
            total += value / len(answers)
            slope += derivative * row / len(answers)
        prior = coefficients / _PRIOR
        return queries * total + 0.5 * float(prior @ prior), queries * slope + prior / _PRIOR

    best = minimize(loss, np.zeros(TERMS), jac=True, method="L-BFGS-B")
    return _surface(best.x, answers)


def _likelihood(answers: Answers, log_temperature: float) -> tuple[float, float]:
    """Mean -log p(true class) at a temperature, and its derivative by the temperature's logarithm."""
    scaled = answers.below_best * np.exp(-np.clip(log_temperature, -_HOTTEST, _HOTTEST))
    weights = np.exp(scaled)
    total = weights.sum(1)
    own = scaled[np.arange(len(scaled)), answers.labels]
    expected = np.einsum("mn,mn->m", weights, scaled) / total
    return float((np.log(total) - own).mean()), float((own - expected).mean())


def _confidence(answers: Sequence[Answers], errors: Floats, new_classes: bool, source: str) -> Confidence:
    surface = fit_temperature_surface(answers)
    thresholds, costs = _thresholds(answers, surface)
    return Confidence(
        surface,
        RATES,
        thresholds,
        costs,
        float(errors[0]),
        float(errors[1]),
        new_classes,
        sum(len(each.foreign) for each in answers),
        source,
    )


def _thresholds(answers: Sequence[Answers], temperatures: Surface) -> tuple[tuple[Surface, ...], tuple[Surface, ...]]:
    """Surfaces of the log-odds of confidence that a share of foreign queries reaches, and of own queries that do not; R of each."""
    terms = design([each.ways for each in answers], [each.shots for each in answers])
    odds = [_odds(each.foreign, each, temperatures) for each in answers]
    quantiles = np.stack([np.quantile(values, 1 - np.array(RATES)) for values in odds])  # (C, R)
    thresholds = tuple(_fit(terms, column, answers) for column in quantiles.T)
    known = [_odds(each.known, each, temperatures) for each in answers]
    costs = []
    for surface in thresholds:
        refused = [
            (values < surface(each.ways, each.shots)).mean() for values, each in zip(known, answers, strict=True)
        ]
        costs.append(_fit(terms, log_odds(np.clip(refused, 1e-3, 1 - 1e-3)), answers))
    return thresholds, tuple(costs)


def _fit(terms: Floats, values: Floats, answers: Sequence[Answers]) -> Surface:
    """Least squares of values (C,) on terms (C, 6); a trace of ridge decides where sizes are too few to."""
    ridge = np.diag([0.0, *[0.01] * (TERMS - 1)])
    return _surface(np.linalg.solve(terms.T @ terms + ridge, terms.T @ values), answers)


def _odds(scores: Floats, answers: Answers, temperatures: Surface) -> Floats:
    """log(p / (1 - p)) (M,) of the calibrated confidence; from logarithms, for p may be all but 1."""
    temperature = float(np.exp(temperatures(answers.ways, answers.shots)))
    scaled = np.sort(apply_temperature(scores, temperature), axis=1)
    odds: Floats = scaled[:, -1] - logsumexp(scaled[:, :-1], axis=1)
    return odds


def _errors(answers: Sequence[Answers], temperatures: Surface) -> tuple[float, float]:
    """Expected calibration error without and with temperatures, the mean over sizes."""
    found = [
        [calibration_error(each.known, each.labels, temperature) for temperature in (1.0, float(warm))]
        for each in answers
        for warm in [np.exp(temperatures(each.ways, each.shots))]
    ]
    before, after = np.mean(found, axis=0)
    return float(before), float(after)


def _surface(coefficients: Any, answers: Sequence[Answers]) -> Surface:
    ways, shots = [float(each.ways) for each in answers], [float(each.shots) for each in answers]
    return Surface(tuple(map(float, coefficients)), (min(ways), max(ways)), (min(shots), max(shots)))


def _answer_all(scorer: FeatureScorer, found: Sequence[Cell]) -> list[Answers]:
    answers = []
    for cell in found:
        scores, labels = scorer(cell.batch).astype(np.float64), cell.batch.query_labels
        own = labels >= 0
        answers.append(Answers(cell.ways, cell.shots, scores[own], labels[own], scores[labels == OUTSIDE]))
    return answers


def _readable(embeddings: Embeddings, table: ImageTable) -> tuple[Embeddings, ImageTable]:
    """Without the pictures that could not be read."""
    kept = np.flatnonzero(embeddings.readable.numpy())
    rows = torch.from_numpy(kept)
    return Embeddings(embeddings.features[rows], embeddings.readable[rows], {}, embeddings.computed), table.select_rows(
        kept
    )
