"""A task's own scatter in gda: every picture really left out, and the plain formulas of wide matrices, in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from fewshot.classifiers.base import Statistics, class_statistics
from fewshot.classifiers.gda import GaussianDiscriminant
from fewshot.classifiers.own_scatter import MOST, PRIOR, SHARPER, SHARPNESS, learners, log_likelihood, own_scatter
from fewshot.classifiers.tasks import TaskBatch
from tests.classifiers.test_unequal_shots import simulated

Array = npt.NDArray[np.float64]
SHOTS = (1, 2, 4, 4)
WIDTH = 12


@pytest.fixture(scope="module")
def usual() -> Statistics:
    """Of classes whose pictures vary more in the later features."""
    features = torch.randn(300, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return class_statistics(0.3 + features * torch.linspace(0.5, 1.5, WIDTH), torch.arange(300) % 6)


def far(shots: tuple[int, ...], n_tasks: int, seed: int = 0, scatter: float = 6.0) -> tuple[TaskBatch, torch.Tensor]:
    """Tasks whose pictures differ most along two directions of the task's own, and the truth (T, Q)."""
    tasks, truth = simulated(shots, n_tasks=n_tasks, width=WIDTH)
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(n_tasks, WIDTH, 2, generator=generator, dtype=torch.float64)).Q

    def spread(x: torch.Tensor) -> torch.Tensor:
        return x + scatter * torch.randn(*x.shape[:2], 2, generator=generator, dtype=torch.float64) @ axes.mT

    return dataclasses.replace(tasks, support=spread(tasks.support), query=spread(tasks.query)), truth


def mixed_precision(x: Array, y: Array, weight: float, covariance: Array) -> Array:
    residual = x - np.stack([x[y == label].mean(0) for label in y])
    return np.asarray(np.linalg.inv(covariance + weight * residual.T @ residual))


def scores(x: Array, y: Array, query: Array, precision: Array) -> Array:
    """Log-densities (Q, N) under classes with these pictures."""
    means = [x[y == label].mean(0) for label in range(int(y.max()) + 1)]
    return np.array([[-0.5 * (q - m) @ precision @ (q - m) for m in means] for q in query])


def likeliest(margins: Array) -> tuple[float, float]:
    """Log-probability of the right classes of pictures at the best sharpness, and that; of scores (S, N) less the right classes' own."""

    def missed(logarithm: float) -> float:
        return float(logsumexp(np.exp(logarithm) * margins, axis=1).sum())

    bounds = (math.log(SHARPNESS[0]), math.log(SHARPNESS[-1]))
    found = minimize_scalar(missed, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    missed_least, best = min((found.fun, found.x), *((missed(end), end) for end in bounds))
    return -missed_least, math.exp(best)


def by_hand(x: Array, y: Array, share: float, covariance: Array, spare: list[int]) -> tuple[float, float, float, float]:
    """Trust, how much sharper the second is to be, half the mean squared distance from a class's centre, and the weight of the scatter.

    Each picture is left out anew.
    """
    weight = share / (1 - share) / (len(y) - len(set(y)))
    said: dict[float, list[Array]] = {0.0: [], weight: []}
    spread = []
    for i in spare:
        kept = np.arange(len(y)) != i
        for each, densities in said.items():
            precision = mixed_precision(x[kept], y[kept], each, covariance)
            densities.append(scores(x[kept], y[kept], x[i : i + 1], precision)[0])
        left = int((y[kept] == y[i]).sum())
        # A new picture less the mean of k - 1: the variance of one picture, and a (k - 1)th of it.
        spread.append(-2 * densities[-1][y[i]] * left / (left + 1))
    (before, flat), (after, sharp) = (
        likeliest(np.stack([row - row[y[i]] for i, row in zip(spare, densities, strict=True)]))
        for densities in said.values()
    )
    odds = PRIOR / (1 - PRIOR) * np.exp(after - before)
    factor = min(max(sharp / flat, 1 / SHARPER), SHARPER)
    return odds / (1 + odds) * len(set(y[spare])) / len(set(y)), factor, float(np.mean(spread)) / 2, weight


def padded(tasks: TaskBatch) -> TaskBatch:
    """With two rows of padding amid the support pictures."""
    junk = torch.full((len(tasks.support), 2, WIDTH), 1e3, dtype=torch.float64)
    none = torch.full((len(tasks.support), 2), -1)
    return dataclasses.replace(
        tasks,
        support=torch.cat([tasks.support[:, :3], junk, tasks.support[:, 3:]], 1),
        support_labels=torch.cat([tasks.support_labels[:, :3], none, tasks.support_labels[:, 3:]], 1),
    )


def test_the_evidence_knows_no_steps_of_sharpness() -> None:
    """Twice the scores are as likely at half the sharpness: what sharpnesses are tried first must not favour one discriminant."""
    generator = torch.Generator().manual_seed(0)
    hot = torch.nn.functional.one_hot(torch.randint(20, (8, 100), generator=generator), 20).mT.double()
    scores = 8 * (torch.randn(8, 20, 100, generator=generator, dtype=torch.float64) + 1.2 * hot)
    said = [log_likelihood(factor * scores, hot, torch.ones(8, 100))[0] for factor in (0.1, 0.6, 1.0, 2.5, 30)]
    margins = (scores - (scores * hot).sum(1, keepdim=True)).mT.numpy()
    expected = torch.tensor([likeliest(each)[0] for each in margins])
    for each in said:
        torch.testing.assert_close(each, expected.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.2, 0.6])
