"""Prototype rectification: shift the queries onto the support, then average in the most confident ones.

Liu, Song and Qin, Prototype Rectification for Few-Shot Learning (BD-CSPN), 2019, arXiv 1911.10713.

easyfsl 1.5 departs from the paper: it weighs by exp(cosine) instead of exp(10 cosine), takes in every query
instead of each class's 8 most confident, and classifies the queries as they were before the shift. On queries
shifted beforehand it agrees with ``BDCSPN(sharpness=1, top=None)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.balance import warn_if_unbalanced
from fewshot.registry import CLASSIFIERS


def shift_to_support(support: Tensor, support_labels: Tensor, query: Tensor, query_mask: Tensor) -> Tensor:
    """Queries (T, Q, D) moved so that their mean is the support's; padding has no say."""
    of_support, of_query = (support_labels >= 0).to(support.dtype), query_mask.to(query.dtype)
    target = maths.weighted_means(of_support.unsqueeze(-1), support)
    source = torch.bmm(of_query.unsqueeze(1), query) / of_query.sum(1).clamp_min(1).view(-1, 1, 1)
    return query + (target - source)


def rectified_prototypes(
    support: Tensor, hot: Tensor, query: Tensor, query_mask: Tensor, sharpness: float, top: int | None
) -> Tensor:
    """Weighted class means (T, N, D) over support and pseudo-labelled queries, not normalised.

    ``query`` has been shifted already.

    A query counts for the class whose prototype is closest, if among that class's ``top`` closest (None: all
    of them), with weight exp(``sharpness`` x cosine).
    """
    anchors = maths.unit(maths.weighted_means(hot, support))
    of_support, of_query = maths.cosines(support, anchors), maths.cosines(query, anchors)
    chosen = maths.first_best(of_query) & query_mask.unsqueeze(-1)
    if top is not None and top < query.shape[1]:
        confidence = of_query.masked_fill(~chosen, -torch.inf)
        chosen &= confidence >= confidence.topk(top, dim=1).values[:, -1:]
    # exp(s (cosine - 1)): the constant cancels in the mean and keeps the exponential within range
    support_weight = hot * (sharpness * (of_support - 1)).exp()
    query_weight = chosen * (sharpness * (of_query - 1)).exp()
    total = support_weight.sum(1) + query_weight.sum(1)
    summed = torch.bmm(support_weight.transpose(1, 2), support) + torch.bmm(query_weight.transpose(1, 2), query)
    return summed / total.unsqueeze(-1)


@CLASSIFIERS.register("bdcspn", "transductive: queries shifted onto the support", position=10)
@dataclass(frozen=True)
class BDCSPN:
    """Score = ``scale`` x cosine between the shifted query and the rectified prototypes."""

    scale: float = 10.0
    sharpness: float = 10.0  # the paper's epsilon
    top: int | None = 8  # the paper's Z
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
        """See ``Classifier``; warns with ``ImbalanceWarning`` where the query classes look uneven."""
        support, query = maths.unit(maths.working(support)), maths.unit(maths.working(query))
        hot = maths.membership(support_labels, n_way, support)
        warn_if_unbalanced("bdcspn", support, hot, query, query_mask)
        query = shift_to_support(support, support_labels, query, query_mask)
        anchors = rectified_prototypes(support, hot, query, query_mask, self.sharpness, self.top)
        return maths.log_probabilities(self.scale * maths.cosines(query, maths.unit(anchors)))
