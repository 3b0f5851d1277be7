"""A cache of support features: every support picture votes for its class, the closer the louder.

Zhang et al., Tip-Adapter: Training-free CLIP-Adapter for Better Vision-Language Modeling, 2021, arXiv
2111.03930, without its text branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("tip", "every support picture votes, the closer the louder", position=3)
@dataclass(frozen=True)
class TipCache:
    """p(c) ~ (mean over the class's support of exp(-beta (1 - cosine))) to the power ``scale``.

    The mean instead of the paper's sum, so that a class with more shots is not preferred for it; the
    logarithm as score, as these affinities are a density estimate.
    """

    beta: float = 5.5  # the paper's
    scale: float = 1.0
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        hot = tasks.membership
        exponents = self.beta * maths.cosines(tasks.query, maths.unit(tasks.support))
        exponents = exponents.masked_fill(~tasks.known.unsqueeze(1), -torch.inf)
        loudest = exponents.amax(-1, keepdim=True)  # keeps the sum within range whatever beta is
        affinity = maths.products((exponents - loudest).exp(), (hot / hot.sum(1, keepdim=True)).transpose(1, 2))
        return maths.log_probabilities(self.scale * affinity.clamp_min(torch.finfo(affinity.dtype).tiny).log())
