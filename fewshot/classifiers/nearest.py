"""Nearest neighbour: the class of the most similar support picture.

Cover and Hart, Nearest neighbor pattern classification, 1967 (IEEE Transactions on Information Theory 13).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.shots import fair
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("nearest", "the nearest support picture", position=8)
@dataclass(frozen=True)
class Nearest:
    """A class's score is ``scale`` x the largest cosine between the query and any of its support pictures.

    ``shots_strength`` is fairness to classes of few pictures (``fair``): 0 leaves it out, equal shots know no difference.
    """

    scale: float = 10.0
    shots_strength: float = 0.15
    transductive: ClassVar[bool] = False

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        similarity = maths.cosines(tasks.query, maths.unit(tasks.support))
        others = (tasks.membership == 0).transpose(1, 2)  # (T, N, S)
        best = [
            similarity.masked_fill(others[:, label].unsqueeze(1), -torch.inf).amax(-1) for label in range(tasks.n_way)
        ]
        return maths.log_probabilities(self.scale * fair(torch.stack(best, -1), tasks, self.shots_strength))
