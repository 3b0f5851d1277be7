"""Stored-feature tasks for the classifier tests: seeded, CLIP-like (unit norm, a large common part, classes
that overlap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fewshot.classifiers.base import Statistics, class_statistics
from fewshot.classifiers.tasks import TaskBatch

WIDTH = 48


@dataclass(frozen=True)
class Tasks:
    """T tasks as a classifier takes them, with the truth beside."""

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_mask: Tensor
    n_way: int
    truth: Tensor
    class_text: Tensor

    def batch(self, **changes: object) -> TaskBatch:
        """As a classifier takes them, with some fields replaced."""
        names = ("support", "support_labels", "query", "query_mask", "n_way", "class_text")
        return TaskBatch(**{name: changes.get(name, getattr(self, name)) for name in names})

    def to(self, dtype: torch.dtype) -> Tasks:
        return Tasks(
            self.support.to(dtype), self.support_labels, self.query.to(dtype), self.query_mask, self.n_way, self.truth,
            self.class_text.to(dtype),
        )  # fmt: skip


def pictures(classes: int, each: int, seed: int, width: int = WIDTH, spread: float = 0.13) -> tuple[Tensor, Tensor]:
    """Unit-norm features (classes, each, width) and class centres (classes, width)."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.ones(width) / width**0.5
    # Within-class variation is strong in a few directions and weak in many, as real features' is.
    axes = torch.linspace(1.6, 0.4, width)
    centres = common + 0.55 * torch.nn.functional.normalize(torch.randn(classes, width, generator=generator), dim=1)
    noise = spread * axes * torch.randn(classes, each, width, generator=generator)
    return torch.nn.functional.normalize(centres.unsqueeze(1) + noise, dim=-1), centres


def make_tasks(tasks: int, n_way: int, shots: int, queries: int, seed: int = 0, spread: float = 0.13) -> Tasks:
    """Balanced tasks; every task has classes of its own."""
    features, centres = pictures(tasks * n_way, shots + queries, seed, spread=spread)
    features = features.view(tasks, n_way, shots + queries, WIDTH)
    labels = torch.arange(n_way)
    return Tasks(
        support=features[:, :, :shots].reshape(tasks, n_way * shots, WIDTH),
        support_labels=labels.repeat_interleave(shots).expand(tasks, -1).contiguous(),
        query=features[:, :, shots:].reshape(tasks, n_way * queries, WIDTH),
        query_mask=torch.ones(tasks, n_way * queries, dtype=torch.bool),
        n_way=n_way,
        truth=labels.repeat_interleave(queries).expand(tasks, -1).contiguous(),
        class_text=torch.nn.functional.normalize(centres.view(tasks, n_way, WIDTH), dim=-1),
    )


@pytest.fixture(scope="session")
def tasks() -> Callable[..., Tasks]:
    return make_tasks


@pytest.fixture(scope="session")
def statistics() -> Statistics:
    """Of training classes that no task here contains."""
    features, _ = pictures(40, 30, seed=1234)
    return class_statistics(features.flatten(0, 1), torch.arange(40).repeat_interleave(30))