@pytest.mark.parametrize("padding", [False, True])
def test_it_is_what_leaving_each_picture_out_says(share: float, padding: bool, usual: Statistics) -> None:
    """Unequal shots: the class of one picture is never left out, and each class is given what its few pictures cost."""
    tasks, _ = far(SHOTS, n_tasks=5, scatter=1.0)
    gda = GaussianDiscriminant(usual, own_share=share)
    covariance = np.linalg.inv(gda.precision.numpy())
    given = padded(tasks) if padding else tasks
    found, answers = own_scatter(given, usual.mean.double(), gda.precision, share), gda(given)
    usual_excess = np.trace(gda.precision.numpy() @ usual.covariance.double().numpy()) / 2
    trusts = []
    for task in range(5):
        x, y, query = tasks.support[task].numpy(), tasks.support_labels[task].numpy(), tasks.query[task].numpy()
        trust, factor, excess, weight = by_hand(x, y, share, covariance, list(range(1, len(y))))
        assert float(found.trust[task]) == pytest.approx(trust, rel=1e-6)
        assert float(found.excess[task]) == pytest.approx(factor * excess, rel=1e-5)
        before, after = (
            scores(x, y, query, mixed_precision(x, y, each, covariance)) + 0.5 * back / np.array(SHOTS)
            for each, back in ((0.0, usual_excess), (weight, excess))
        )
        # What all classes share differs between densities and the linear scores that are mixed; log-probabilities do not know it.
        expected = torch.from_numpy(0.1 * ((1 - trust) * before + trust * factor * after)).log_softmax(-1).float()
        torch.testing.assert_close(answers[task], expected, atol=2e-5, rtol=1e-5)
        trusts.append(trust)
    assert max(trusts) > 2 * min(trusts)


def test_a_picture_that_is_there_twice_is_not_left_out(usual: Statistics) -> None:
    tasks, _ = far((3, 3, 3), n_tasks=3, scatter=1.0)
    support = tasks.support.clone()
    support[:, 4] = support[:, 3]  # of the second class, one picture remains that has no copy
    gda = GaussianDiscriminant(usual)
    found = own_scatter(dataclasses.replace(tasks, support=support), usual.mean.double(), gda.precision, 0.2)
    for task in range(3):
        x, y = support[task].numpy(), tasks.support_labels[task].numpy()
        trust, factor, excess, _ = by_hand(x, y, 0.2, np.linalg.inv(gda.precision.numpy()), [0, 1, 2, 5, 6, 7, 8])
        assert float(found.trust[task]) == pytest.approx(trust, rel=1e-6)
        assert float(found.excess[task]) == pytest.approx(factor * excess, rel=1e-5)


