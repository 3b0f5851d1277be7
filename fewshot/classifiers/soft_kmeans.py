"""Prototypes refined by soft k-means over the queries.

Ren et al., Meta-Learning for Semi-Supervised Few-Shot Classification, 2018, arXiv 1803.00676, with the
queries themselves as the unlabelled pictures and the cosine as similarity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("soft-kmeans", "transductive: prototypes refined by the queries", position=9)
@dataclass(frozen=True)
class SoftKMeans:
    """``steps`` times: p_c <- norm(sum of the class's support + sum of queries x their probability of c).

    That probability is softmax(``scale`` x cosine). Features are centred on the task first
    (``centre_on_task``).
    """

    scale: float = 5.0
    steps: int = 10
    transductive: ClassVar[bool] = True

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        tasks = tasks.centred()
        query, fixed = tasks.query, tasks.class_sums
        anchors = maths.unit(fixed)
        for _ in range(self.steps):
            assigned = maths.soft_assignments(self.scale * maths.products(query, anchors)) * tasks.asked
            anchors = maths.unit(fixed + torch.bmm(assigned.transpose(1, 2), query))
        return maths.log_probabilities(self.scale * maths.products(query, anchors))
