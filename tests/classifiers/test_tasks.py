"""What a batch of tasks derives from its tensors, against plain loops, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from episodes.errors import DataError
from fewshot.classifiers.tasks import TaskBatch


@pytest.fixture
def batch() -> TaskBatch:
    """Two tasks of three ways; the second has fewer shots of class 1 and padding in front, the first fewer queries."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[0, 1, 2, 2, 1, 0], [-1, 0, 1, 2, 0, 2]])
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    support, query = torch.randn(2, 6, 5, generator=generator), torch.randn(2, 4, 5, generator=generator)
    return TaskBatch(support, labels, query, mask, 3)


def _classes(batch: TaskBatch, task: int) -> list[np.ndarray]:
    features, labels = batch.support[task].double().numpy(), batch.support_labels[task].numpy()
    return [features[labels == label] for label in range(batch.n_way)]


def test_what_is_derived_of_each_class(batch: TaskBatch) -> None:
    for task in range(2):
        for label, rows in enumerate(_classes(batch, task)):
            assert batch.shots[task, label] == len(rows)
            unit = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0)
            for found, expected in (
                (batch.class_sums, rows.sum(0)),
                (batch.class_means, rows.mean(0)),
                (batch.prototypes, unit / np.linalg.norm(unit)),
            ):
                np.testing.assert_allclose(found[task, label].numpy(), expected, atol=1e-6)


def test_centring_takes_the_mean_of_what_is_no_padding(batch: TaskBatch) -> None:
    centred = batch.centred()
    for task in range(2):
        support = batch.support[task][batch.support_labels[task] >= 0].double().numpy()
        query = batch.query[task][batch.query_mask[task]].double().numpy()
        rows = np.concatenate([support, query])
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        rows -= rows.mean(0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        found = torch.cat([centred.support[task][batch.known[task]], centred.query[task][batch.query_mask[task]]])
        np.testing.assert_allclose(found.numpy(), rows, atol=1e-5)
    assert centred.support_labels is batch.support_labels


def test_the_working_precision(batch: TaskBatch) -> None:
    half = batch.replaced(batch.support.bfloat16(), batch.query.bfloat16())
    assert half.support.dtype == half.query.dtype == half.membership.dtype == torch.float32
    double = batch.replaced(batch.support.double(), batch.query.double())
    assert double.prototypes.dtype == torch.float64
    assert batch.asked.squeeze(-1).bool().equal(batch.query_mask)


@pytest.mark.parametrize(
    "change",
    [
        {"support": torch.zeros(2, 6, 4)},
        {"support": torch.zeros(12, 5)},
        {"support_labels": torch.zeros(2, 5, dtype=torch.int64)},
        {"query_mask": torch.ones(2, 3, dtype=torch.bool)},
        {"query": torch.zeros(1, 4, 5), "query_mask": torch.ones(1, 4, dtype=torch.bool)},
    ],
    ids=["width", "no tasks", "labels", "mask", "other tasks"],
)
def test_shapes_that_do_not_fit_are_refused(batch: TaskBatch, change: dict[str, torch.Tensor]) -> None:
    names = ("support", "support_labels", "query", "query_mask", "n_way")
    with pytest.raises(ValueError, match="a batch of tasks takes"):
        TaskBatch(**{name: change.get(name, getattr(batch, name)) for name in names})


def test_a_class_without_support_is_named(batch: TaskBatch) -> None:
    labels = batch.support_labels.clone()
    labels[1, 2] = -1
    with pytest.raises(DataError, match="task 1 .* class 1"):
        TaskBatch(batch.support, labels, batch.query, batch.query_mask, 3).membership  # noqa: B018
