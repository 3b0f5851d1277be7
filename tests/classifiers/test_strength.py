"""The strength that suits a task: pictures left out one by one, fitted anew by scikit-learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as SklearnRidge

from fewshot.classifiers import build_classifier
from fewshot.classifiers.logistic import Logistic
from fewshot.classifiers.ridge import Ridge
from fewshot.classifiers.span import Span
from fewshot.classifiers.strength import FIRMER, SPREAD, STEPS, USUAL, WORTH, likely_penalty
from fewshot.classifiers.tasks import TaskBatch
from tests.classifiers.test_unequal_shots import simulated

SHOTS = (1, 2, 4, 4)


def fitted_anew(support: np.ndarray, labels: np.ndarray, penalty: float) -> float:
    """Mean squared error of pictures that ridge regression on the others names, classes weighing the same; classes of two or more."""
    n_way, counts = labels.max() + 1, np.bincount(labels)
    weights, targets, total, weight = 1 / (n_way * counts[labels]), np.eye(n_way)[labels] - 1 / n_way, 0.0, 0.0
    for i in np.flatnonzero(counts[labels] > 1):
        kept = np.arange(len(labels)) != i
        model = SklearnRidge(alpha=penalty, solver="cholesky")
        model.fit(support[kept], targets[kept], sample_weight=weights[kept])
        total += weights[i] * ((model.predict(support[i : i + 1])[0] - targets[i]) ** 2).sum()
        weight += weights[i]
    return float(total / weight)


def test_the_penalty_is_what_fitting_anew_without_each_picture_says() -> None:
    tasks, _ = simulated(SHOTS, n_tasks=4)
    found = likely_penalty(Span.of(tasks)).flatten().numpy()
    for task in range(4):
        support = tasks.support[task].numpy() / np.linalg.norm(tasks.support[task].numpy(), axis=1, keepdims=True)
        labels = tasks.support_labels[task].numpy()
        weights = 1 / (len(SHOTS) * np.bincount(labels)[labels])
        usual = USUAL * float(weights @ ((support - weights @ support) ** 2).sum(1))
        errors = np.array([fitted_anew(support, labels, usual * np.exp(step)) for step in STEPS])
        left_out = (np.bincount(labels)[labels] > 1).sum()
        likely = np.exp(-WORTH * left_out / 2 * np.log(errors) - np.square(STEPS) / SPREAD**2 / 2)
        expected = FIRMER * usual * np.exp(likely @ np.array(STEPS) / likely.sum())
        np.testing.assert_allclose(found[task], expected, rtol=1e-6)


@pytest.mark.parametrize("case", ["one shot", "copies"])
def test_where_nothing_can_be_left_out_the_usual_penalty_remains(case: str) -> None:
    tasks, _ = simulated((1, 1, 1) if case == "one shot" else (2, 2, 2), n_tasks=3)
    if case == "copies":
        tasks = dataclasses.replace(tasks, support=tasks.support[:, [0, 0, 2, 2, 4, 4]])
    span = Span.of(tasks)
    unit = torch.nn.functional.normalize(tasks.support, dim=-1)
    variance = (unit - unit.mean(1, keepdim=True)).square().sum(-1).mean(1)
    torch.testing.assert_close(likely_penalty(span).flatten(), FIRMER * USUAL * variance, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "gap"), [("ridge", 10.0), ("logistic", 4.0)])
def test_ridge_and_logistic_take_it(name: str, gap: float, tasks: Callable) -> None:
    """The answers of that penalty, and classes as far apart in every task, so that one temperature can serve all."""
    t = tasks(3, 4, 3, 6)
    penalty = likely_penalty(Span.of(t.batch())).flatten().tolist()
    assert max(penalty) > 1.05 * min(penalty)
    for task, own in enumerate(penalty):
        support, labels = t.support[[task]], t.support_labels[[task]]
        asked = torch.cat([support, t.query[[task]]], 1)
        one = TaskBatch(support, labels, asked, torch.ones(asked.shape[:2], dtype=torch.bool), 4)
        by_hand = Ridge(penalty=own) if name == "ridge" else Logistic(C=4 / own / 12, iterations=40)
        found, expected = (each(one)[0] for each in (build_classifier(name), by_hand))
        found, expected = (each - each.mean(-1, keepdim=True) for each in (found, expected))
        factor = (found * expected).sum() / expected.square().sum()
        assert factor > 0
        torch.testing.assert_close(found, factor * expected, atol=2e-4, rtol=1e-3)
        of_classes = torch.stack([found[:12][labels[0] == label].mean(0) for label in range(4)])
        others = of_classes[~torch.eye(4, dtype=torch.bool)].mean()
        assert float(of_classes.diagonal().mean() - others) == pytest.approx(gap, rel=1e-4)


def test_weak_where_classes_lie_apart_and_strong_where_they_do_not() -> None:
    """Pictures that tell their class along directions of little variance, and pictures that tell nothing."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(6)
    noise = torch.randn(8, 24, 40, generator=generator)
    noise[..., :4] = 0
    told = noise + 2 * torch.nn.functional.one_hot(labels, 40)
    query, mask = torch.zeros(8, 1, 40), torch.ones(8, 1, dtype=torch.bool)
    strong, weak = (
        likely_penalty(Span.of(TaskBatch(support, labels.expand(8, -1), query, mask, 4))).mean()
        for support in (noise, told)
    )
    assert strong > 3 * weak
