"""Confidence that means what it says: one temperature a classifier, and when to answer "unknown".

Both are measured on validation episodes of mixed ways and shots, each with one class left out of its support: its queries
belong nowhere and show how sure a classifier is of what it cannot know. Temperature scaling: Guo et al. 2017, 1706.04599.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from episodes import EpisodeBatch, EpisodeSampler, ImageTable
from episodes.counter_random import random_bits
from fewshot.classifiers import INDUCTIVE, build_classifier
from fewshot.classifiers.base import Classifier, Statistics
from fewshot.classifiers.calibration import apply_temperature, fit_temperature, reliability, stack_log_probabilities
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.embedding.embed import Embeddings

EPISODES = 400
QUANTILES = 200  # of the outsiders' confidences, kept for --reject
Floats = npt.NDArray[np.float64]


def mixed_episodes(table: ImageTable, seed: int) -> EpisodeSampler | None:
    """Episodes of 3 to 11 ways and 1 to 10 shots, as far as the classes go; None where they do not go far enough."""
    counts = np.sort(table.counts)[::-1]
    ways = min(11, int((counts >= 3).sum()))
    if ways < 3:
        return None
    smallest = int(counts[ways - 1])
    queries = max(1, min(5, smallest // 3))
    shots = max(1, min(10, smallest - queries))
    return EpisodeSampler(
        table,
        ways=(3, ways),
        shots=(1, shots),
        queries=queries,
        seed=random_bits(seed, "calibration") >> 1,
        episodes=EPISODES,
    )


def leave_last_class_out(batch: EpisodeBatch) -> tuple[EpisodeBatch, npt.NDArray[np.bool_]]:
    """The same episodes without the support of their last class, and which (T, Q) queries belong to it."""
    last = batch.n_way[:, None] - 1
    left_out = batch.support_labels == last
    outsiders = (batch.query_labels == last) & batch.query_mask
    smaller = dataclasses.replace(
        batch,
        n_way=batch.n_way - 1,
        class_ids=np.where(np.arange(batch.class_ids.shape[1]) < last, batch.class_ids, -1)[:, :-1],
        support=np.where(left_out, -1, batch.support),
        support_labels=np.where(left_out, -1, batch.support_labels),
        query_labels=np.where(outsiders, -2, batch.query_labels),
    )
    return smaller, outsiders


def calibrate(
    embeddings: Embeddings, table: ImageTable, statistics: Statistics | None, seed: int
) -> dict[str, dict[str, Any]]:
    """For every inductive classifier: temperature, calibration error before and after, quantiles of outsiders' confidence.

    The temperature is fitted on the first half of the episodes; errors are those of the second half. Empty where the
    validation classes are too few or too small.

    Args:
        embeddings: of the rows of `table`.
        table: the validation classes.
        statistics: of the training classes; classifiers that need them are left out without.
        seed: of the episodes.
    """
    readable = np.flatnonzero(embeddings.readable.numpy())
    table = table.select_rows(readable)
    rows = torch.from_numpy(readable)
    embeddings = Embeddings(embeddings.features[rows], embeddings.readable[rows], {}, embeddings.computed)
    sampler = mixed_episodes(table, seed)
    if sampler is None:
        return {}
    halves = [leave_last_class_out(sampler.batch(*part)) for part in ((0, EPISODES // 2), (EPISODES // 2, EPISODES))]
    found = {}
    for name in INDUCTIVE:
        if statistics is not None or name not in ("simpleshot", "gda"):
            found[name] = _calibrate_one(build_classifier(name, statistics=statistics), embeddings, halves)
    return found


def _calibrate_one(
    classifier: Classifier, embeddings: Embeddings, halves: list[tuple[EpisodeBatch, npt.NDArray[np.bool_]]]
) -> dict[str, Any]:
    scorer = FeatureScorer(embeddings, classifier)
    (first, _), (second, outsiders) = halves
    temperature = fit_temperature(*stack_log_probabilities([(scorer(first), first.query_labels)]))
    scores = scorer(second).astype(np.float64)
    table, truth = stack_log_probabilities([(scores, second.query_labels)])
    outside = np.exp(apply_temperature(scores[outsiders & ~np.isnan(scores).any(-1)], temperature)).max(-1)
    return {
        "temperature": temperature,
        "ece_before": _error(table, truth, 1.0),
        "ece_after": _error(table, truth, temperature),
        "outsiders": len(outside),
        "outsider_confidence": np.quantile(outside, np.linspace(0, 1, QUANTILES + 1), method="higher").tolist(),
    }


def _error(table: Floats, truth: npt.NDArray[np.int64], temperature: float) -> float:
    """Expected calibration error of log-probabilities (M, N) under a temperature."""
    scaled = apply_temperature(table, temperature)
    return reliability(np.exp(scaled.max(-1)), scaled.argmax(-1) == truth).error
