"""Nearest prototype, with neighbouring queries encouraged to agree.

Ziko, Dolz, Granger and Ben Ayed, Laplacian Regularized Few-Shot Learning, 2020, arXiv 2006.15486: Y <-
softmax(-d + lambda W Y).

The authors' code, and easyfsl 1.5 after it, count a query among its own 3 nearest neighbours and drop it,
which leaves 2; here ``neighbours`` is what it says. Distances are those of the shifted queries, from which the
prototypes were rectified. easyfsl takes queries as they were, and rectifies prototypes in its own way (see ``bdcspn``):
``LaplacianShot(top=None, shifted=False)`` gives its predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.balance import warn_if_unbalanced
from fewshot.classifiers.bdcspn import rectified_prototypes, shift_to_support
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("laplacianshot", "transductive: neighbours agree", position=11)
@dataclass(frozen=True)
class LaplacianShot:
    """d is the squared distance of the unit-norm query from the rectified prototypes.

    ``scale`` multiplies the final logits.
    """

    regularisation: float = 0.7  # lambda
    neighbours: int = 2
    steps: int = 20
    sharpness: float = 1.0
    top: int | None = 8
    shifted: bool = True
    scale: float = 1.0
    transductive: ClassVar[bool] = True

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; warns with ``ImbalanceWarning`` where the query classes look uneven."""
        tasks = tasks.unit()
        warn_if_unbalanced("laplacianshot", tasks)
        shifted = shift_to_support(tasks)
        anchors = rectified_prototypes(shifted, self.sharpness, self.top)
        query = shifted.query if self.shifted else tasks.query
        closeness = -maths.squared_distances(query, anchors)
        pull = self.regularisation * maths.neighbour_graph(maths.unit(query), tasks.query_mask, self.neighbours)
        logits = closeness
        for _ in range(self.steps):
            logits = closeness + torch.bmm(pull, maths.soft_assignments(logits))
        return maths.log_probabilities(self.scale * logits)
