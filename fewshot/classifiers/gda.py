"""Gaussian discriminant analysis: all classes share one covariance, learned where there is data for it.

Wang et al., A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation, 2024, arXiv 2402.04087;
Fisher's linear discriminant. The paper takes the covariance from the task's own support set; at one shot that
is zero and every class ties. Here it is the training classes' within-class covariance, which says how
pictures of one class differ; the task's own is mixed in as far as its pictures, left out in turn, show that it helps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.own_scatter import own_scatter
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS

_POWERS_OVERFLOW = 1e6  # beyond, a fourth power times precisions may be more than float32 holds


def shrunk_precision(covariance: Tensor, shrinkage: float) -> Tensor:
    """Inverse of (1 - s) C + s tr(C)/D I for a covariance C (D, D); float64. The identity where C is zero."""
    c = covariance.to(torch.float64)
    identity = torch.eye(len(c), dtype=c.dtype, device=c.device)
    variance = c.diagonal().mean()
    if float(variance) <= 0:
        return identity
    # A trace of the identity is kept whatever the shrinkage: a feature that never varies must not be
    # infinitely telling.
    floor = max(shrinkage, 1e-6)
    return torch.cholesky_inverse(torch.linalg.cholesky((1 - floor) * c + floor * variance * identity))


@CLASSIFIERS.register("gda", "Gaussian classes, the training classes' covariance and the task's own", position=4)
@dataclass(frozen=True, eq=False)
class GaussianDiscriminant:
    """Score = ``scale`` x log-density of the query under N(class mean, shared covariance), up to a constant.

    Classes have equal priors. ``shrinkage`` mixes the covariance with the identity as scikit-learn's
    ``LinearDiscriminantAnalysis`` does; None is the paper's ((n - 1) C + tr(C) I): a share D / (n - 1 + D) of
    the identity, for n training pictures. The default is stronger: an encoder varies less on the classes it
    was trained on than on new ones, and along other directions (chosen on tin val with the embedded encoder,
    as was ``scale``: few shots make densities surer than they should be).

    The mean of k pictures lies off the class's own by chance, which lowers the density there of a new picture by tr(P C) / (2 k) on
    average, P being the precision. Where classes have unequal shots, a share ``shots_correction`` of that is given back: otherwise
    a class of few shots loses to one of many. The share is that which gains most on the worse of tin val and omniglot base.

    ``own_share`` is that of the task's own scatter in a second covariance, in [0, 1). How much the scores of either count is told by
    the support pictures (``fewshot.classifiers.own_scatter``); at one shot nothing can be left out, and the first alone counts. 0 leaves
    the scatter out.
    """

    statistics: Statistics
    shrinkage: float | None = 0.8
    scale: float = 0.1
    shots_correction: float = 0.5
    own_share: float = 0.2
    transductive: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("statistics",)
    precision: Tensor = field(init=False, repr=False)  # (D, D) float64, once for all tasks

    def __post_init__(self) -> None:
        """Factor the covariance; raises ``ValueError`` for a shrinkage outside [0, 1] or a share outside [0, 1)."""
        width, shrinkage = len(self.statistics.mean), self.shrinkage
        if shrinkage is None:
            shrinkage = width / (max(self.statistics.count, 1) - 1 + width)
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
        if not 0 <= self.own_share < 1:
            raise ValueError(f"own_share must lie in [0, 1), got {self.own_share}")
        object.__setattr__(self, "precision", shrunk_precision(self.statistics.covariance, shrinkage))

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; raises ``DataError`` where features are not as wide as the statistics."""
        self.statistics.check_width(tasks.query.shape[-1])
        if any(_largest(each) > _POWERS_OVERFLOW for each in (tasks.query, tasks.support)):
            tasks = replace(tasks, support=tasks.support.double(), query=tasks.query.double())
        query, means = tasks.query, tasks.class_means
        origin, precision = self.statistics.mean.to(query), self.precision.to(query)
        # Relative to the training mean: the part all classes share would drown the differences in float32.
        own = own_scatter(tasks, origin, precision, self.own_share) if self.own_share else None
        weights = (means - origin) @ precision if own is None else own.weights
        bias = -0.5 * ((means + origin) * weights).sum(-1)
        if tasks.unequal_shots:
            excess = (self.precision.cpu() * self.statistics.covariance.cpu().double()).sum().to(bias) / 2
            if own is not None:
                excess = excess.lerp(own.excess, own.trust)
            bias = bias + self.shots_correction * excess / tasks.shots
        return maths.log_probabilities(self.scale * (maths.products(query, weights) + bias.unsqueeze(1)))


def _largest(features: Tensor) -> float:
    """Largest magnitude; 0 of nothing."""
    return max(float(each.abs()) for each in features.detach().aminmax()) if features.numel() else 0.0
