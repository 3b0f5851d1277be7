"""Turn a classifier's log-probabilities into probabilities that mean what they say, and know when to decline.

Temperature scaling: Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv
1706.04599. Pure functions over log-probabilities (M, N) of M queries and N ways. Ways of a smaller task are
padded with -inf, a query without an answer is a row of NaN, and a query without a known label has label -1;
such rows are left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from episodes.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

COLDEST, HOTTEST = 1e-3, 1e3


def stack_log_probabilities(
    batches: Iterable[tuple[ArrayLike, ArrayLike]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Flatten scored tasks of any number of ways into one table: ((M, N) log-probabilities, (M,) labels).

    Each item is log-probabilities (..., n) with labels (...); N is the largest n, missing ways become -inf. Rows without an answer
    or without a label are dropped.

    Raises:
        DataError: shapes differ or no row is left.
    """
    scored, known = [], []
    for scores, labels in batches:
        table, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
        if table.ndim < 1 or table.shape[:-1] != truth.shape:
            raise DataError(
                f"expected log-probabilities (..., n) with labels (...), found {table.shape} and {truth.shape}"
            )
        table, truth = table.reshape(-1, table.shape[-1]), truth.reshape(-1)
        keep = (truth >= 0) & ~np.isnan(table).any(1)
        scored.append(table[keep])
        known.append(truth[keep].astype(np.int64))
    if sum(map(len, known)) == 0:
        raise DataError("no query with both an answer and a known label to calibrate on; expected at least one")
    widest = max(table.shape[1] for table in scored)
    padded = [np.pad(table, ((0, 0), (0, widest - table.shape[1])), constant_values=-np.inf) for table in scored]
    return np.concatenate(padded), np.concatenate(known)


def apply_temperature(log_probabilities: ArrayLike, temperature: ArrayLike) -> NDArray[np.float64]:
    """Log-probabilities (T, Q, N) or (M, N) divided by a temperature and normalised again; above 1 is less sure.

    Order, hence every answer, stays. -inf stays -inf and a row of NaN stays NaN.

    Args:
        log_probabilities: of N ways, over the last axis.
        temperature: a number, or one for each entry of the first axis.

    Raises:
        ValueError: unless positive.
    """
    values, warmth = np.asarray(log_probabilities, dtype=np.float64), np.asarray(temperature, dtype=np.float64)
    if not (warmth > 0).all():
        raise ValueError(f"a temperature must be positive, got {warmth}")
    scaled = values / (warmth.reshape(-1, *(1,) * (values.ndim - 1)) if warmth.ndim else warmth)
    top = scaled.max(-1, keepdims=True)
    shifted = scaled - top
    made: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return made


