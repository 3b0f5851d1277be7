"""Nearest class mean: the default classifier.

Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, 2017, arXiv 1703.05175; with the
cosine instead of the Euclidean distance, as contrastively trained encoders are compared by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


def shots_weight(tasks: TaskBatch, exponent: float) -> Tensor:
    """(T, N) factors, at most 1, that make classes of unequal shots comparable; exactly 1 in a task of equal shots.

    The mean of k unit vectors whose cosine with each other is r has the norm sqrt(r + (1 - r) / k): the fewer there are, the longer it
    is, and the lower the cosine of a new picture of the class with it, r over that norm. So a class of few shots loses to one of many.
    The factor is that norm squared over r, to the power ``exponent`` (0.5 would take back all of it), over the task's largest; r is the
    task's mean cosine of support pictures of one class. 0.4 was chosen on tin val and omniglot base with ``tiny``, lite0 and lite2.
    """
    shots = tasks.shots
    sums = maths.unit(tasks.support).mul(tasks.known.unsqueeze(-1)).transpose(1, 2).bmm(tasks.membership)  # (T, D, N)
    pairs = (shots * (shots - 1)).sum(1, keepdim=True)
    within = (sums.square().sum(1) - shots).sum(1, keepdim=True) / pairs.clamp_min(1)
    within = within.clamp(1e-3, 1)
    factor = ((within + (1 - within) / shots) / within) ** exponent
    return factor / factor.amax(1, keepdim=True)


@CLASSIFIERS.register("prototype", "cosine to the mean of each class", position=1)
@dataclass(frozen=True)
class Prototype:
    """A class is the mean of its support features, a query goes to the closest.

    ``metric="cosine"``: unit-norm mean of unit-norm features, score = ``scale`` x cosine.
    Where classes have unequal shots, the cosine is multiplied by ``shots_weight(tasks, shots_exponent)``: 0 leaves it alone.
    ``metric="euclidean"``: plain mean of the features as they are, score = -``scale`` / 2 x squared distance,
    which for unit vectors is the same up to a constant. ``scale`` starts at 10 in training, hence the
    default.
    """

    scale: float = 10.0
    metric: Literal["cosine", "euclidean"] = "cosine"
    shots_exponent: float = 0.4
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; the query mask and class names are not looked at."""
        if self.metric == "cosine":
            cosines = maths.cosines(tasks.query, tasks.prototypes)
            if self.shots_exponent and tasks.unequal_shots:
                cosines = cosines * shots_weight(tasks, self.shots_exponent).unsqueeze(1)
            return maths.log_probabilities(self.scale * cosines)
        distances = maths.squared_distances(tasks.query, tasks.class_means)
        return maths.log_probabilities(-0.5 * self.scale * distances)
