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

    def __call__(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        query_mask: Tensor,
        n_way: int,
        class_text: Tensor | None = None,
    ) -> Tensor:
        """See ``Classifier``."""
        support, query = maths.unit(maths.working(support)), maths.unit(maths.working(query))
        support, query = maths.centre_on_task(support, query, support_labels >= 0, query_mask)
        present = query_mask.unsqueeze(-1).to(query.dtype)
        fixed = torch.bmm(maths.membership(support_labels, n_way, support).transpose(1, 2), support)
        anchors = maths.unit(fixed)
        for _ in range(self.steps):
            assigned = maths.soft_assignments(self.scale * maths.products(query, anchors)) * present
            anchors = maths.unit(fixed + torch.bmm(assigned.transpose(1, 2), query))
        return maths.log_probabilities(self.scale * maths.products(query, anchors))