def negative_log_likelihood(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of -log p(true class) over the rows with an answer and a label; what ``fit_temperature`` minimises."""
    table, truth = stack_log_probabilities([(log_probabilities, labels)])
    return float(-table[np.arange(len(truth)), truth].mean())


def fit_temperature(log_probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The temperature that makes the labels (M,) most likely under log-probabilities (M, N).

    The likelihood is concave in 1 / temperature, so the root of its derivative is found by bisection, between
    1/1000 and 1000: an end of that range is returned where every answer is right, or none is better than
    chance.

    Raises:
        DataError: there is no row to fit on, or a true class has probability zero.
    """
    table, truth = stack_log_probabilities([(log_probabilities, labels)])
    true_score = table[np.arange(len(truth)), truth]
    if not np.isfinite(true_score).all():
        raise DataError(
            f"{int((~np.isfinite(true_score)).sum())} of {len(truth)} true classes have probability zero: no "
            "temperature can mend that; check that labels are positions among the task's own ways"
        )
    finite = np.where(np.isfinite(table), table, 0.0)  # 0 x -inf is no number; its probability is zero anyway

    def slope(sharpness: float) -> float:
        """Derivative of the mean log-likelihood by 1 / temperature; falls as sharpness grows."""
        expected = (np.exp(apply_temperature(table, 1 / sharpness)) * finite).sum(1)
        return float((true_score - expected).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) <= 0:
        return HOTTEST
    if slope(high) >= 0:
        return COLDEST
    while high / low > 1 + 1e-9:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(1 / np.sqrt(low * high))


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins of equal width; what a reliability diagram draws."""

    edges: NDArray[np.float64]  # (B + 1,)
    confidence: NDArray[np.float64]  # (B,) mean within the bin, NaN where it is empty
    accuracy: NDArray[np.float64]  # (B,) share of right answers, NaN where the bin is empty
    counts: NDArray[np.int64]  # (B,)

    @property
    def error(self) -> float:
        """Expected calibration error: |accuracy - confidence|, averaged over bins by their counts."""
        filled = self.counts > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> Reliability:
    """Bin ``confidence`` (M,) in [0, 1] with ``correct`` (M,) bool; a confidence of NaN (no answer) is left out.

    Raises:
        DataError: shapes differ, a confidence lies outside [0, 1], or nothing is left.
    """
    sure, right = np.asarray(confidence, dtype=np.float64).ravel(), np.asarray(correct).astype(bool).ravel()
    if sure.shape != right.shape:
        raise DataError(f"expected as many confidences as answers, found {sure.shape} and {right.shape}")
    sure, right = sure[~np.isnan(sure)], right[~np.isnan(sure)]
    if len(sure) == 0 or sure.min() < 0 or sure.max() > 1 + 1e-6:
        found = "none" if len(sure) == 0 else f"{sure.min()} to {sure.max()}"
        raise DataError(f"expected confidences in [0, 1], found {found}")
    # Bins are open on the left as in the paper, so that 1.0 is in the last one.
    where = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(where, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean_sure = np.bincount(where, weights=sure, minlength=bins) / counts
        mean_right = np.bincount(where, weights=right, minlength=bins) / counts
    edges = np.linspace(0, 1, bins + 1, dtype=np.float64)
    return Reliability(edges, mean_sure, mean_right, counts)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over ``bins`` of equal width (Naeini et al., 2015, AAAI)."""
    return reliability(confidence, correct, bins).error


def calibration_error(
    log_probabilities: ArrayLike, labels: ArrayLike, temperature: float = 1.0, bins: int = 15
) -> float:
    """Expected calibration error of the best class's probability at ``temperature``."""
    table, truth = stack_log_probabilities([(log_probabilities, labels)])
    table = apply_temperature(table, temperature)
    return expected_calibration_error(np.exp(table.max(1)), table.argmax(1) == truth, bins)


def reject_threshold(outsiders: ArrayLike, false_accept_rate: float) -> float:
    """The confidence to demand so that at most ``false_accept_rate`` of pictures of no known class are accepted.

    ``outsiders`` (M,) are the confidences given to queries of classes that were left out of their task.
    Answers whose confidence is at least the threshold are accepted; it is the smallest float64 that keeps the
    promise on these.

    Raises:
        DataError: there are fewer outsiders than the rate can be told from (1 / rate).
        ValueError: a rate outside (0, 1].
    """
    if not 0 < false_accept_rate <= 1:
        raise ValueError(f"a false-accept rate lies in (0, 1], got {false_accept_rate}")
    sure: NDArray[Any] = np.asarray(outsiders, dtype=np.float64).ravel()
    sure = np.sort(sure[~np.isnan(sure)])[::-1]
    needed = int(np.ceil(1 / false_accept_rate))
    if len(sure) < needed:
        raise DataError(
            f"{len(sure)} queries of left-out classes cannot tell a false-accept rate of {false_accept_rate}: "
            f"expected at least {needed}; evaluate more validation episodes or allow a higher rate"
        )
    allowed = int(np.floor(false_accept_rate * len(sure) + 1e-9))
    # Just above the first that must be declined; ties with it are declined too.
    return 0.0 if allowed == len(sure) else float(np.nextafter(sure[allowed], np.inf))
