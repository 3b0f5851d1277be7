"""Ridge regression on one-hot labels, in closed form.

Bertinetto, Henriques, Torr and Vedaldi, Meta-learning with differentiable closed-form solvers (R2-D2), 2018,
arXiv 1805.08136.
"""

from __future__ import annotations

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


@CLASSIFIERS.register("ridge", "ridge regression on the labels", position=5)
@dataclass(frozen=True)
class Ridge:
    """Score = ``scale`` x W f + b with W, b minimising the class-balanced mean squared error + ``penalty`` |W|^2.

    ``penalty`` None: the one that suits the task, by leaving each support picture out (``fewshot.classifiers.strength``). With
    five pictures of each of five classes, 0.04 is scikit-learn's ``RidgeClassifier(alpha=1)``.
    Solved in the dual, one S x S Cholesky factor a task; the intercept is not penalised.
    ``shots_strength`` is fairness to classes of few pictures (``fair``): 0 leaves it out, equal shots know no difference.
    """

    penalty: float | None = None
    scale: float = 10.0
    shots_strength: float = 0.5
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        span = Span.of(tasks)
        root = span.weights.sqrt()  # zero where padded: such a row leaves only the penalty on the diagonal
        gram = span.centred_gram()
        system = root.transpose(1, 2) * gram * root
        system.diagonal(dim1=1, dim2=2).add_(likely_penalty(span).squeeze(-1) if self.penalty is None else self.penalty)
        target = root * (span.hot - 1 / tasks.n_way)
        solved = torch.cholesky_solve(target.transpose(1, 2), torch.linalg.cholesky(system))
        coefficients = root * solved.transpose(1, 2)
        if self.penalty is None:
            # The stronger the penalty, the closer the scores: with one of each task's own, that is taken back.
            own = torch.bmm(torch.bmm(coefficients, gram), tasks.membership) / tasks.shots.unsqueeze(1)  # (T, N, N)
            coefficients = coefficients * maths.inverse_gap(own)
        scores = fair(span.centred_scores(tasks.query, coefficients), tasks, self.shots_strength)
        return maths.log_probabilities(self.scale * scores)
