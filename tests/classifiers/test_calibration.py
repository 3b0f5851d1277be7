"""Calibration against a direct minimisation, a counted loop and known truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from episodes.errors import DataError
from fewshot.classifiers.calibration import (
    apply_temperature,
    calibration_error,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reject_threshold,
    reliability,
    stack_log_probabilities,
)


def _drawn(rows: int, ways: int, seed: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits); the log-probabilities shown are those of logits x temperature."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(rows, ways))
    truth = np.exp(log_softmax(logits, axis=1))
    labels = (truth.cumsum(1) > generator.random((rows, 1))).argmax(1)
    return log_softmax(logits * temperature, axis=1), labels


@pytest.mark.parametrize("temperature", [0.1, 1.0, 7.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    table, labels = _drawn(40_000, 5, 0, temperature)
    assert fit_temperature(table, labels) == pytest.approx(temperature, rel=0.03)


def test_the_fit_is_the_minimum_of_the_likelihood() -> None:
    table, labels = _drawn(500, 4, 1, 3.0)
    reference = minimize_scalar(
        lambda log_t: -log_softmax(table / np.exp(log_t), axis=1)[np.arange(500), labels].mean(), tol=1e-10
    )
    assert fit_temperature(table, labels) == pytest.approx(float(np.exp(reference.x)), rel=1e-4)


def test_mixed_ways_are_fitted_together() -> None:
    """Padding with -inf must count for nothing: the minimum of the two sets' summed likelihood."""
    a, b = _drawn(300, 3, 2, 2.0), _drawn(400, 8, 3, 2.0)
    table, labels = stack_log_probabilities([a, b])
    assert table.shape == (700, 8)
    reference = minimize_scalar(
        lambda log_t: -sum(log_softmax(t / np.exp(log_t), axis=1)[np.arange(len(y)), y].sum() for t, y in (a, b)),
        tol=1e-10,
    )
    assert fit_temperature(table, labels) == pytest.approx(float(np.exp(reference.x)), rel=1e-4)


def test_rows_without_answer_or_label_are_left_out() -> None:
    table, labels = _drawn(200, 4, 4, 2.0)
    holed, unknown = np.vstack([table, np.full((3, 4), np.nan), table[:5]]), np.r_[labels, 0, 1, 2, [-1] * 5]
    assert fit_temperature(holed, unknown) == fit_temperature(table, labels)
    shaped, _ = stack_log_probabilities([(holed.reshape(16, 13, 4), unknown.reshape(16, 13))])
    np.testing.assert_array_equal(shaped, table)


def test_temperature_keeps_answers_and_normalises() -> None:
    table, _ = _drawn(100, 5, 5)
    table[0, 2] = -np.inf
    made = apply_temperature(table, 4.0)
    np.testing.assert_array_equal(made.argmax(1), table.argmax(1))
    np.testing.assert_allclose(np.exp(made).sum(1), 1)
    assert made[0, 2] == -np.inf
    np.testing.assert_allclose(made[1:], log_softmax(table[1:] / 4, axis=1))
    assert np.isnan(apply_temperature(np.full((1, 3), np.nan), 2.0)).all()
    np.testing.assert_array_equal(apply_temperature(np.zeros((2, 1)), 3.0), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="positive"):
        apply_temperature(table, 0.0)


def test_extremes_end_at_the_range() -> None:
    right = np.log(np.array([[0.6, 0.4], [0.3, 0.7]]))
    assert fit_temperature(right, [0, 1]) == pytest.approx(1e-3)
    assert fit_temperature(right, [1, 0]) == pytest.approx(1e3)
    with pytest.raises(DataError, match="probability zero"):
        fit_temperature(np.array([[0.0, -np.inf]]), [1])
    with pytest.raises(DataError, match="at least one"):
        fit_temperature(right, [-1, -1])


