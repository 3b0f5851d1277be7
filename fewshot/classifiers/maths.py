"""The few formulas that all classifiers share, batched over tasks and blind to padding.

Shapes: T tasks, S support pictures, Q query pictures, N ways, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from episodes.errors import DataError

EPSILON = 1e-12
_NO_GAP = 1e-4
TIE = 2e-6  # relative gap below which two scores count as equal: some ten roundings of float32


def working(features: Tensor) -> Tensor:
    """Features in the precision that is computed in: float64 stays, everything else is float32."""
    return features if features.dtype == torch.float64 else features.float()


def norms(features: Tensor) -> Tensor:
    """Euclidean norms (..., 1), never zero."""
    lengths: Tensor = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return lengths.clamp_min(EPSILON)


def unit(features: Tensor) -> Tensor:
    """Rows scaled to norm 1; a zero row stays zero."""
    return features / norms(features)


def membership(labels: Tensor, n_way: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """One-hot labels (T, S, N) in the type of ``like``, all zero in a padded row (label -1), and their sums: (T, N) shots.

    Raises:
        DataError: a class has no support picture: its prototype would be 0 / 0.
    """
    classes = torch.arange(n_way, device=labels.device)
    hot = (labels.unsqueeze(-1) == classes).to(like.dtype)
    shots = hot.sum(1)
    empty = shots == 0
    if bool(empty.any()):
        task, label = (int(i) for i in empty.nonzero()[0])
        raise DataError(
            f"task {task} of the batch has no support picture of class {label} (of {n_way}): "
            "leave classes without support out before classifying"
        )
    return hot, shots


def weighted_means(weights: Tensor, features: Tensor) -> Tensor:
    """Mean of ``features`` (T, S, D) under each column of ``weights`` (T, S, N): (T, N, D)."""
    return torch.bmm(weights.transpose(1, 2), features) / weights.sum(1).unsqueeze(-1)


def prototypes(support: Tensor, hot: Tensor) -> Tensor:
    """Unit-norm mean of each class's unit-norm support features: (T, N, D)."""
    return unit(torch.bmm((hot / norms(support)).transpose(1, 2), support))


def products(query: Tensor, anchors: Tensor) -> Tensor:
    """Inner product of every query (T, Q, D) with every anchor (T, N, D): (T, Q, N).

    A view of (T, N, Q) in memory: with a handful of ways, that order makes the product twice and a softmax
    over the ways ten times as fast.
    """
    return torch.bmm(anchors, query.transpose(1, 2)).transpose(1, 2)


def cosines(query: Tensor, anchors: Tensor) -> Tensor:
    """Cosine of every query (T, Q, D) with every unit-norm anchor (T, N, D): (T, Q, N).

    The norm divides the few products instead of the many features: one pass over the queries fewer.
    """
    return products(query, anchors) / norms(query)


def squared_distances(query: Tensor, anchors: Tensor) -> Tensor:
    """Squared Euclidean distances (T, Q, N) of queries (T, Q, D) from anchors (T, N, D)."""
    cross = products(query, anchors)
    squares = query.square().sum(-1, keepdim=True) + anchors.square().sum(-1).unsqueeze(1)
    return (squares - 2 * cross).clamp_min(0)


def log_probabilities(scores: Tensor) -> Tensor:
    """Softmax of ``scores`` (T, Q, N) as float32 logarithms; rounding cannot part them.

    Scores that differ by rounding alone become equal. Equal scores must come out equal, for then ``argmax``
    gives the first class whatever the order of summation.
    """
    top = scores.amax(-1, keepdim=True)
    gap = scores - top
    gap = torch.where(gap > -TIE * top.abs().clamp_min(1), torch.zeros_like(gap), gap)
    return gap.transpose(-1, -2).log_softmax(-2).float().transpose(-1, -2).contiguous()


def soft_assignments(scores: Tensor) -> Tensor:
    """Softmax over the ways of ``scores`` (T, Q, N) as probabilities, in their own precision."""
    return scores.transpose(-1, -2).softmax(-2).transpose(-1, -2)


def first_best(scores: Tensor) -> Tensor:
    """Marks the best class of each row (..., N), the first of those that tie: bool."""
    top = scores.amax(-1, keepdim=True)
    best = scores >= top - TIE * top.abs().clamp_min(1)
    return best & (best.cumsum(-1) == 1)


def neighbour_graph(features: Tensor, present: Tensor, count: int) -> Tensor:
    """Weights (T, n, n) of each row's ``count`` nearest others by cosine: one each, ``count`` in all.

    ``features`` (T, n, D) have unit norm; ``present`` (T, n) marks what is not padding. Others that are
    equally near share what is left of the weight, so that neither copies of a picture nor the order of
    pictures matter.
    """
    similarity = torch.bmm(features, features.transpose(1, 2))
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    similarity = similarity.masked_fill(~present.unsqueeze(1), -torch.inf)
    last = similarity.topk(min(count, similarity.shape[-1]), dim=-1).values[..., -1:]
    nearer = similarity > last + TIE
    tied = (similarity >= last - TIE) & ~nearer & (similarity > -torch.inf)
    left = (count - nearer.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True).clamp_min(1)
    graph = nearer + tied * left.clamp_max(1).to(features.dtype)
    return graph * present.unsqueeze(-1)


def centre_on_task(support: Tensor, query: Tensor, known: Tensor, query_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Unit-norm support and queries after subtracting the mean over all of the task's pictures.

    Encoders give features a large common part; without it cosines spread over their whole range, and one
    temperature serves every encoder. ``known`` (T, S) and ``query_mask`` (T, Q) mark what is not padding.
    """
    features = torch.cat([support, query], 1)
    weight = torch.cat([known, query_mask], 1).unsqueeze(-1).to(features.dtype)
    centred = unit(features - weighted_means(weight, features))
    return centred[:, : support.shape[1]], centred[:, support.shape[1] :]


def inverse_gap(scores: Tensor) -> Tensor:
    """(T, 1, 1) inverse of the mean gap between the score of a class's centre for its own class and for the others, from scores (T, N, N).

    Zero where that is no more than rounding: there the classes look the same. Scores times this are comparable, whatever made them.
    """
    ways = scores.shape[-1]
    own = scores.diagonal(dim1=1, dim2=2).sum(-1)
    others = (scores.sum((1, 2)) - own) / max(1, ways - 1)
    gap = (own - others) / ways
    return torch.where(gap > _NO_GAP, 1 / gap.clamp_min(_NO_GAP), torch.zeros_like(gap)).view(-1, 1, 1)
