"""A world of Gaussian classes whose truth is known, and benchmarks drawn from it: tables and embeddings without pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from episodes import EpisodeSampler, ImageTable, Results, evaluate
from fewshot import Embeddings, FeatureScorer, build_classifier

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """Classes of features: C centres that lie in groups, as kinds of things do, each with a spread of its own.

    Attributes:
        centres: (C, D).
        spreads: (C,) standard deviation of a class's pictures in every direction.
    """

    centres: Floats
    spreads: Floats

    @classmethod
    def of(cls, generator: np.random.Generator, classes: int = 1500, width: int = 24, groups: int = 30) -> World:
        """Draw one."""
        kinds = 0.8 * generator.normal(size=(groups, width))
        own = 0.7 * generator.normal(size=(classes, width))
        spreads = 1.3 * np.exp(0.35 * generator.normal(size=classes))
        return cls(kinds[generator.integers(0, groups, classes)] + own, spreads)

    def benchmark(self, generator: np.random.Generator, classes: int, pictures: int) -> tuple[ImageTable, Embeddings]:
        """Pictures of some of the classes, drawn without repeating one."""
        chosen = generator.choice(len(self.centres), classes, replace=False)
        noise = generator.normal(size=(classes, pictures, self.centres.shape[1]))
        points = self.centres[chosen, None] + self.spreads[chosen, None, None] * noise
        return table_of(np.repeat(np.arange(classes), pictures)), embeddings_of(points.reshape(-1, points.shape[-1]))


def table_of(labels: npt.NDArray[Any]) -> ImageTable:
    """A table of pictures that are none: only their classes (n,) matter."""
    names = tuple(f"class{number}" for number in range(int(labels.max()) + 1))
    return ImageTable(list(range(len(labels))), labels.astype(np.int32), names)


def embeddings_of(points: npt.NDArray[Any]) -> Embeddings:
    """Points (n, D) as embeddings of unit norm."""
    features = torch.nn.functional.normalize(torch.from_numpy(points).float(), dim=1)
    return Embeddings(features, torch.ones(len(points), dtype=torch.bool), {}, len(points))


def accuracy(
    table: ImageTable, embeddings: Embeddings, *, shots: int, episodes: int, seed: int, ways: int = 5, queries: int = 15
) -> Results:
    """What `fewshot evaluate` finds: prototypes on sampled episodes."""
    sampler = EpisodeSampler(table, ways=ways, shots=shots, queries=queries, episodes=episodes, seed=seed)
    return evaluate(sampler, FeatureScorer(embeddings, build_classifier("prototype")))
