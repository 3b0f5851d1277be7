"""Differences over seeds and episodes: coverage by simulation with known spreads, and against simple cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from episodes import paired_difference
from episodes.errors import DataError
from experiments.engine.compare import difference, holm


@pytest.mark.parametrize(("seeds", "between"), [(2, 0.0), (2, 0.02), (3, 0.0), (3, 0.006), (3, 0.03), (5, 0.012)])
def test_the_interval_covers_the_truth_with_both_sources_of_spread(seeds: int, between: float) -> None:
    generator = np.random.default_rng(seeds)
    runs, hits, false = 400, 0, 0
    for _ in range(runs):
        a = (
            generator.normal(0.7, between, (seeds, 1))
            + generator.normal(0, 0.1, (1, 80))
            + generator.normal(0, 0.05, (seeds, 80))
        )
        found = difference([(a, np.full((1, 80), 0.7))])
        hits += abs(found.mean) <= found.ci95
        false += found.p < 0.05
        assert (abs(found.mean) <= found.ci95) == (found.p >= 0.05)
    assert hits / runs >= 0.93  # 0.95 less two standard errors of 400 trials
    assert false == runs - hits


def test_the_spread_between_seeds_is_not_left_out() -> None:
    """A thousand episodes do not make up for three seeds: treating them as one sample would."""
    generator = np.random.default_rng(0)
    a = generator.normal(0.7, 0.03, (3, 1)) + generator.normal(0, 0.05, (3, 1000))
    found = difference([(a, np.full((1, 1000), 0.7))])
    naive = paired_difference(a.mean(axis=0), np.full(1000, 0.7))
    expected = stats.t.ppf(0.975, 2) * a.mean(axis=1).std(ddof=1) / math.sqrt(3)
    assert found.ci95 == pytest.approx(expected, rel=0.05) and found.ci95 > 5 * naive.ci95


def test_one_seed_is_the_paired_difference_over_episodes() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.uniform(size=(2, 50))
    a[3] = np.nan
    found, expected = difference([(a, b)]), paired_difference(a, b)
    assert (found.mean, found.ci95) == pytest.approx((expected.mean, expected.ci95))
    assert found.p == pytest.approx(stats.ttest_rel(a, b, nan_policy="omit").pvalue)
    assert found.episodes == 49 and math.isnan(found.seed_spread)


def test_episodes_of_their_own_make_each_seed_one_observation() -> None:
    generator = np.random.default_rng(2)
    a, b = generator.uniform(size=(2, 4, 50))
    found = difference([(a, b)], same_episodes=False)
    assert found.p == pytest.approx(stats.ttest_rel(a.mean(axis=1), b.mean(axis=1)).pvalue)


def test_sets_count_alike_whatever_their_size() -> None:
    generator = np.random.default_rng(3)
    small, large = generator.normal(0.1, 0.1, (3, 20)), generator.normal(0.3, 0.1, (3, 500))
    found = difference([(small, 0 * small), (large, 0 * large)])
    assert found.mean == pytest.approx((small.mean() + large.mean()) / 2)
    assert found.ci95 < difference([(small, 0 * small)]).ci95


def test_equal_accuracies_are_no_difference() -> None:
    a = np.random.default_rng(4).uniform(size=(2, 9))
    found = difference([(a, a)])
    assert (found.mean, found.ci95, found.p) == (0, 0, 1)
    with pytest.raises(DataError, match="at least one episode"):
        difference([(np.full((1, 3), np.nan), np.zeros((1, 3)))])


def test_holm_by_hand() -> None:
    """The example of Holm's procedure in textbooks: 0.01 x 4, 0.02 x 3, max(0.06, 0.03 x 2), and never above 1."""
    assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, math.nan, 0.8])[::2] == [1.0, 1.0] and math.isnan(holm([0.9, math.nan])[1])
    assert holm([]) == []
