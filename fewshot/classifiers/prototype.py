"""Nearest class mean: the default classifier.

Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, 2017, arXiv 1703.05175; with the
cosine instead of the Euclidean distance, as contrastively trained encoders are compared by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.shots import shots_weight
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


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
