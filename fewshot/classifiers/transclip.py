"""A mixture of Gaussians over the queries, held to the prototypes' predictions and smoothed over neighbours.

Zanella, Gerin and Ben Ayed, Boosting Vision-Language Models with Transduction (TransCLIP), 2024, arXiv
2406.01837. Without class names, the first predictions come from the visual prototypes instead of the text's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("transclip", "transductive: a mixture of Gaussians, any balance", position=15)
@dataclass(frozen=True)
class TransCLIP:
    """Alternates assignments, class means and one diagonal covariance (block majorise-minimise).

    z is proportional to y^``trust`` x exp(log-likelihood x ``scale`` / D + mean of the neighbours' z): the
    likelihood is tempered by the width, so that with the starting variance 1/D it is ``scale`` x cosine. No
    term asks for balanced classes.

    The paper estimates its covariance from thousands of queries. A task has some eighty, so a share D / (D +
    n) of it is taken from its mean instead: with many pictures this is the paper's, with few every feature
    counts alike. Features are centred on the task first (see ``centre_on_task``).
    """

    scale: float = 5.0
    trust: float = 0.5  # lambda of the paper, few-shot
    support_weight: float = 0.2  # gamma of the paper, the largest it tries: its query sets are far larger than ours
    neighbours: int = 3
    steps: int = 10
    rounds: int = 5  # updates of the assignments in each step
    transductive: ClassVar[bool] = True

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        if tasks.query.shape[1] == 0:
            return tasks.no_answers()
        tasks = tasks.centred()
        support, query, hot, present = tasks.support, tasks.query, tasks.membership, tasks.asked
        means = tasks.prototypes
        prior = self.trust * (self.scale * maths.products(query, means)).log_softmax(-1)
        graph, from_support = self._neighbours(tasks)
        prior = prior + torch.bmm(from_support, hot)
        precision = torch.full_like(query[:, :1], query.shape[-1])
        logits = prior
        # Shares of a support picture and of a query in means and covariance
        weight_s = self.support_weight * hot / hot.sum((1, 2)).view(-1, 1, 1)
        weight_q = present / present.sum(1, keepdim=True).clamp_min(1)
        assigned = maths.soft_assignments(self.scale * maths.products(query, means)) * present
        for step in range(self.steps + 1):
            likelihood = self.scale / query.shape[-1] * self._log_likelihood(query, means, precision)
            for _ in range(self.rounds):
                logits = prior + likelihood + torch.bmm(graph, assigned)
                assigned = maths.soft_assignments(logits) * present
            if step < self.steps:
                means, precision = self._update(support, weight_s, query, weight_q * assigned)
        return maths.log_probabilities(logits)

    def _neighbours(self, tasks: TaskBatch) -> tuple[Tensor, Tensor]:
        """Cosines with nearest pictures, averaged over both ways: (T, Q, Q) and to the support (T, Q, S)."""
        n = tasks.query.shape[1]
        everything = torch.cat([tasks.query, tasks.support], 1)
        present = torch.cat([tasks.query_mask, tasks.known], 1)
        graph = maths.neighbour_graph(everything, present, self.neighbours)
        similarity = torch.bmm(everything, everything.transpose(1, 2)).clamp_min(0)
        graph = graph * similarity
        graph = (graph + graph.transpose(1, 2)) / (2 * self.neighbours)
        return graph[:, :n, :n], graph[:, :n, n:]

    def _log_likelihood(self, query: Tensor, means: Tensor, precision: Tensor) -> Tensor:
        """Log-density (T, Q, N) under N(mean, diagonal), without the part that all classes share."""
        weights = means * precision
        return maths.products(query, weights) - 0.5 * (means * weights).sum(-1).unsqueeze(1)

    def _update(self, support: Tensor, weight_s: Tensor, query: Tensor, weight_q: Tensor) -> tuple[Tensor, Tensor]:
        """Unit-norm class means (T, N, D) and precisions (T, 1, D) under the assignments."""
        summed = torch.bmm(weight_s.transpose(1, 2), support) + torch.bmm(weight_q.transpose(1, 2), query)
        means = maths.unit(summed)
        width = query.shape[-1]
        pictures = ((weight_s > 0).sum((1, 2)) + (weight_q.sum(-1) > 0).sum(1)).view(-1, 1, 1)
        shrinkage = width / (width + pictures.to(query.dtype))
        mass = weight_s.sum(1) + weight_q.sum(1)  # (T, N)
        second = torch.bmm(weight_s.sum(-1).unsqueeze(1), support.square())
        second = second + torch.bmm(weight_q.sum(-1).unsqueeze(1), query.square())
        cross = (summed * means).sum(1, keepdim=True)
        own = torch.bmm(mass.unsqueeze(1), means.square())
        variance = (second - 2 * cross + own) / mass.sum(-1).view(-1, 1, 1)
        # Never zero: a feature that does not vary must not be infinitely telling
        level = variance.clamp_min(0).mean(-1, keepdim=True).clamp_min(1e-6 / width)
        return means, 1 / (shrinkage * level + (1 - shrinkage) * variance.clamp_min(0))
