"""Nearest class mean after centring on the training classes' mean.

Wang, Chao, Weinberger and van der Maaten, SimpleShot: Revisiting Nearest-Neighbor Classification for
Few-Shot Learning, 2019, arXiv 1911.04623 (the CL2N variant): features share a large common part, and without
it cosines tell classes apart better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


@CLASSIFIERS.register("simpleshot", "the same, centred on the training classes", position=2)
@dataclass(frozen=True, eq=False)
class SimpleShot:
    """f <- norm(f - m) with m the mean of the training classes' features, then cosine prototypes times ``scale``."""

    statistics: Statistics
    scale: float = 10.0
    transductive: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("statistics",)

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; raises ``DataError`` where features are not as wide as the statistics."""
        self.statistics.check_width(tasks.query.shape[-1])
        mean = self.statistics.mean.to(tasks.query)
        tasks = tasks.replaced(tasks.support - mean, tasks.query - mean)
        return maths.log_probabilities(self.scale * maths.cosines(tasks.query, tasks.prototypes))
