"""Multinomial logistic regression, the usual linear probe, for a batch of tasks at once.

Tian et al., Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?, 2020, arXiv
2003.11539. Solved by majorisation (Boehning, Multinomial logistic regression algorithm, 1992: the Hessian is
bounded by a constant matrix, which is factored once) with Nesterov's momentum, restarted where it points
uphill (O'Donoghue and Candes, 2012, arXiv 1204.3982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.shots import fair
from fewshot.classifiers.span import Span
from fewshot.classifiers.strength import likely_penalty
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS

_OWN_ITERATIONS = 40
_GAP = 4.0  # between a class's centre and the other centres; about what C = 10 makes it


@CLASSIFIERS.register("logistic", "logistic regression", position=6)
@dataclass(frozen=True)
class Logistic:
    """Minimises ``C`` x the sum of class-balanced cross-entropies + |W|^2 / 2, as scikit-learn does.

    The same ``C`` gives the same classifier as ``LogisticRegression(C, class_weight="balanced")`` on
    unit-norm features: probabilities differ by less than 0.001 up to C = 100. The intercept is free. ``scale``
    multiplies the finished logits. ``C`` None: the strength that suits the task, by leaving each support picture out of a regression on the
    labels (``fewshot.classifiers.strength``), which is what logistic regression comes to where it is held back most.

    ``iterations`` are as many as that accuracy takes: 40 up to C = 10, then growing with its root, unless given. Where C is the task's own
    there are 40 in every task: beyond C = 10 it stops early, which holds it back a little more.
    ``shots_strength`` is fairness to classes of few pictures (``fair``): 0 leaves it out, equal shots know no difference.
    """

    C: float | None = None
    iterations: int | None = None
    scale: float = 1.0
    shots_strength: float = 3.0
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        return maths.log_probabilities(self.scale * fair(self.logits(tasks), tasks, self.shots_strength))

    def logits(self, tasks: TaskBatch) -> Tensor:
        """The linear scores (T, Q, N) as they were fitted, without ``fair``; of the same gap between classes where C is the task's own."""
        span = Span.of(tasks)
        coefficients, intercept = self._solve(span)
        logits = span.centred_scores(tasks.query, coefficients) + intercept.transpose(1, 2)
        if self.C is None:  # the weaker it is held back, the further apart the logits: that is taken back
            of_classes = torch.bmm(torch.bmm(coefficients, span.centred_gram()), tasks.membership)
            logits = _GAP * maths.inverse_gap(of_classes / tasks.shots.unsqueeze(1)) * logits
        return logits

    def _strength(self, span: Span) -> Tensor | float:
        """The weight (T, 1, 1) of the class-balanced mean cross-entropy beside |W|^2 / 2.

        Near W = 0 the cross-entropy of N classes is a squared error over 2 N, so there a penalty p of regression is a weight of N / p.
        """
        if self.C is None:
            return span.hot.shape[1] / likely_penalty(span)
        return self.C * span.hot.sum((1, 2)).view(-1, 1, 1)

    def _iterations(self) -> int:
        return self.iterations or (_OWN_ITERATIONS if self.C is None else math.ceil(40 * max(1.0, self.C / 10) ** 0.5))

    def _solve(self, span: Span) -> tuple[Tensor, Tensor]:
        """Coefficients (T, N, S) of the centred features and intercepts (T, N, 1).

        In b = coefficients / root with root^2 = C x the picture's weight in the loss, the bound of the
        Hessian is 1 + G / 2 with G = root K root, so a majorising step is b - (1 + G / 2)^-1 (b + root (P -
        Y)).
        """
        strength = self._strength(span) * span.weights  # (T, 1, S)
        root = strength.sqrt()
        kernel = root.transpose(1, 2) * span.centred_gram() * root
        bound = 0.5 * kernel
        bound.diagonal(dim1=1, dim2=2).add_(1)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(bound))
        # One matrix for the step and one for the logits of it; a picture's logits are (kernel b) / root.
        weight = root.clamp_min(maths.EPSILON)
        b, c = torch.zeros_like(span.hot), torch.zeros_like(span.hot[..., :1])
        ahead_b, ahead_c, pace = b, c, torch.ones_like(span.weights[..., :1])
        total = strength.sum(-1, keepdim=True)
        for _ in range(self._iterations()):
            error = (torch.bmm(ahead_b, kernel) / weight + ahead_c).softmax(1) - span.hot
            step_b = torch.bmm(ahead_b + root * error, inverse)
            step_c = 2 * (strength * error).sum(-1, keepdim=True) / total
            new_b, new_c = ahead_b - step_b, ahead_c - step_c
            # (b - ahead) . step is the momentum's progress along the descent direction, in the bound's metric
            uphill = ((new_b - b) * step_b).sum((1, 2), keepdim=True) > 0
            uphill_next = torch.where(uphill, torch.ones_like(pace), 0.5 + (0.25 + pace.square()).sqrt())
            momentum = torch.where(uphill, torch.zeros_like(pace), (pace - 1) / uphill_next)
            ahead_b, ahead_c = new_b + momentum * (new_b - b), new_c + momentum * (new_c - c)
            b, c, pace = new_b, new_c, uphill_next
        return root * b, c
