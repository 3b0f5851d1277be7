"""LP++ without its text branch: a linear probe that starts at the class means and takes few, safe steps.

Huang et al., LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP, 2024, arXiv 2404.02285. The step
size follows from the data (4 / the largest eigenvalue of the mean outer product), nothing is validated, and
starting at the means with few steps is the regularisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.shots import fair
from fewshot.classifiers.span import Span, largest_eigenvalue_bound
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("lp++", "a linear probe started at the class means", position=7)
@dataclass(frozen=True)
class LinearProbe:
    """Logits W f: W starts at ``scale`` x the unit-norm class means and takes ``iterations`` gradient steps.

    The loss is the class-balanced mean cross-entropy on the support set.
    ``shots_strength`` is fairness to classes of few pictures (``fair``): 0 leaves it out, equal shots know no difference.
    """

    scale: float = 10.0
    iterations: int = 30
    shots_strength: float = 3.0
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        span = Span.of(tasks)
        gram = span.gram()
        root = span.weights.sqrt()
        step = 4 * span.weights / largest_eigenvalue_bound(root.transpose(1, 2) * gram * root)
        squares = (torch.bmm(span.hot, gram) * span.hot).sum(-1, keepdim=True)
        norm = squares.clamp_min(maths.EPSILON).sqrt()  # of each class's summed unit features
        coefficients = self.scale * span.hot / norm
        for _ in range(self.iterations):
            error = torch.bmm(coefficients, gram).softmax(1) - span.hot
            coefficients = coefficients - step * error
        return maths.log_probabilities(fair(span.scores(tasks.query, coefficients), tasks, self.shots_strength))
