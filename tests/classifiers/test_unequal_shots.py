"""Classes of one and of many pictures in one task: fair to both, and where shots are equal nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewshot.classifiers.auto import Auto
from fewshot.classifiers.base import class_statistics
from fewshot.classifiers.gda import GaussianDiscriminant
from fewshot.classifiers.linear_probe import LinearProbe
from fewshot.classifiers.logistic import Logistic
from fewshot.classifiers.nearest import Nearest
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.ridge import Ridge
from fewshot.classifiers.shots import fair, shots_weight
from fewshot.classifiers.tasks import TaskBatch

SHOTS = (1, 2, 5, 10, 10)


def simulated(shots: tuple[int, ...], n_tasks: int = 200, width: int = 64) -> tuple[TaskBatch, torch.Tensor]:
    """Classes are directions about a common one, pictures scatter about their class: and the truth (T, Q)."""
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    ways = len(shots)
    centres = 4 * normal(n_tasks, 1, width) / width**0.5 + 0.6 * normal(n_tasks, ways, width)
    labels = torch.arange(ways).repeat_interleave(torch.tensor(shots)).expand(n_tasks, -1)
    truth = torch.arange(ways).repeat_interleave(8).expand(n_tasks, -1)
    support = centres.gather(1, labels.unsqueeze(-1).expand(-1, -1, width)) + normal(*labels.shape, width)
    query = centres.gather(1, truth.unsqueeze(-1).expand(-1, -1, width)) + normal(*truth.shape, width)
    return TaskBatch(support, labels, query, torch.ones(truth.shape, dtype=torch.bool), ways), truth


def test_the_weight_is_the_formula_s() -> None:
    tasks, _ = simulated(SHOTS, n_tasks=3)
    found = shots_weight(tasks, 0.4)
    for task in range(3):
        support = tasks.support[task].numpy() / np.linalg.norm(tasks.support[task].numpy(), axis=1, keepdims=True)
        labels = tasks.support_labels[task].numpy()
        pairs = [
            float(support[i] @ support[j])
            for i in range(len(labels))
            for j in range(len(labels))
            if i != j and labels[i] == labels[j]
        ]
        within = np.mean(pairs)
        factor = np.array([((within + (1 - within) / shots) / within) ** 0.4 for shots in SHOTS])
        np.testing.assert_allclose(found[task].numpy(), factor / factor.max(), rtol=1e-9)


@pytest.mark.parametrize("classifier", [Prototype(), Auto()], ids=lambda each: type(each).__name__)
def test_a_class_of_one_picture_is_found_more_often(classifier: Prototype | Auto) -> None:
    tasks, truth = simulated(SHOTS)
    right = (classifier(tasks).argmax(-1) == truth).float()
    before = (Prototype(shots_exponent=0)(tasks).argmax(-1) == truth).float()
    of_one = truth == 0
    assert before[of_one].mean() < before[truth == 4].mean() - 0.2  # the simulation can fail
    assert right.mean() > before.mean() + 0.01
    assert right[of_one].mean() > before[of_one].mean() + 0.02


def test_gda_gives_back_what_few_pictures_cost() -> None:
    """Log-densities one by one, with the trace of the precision times the covariance over twice the shots."""
    tasks, truth = simulated(SHOTS, n_tasks=60, width=16)
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(400, 16, generator=generator, dtype=torch.float64)
    statistics = class_statistics(pictures, torch.arange(400) % 4)
    ours = GaussianDiscriminant(statistics, shots_correction=0.5, own_share=0)
    precision = ours.precision.numpy()
    excess = np.trace(precision @ statistics.covariance.double().numpy())
    for task in range(3):
        support, labels = tasks.support[task].numpy(), tasks.support_labels[task].numpy()
        means = [support[labels == label].mean(0) for label in range(5)]
        scores = np.array(
            [
                [
                    -0.5 * (q - m) @ precision @ (q - m) + 0.5 * excess / (2 * k)
                    for m, k in zip(means, SHOTS, strict=True)
                ]
                for q in tasks.query[task].numpy()
            ]
        )
        expected = torch.from_numpy(0.1 * scores).log_softmax(-1).float()
        torch.testing.assert_close(ours(tasks)[task], expected, atol=1e-5, rtol=1e-5)
    plain = GaussianDiscriminant(statistics, shots_correction=0, own_share=0)
    right, before = ((each(tasks).argmax(-1) == truth).float() for each in (ours, plain))
    of_one = truth == 0
    assert right[of_one].mean() > before[of_one].mean() + 0.02 and right.mean() > before.mean()
    equal, _ = simulated((3, 3, 3), n_tasks=5, width=16)
    assert torch.equal(ours(equal), plain(equal))


def test_equal_shots_change_no_bit() -> None:
    for shots in ((1, 1, 1), (5, 5, 5, 5)):
        tasks, _ = simulated(shots, n_tasks=20)
        assert torch.equal(shots_weight(tasks, 0.4), torch.ones(20, len(shots), dtype=torch.float64))
        assert torch.equal(Prototype()(tasks), Prototype(shots_exponent=0)(tasks))
    # One task of unequal shots in a batch leaves the others as they are.
    tasks, _ = simulated((3, 3), n_tasks=2)
    labels = tasks.support_labels.clone()
    labels[1, 0] = -1
    mixed = TaskBatch(tasks.support, labels, tasks.query, tasks.query_mask, 2)
    assert torch.equal(Prototype()(mixed)[0], Prototype()(tasks)[0])


PROBES = (Ridge, Logistic, LinearProbe, Nearest)


@pytest.mark.parametrize("kind", PROBES)
def test_probes_find_a_class_of_one_picture_more_often(kind: type[Ridge]) -> None:
    tasks, truth = simulated(SHOTS)
    before, after = ((kind(shots_strength=s)(tasks).argmax(-1) == truth).float() for s in (0.0, kind.shots_strength))
    of_one = truth == 0
    assert before[of_one].mean() < before[truth == 4].mean() - 0.2
    assert after.mean() > before.mean() + 0.01 and after[of_one].mean() > before[of_one].mean() + 0.05


@pytest.mark.parametrize("kind", PROBES)
def test_equal_shots_change_no_bit_of_a_probe(kind: type[Ridge]) -> None:
    tasks, _ = simulated((4, 4, 4, 4, 4), n_tasks=10)
    assert torch.equal(kind()(tasks), kind(shots_strength=0.0)(tasks))


def test_what_is_added_is_the_weight_s_logarithm() -> None:
    tasks, truth = simulated(SHOTS, n_tasks=3)
    scores = torch.zeros(*truth.shape, len(SHOTS), dtype=torch.float64)
    expected = 2.5 * shots_weight(tasks, 0.5).log().unsqueeze(1).expand_as(scores) * 2
    torch.testing.assert_close(fair(scores, tasks, 2.5), expected)


def test_ridge_of_the_task_s_own_penalty_keeps_classes_as_far_apart_whatever_their_shots() -> None:
    """Mean score of a class's support for it, less that for another: the scale, in every task."""
    tasks, _ = simulated(SHOTS, n_tasks=3)
    asked = TaskBatch(
        tasks.support, tasks.support_labels, tasks.support, torch.ones_like(tasks.support_labels) > 0, len(SHOTS)
    )
    for scores, labels in zip(Ridge(shots_strength=0)(asked), tasks.support_labels, strict=True):
        of_classes = torch.stack([scores[labels == label].mean(0) for label in range(len(SHOTS))])
        of_classes = of_classes - of_classes.mean(1, keepdim=True)
        others = of_classes[~torch.eye(len(SHOTS), dtype=torch.bool)].mean()
        assert float(of_classes.diagonal().mean() - others) == pytest.approx(10, rel=1e-4)
