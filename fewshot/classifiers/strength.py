"""How strongly a linear classifier is held back, told task by task from its support pictures alone: each is left out in turn.

Too weak a penalty follows the chance of few pictures, too strong a one cannot use what they tell; which is which depends on the task, and
most on how much its kind of pictures resembles those that the encoder was trained on. Ridge regression says what each picture would have
been given had it not been there, without fitting anew (PRESS: Allen, 1974, Technometrics 16). What few left-out pictures say is shrunk
towards what is usual, a share of the pictures' own variance: a common part of all features, which encoders differ in, changes nothing.

T tasks, S support pictures, N ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.span import Span

# All chosen on tin val and omniglot base with tiny, lite0 and lite2, at 1, 2, 5 and 10 shots.
USUAL = 0.03
"""The penalty of regression that is tried first, as a share of the pictures' variance."""
STEPS = (-3.0, 0.0, 3.0)
"""Logarithms of what it is multiplied with for the others that are tried."""
SPREAD = 2.0
"""Standard deviation of the logarithm around `USUAL`, before anything is left out."""
WORTH = 0.3
"""Left-out pictures share all the others: each counts as this share of an independent one."""
FIRMER = 3.0
"""Classification takes so much more than regression: which score is highest matters, not how high it is."""
_COPY = 1e-5  # of the cosine of a picture with its copy, 1 but for rounding
_ALIKE = 1e-4  # variance of unit-norm features, below which only rounding is left


def likely_penalty(span: Span) -> Tensor:
    """The penalty (T, 1, 1) on |W|^2, beside the class-balanced mean loss, that suits each task.

    A class's only picture is not left out, as nothing would be left of its class; nor is one that is there twice, as its copy would tell.
    Where no picture can be left out, the usual penalty remains.
    """
    gram, root = span.centred_gram(), span.weights.sqrt()
    variance = (span.weights * gram.diagonal(dim1=1, dim2=2).unsqueeze(1)).sum(-1, keepdim=True)
    usual = USUAL * torch.where(variance > _ALIKE, variance, torch.ones_like(variance))
    spare = spare_pictures(span.hot, span.gram() > 1 - _COPY)
    count = spare.sum(-1)
    steps = torch.tensor(STEPS, dtype=gram.dtype, device=gram.device)
    system = root.transpose(1, 2) * gram * root
    errors = torch.stack([left_out_error(span, system, usual * step.exp(), spare) for step in steps], -1)  # (T, G)
    likely = -WORTH * count.unsqueeze(-1) / 2 * errors.log() - (steps / SPREAD).square() / 2
    step = (likely.softmax(-1) * steps).sum(-1).view(-1, 1, 1)
    return FIRMER * usual * step.exp()


def spare_pictures(hot: Tensor, alike: Tensor) -> Tensor:
    """(T, S) 1 for pictures whose class has others that are no copies of them; 0 for the rest, and where padded.

    Args:
        hot: (T, N, S) one-hot labels, zero where padded.
        alike: (T, S, S) whether one picture is as the other, but for rounding.
    """
    others = hot.transpose(1, 2).bmm(hot)  # (T, S, S) 1 for pictures of one class
    copies = (others * alike).sum(-1)
    return ((others.sum(-1) > 1) & (copies < 1.5)).to(others.dtype)


def left_out_error(span: Span, system: Tensor, penalty: Tensor, asked: Tensor) -> Tensor:
    """Class-balanced mean squared error (T,) of pictures that are each named by ridge regression on the others.

    Args:
        span: the support sets.
        system: (T, S, S) centred inner products, rows and columns multiplied with the roots of the weights.
        penalty: (T, 1, 1) on |W|^2.
        asked: (T, S) 1 for pictures that are left out; 0 for the others, and where padded.

    The weights of the remaining pictures stay as they are. With A = system + penalty, what a picture is given without itself misses its
    target by penalty (A^-1 y) / (penalty A^-1 - w) on its diagonal, in features and targets y that are multiplied with the roots.
    """
    regular = system.clone()
    regular.diagonal(dim1=1, dim2=2).add_(penalty.squeeze(-1))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regular))
    target = (span.hot - 1 / span.hot.shape[1]) * span.weights.sqrt()  # (T, N, S)
    missed = penalty * torch.bmm(target, inverse)
    free = penalty.squeeze(-1) * inverse.diagonal(dim1=1, dim2=2) - span.weights.squeeze(1)  # (T, S)
    squares = (missed / free.clamp_min(1e-6).unsqueeze(1)).square().sum(1)
    weight = (asked * span.weights.squeeze(1)).sum(-1)
    return ((asked * squares).sum(-1) / weight.clamp_min(maths.EPSILON)).clamp_min(maths.EPSILON)
