"""What a few-shot classifier is, and the training-class statistics that some of them need.

Shapes: T tasks, S support pictures, Q query pictures, N ways, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from episodes.errors import DataError
from fewshot.classifiers.tasks import TaskBatch

_PREFIX = "statistics."


class Classifier(Protocol):
    """One few-shot method over a batch of tasks; holds settings, no task state."""

    @property
    def transductive(self) -> bool:
        """True where a query's answer may depend on the other queries."""
        ...

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """Score every query of every task.

        Args:
            tasks: T padded tasks; what is padded must not change any answer.

        Returns:
            (T, Q, N) log-probabilities, float32; rows of padded queries are finite and mean nothing.

        Raises:
            DataError: a class has no support picture.
        """
        ...


@dataclass(frozen=True, eq=False)
class Statistics:
    """First and second moments of the training classes' features, as SimpleShot and GDA need them."""

    mean: Tensor  # (D,) over all pictures
    covariance: Tensor  # (D, D) within classes: the mean outer product of deviations from the own class's mean
    count: int  # pictures behind them

    def check_width(self, width: int) -> None:
        """Raise ``DataError`` unless the statistics are of features as wide as ``width``."""
        if len(self.mean) != width:
            raise DataError(
                f"the training-class statistics are of features of width {len(self.mean)}, these have {width}: "
                "they belong to another encoder; compute them again with this one"
            )

    def to_tensors(self, prefix: str = _PREFIX) -> dict[str, Tensor]:
        """Tensors for a safetensors file; ``prefix`` lets several sets share one file."""
        return {
            f"{prefix}mean": self.mean.contiguous(),
            f"{prefix}covariance": self.covariance.contiguous(),
            f"{prefix}count": torch.tensor(self.count, dtype=torch.int64),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = _PREFIX) -> Statistics | None:
        """Read back what ``to_tensors`` wrote; None where the file holds no statistics under that prefix.

        Raises:
            DataError: they are there but incomplete or of shapes that do not fit each other.
        """
        names = [f"{prefix}{part}" for part in ("mean", "covariance", "count")]
        if not any(name in tensors for name in names):
            return None
        missing = [name for name in names if name not in tensors]
        if missing:
            raise DataError(f"incomplete training-class statistics: expected {names}, missing {missing}")
        mean, covariance, count = (tensors[name] for name in names)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise DataError(
                "training-class statistics do not fit each other: expected a mean of (D,) and a covariance of (D, D), "
                f"found {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        return cls(mean, covariance, int(count))


def class_statistics(features: Tensor, labels: Tensor) -> Statistics:
    """Statistics of ``features`` (n, D) whose classes are ``labels`` (n,); pictures labelled -1 are left out.

    Sums run in float64, the result is float32. The covariance divides by n, as scikit-learn's ``LinearDiscriminantAnalysis`` does
    with empirical priors.

    Raises:
        DataError: shapes differ or nothing is left.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataError(
            f"expected features (n, D) and labels (n,), found {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    known = labels >= 0
    if not bool(known.any()):
        raise DataError("no labelled picture to take the training classes' mean and covariance from")
    x = features[known].to(torch.float64)
    _, which = torch.unique(labels[known], return_inverse=True)
    counts = torch.bincount(which)
    means = torch.zeros(len(counts), x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, which, x)
    means /= counts.unsqueeze(1)
    residual = x - means[which]
    return Statistics(x.mean(0).float(), (residual.T @ residual / len(x)).float(), len(x))