def test_fitting_lowers_error_and_likelihood() -> None:
    table, labels = _drawn(5000, 5, 6, 5.0)
    temperature = fit_temperature(table, labels)
    assert calibration_error(table, labels) > 0.1
    assert calibration_error(table, labels, temperature) < 0.03
    after = negative_log_likelihood(apply_temperature(table, temperature), labels)
    assert after < negative_log_likelihood(table, labels)


def test_calibration_error_is_the_counted_one() -> None:
    generator = np.random.default_rng(7)
    confidence, correct = generator.random(400), generator.random(400) < 0.5
    confidence[:3] = [0.0, 1.0, 0.2]
    total = 0.0
    for b in range(10):
        inside = [i for i in range(400) if (b / 10 < confidence[i] <= (b + 1) / 10) or (b == 0 and confidence[i] == 0)]
        if inside:
            gap = abs(np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside]))
            total += len(inside) / 400 * gap
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(total)
    holed = np.r_[confidence, np.nan]
    assert expected_calibration_error(holed, np.r_[correct, True], bins=10) == pytest.approx(total)


def test_reliability_counts_everything_once_and_refuses_nonsense() -> None:
    table = reliability([0.05, 0.5, 0.99, 1.0], [0, 1, 1, 1], bins=4)
    assert table.counts.tolist() == [1, 1, 0, 2]
    assert np.isnan(table.accuracy[2]) and table.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    with pytest.raises(DataError, match="in \\[0, 1\\]"):
        reliability([1.5], [True])
    with pytest.raises(DataError, match="none"):
        reliability([np.nan], [True])


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5, 1.0])
def test_threshold_keeps_its_promise_and_no_more(rate: float) -> None:
    outsiders = np.random.default_rng(8).beta(2, 3, size=1000)
    threshold = reject_threshold(np.r_[outsiders, np.nan], rate)
    assert (outsiders >= threshold).mean() <= rate
    assert (outsiders >= threshold).mean() > rate - 0.0011


def test_threshold_declines_ties_and_needs_enough_outsiders() -> None:
    tied = np.r_[np.full(50, 0.9), np.full(50, 0.1)]
    assert (tied >= reject_threshold(tied, 0.1)).mean() == 0
    assert (tied >= reject_threshold(tied, 0.5)).mean() == 0.5
    with pytest.raises(DataError, match="expected at least 100"):
        reject_threshold(tied[:99], 0.01)
    with pytest.raises(ValueError, match="false-accept"):
        reject_threshold(tied, 0.0)


def test_a_sure_and_wrong_table_gets_the_hottest_temperature_that_there_is() -> None:
    """Worse than chance at any temperature: the end of the range. Better than chance only beyond 1/1000: within it."""
    table = log_softmax(np.eye(4)[[0, 1, 2, 3]] * 5.0, axis=1)
    assert fit_temperature(table, [1, 2, 3, 0]) == 1000
    logits = np.array([[1000.0, 0.0]] * 1000)
    labels = np.r_[np.zeros(700, dtype=int), np.ones(300, dtype=int)]
    exact = 1000 / np.log(0.7 / 0.3)  # softmax([1000 / T, 0]) = 0.7, beyond the range
    assert exact > 1000 and fit_temperature(log_softmax(logits, axis=1), labels) == 1000
    within = fit_temperature(log_softmax(logits * 0.7, axis=1), labels)
    assert within == pytest.approx(700 / np.log(0.7 / 0.3), rel=1e-6)


def test_the_error_is_counted_in_as_many_bins_as_asked_for() -> None:
    table, labels = _drawn(300, 4, 5, 2.0)
    confidence, right = np.exp(table.max(1)), table.argmax(1) == labels
    for bins in (2, 5, 15):
        assert calibration_error(table, labels, bins=bins) == pytest.approx(
            expected_calibration_error(confidence, right, bins)
        )
    assert calibration_error(table, labels, bins=2) != calibration_error(table, labels)
    assert calibration_error(table, labels) == calibration_error(table, labels, bins=15)
