"""Scoring of gathered features: the prototype's own path, the contract, padding and unreadable pictures, against a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from episodes import Episode, EpisodeSampler, ImageTable, evaluate, stack_episodes
from fewshot.classifiers import scoring
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.embedding.embed import Embeddings


class Contract:
    """The prototype classifier seen through the contract alone."""

    transductive = False

    def __init__(self, **settings: Any) -> None:
        self._classifier = Prototype(**settings)

    def __call__(self, *arguments: Any) -> Tensor:
        return self._classifier(*arguments)


@pytest.fixture
def table() -> ImageTable:
    return ImageTable(range(200), np.arange(200, dtype=np.int32) % 8, tuple("abcdefgh"))


@pytest.fixture
def embeddings() -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 16, generator=generator) + 0.5 * torch.randn(8, 16, generator=generator).repeat(25, 1)
    return Embeddings(torch.nn.functional.normalize(features, dim=-1), torch.ones(200, dtype=torch.bool), {}, 0)


def plain(episode: Episode, embeddings: Embeddings) -> np.ndarray:
    """(Q, N) log-probabilities, class by class and picture by picture."""
    features, readable = embeddings.features.double().numpy(), embeddings.readable.numpy()
    scores = np.full((len(episode.query), len(episode.class_names)), -np.inf)
    for label in range(len(episode.class_names)):
        rows = [r for r, c in zip(episode.support, episode.support_labels, strict=True) if c == label and readable[r]]
        if rows:
            prototype = features[rows].mean(0)
            prototype /= np.linalg.norm(prototype)
            scores[:, label] = [10 * features[row] @ prototype for row in episode.query]
    top = scores.max(1, keepdims=True)
    scores = scores - top - np.log(np.exp(scores - top).sum(1, keepdims=True))
    scores[~readable[episode.query]] = np.nan
    return scores


@pytest.mark.parametrize("part", [1 << 10, 1 << 14, 1 << 30])
@pytest.mark.parametrize("settings", [{}, {"shots": (1, 4)}, {"ways": (2, 6)}, {"query_balance": 0.5}])
@pytest.mark.parametrize("classifier", [Prototype(), Contract()])
def test_scores_are_those_of_a_plain_loop(
    table: ImageTable,
    embeddings: Embeddings,
    settings: dict[str, Any],
    classifier: Any,
    part: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "_PART_BYTES", part)
    sampler = EpisodeSampler(table, **{"ways": 5, "shots": 3, "queries": 4, "episodes": 12, **settings})
    scores = FeatureScorer(embeddings, classifier)(sampler.batch(0, 12))
    for i, episode in enumerate(sampler):
        expected = plain(episode, embeddings)
        assert np.allclose(scores[i, : len(expected), : expected.shape[1]], expected, atol=1e-5)


def test_support_in_any_order(table: ImageTable, embeddings: Embeddings) -> None:
    """The prototype's own path takes classes in order only; others must not be mistaken for that."""
    episode = EpisodeSampler(table, ways=3, shots=2, queries=2, episodes=1)[0]
    order = np.array([0, 2, 1, 4, 3, 5])
    mixed = Episode("mixed", episode.class_names, episode.support[order], episode.support_labels[order], episode.query)
    got = FeatureScorer(embeddings, Prototype())(stack_episodes([mixed]))[0]
    assert np.allclose(got, plain(mixed, embeddings), atol=1e-5)


@pytest.mark.parametrize("classifier", [Prototype(shots_exponent=0), Contract(shots_exponent=0)])
def test_unreadable_pictures(table: ImageTable, embeddings: Embeddings, classifier: Any) -> None:
    sampler = EpisodeSampler(table, ways=5, shots=2, queries=4, episodes=20)
    for row in (
        *sampler[0].support[:2],
        sampler[1].support[3],
        sampler[2].query[5],
    ):  # a whole class, and two single ones
        embeddings.readable[row] = False
        embeddings.features[row] = 0
    scores = FeatureScorer(embeddings, classifier)(sampler.batch(0, 20))
    for i, episode in enumerate(sampler):
        assert np.allclose(scores[i], plain(episode, embeddings), atol=1e-5, equal_nan=True)
    assert evaluate(sampler, FeatureScorer(embeddings, classifier)).unanswered > 0
