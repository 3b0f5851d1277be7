"""Learns the steps of the classifier `learned` from episodes of training classes: every balance of queries, 1 to 5 shots, several domains.

Generalised cross-entropy (Zhang and Sabuncu, 2018, arXiv 1805.07836) of the last step's assignments, gradients through all steps, Adam.
It counts mistakes more than how sure they are, which is what accuracy does. Nothing of the encoder is touched.
Shapes: n pictures, D embedding width, L steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from episodes import EpisodeBatch, EpisodeSampler, ImageTable
from episodes.counter_random import random_bits
from episodes.errors import DataError
from fewshot.classifiers.learned import Steps, assign
from fewshot.classifiers.tasks import TaskBatch
from fewshot.embedding.embed import Embeddings

#: Concentrations of the Dirichlet distributions that divide the queries: even, mildly uneven, ..., mostly one or two classes.
BALANCES = (None, 5.0, 2.0, 1.0, 0.5)
SHOTS = (1, 2, 5)
WAYS, QUERIES = 5, 15
LAYERS, UPDATES, TASKS, RATE = 8, 500, 32, 0.03
POWER = 0.7  # of the generalised cross-entropy: 0 is the plain one, 1 counts mistakes
WIDTH = 256  # of features, in learning alone: wider ones take as many times as long
_LEAST_CHANCE = 1e-6  # below it the gradient of the power grows beyond bounds
_START = (3.0, 0.5, 0.0, 0.0, 0.5)  # temperature 20, half a prior, a query counts as a support picture, no correction

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Domain:
    """Embedded pictures of classes that steps are learned from.

    Attributes:
        name: for messages.
        embeddings: of the table's rows.
        table: class folders.
    """

    name: str
    embeddings: Embeddings
    table: ImageTable


def learn_steps(
    domains: Sequence[Domain],
    learned_on: str,
    *,
    seed: int = 0,
    updates: int = UPDATES,
    progress: Progress | None = None,
) -> Steps:
    """Learn the steps for the encoder that the embeddings are of.

    Args:
        domains: one or more; each kind of episode is drawn from each as often.
        learned_on: kept with the steps, for people.
        seed: of the episodes.
        updates: of the settings, with 32 tasks each.
        progress: told (updates done, updates).

    Raises:
        DataError: a domain has too few classes, or classes with too few pictures, for episodes.
    """
    kinds = [kind for domain in domains for kind in _kinds(domain, seed, updates)]
    values = torch.tensor(_START).expand(LAYERS, -1)
    values = torch.stack([values, torch.zeros_like(values), torch.zeros_like(values)], -1).requires_grad_()
    optimiser = torch.optim.Adam([values], RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for update in range(updates):
        features, sampler = kinds[random_bits(seed, "kind of episode", update) % len(kinds)]
        loss = _loss(features, sampler.batch(update * TASKS, (update + 1) * TASKS), values)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if progress is not None:
            progress(update + 1, updates)
    return Steps(values.detach(), learned_on)


def _kinds(domain: Domain, seed: int, updates: int) -> list[tuple[Tensor, EpisodeSampler]]:
    """Features (n, D) and a sampler for each balance and shot that the domain has pictures for."""
    readable = np.flatnonzero(domain.embeddings.readable.numpy())
    features, table = domain.embeddings.features[torch.from_numpy(readable)], domain.table.select_rows(readable)
    features = narrowed(features)
    counts = np.sort(table.counts)[::-1]
    ways = min(WAYS, int((counts >= 3).sum()))
    if ways < 2:
        raise DataError(
            f"{domain.name}: learning needs 2 classes of 3 pictures at least, found {ways}; give more classes or pictures"
        )
    smallest = int(counts[ways - 1])
    shots = [k for k in SHOTS if k <= smallest // 3] or [1]
    queries = min(QUERIES, smallest - max(shots))
    return [
        (
            features,
            EpisodeSampler(
                table,
                ways=ways,
                shots=shot,
                max_shots=max(shots),
                queries=queries,
                query_balance=balance,
                seed=random_bits(seed, domain.name, str(balance), shot) >> 1,
                episodes=updates * TASKS,
            ),
        )
        for balance in BALANCES
        for shot in shots
    ]


def narrowed(features: Tensor, width: int = WIDTH) -> Tensor:
    """(n, D) -> (n, at most `width`): their first principal axes through 0. Distances stay, but for what the last axes hold of them."""
    if features.shape[1] <= width:
        return features
    _, axes = torch.linalg.eigh((features.T @ features).double())
    narrow: Tensor = features @ axes[:, -width:].to(features)
    return narrow


def _loss(features: Tensor, batch: EpisodeBatch, values: Tensor) -> Tensor:
    """() mean generalised cross-entropy of the queries of a batch of episodes of as many ways."""
    support, query = torch.from_numpy(batch.support), torch.from_numpy(batch.query)
    labels = torch.from_numpy(batch.query_labels)
    asked = query >= 0
    tasks = TaskBatch(
        features[support.clamp_min(0)],
        torch.from_numpy(batch.support_labels),
        features[query.clamp_min(0)],
        asked,
        int(batch.n_way[0]),
    )
    chances = assign(tasks, values).softmax(-1)
    own = chances.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1).clamp_min(_LEAST_CHANCE)
    return ((1 - own**POWER) / POWER * asked).sum() / asked.sum()
