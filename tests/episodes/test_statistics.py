"""Intervals and paired differences against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from episodes import DataError, mean_interval, paired_difference
from episodes.statistics import student_t_975, task_accuracies


def test_student_t_equals_scipy() -> None:
    degrees = np.array([*range(1, 1001), 10_000, 1_000_000])
    ours = np.array([student_t_975(int(df)) for df in degrees])
    np.testing.assert_allclose(ours, stats.t.ppf(0.975, degrees), rtol=1e-8)
    assert math.isnan(student_t_975(0))


@pytest.mark.parametrize("count", [2, 3, 40, 600])
def test_interval_equals_scipy(count: int) -> None:
    values = np.random.default_rng(count).random(count)
    mean, half_width = mean_interval(values)
    low, high = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([mean - half_width, mean + half_width], [low, high], rtol=1e-9)


def test_interval_of_few_values() -> None:
    assert mean_interval([0.25])[0] == 0.25 and math.isnan(mean_interval([0.25])[1])
    assert all(map(math.isnan, mean_interval([]))) and all(map(math.isnan, mean_interval([math.nan])))
    assert mean_interval([0.5, math.nan, 1.0]) == mean_interval([0.5, 1.0])


def test_interval_does_not_depend_on_order() -> None:
    values = np.random.default_rng(0).random(999)
    assert mean_interval(values) == mean_interval(values[::-1]) == mean_interval(np.sort(values))


def test_task_accuracies_equal_a_loop() -> None:
    random = np.random.default_rng(0)
    task, right, known = random.integers(0, 6, 80), random.random(80) < 0.5, random.random(80) < 0.7
    known &= task != 2
    ours = task_accuracies(task, right, known, 7)
    for t in range(7):
        of_task = [bool(r) for a, r, k in zip(task, right, known, strict=True) if a == t and k]
        assert math.isnan(ours[t]) if not of_task else ours[t] == sum(of_task) / len(of_task)
    assert np.isnan(ours[[2, 6]]).all()


def test_paired_difference_equals_scipy_and_beats_the_unpaired_one() -> None:
    random = np.random.default_rng(1)
    hard = random.random(200)
    a, b = hard + random.normal(0.02, 0.05, 200), hard
    ours = paired_difference(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    np.testing.assert_allclose([ours.mean - ours.ci95, ours.mean + ours.ci95], [expected.low, expected.high], rtol=1e-9)
    assert ours.episodes == 200 and ours.settled == (stats.ttest_rel(a, b).pvalue < 0.05)


def test_episodes_needed_is_the_smallest_number_that_settles() -> None:
    differences = np.random.default_rng(2).normal(0.01, 0.1, 50)
    ours = paired_difference(differences, np.zeros(50))
    needed = ours.episodes_needed
    assert needed is not None and not ours.settled and f"about {needed} would" in ours.summary()
    spread = differences.std(ddof=1)

    def settles(count: int) -> bool:
        return bool(stats.t.ppf(0.975, count - 1) * spread / math.sqrt(count) < abs(differences.mean()))

    assert settles(needed) and not settles(needed - 2)


def test_paired_differences_that_nothing_settles() -> None:
    same = paired_difference([0.5, 0.7], [0.5, 0.7])
    assert same.mean == 0 and same.episodes_needed is None and not same.settled
    assert paired_difference([0.5, math.nan, 0.2], [0.4, 0.3, 0.3]).episodes == 2


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([], [])])
def test_paired_difference_refuses(a: list[float], b: list[float]) -> None:
    with pytest.raises(DataError):
        paired_difference(a, b)
