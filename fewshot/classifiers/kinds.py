"""A classifier's calibration, applied to tasks: temperatures, thresholds and their cost by ways, shots and kind of pictures.

How sure answers may be depends on the pictures as well: an encoder that knows handwriting is right about characters where it would be
wrong about photographs. Where calibration was measured on several kinds, a task takes after those that its support pictures resemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from episodes import EpisodeBatch
from fewshot.classifiers.confidence import Confidence
from fewshot.classifiers.surface import Floats

_SOFTNESS = 0.2  # of the mean squared distance between kinds: how far around the middle of two a task takes after both


@dataclass(frozen=True, eq=False)
class TaskTraits:
    """What of T tasks their calibration depends on.

    Attributes:
        ways: (T,) classes that have a readable support picture.
        shots: (T,) harmonic mean of those classes' pictures: the error of a class's mean falls with one over its shots.
        kinds: (T, K) how far each task takes after each kind of pictures; adds up to 1.
    """

    ways: Floats
    shots: Floats
    kinds: Floats


@dataclass(frozen=True, eq=False)
class Calibration:
    """One classifier over one encoder.

    Attributes:
        parts: K, what each kind of pictures says.
        centres: (K, D) mean embedding of each kind; None for a single one.
    """

    parts: tuple[Confidence, ...]
    centres: Tensor | None = None

    def likeness(self, features: Tensor) -> Tensor:
        """(n, K) how much each of n features (n, D) speaks for each kind; their mean over a task's support decides."""
        if self.centres is None:
            return features.new_zeros(len(features), 1)
        centres = self.centres.to(features)
        apart = torch.cdist(centres, centres).square().sum() / (len(centres) * (len(centres) - 1))
        return (2 * features @ centres.T - centres.square().sum(1)) / (_SOFTNESS * apart)

    def traits(
        self, batch: EpisodeBatch, likeness: npt.NDArray[np.floating[Any]], readable: npt.NDArray[np.bool_]
    ) -> TaskTraits:
        """Ways, shots and kinds of every episode of a batch.

        Args:
            batch: T episodes.
            likeness: (n, K) of every row of their table, see `likeness`.
            readable: (n,) which rows could be read.
        """
        rows = np.maximum(batch.support, 0)
        known = (batch.support >= 0) & readable[rows]
        labels = np.where(known, batch.support_labels, -1)
        counts = (labels[:, :, None] == np.arange(batch.class_ids.shape[1])).sum(1)  # (T, N)
        ways = np.maximum((counts > 0).sum(1), 1).astype(np.float64)
        inverse = np.divide(1.0, counts, out=np.zeros(counts.shape), where=counts > 0).sum(1)
        shots = np.divide(ways, inverse, out=np.ones_like(ways), where=inverse > 0)
        votes = np.where(known[..., None], likeness[rows], 0.0).sum(1) / np.maximum(known.sum(1), 1)[:, None]
        shares = np.exp(votes - votes.max(1, keepdims=True))
        return TaskTraits(ways, shots, shares / shares.sum(1, keepdims=True))

    def temperature(self, tasks: TaskTraits) -> Floats:
        """(T,) what divides each task's log-probabilities."""
        values = np.stack([part.log_temperature(tasks.ways, tasks.shots) for part in self.parts], axis=1)
        temperatures: Floats = np.exp((values * tasks.kinds).sum(1))
        return temperatures

    def threshold(self, rate: float, tasks: TaskTraits) -> Floats:
        """(T,) the confidence that only a share `rate` of pictures of foreign classes reaches.

        Raises:
            UsageError: a share that validation cannot tell.
        """
        return _share(np.stack([part.threshold(rate, tasks.ways, tasks.shots) for part in self.parts], axis=1), tasks)

    def cost(self, rate: float, tasks: TaskTraits) -> Floats:
        """(T,) the share of pictures of the task's own classes that do not reach that threshold; NaN if an older version made this.

        Raises:
            UsageError: a share that validation cannot tell.
        """
        return _share(np.stack([part.cost(rate, tasks.ways, tasks.shots) for part in self.parts], axis=1), tasks)

    def check_rate(self, rate: float) -> None:
        """Raise `UsageError` where no threshold is known for a share `rate` of foreign pictures."""
        for part in self.parts:
            part.check_rate(rate)

    def describe(self) -> str:
        """What is known of it, in words."""
        return "; ".join(part.describe() for part in self.parts)

    def in_short(self) -> str:
        """The same in a few words, for whoever did not ask."""
        errors = sorted(100 * part.ece_after for part in self.parts)
        off = f"{errors[0]:.1f}" if len(errors) == 1 else f"{errors[0]:.1f} to {errors[-1]:.1f}"
        return f"calibrated on {' and '.join(part.source for part in self.parts)} (off by {off} % there)"


def _share(log_odds: Floats, tasks: TaskTraits) -> Floats:
    """Log-odds (T, K) of each kind, mixed, as shares (T,)."""
    shares: Floats = 1 / (1 + np.exp(-(log_odds * tasks.kinds).sum(1)))
    return shares
