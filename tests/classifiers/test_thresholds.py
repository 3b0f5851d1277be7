"""Thresholds for foreign pictures hold on classes that did not set them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from fewshot.classifiers.answers import Answers
from fewshot.classifiers.calibration_episodes import halves_of
from fewshot.classifiers.confidence import RATES, log_odds
from fewshot.classifiers.surface import Floats, Surface
from fewshot.classifiers.thresholds import LEVELS, Split, cross_fitted_levels, measure_thresholds
from tests.classifiers.test_confidence import pictures

SIZES = [(2, 1), (2, 5)]
AS_IT_IS = Surface((0.0,) * 6, (2, 2), (1, 5))  # a temperature of 1
OF_CLASSES, OF_PICTURES = 1.0, 0.5
"""Standard deviations of the logarithm of a foreign picture's log-odds, between and within classes."""


def answers(classes: Floats, random: np.random.Generator, pictures: int = 15) -> list[Answers]:
    """What a classifier of two ways says of foreign pictures of some classes (n,)."""
    found = []
    for ways, shots in SIZES:
        odds = np.exp(classes[:, None] + OF_PICTURES * random.normal(size=(len(classes), pictures))).ravel()
        scores = -np.logaddexp(0, np.stack([-odds, odds], axis=1))
        found.append(Answers(ways, shots, scores, np.zeros(len(scores), int), scores))
    return found


def halves(classes: Floats, random: np.random.Generator) -> list[Split]:
    found: list[Split] = []
    for _ in range(4):
        one, other = (answers(half, random) for half in np.split(random.permutation(classes), 2))
        found += [(one, other), (other, one)]
    return found


def accepted(splits: Sequence[Split], known: Sequence[Answers], rate: float) -> float:
    """Share of foreign pictures of all the classes there are that reach the threshold for a rate, the mean over sizes."""
    surface = measure_thresholds(known, splits, AS_IT_IS)[0][RATES.index(rate)]
    needed = np.log([surface(ways, shots) for ways, shots in SIZES])
    return float(norm.sf(needed / np.hypot(OF_CLASSES, OF_PICTURES)).mean())


def test_on_new_classes_the_share_is_the_nominal_one() -> None:
    """Sixteen classes set thresholds; the truth is known in closed form. Their quantile alone accepts a third more than it says."""
    plain, cross_fitted = [], []
    for seed in range(80):
        random = np.random.default_rng(seed)
        classes = OF_CLASSES * random.normal(size=16)
        known = answers(classes, random)
        plain.append(accepted([], known, 0.05))
        cross_fitted.append(accepted(halves(classes, random), known, 0.05))
    assert np.mean(plain) > 0.062, np.mean(plain)
    assert 0.044 < np.mean(cross_fitted) < 0.057, np.mean(cross_fitted)


def test_levels_are_lowered_by_half_of_the_excess_on_the_other_half() -> None:
    assert cross_fitted_levels(5, 1, ()).tolist() == list(RATES)
    excess = [Surface((0.4, 0.0, 0.2, 0.0, 0.0, 0.0), (2, 5), (1, 5))] * len(LEVELS)
    for shots in (1, 5):
        lowered = cross_fitted_levels(5, shots, excess)
        expected = expit(log_odds(RATES) - 0.5 * (0.4 + 0.2 * np.log(shots)))
        assert lowered[1:] == pytest.approx(expected[1:], rel=0.03) and (np.diff(lowered) > 0).all()


def test_thresholds_follow_sizes_that_bend_more_than_a_parabola() -> None:
    """What foreign pictures reach turns twice over log ways, as it does with gda; the truth is the normal's own quantile."""

    def middle(ways: int) -> float:
        return 2 + math.sin(2.2 * math.log(ways))

    random, known = np.random.default_rng(0), []
    for ways in (2, 3, 5, 8, 13, 20):
        for shots in (1, 2, 5, 10):
            odds = middle(ways) + random.normal(size=2000)
            scores = np.stack([odds, np.zeros_like(odds)], axis=1) - np.logaddexp(0, odds)[:, None]
            known.append(Answers(ways, shots, scores, np.zeros(len(scores), int), scores))
    flat = Surface((0.0,) * 6, (2, 20), (1, 10))
    surface = measure_thresholds(known, [], flat)[0][RATES.index(0.05)]
    off = [
        float(surface(ways, shots)) - (middle(ways) + norm.ppf(0.95))
        for ways in (2, 3, 5, 8, 13, 20)
        for shots in (1, 10)
    ]
    assert np.abs(off).max() < 0.3, off  # a parabola is off by 0.41


def test_halves_share_out_the_classes_that_have_pictures() -> None:
    table, _ = pictures(14, 0)
    known = dataclasses.replace(table, labels=np.where(table.labels % 2, table.labels, -1))
    one, other = (set(half.labels.tolist()) - {-1} for half in halves_of(known, 0))
    assert one | other == set(range(1, 14, 2)) and not one & other and abs(len(one) - len(other)) == 1