def test_without_left_out_pictures_the_training_s_covariance_remains(usual: Statistics) -> None:
    """At one shot not a bit changes; with every picture there twice nothing but rounding does."""
    gda, plain = GaussianDiscriminant(usual), GaussianDiscriminant(usual, own_share=0)
    one, _ = far((1, 1, 1), n_tasks=4)
    assert torch.equal(gda(one), plain(one))
    twice, _ = far((2, 2, 2), n_tasks=4)
    twice = dataclasses.replace(twice, support=twice.support[:, [0, 0, 2, 2, 4, 4]])
    torch.testing.assert_close(gda(twice), plain(twice), atol=1e-6, rtol=0)
    # A task of one shot beside one that can learn.
    labels = torch.tensor([[0, -1, 1, -1, 2, -1], [0, 0, 1, 1, 2, 2]])
    beside = dataclasses.replace(far((2, 2, 2), n_tasks=2)[0], support_labels=labels)
    torch.testing.assert_close(gda(beside)[0], plain(beside)[0], atol=1e-6, rtol=0)
    assert not torch.allclose(gda(beside)[1], plain(beside)[1], atol=1e-4)


def test_it_helps_where_pictures_differ_in_ways_of_their_own(usual: Statistics) -> None:
    """And is hardly listened to where they differ as the training's do."""
    gda, plain = GaussianDiscriminant(usual), GaussianDiscriminant(usual, own_share=0)
    tasks, truth = far((7, 7, 7, 7, 7), n_tasks=100)
    right, before = ((each(tasks).argmax(-1) == truth).double().mean(1) for each in (gda, plain))
    gain = right - before
    assert float(gain.mean()) > max(0.1, float(1.96 * gain.std() / 10))
    near, _ = far((7, 7, 7, 7, 7), n_tasks=100, scatter=0.0)
    trust = [float(own_scatter(each, usual.mean.double(), gda.precision, 0.2).trust.mean()) for each in (tasks, near)]
    assert trust[0] > 0.8 and trust[1] < 0.4


@pytest.mark.parametrize("size", [1e-20, 1e5, 1e8, 1e20])
def test_features_of_any_size(size: float, usual: Statistics) -> None:
    """Classes far apart are told apart whatever the size, in float32 too; gradients are numbers. (What is off by 1e40 nats is -inf.)"""
    tasks, truth = far((4, 4, 4), n_tasks=6, scatter=0.0)
    hot = torch.nn.functional.one_hot(tasks.support_labels, WIDTH) * 20.0
    asked = torch.nn.functional.one_hot(truth, WIDTH) * 20.0
    support = ((tasks.support + hot) * size).float().requires_grad_()
    zero = dataclasses.replace(usual, mean=torch.zeros(WIDTH))
    answer = GaussianDiscriminant(zero)(
        dataclasses.replace(tasks, support=support, query=((tasks.query + asked) * size).float())
    )
    assert not bool(answer.isnan().any())
    if size > 1:
        assert bool((answer.argmax(-1) == truth).all())
    answer[..., 0].sum().backward()
    assert support.grad is not None and bool(support.grad.isfinite().all())


def test_many_pictures_are_left_to_the_training_s_covariance(usual: Statistics) -> None:
    """Each task by itself: small ones learn beside it as if it were not there, and it does as if they were not."""
    gda, plain = GaussianDiscriminant(usual), GaussianDiscriminant(usual, own_share=0)
    small, _ = far((4, 3, 4), n_tasks=3, scatter=1.0)
    many = far((700, 700, MOST - 1399), n_tasks=1, scatter=1.0)[0]
    width = many.support.shape[1]
    beside = dataclasses.replace(
        small,
        support=torch.cat([torch.nn.functional.pad(small.support, (0, 0, 0, width - 11)), many.support]),
        support_labels=torch.cat(
            [torch.nn.functional.pad(small.support_labels, (0, width - 11), value=-1), many.support_labels]
        ),
        query=torch.cat([small.query, many.query]),
        query_mask=torch.cat([small.query_mask, many.query_mask]),
    )
    assert learners(beside).tolist() == [True, True, True, False]
    answers = gda(beside)
    torch.testing.assert_close(answers[:3], gda(small), atol=1e-5, rtol=0)
    torch.testing.assert_close(answers[3:], plain(many), atol=1e-5, rtol=0)
    assert not torch.allclose(gda(small), plain(small), atol=1e-3)
    fewer = dataclasses.replace(many, support=many.support[:, 1:], support_labels=many.support_labels[:, 1:])
    assert learners(fewer).all()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share: float, usual: Statistics) -> None:
    with pytest.raises(ValueError, match=r"own_share must lie in \[0, 1\)"):
        GaussianDiscriminant(usual, own_share=share)
