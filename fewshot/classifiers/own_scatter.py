"""A task's own scatter: how pictures of one class differ in this very task, and whether that is worth knowing.

A covariance of training classes says little where pictures are unlike the training's. A few pictures a class say how they differ there, if
roughly; whether mixing that in helps depends on the task. So each support picture is left out in turn, from its class's mean and from the
scatter, and named by both discriminants: what they make of it is the evidence that decides how far each is trusted. One factor of an
S x S matrix gives all of it, as a picture that is left out changes the scatter by one outer product (Woodbury, 1950; Allen's PRESS, 1974).

T tasks, S support pictures, N ways, D embedding width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewshot.classifiers.strength import spare_pictures
from fewshot.classifiers.tasks import TaskBatch

# Chosen on tin val and omniglot base with tiny, lite0 and lite2, at 2, 5 and 10 shots.
PRIOR = 0.25
"""Probability that the second discriminant is the better one, before anything is left out."""
SHARPNESS = (3e-4, 3e-3, 0.03, 0.3, 3.0)
"""Densities of few pictures are surer than they should be: the evidence takes each discriminant's scores times a number that suits it best.
It is sought from the best of these on, between the first and the last. What is mixed has the first discriminant's sharpness."""
_STEPS = 6  # of Newton's method from there, each to at most twice and at least half the number
_FLATTEST = 1e-6  # curvature of the log-probability by which a step is divided
SHARPER = 4.0
"""Times as sharp, or as flat, the second is made at most, to be as sure as the first: few pictures tell that badly."""
MOST = 2000
"""Support pictures of a task; beyond, S x S matrices are large, and the scatter is left alone."""
_COPY = 1e-5  # squared distance of a picture from its copy, as a share of theirs from the training mean
_HEAVIEST = 1e5  # trace of the scatter, weighed, beyond which rounding would count
_LEFT = 1e-6  # of the density, when a picture's own share in the scatter is taken out


@dataclass(frozen=True, eq=False)
class OwnScatter:
    """The discriminant of the mixed covariance, and how far it is to be trusted."""

    trust: Tensor  # (T, 1) in [0, 1], at most the share of classes of which a picture can be left out
    weights: Tensor  # (T, N, D) class means, from the origin, times the precision: that of the mixture as far as it is trusted
    excess: Tensor  # (T, 1) half the mean squared distance of a picture from its class's true centre, as sharp as the weights


def learners(tasks: TaskBatch) -> Tensor:
    """(T,) bool: tasks with several pictures of some class, and not too many pictures in all."""
    return (tasks.shots > 1).any(1) & (tasks.known.sum(1) <= MOST)


def own_scatter(tasks: TaskBatch, origin: Tensor, precision: Tensor, share: float) -> OwnScatter | None:
    """Mix a covariance with the scatter of each task's classes, as far as its left-out pictures are named better for it.

    Args:
        tasks: their support pictures alone are looked at.
        origin: (D,) that ``weights`` are relative to; near the pictures, so that a part that all share does not drown the differences.
        precision: (D, D) inverse of the covariance.
        share: of the task's own covariance in the mixture, in [0, 1).

    Returns:
        None where no task can learn from its scatter.
    """
    learns = learners(tasks)
    if bool(learns.all()):
        return _learned(tasks, origin, precision, share)
    if not bool(learns.any()):
        return None
    kept = tasks.known[learns].any(0)
    support, labels = tasks.support[learns][:, kept], tasks.support_labels[learns][:, kept]
    query, mask = tasks.query[learns][:, :0], tasks.query_mask[learns][:, :0]
    found = _learned(TaskBatch(support, labels, query, mask, tasks.n_way), origin, precision, share)
    weights = (tasks.class_means - origin) @ precision
    none = weights.new_zeros(len(learns), 1)
    return OwnScatter(*(
        every.index_put((learns,), each)
        for every, each in ((none, found.trust), (weights, found.weights), (none, found.excess))
    ))  # fmt: skip


def _learned(tasks: TaskBatch, origin: Tensor, precision: Tensor, share: float) -> OwnScatter:
    hot = tasks.membership.transpose(1, 2).contiguous()  # (T, N, S): ways first, as in `Span`
    mean = hot / tasks.shots.unsqueeze(-1)
    pictures = (tasks.support - origin).mul_(tasks.known.unsqueeze(-1))
    weighed = pictures @ precision
    gram = weighed.bmm(pictures.transpose(1, 2))
    residual = _less_class_means(gram, mean, hot)
    within = _less_class_means(residual.transpose(1, 2), mean, hot)
    weight = _weight(within, tasks.shots, share)

    system = weight * within
    system.diagonal(dim1=1, dim2=2).add_(1)
    solved = residual.bmm(torch.cholesky_inverse(torch.linalg.cholesky(system)))
    mixed = gram - weight * solved.bmm(residual.transpose(1, 2))
    change = weight * _less_class_means(mean.bmm(solved), mean, hot)

    spare = _spare(gram, hot)
    before, _ = left_out(gram, residual, hot, torch.zeros_like(weight))
    after, spread = left_out(mixed, solved, hot, weight)
    said, sharpness = log_likelihood(torch.cat([before, after]), hot.repeat(2, 1, 1), spare.repeat(2, 1))
    (unlike, like), (flat, sharp) = said.chunk(2), sharpness.chunk(2)
    count, telling = spare.sum(-1), (hot * spare.unsqueeze(1)).amax(-1).mean(-1)
    # Classes of which nothing can be left out do not show that another's scatter is theirs.
    trust = ((like - unlike + math.log(PRIOR / (1 - PRIOR))).sigmoid() * telling).view(-1, 1, 1)
    factor = (sharp / flat).clamp(1 / SHARPER, SHARPER)
    weights = ((1 - trust) * mean + trust * factor * (mean - change)).bmm(weighed)
    excess = factor.squeeze(-1) * ((spare * spread).sum(-1) / count.clamp_min(1) / 2).unsqueeze(-1)
    return OwnScatter(trust.squeeze(-1), weights, excess)


