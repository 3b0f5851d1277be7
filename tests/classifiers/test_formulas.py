"""The classifiers that no library at hand has, against their papers' formulas written as plain loops over one
task.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from fewshot.classifiers.linear_probe import LinearProbe
from fewshot.classifiers.maths import first_best, log_probabilities
from fewshot.classifiers.ptmap import PTMAP, balanced_log_plan, gaussian_like
from fewshot.classifiers.soft_kmeans import SoftKMeans
from fewshot.classifiers.span import largest_eigenvalue_bound
from fewshot.classifiers.tim import TIM, AlphaTIM
from fewshot.classifiers.tip import TipCache
from fewshot.classifiers.transclip import TransCLIP


def _ask(classifier, t) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classifier(t.batch(class_text=None))


def _near(ours: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(ours.double().exp(), expected.double(), atol=tolerance, rtol=0)


def _task(t, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return t.support[i].double().numpy(), t.support_labels[i].numpy(), t.query[i].double().numpy()


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("shots", [1, 4])
def test_tip(tasks: Callable, shots: int) -> None:
    t = tasks(3, 4, shots, 5)
    ours = _ask(TipCache(beta=5.5), t)
    for i in range(3):
        s, y, q = _task(t, i)
        votes = np.zeros((len(q), 4))
        for j, query in enumerate(q):
            for f, label in zip(s, y, strict=True):
                votes[j, label] += np.exp(-5.5 * (1 - _unit(query) @ _unit(f)))
        _near(ours[i], torch.from_numpy(votes / votes.sum(1, keepdims=True)))


def test_soft_kmeans(tasks: Callable) -> None:
    t = tasks(3, 4, 2, 5)
    ours = _ask(SoftKMeans(scale=10.0, steps=3), t)
    for i in range(3):
        s, y, q = _task(t, i)
        origin = np.vstack([s, q]).mean(0)
        s, q = _unit(s - origin), _unit(q - origin)
        centres = np.stack([_unit(s[y == c].mean(0)) for c in range(4)])
        for _ in range(3):
            z = _softmax(10 * q @ centres.T)
            for c in range(4):
                total = s[y == c].sum(0) + sum(z[j, c] * q[j] for j in range(len(q)))
                centres[c] = _unit(total / ((y == c).sum() + z[:, c].sum()))
            z = _softmax(10 * q @ centres.T)
        _near(ours[i], torch.from_numpy(z))


def test_linear_probe_is_gradient_descent_by_autograd(tasks: Callable) -> None:
    """The S x S form against gradient steps on D x N weights; its step may be smaller than 4 / lambda_max,
    never larger.
    """
    t = tasks(3, 4, 3, 5)
    ours = _ask(LinearProbe(scale=10.0, iterations=20), t)
    for i in range(3):
        f, y = normalize(t.support[i].double(), dim=1), t.support_labels[i]
        second = f.T @ f / len(f)
        bound = float(largest_eigenvalue_bound((f @ f.T / len(f)).unsqueeze(0)))
        assert float(torch.linalg.eigvalsh(second)[-1]) <= bound <= 1.3 * float(torch.linalg.eigvalsh(second)[-1])
        weights = 10 * normalize(torch.stack([f[y == c].mean(0) for c in range(4)]), dim=1)
        for _ in range(20):
            weights = weights.detach().requires_grad_()
            torch.nn.functional.cross_entropy(f @ weights.T, y).backward()
            assert weights.grad is not None
            weights = weights - 4 / bound * weights.grad
        expected = (normalize(t.query[i].double(), dim=1) @ weights.detach().T).softmax(1)
        _near(ours[i], expected)


def _alpha_entropy(p: torch.Tensor, alpha: float | None) -> torch.Tensor:
    if alpha is None:
        return -(p * p.log()).sum(-1)
    return (1 - p.pow(alpha).sum(-1)) / (alpha - 1)


@pytest.mark.parametrize(("shots", "alpha"), [(1, 2.0), (3, 4.5), (6, 7.0), (3, None)])
def test_tim_and_alpha_tim_follow_autograd(tasks: Callable, shots: int, alpha: float | None) -> None:
    """Written-out gradients against autograd on the papers' losses, optimised by torch's own Adam."""
    t = tasks(2, 4, shots, 5)
    classifier = TIM(steps=40, learning_rate=1e-3) if alpha is None else AlphaTIM(steps=40, learning_rate=1e-3)
    ours = _ask(classifier, t)
    for i in range(2):
        s, q = normalize(t.support[i].double(), dim=1), normalize(t.query[i].double(), dim=1)
        y = t.support_labels[i]
        weights = torch.stack([s[y == c].mean(0) for c in range(4)]).requires_grad_()
        adam = torch.optim.Adam([weights], lr=1e-3, eps=1e-6)
        for _ in range(40):
            p = (-7.5 * torch.cdist(q, weights) ** 2).softmax(1)
            entropy = _alpha_entropy(p.mean(0), alpha) - classifier.certainty_weight * _alpha_entropy(p, alpha).mean()
            loss = torch.nn.functional.cross_entropy(-7.5 * torch.cdist(s, weights) ** 2, y)
            adam.zero_grad()
            (classifier.support_weight * loss - entropy).backward()
            adam.step()
        expected = (-7.5 * torch.cdist(q, weights.detach()) ** 2).softmax(1)
        _near(ours[i], expected, 2e-3)


def _transclip_loop(s: np.ndarray, y: np.ndarray, q: np.ndarray, n_way: int, c: TransCLIP) -> np.ndarray:
    width, hot = s.shape[1], np.eye(n_way)[y]
    origin = np.vstack([s, q]).mean(0)
    s, q = _unit(s - origin), _unit(q - origin)
    everything, known = np.vstack([q, s]), np.vstack([np.zeros((len(q), n_way)), hot])
    similarity = everything @ everything.T
    graph = np.zeros_like(similarity)
    for i, row in enumerate(similarity):
        for j in [j for j in np.argsort(-row) if j != i][: c.neighbours]:
            graph[i, j] = max(0, row[j])
    graph = (graph + graph.T) / (2 * c.neighbours)
    means = _unit(np.stack([_unit(s[y == k].mean(0)) for k in range(n_way)]))
    prior = _softmax(c.scale * q @ means.T)
    z, variance = prior.copy(), np.full(width, 1 / width)
    for step in range(c.steps + 1):
        squares = ((q[:, None] - means[None]) ** 2 / variance).sum(-1)
        for _ in range(c.rounds):
            known[: len(q)] = z
            z = _softmax(c.trust * np.log(prior) - c.scale / width / 2 * squares + (graph @ known)[: len(q)])
        if step < c.steps:
            a, b = c.support_weight / len(s) * hot, z / len(q)
            means = _unit(a.T @ s + b.T @ q)
            spread = (a[..., None] * (s[:, None] - means) ** 2).sum((0, 1))
            spread = (spread + (b[..., None] * (q[:, None] - means) ** 2).sum((0, 1))) / (a.sum() + b.sum())
            share = width / (width + len(s) + len(q))
            variance = share * spread.mean() + (1 - share) * spread
    return z


@pytest.mark.parametrize("shots", [1, 5])
def test_transclip(tasks: Callable, shots: int) -> None:
    t = tasks(3, 4, shots, 6)
    classifier = TransCLIP(steps=4)
    ours = _ask(classifier, t.to(torch.float64))
    for i in range(3):
        _near(ours[i], torch.from_numpy(_transclip_loop(*_task(t, i), 4, classifier)), 1e-4)


def test_ptmap_gives_every_class_its_share(tasks: Callable) -> None:
    t = tasks(5, 4, 1, 6)
    shares = _ask(PTMAP(), t).exp().mean(1)
    torch.testing.assert_close(shares, torch.full((5, 4), 0.25), atol=0.02, rtol=0)


def test_sinkhorn_reaches_both_margins() -> None:
    logits = 3 * torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    columns = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64).log().view(1, 1, 3)
    rows = torch.zeros(2, 9, 1, dtype=torch.float64)
    plan, _ = balanced_log_plan(logits, rows, columns, torch.zeros_like(columns), 300)
    torch.testing.assert_close(plan.exp().sum(-1), torch.ones(2, 9, dtype=torch.float64))
    torch.testing.assert_close(plan.exp().sum(1), columns.exp().view(1, 3).expand(2, 3))
    # The plan is the logits up to a number for each row and each column: all 2 x 2 differences stay
    torch.testing.assert_close(plan.diff(dim=1).diff(dim=2), logits.diff(dim=1).diff(dim=2))


def test_the_power_transform_is_for_features_without_negative_values(tasks: Callable) -> None:
    t = tasks(2, 3, 2, 4)
    support, query = t.support.clone(), t.query.clone()
    support[0], query[0] = support[0].abs(), query[0].abs()  # the first task's came out of a relu, the second's not
    made = gaussian_like(t.batch(support=support, query=query)).support
    for i, f in enumerate((support[0].sqrt(), support[1])):
        f = normalize(f, dim=1)
        torch.testing.assert_close(made[i], normalize(f - f.mean(0), dim=1), atol=1e-6, rtol=0)


def test_scores_that_differ_by_rounding_alone_are_equal() -> None:
    scores = torch.tensor([[[1.0, 1.0 + 1e-7, 0.0], [5.0, 4.0, 5.0 + 4e-7], [0.0, 1e-4, 0.0]]])
    made = log_probabilities(scores)
    assert made[0, 0, 0] == made[0, 0, 1]
    assert made.argmax(-1).tolist() == [[0, 0, 1]]
    assert first_best(scores).int().tolist() == [[[1, 0, 0], [1, 0, 0], [0, 1, 0]]]
