"""Nearest neighbour: the class of the most similar support picture.

Cover and Hart, Nearest neighbor pattern classification, 1967 (IEEE Transactions on Information Theory 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("nearest", "the nearest support picture", position=8)
@dataclass(frozen=True)
class Nearest:
    """A class's score is ``scale`` x the largest cosine between the query and any of its support pictures."""

    scale: float = 10.0
    transductive: ClassVar[bool] = False

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
        support, query = maths.working(support), maths.working(query)
        maths.membership(support_labels, n_way, support)  # for its check: a class without support has no neighbour
        similarity = maths.cosines(query, maths.unit(support))
        best = [
            similarity.masked_fill((support_labels != label).unsqueeze(1), -torch.inf).amax(-1)
            for label in range(n_way)
        ]
        return maths.log_probabilities(self.scale * torch.stack(best, -1))
