"""What a classifier says on calibration episodes, size by size, and surfaces over those sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from episodes.episode import OUTSIDE
from fewshot.classifiers.calibration import apply_temperature
from fewshot.classifiers.calibration_episodes import Cell
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.classifiers.surface import TERMS, Floats, Surface, design

_TRACE, _CUBIC = 0.01, 1.0  # of ridge; chosen on halves, and halves of 18 and 24 classes, of tin val and omniglot base


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

    def known_odds(self, temperatures: Surface) -> Floats:
        """(M,) log-odds of the confidence in own queries, at these temperatures."""
        return _odds(self.known, float(np.exp(temperatures(self.ways, self.shots))))

    def foreign_odds(self, temperatures: Surface) -> Floats:
        """(O,) log-odds of the confidence in foreign queries, at these temperatures."""
        return _odds(self.foreign, float(np.exp(temperatures(self.ways, self.shots))))


def answer_all(scorer: FeatureScorer, cells: Sequence[Cell]) -> list[Answers]:
    """What a scorer says of every cell."""
    answers = []
    for cell in cells:
        scores, labels = scorer(cell.batch).astype(np.float64), cell.batch.query_labels
        own = labels >= 0
        answers.append(Answers(cell.ways, cell.shots, scores[own], labels[own], scores[labels == OUTSIDE]))
    return answers


def sizes(answers: Sequence[Answers], degree: int) -> Floats:
    """(C, 6) terms of a surface of degree 2 at each of C sizes, (C, 10) of degree 3."""
    return design([each.ways for each in answers], [each.shots for each in answers])[:, : TERMS[degree]]


def fit_surfaces(values: Floats, answers: Sequence[Answers], degree: int) -> tuple[Surface, ...]:
    """L surfaces: least squares of values (C, L) over the sizes of C answers.

    A trace of ridge decides where sizes are too few to; more of it holds what is of degree 3, which few sizes tell badly.
    """
    terms = sizes(answers, degree)
    ridge = np.diag([0.0, *[_TRACE] * (TERMS[2] - 1), *[_CUBIC] * (TERMS[degree] - TERMS[2])])
    solved = np.linalg.solve(terms.T @ terms + ridge, terms.T @ values)  # (6 or 10, L)
    return tuple(surface_over(column, answers) for column in solved.T)


def surface_over(coefficients: Floats, answers: Sequence[Answers]) -> Surface:
    """A surface within the sizes of these answers."""
    ways, shots = [float(each.ways) for each in answers], [float(each.shots) for each in answers]
    return Surface(tuple(map(float, coefficients)), (min(ways), max(ways)), (min(shots), max(shots)))


def _odds(scores: Floats, temperature: float) -> Floats:
    """log(p / (1 - p)) (M,) of the calibrated confidence; from logarithms, for p may be all but 1."""
    scaled = np.sort(apply_temperature(scores, temperature), axis=1)
    odds: Floats = scaled[:, -1] - logsumexp(scaled[:, :-1], axis=1)
    return odds
