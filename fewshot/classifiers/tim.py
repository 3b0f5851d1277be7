"""Class weights tuned so that queries are labelled with confidence, and every class gets its share.

TIM: Boudiaf et al., Transductive Information Maximization for Few-Shot Learning, 2020, arXiv 2008.11297.
Alpha-TIM: Veilleux et al., Realistic Evaluation of Transductive Few-Shot Learning, 2021, arXiv 2106.05321:
alpha-entropies punish uneven proportions less, and so survive uneven queries.

Logits are -tau/2 |f - w|^2 as in the papers; easyfsl 1.5 takes tau cos(f, w) instead. Gradients are written
out, so tuning needs no autograd, leaves nothing behind, and is one set of matrix products for all tasks.
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


def entropy_slope(probabilities: Tensor, alpha: Tensor | None) -> Tensor:
    """Derivative of -H(p) by p up to a constant: log p, or alpha / (alpha - 1) p^(alpha - 1).

    ``alpha`` (T, 1, 1) is one value a task; None is Shannon's entropy, its limit at 1.
    """
    p = probabilities.clamp_min(maths.EPSILON)
    return p.log() if alpha is None else alpha / (alpha - 1) * p.pow(alpha - 1)


def through_softmax(probabilities: Tensor, slope: Tensor) -> Tensor:
    """Chain a derivative by probabilities (..., N) on to the logits behind them."""
    return probabilities * (slope - (probabilities * slope).sum(-1, keepdim=True))


@dataclass(frozen=True)
class _InformationMaximisation:
    """Minimises ``support_weight`` CE(S) - H(mean prediction) + ``certainty_weight`` mean H(prediction).

    With Adam; ``scale`` is tau.
    """

    scale: float = 15.0
    support_weight: float = 0.1
    certainty_weight: float = 0.1
    steps: int = 150
    learning_rate: float = 1e-4
    transductive: ClassVar[bool] = True

    def _alpha(self, hot: Tensor) -> Tensor | None:
        """The entropies' order for each task (T, 1, 1), None for Shannon's."""
        return None

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        tasks = tasks.unit()
        # Distances do not change when everything moves by the support's mean, and rounding becomes far
        # smaller: where all pictures are alike, gradients are then truly zero and Adam does not make steps
        # out of nothing.
        origin = maths.weighted_means(tasks.membership.sum(-1, keepdim=True), tasks.support)
        tasks = tasks.replaced(tasks.support - origin, tasks.query - origin)
        return maths.log_probabilities(self._logits(tasks.query, self._tune(tasks)))

    def _logits(self, features: Tensor, weights: Tensor) -> Tensor:
        """-tau/2 |f - w|^2 without its part that is the same for all classes."""
        return self.scale * (maths.products(features, weights) - 0.5 * weights.square().sum(-1).unsqueeze(1))

    def _tune(self, tasks: TaskBatch) -> Tensor:
        """Class weights (T, N, D), started at the class means."""
        support, query, hot = tasks.support, tasks.query, tasks.membership
        alpha = self._alpha(hot)
        present = hot.sum(-1, keepdim=True)
        support_share = self.support_weight * present / present.sum(1, keepdim=True)
        query_share = tasks.asked / tasks.asked.sum(1, keepdim=True).clamp_min(1)
        features = torch.cat([support, query], 1)
        weights, n_support = tasks.class_means, support.shape[1]
        adam = _Adam(weights, self.learning_rate)
        for _ in range(self.steps):
            p = maths.soft_assignments(self._logits(features, weights))
            p_support, p_query = p[:, :n_support], p[:, n_support:]
            marginal = (query_share * p_query).sum(1, keepdim=True)
            slope = entropy_slope(marginal, alpha) - self.certainty_weight * entropy_slope(p_query, alpha)
            pull = torch.cat([support_share * (p_support - hot), query_share * through_softmax(p_query, slope)], 1)
            gradient = torch.bmm(pull.transpose(1, 2), features) - pull.sum(1).unsqueeze(-1) * weights
            weights = adam.step(weights, self.scale * gradient)
        return weights


@CLASSIFIERS.register("tim", "transductive: confident and balanced answers", position=12)
@dataclass(frozen=True)
class TIM(_InformationMaximisation):
    """TIM with gradient descent; takes the classes for balanced, and warns where they do not look it.

    Steps and rate were chosen on tin val and omniglot base with ``tiny`` and lite2: the authors' 150 steps at 1e-4 end too early.
    """

    steps: int = 50
    learning_rate: float = 3e-3

    def _tune(self, tasks: TaskBatch) -> Tensor:
        warn_if_unbalanced("tim", tasks)
        return super()._tune(tasks)


@CLASSIFIERS.register("alpha-tim", "transductive: confident answers, any balance", position=13)
@dataclass(frozen=True)
class AlphaTIM(_InformationMaximisation):
    """TIM with alpha-entropies and equal weights.

    Their order grows with the shots as in the authors' settings: 2 at one shot, 7 from five on.
    """

    support_weight: float = 1.0
    certainty_weight: float = 1.0

    def _alpha(self, hot: Tensor) -> Tensor | None:
        shots = hot.sum((1, 2)) / hot.shape[-1]
        return (2 + 5 * (shots - 1) / 4).clamp(2, 7).view(-1, 1, 1)


class _Adam:
    """Kingma and Ba, 2014, arXiv 1412.6980, on one tensor of independent tasks."""

    def __init__(self, like: Tensor, learning_rate: float) -> None:
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.learning_rate, self.steps = learning_rate, 0

    def step(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """Weights after one step; the input is left as it is."""
        self.steps += 1
        self.first.mul_(0.9).add_(gradient, alpha=0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        first, second = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        # 1e-6, not 1e-8: a gradient that is rounding alone must not be blown up into a step.
        return weights - self.learning_rate * first / (second.sqrt() + 1e-6)
