"""Losses of episodic training, as pure functions in float32 whatever the autocast around them.

T tasks, S support pictures, Q query pictures, N ways, D embedding width, C training classes. A label of -1 is padding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def prototypes(support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
    """Class prototypes: the mean of a class's unit-norm support embeddings, normalised again.

    Args:
        support: (T, S, D) unit-norm embeddings.
        support_labels: (T, S) in [0, n_way), -1 for padding.
        n_way: N.

    Returns:
        (T, N, D) unit-norm prototypes (all zero for a class without support).
    """
    return F.normalize(_members(support_labels, n_way).to(support.dtype) @ support, dim=-1)  # the class size cancels


def _members(support_labels: Tensor, n_way: int) -> Tensor:
    """(T, S) labels -> (T, N, S) bool: which support picture belongs to which class."""
    return support_labels.unsqueeze(1) == torch.arange(n_way, device=support_labels.device).view(1, -1, 1)


def prototypical_logits(
    support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, scale: Tensor | float
) -> Tensor:
    """Scale * cosine(query, prototype): (T, S, D), (T, S), (T, Q, D) -> (T, Q, N), float32.

    A class that an episode of fewer ways does not have gets -inf. Snell et al. 2017 (arXiv 1703.05175)
    with cosine similarity and a positive scale, as in Hu et al. 2022 (arXiv 2204.07305).
    """
    with torch.autocast(support.device.type, enabled=False):
        logits = scale * (query.float() @ prototypes(support.float(), support_labels, n_way).transpose(1, 2))
        absent = ~_members(support_labels, n_way).any(dim=2)
        return logits.masked_fill(absent.unsqueeze(1), float("-inf"))


def prototypical_loss(
    support: Tensor,
    support_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    n_way: int,
    scale: Tensor | float = 10.0,
) -> Tensor:
    """Mean cross-entropy of the queries against their episode's prototypes.

    Args:
        support: (T, S, D) unit-norm embeddings.
        support_labels: (T, S) in [0, n_way), -1 for padding.
        query: (T, Q, D) unit-norm embeddings.
        query_labels: (T, Q) in [0, n_way), -1 for padding.
        n_way: N.
        scale: positive factor on the cosine; learned in training, where it starts at 10.

    Returns:
        A scalar, float32.

    Raises:
        ValueError: there is no query with a label: a loss over nothing is a mistake in the caller.
    """
    if not bool((query_labels >= 0).any()):
        raise ValueError("prototypical_loss got no labelled query picture")
    logits = prototypical_logits(support, support_labels, query, n_way, scale)
    return F.cross_entropy(logits.flatten(0, 1), query_labels.flatten(), ignore_index=-1)


def class_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over the training classes: (B, C) logits, (B,) targets (-1 = padding) -> scalar, float32."""
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.float(), targets, ignore_index=-1, label_smoothing=label_smoothing)


def nca_loss(embeddings: Tensor, labels: Tensor, scale: Tensor | float = 10.0) -> Tensor:
    """Neighbourhood component analysis over all pairs of a batch: no split into support and query.

    Laenen & Bertinetto 2020 (arXiv 2012.09831) show that it uses a batch better than a fixed split. (B, D) unit-norm
    embeddings, (B,) labels -> scalar. Pictures whose class has no second picture are left out.

    Raises:
        ValueError: no two pictures share a class.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        logits = scale * (embeddings.float() @ embeddings.float().T)
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        same = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
        usable = same.any(dim=1)
        if not bool(usable.any()):
            raise ValueError("nca_loss needs at least two pictures of one class in the batch")
        logits = logits.masked_fill(itself, float("-inf"))
        positive = torch.logsumexp(logits.masked_fill(~same, float("-inf"))[usable], dim=1)
        return (torch.logsumexp(logits[usable], dim=1) - positive).mean()


def squared_distance(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> Tensor:
    """Sum over all tensors of ``before`` of the squared distance to those of the same name in ``now``: a scalar, float32.

    Raises:
        ValueError: there are none.
    """
    if not before:
        raise ValueError("squared_distance needs at least one tensor: nothing is trained that could be pulled back")
    return torch.stack(
        [(now[name].float() - old.to(now[name].device)).square().sum() for name, old in before.items()]
    ).sum()
