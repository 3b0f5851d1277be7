"""Several encoders together: how much each counts in a task, told from its support pictures alone, before any classifier looks.

An encoder for which everything looks alike has little to say about a task. So each encoder's weight grows with how far apart the
classes lie in its space, compared with what is usual for it (`EncoderFamily.usual_distance`, chosen on validation classes). Where
classes have two pictures or more, leaving each out in turn says more: the likelihood of all of them under other weights,
shrunk towards those.

What the pictures of a task have in common says nothing about their classes, and in some spaces it is most of the cosine, in others
little. So most of it is taken off before the parts are put side by side: the mean of the support. Queries are never looked at, so an
inductive classifier stays inductive.

Shapes: T tasks, S support pictures, Q query pictures, N ways, D embedding width, P encoders, W candidate weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.tasks import TaskBatch
from fewshot.encoders import family_of
from fewshot.encoders.base import Embedder

# Chosen on tin val and omniglot base with lite2, lite0 and tiny, and on tin val distorted in seven ways: see docs/encoders.md.
DISTANCE_POWER = 4.0
COMMON_SHARE = 0.75  # of the support's mean that is taken off
PRIOR_PICTURES = 20.0
SCALE = 50.0
_STEPS = {2: 20, 3: 10}  # of the grid of candidate weights
_LEAST = 0.02
_LEAST_DISTANCE = 1e-6


@dataclass(frozen=True)
class Segment:
    """One encoder's part of the features.

    Attributes:
        width: how many of them.
        usual_distance: mean squared distance of pictures of different classes at which it counts as much as any other; None where
            nobody knows: it then counts as if the distance were that.
    """

    width: int
    usual_distance: float | None


def segments_of(encoder: Embedder) -> tuple[Segment, ...]:
    """The parts of an encoder's embedding, one for each encoder of several together."""
    return tuple(Segment(part.embed_dim, family_of(part.name).usual_distance(part.name)) for part in encoder.parts)


@dataclass(frozen=True, eq=False)
class Together:
    """Weighs the encoders' parts of the features task by task, and hands them to a classifier."""

    classifier: Classifier
    segments: tuple[Segment, ...]

    @property
    def transductive(self) -> bool:
        """As the classifier's."""
        return self.classifier.transductive

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        factors = task_weights(tasks, self.segments).sqrt().unbind(1)  # P of (T,)
        support, query = (unit_parts(features, self.segments) for features in (tasks.support, tasks.query))
        common = _common(tasks, support)

        def weighed(parts: Sequence[Tensor]) -> Tensor:
            every = zip(_without(parts, common), factors, strict=True)
            return torch.cat([part * factor.view(-1, 1, 1) for part, factor in every], -1)

        return self.classifier(tasks.replaced(weighed(support), weighed(query)))


def unit_parts(features: Tensor, segments: Sequence[Segment]) -> list[Tensor]:
    """(T, S, D) features -> P of (T, S, D_p), each encoder's own, of unit norm."""
    ends = list(accumulate(segment.width for segment in segments))
    return [maths.unit(features[..., end - segment.width : end]) for end, segment in zip(ends, segments, strict=True)]


def task_weights(tasks: TaskBatch, segments: Sequence[Segment]) -> Tensor:
    """(T, P) weights of the encoders in each task, which add up to 1; of the cosine between two pictures they are the shares."""
    parts = unit_parts(tasks.support, segments)
    first = _by_distance([_class_distance(tasks, part) for part in parts], segments)
    if tasks.n_way < 2 or bool((tasks.shots < 2).all()):
        return first
    candidates = candidate_weights(len(segments)).to(first)  # (W, P)
    evidence = _left_out_likelihood(tasks, _without(parts, _common(tasks, parts)), candidates)  # (T, W)
    prior = PRIOR_PICTURES * first @ candidates.clamp_min(_LEAST).log().T
    return (evidence + prior).softmax(-1) @ candidates


def _common(tasks: TaskBatch, parts: Sequence[Tensor]) -> list[Tensor]:
    """P of (T, 1, D_p): what is taken off of each encoder's features, from the support's parts; every class weighs the same."""
    return [COMMON_SHARE * maths.weighted_means(tasks.membership, part).mean(1, keepdim=True) for part in parts]


def _without(parts: Sequence[Tensor], common: Sequence[Tensor]) -> list[Tensor]:
    """P of (T, S, D_p) without what is common (T, 1, D_p), of unit norm again."""
    return [maths.unit(part - each) for part, each in zip(parts, common, strict=True)]


def candidate_weights(count: int) -> Tensor:
    """(W, P) weights of P encoders on a grid, ends included."""
    steps = _STEPS.get(count, 10)
    axes = torch.cartesian_prod(*[torch.arange(steps + 1)] * (count - 1)).view(-1, count - 1)
    kept = axes[axes.sum(1) <= steps]
    return torch.cat([kept, steps - kept.sum(1, keepdim=True)], 1) / steps


def _by_distance(distances: Sequence[Tensor], segments: Sequence[Segment]) -> Tensor:
    """(T, P) weights by the classes' distance (T,) in each encoder's space against what is usual there."""
    ratios = [
        torch.zeros_like(found) if segment.usual_distance is None else (found / segment.usual_distance).log()
        for found, segment in zip((each.clamp_min(_LEAST_DISTANCE) for each in distances), segments, strict=True)
    ]
    return (DISTANCE_POWER * torch.stack(ratios, 1)).softmax(1)


def _class_distance(tasks: TaskBatch, unit: Tensor) -> Tensor:
    """(T,) 1 - mean cosine of support pictures (T, S, D) of different classes, every pair of classes weighing the same."""
    means = maths.weighted_means(tasks.membership, unit)
    pairs = tasks.n_way * (tasks.n_way - 1)
    same = means.square().sum((1, 2))
    return 1 - (means.sum(1).square().sum(-1) - same) / max(pairs, 1)


def _left_out_likelihood(tasks: TaskBatch, parts: Sequence[Tensor], candidates: Tensor) -> Tensor:
    """(T, W) log-likelihood of the support pictures' labels, each named by the prototypes of the others, under candidate weights.

    A class's only picture is left out of the sum: without it the class would have no prototype.
    """
    hot, labels = tasks.membership, tasks.support_labels.clamp_min(0)
    products, squares = [], []
    for unit in parts:
        sums = hot.transpose(1, 2).bmm(unit)  # (T, N, D)
        every = unit.bmm(sums.transpose(1, 2))  # (T, S, N)
        own = unit.square().sum(-1, keepdim=True)
        products.append(every - own * hot)
        # |sum - picture|^2 where the picture belongs to the class
        squares.append(sums.square().sum(-1).unsqueeze(1) - hot * (2 * every - own))
    dot, square = (torch.einsum("wp,ptsn->twsn", candidates, torch.stack(each)) for each in (products, squares))
    scores = SCALE * dot / square.clamp_min(maths.EPSILON).sqrt()
    spare = tasks.shots.gather(1, labels) > 1
    chances = scores.log_softmax(-1).gather(-1, labels[:, None, :, None].expand(-1, len(candidates), -1, 1))
    return (chances.squeeze(-1) * (spare & tasks.known).unsqueeze(1)).sum(-1)