def left_out(gram: Tensor, residual: Tensor, hot: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What a discriminant would say of each picture, had it been left out.

    Without itself, a picture of k differs from its class's mean by k / (k - 1) times as much, and the scatter loses that factor times the
    outer product r r' of its residual. The rest is the formula of Sherman and Morrison.

    Args:
        gram: (T, S, S) inner products of the pictures under the precision.
        residual: (T, S, S) the same with columns that are what a picture differs from its class's mean by.
        hot: (T, N, S) one-hot labels, zero where padded.
        weight: (T, 1, 1) of the scatter in the covariance.

    Returns:
        (T, N, S) log-densities under each class, up to a constant; and (T, S) an unbiased square of the picture's distance from its class's
        true centre. Of a class's only picture both mean nothing.
    """
    shots = hot.sum(-1, keepdim=True)  # (T, N, 1)
    mean = hot / shots
    to_means = mean.bmm(gram)
    distances = gram.diagonal(dim1=1, dim2=2).unsqueeze(1) - 2 * to_means + (to_means * mean).sum(-1, keepdim=True)
    # Of its residual r with its way from each class's mean.
    along = residual.diagonal(dim1=1, dim2=2).unsqueeze(1) - mean.bmm(residual)
    own = (hot * along).sum(1, keepdim=True)  # (T, 1, S) r' P r
    factor = (hot * (shots / (shots - 1).clamp_min(1))).sum(1, keepdim=True)
    taken = weight * factor
    rest = (1 - taken * own).clamp_min(_LEFT)
    stretch = 1 + (factor - 1) * hot
    densities = -0.5 * (stretch.square() * distances + taken / rest * (stretch * along).square())
    return densities, (factor * own / rest).squeeze(1)


def log_likelihood(scores: Tensor, hot: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability (T,) of the right classes of pictures ``asked`` (T, S) under scores (T, N, S), at the best sharpness (T, 1, 1).

    A table of sharpnesses would not do: of two discriminants, the one whose best number is in the table would seem better than it is, and
    the more so the more pictures there are. The log-probability is concave in the sharpness.
    """
    margins = scores - (scores * hot).sum(1, keepdim=True)
    sharpness = _best_sharpness(margins.detach(), asked)
    return -(asked * (sharpness * margins).logsumexp(1)).sum(-1), sharpness


def _best_sharpness(margins: Tensor, asked: Tensor) -> Tensor:
    """(T, 1, 1) that makes the right classes likeliest, for scores (T, N, S) less those of the right classes."""
    grid = margins.new_tensor(SHARPNESS)
    tried = (asked * (grid.view(-1, 1, 1, 1) * margins).logsumexp(2)).sum(-1)
    best = grid[tried.argmin(0)].view(-1, 1, 1)
    for _ in range(_STEPS):
        chances = (best * margins).softmax(1)
        expected = (chances * margins).sum(1)
        spread = (asked * ((chances * margins.square()).sum(1) - expected.square())).sum(-1)
        step = -(asked * expected).sum(-1) / spread.clamp_min(_FLATTEST)
        best = (best + step.view(-1, 1, 1)).clamp(best / 2, best * 2).clamp(SHARPNESS[0], SHARPNESS[-1])
    return best


def _less_class_means(products: Tensor, mean: Tensor, hot: Tensor) -> Tensor:
    """``products`` (T, n, S), each column less the mean of its class's columns; padded columns as they are."""
    return products - products.bmm(mean.transpose(1, 2)).bmm(hot)


def _weight(within: Tensor, shots: Tensor, share: float) -> Tensor:
    """(T, 1, 1) w of covariance + w scatter, which but for a factor is (1 - share) covariance + share scatter / degrees of freedom."""
    free = (shots.sum(-1) - shots.shape[1]).clamp_min(1)
    trace = within.diagonal(dim1=1, dim2=2).sum(-1)
    return (share / (1 - share) / free).minimum(_HEAVIEST / trace.clamp_min(1)).view(-1, 1, 1)


def _spare(gram: Tensor, hot: Tensor) -> Tensor:
    """(T, S) 1 for pictures that can be left out."""
    squares = gram.diagonal(dim1=1, dim2=2)
    both = squares.unsqueeze(1) + squares.unsqueeze(2)
    return spare_pictures(hot, both - 2 * gram <= _COPY * both)
