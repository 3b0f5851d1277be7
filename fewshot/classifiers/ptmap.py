"""Optimal transport of the queries to class centres, after making features more Gaussian.

Hu, Gripon and Pateux, Leveraging the Feature Distribution in Transfer-based Few-Shot Learning (PT-MAP),
2020, arXiv 2006.03806.

The power transform is for the skewed features that come out of a relu. CLIP's have negative values and are
no more Gaussian for it, so it is left out where a task's features have any. easyfsl 1.5 puts a relu before
it, which throws half of such features away, and leaves out the scaling to unit norm and the centring that
follow in the authors' code; on features that went through ``gaussian_like`` here its predictions agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.balance import warn_if_unbalanced
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


def gaussian_like(tasks: TaskBatch, power: float = 0.5) -> TaskBatch:
    """Features (T, S, D) and (T, Q, D) to the ``power``, where none of the task's is negative.

    Then to unit norm, support and queries each centred on their own mean, and to unit norm again.
    """
    support, query, known, query_mask = tasks.support, tasks.query, tasks.known, tasks.query_mask
    negative = ((support < 0).any(-1) & known).any(1) | ((query < 0).any(-1) & query_mask).any(1)
    negative = negative.view(-1, 1, 1)
    made = []
    for features, present in ((support, known), (query, query_mask)):
        features = maths.unit(torch.where(negative, features, features.clamp_min(0).pow(power)))
        weight = present.unsqueeze(1).to(features.dtype)
        mean = torch.bmm(weight, features) / weight.sum(-1, keepdim=True).clamp_min(1)
        made.append(maths.unit(features - mean))
    return tasks.replaced(*made)


def balanced_log_plan(
    logits: Tensor, log_rows: Tensor, log_columns: Tensor, dual: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    """Sinkhorn's iteration in logarithms: the plan (T, Q, N) closest to ``logits`` with the given sums.

    ``dual`` (T, 1, N) starts the column potentials, and comes back for the next call to start from.
    """
    for _ in range(rounds):
        rows = log_rows - (logits + dual).logsumexp(-1, keepdim=True)
        dual = log_columns - (logits + rows).logsumexp(1, keepdim=True)
    rows = log_rows - (logits + dual).logsumexp(-1, keepdim=True)
    return logits + rows + dual, dual


@CLASSIFIERS.register("ptmap", "transductive: optimal transport, balanced queries only", position=14)
@dataclass(frozen=True)
class PTMAP:
    """Transport under balanced classes, then move the centres a part of the way to it, repeatedly."""

    regularisation: float = 10.0  # lambda: logits are -lambda x squared distance
    learning_rate: float = 0.2  # alpha
    steps: int = 20
    power: float = 0.5
    rounds: int = 20  # Sinkhorn rounds a step, started where the last step ended
    scale: float = 1.0
    transductive: ClassVar[bool] = True

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; warns with ``ImbalanceWarning`` where the query classes look uneven."""
        if tasks.query.shape[1] == 0:
            return tasks.no_answers()
        warn_if_unbalanced("ptmap", tasks)
        return maths.log_probabilities(self.scale * self._transport(gaussian_like(tasks, self.power)))

    def _transport(self, tasks: TaskBatch) -> Tensor:
        """Log-plan (T, Q, N) from transformed features."""
        query, hot, n_way = tasks.query, tasks.membership, tasks.n_way
        floor = torch.finfo(query.dtype).min / 4
        query_mask = tasks.query_mask | ~tasks.query_mask.any(
            1, keepdim=True
        )  # a task without queries: its padding stands in
        log_rows = torch.zeros_like(query[..., :1]).masked_fill(~query_mask.unsqueeze(-1), floor)
        log_columns = (query_mask.sum(1).clamp_min(1).to(query.dtype) / n_way).log().view(-1, 1, 1)
        dual = torch.zeros_like(query[:, :1, :1]).expand(-1, 1, n_way)
        centres, known = tasks.class_means, tasks.class_sums
        for step in range(self.steps + 1):
            logits = -self.regularisation * maths.squared_distances(query, centres)
            plan, dual = balanced_log_plan(logits, log_rows, log_columns, dual, self.rounds)
            if step < self.steps:
                assigned = plan.exp()
                total = hot.sum(1) + assigned.sum(1)
                target = (known + torch.bmm(assigned.transpose(1, 2), query)) / total.unsqueeze(-1)
                centres = centres + self.learning_rate * (target - centres)
        return plan.clamp_min(-1e4)  # padded rows: anything finite
