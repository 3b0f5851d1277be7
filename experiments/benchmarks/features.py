"""10,000 5-way 5-shot 15-query episodes on stored 512-d features, against easyfsl's evaluate and scikit-learn's NearestCentroid."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from easyfsl.datasets import FeaturesDataset
from easyfsl.methods import PrototypicalNetworks, SimpleShot
from easyfsl.samplers import TaskSampler
from easyfsl.utils import evaluate as easyfsl_evaluate
from sklearn.neighbors import NearestCentroid
from torch import Tensor
from torch.utils.data import DataLoader

from episodes import EpisodeSampler, evaluate
from experiments.benchmarks.inputs import features, rows_by_class
from experiments.benchmarks.measure import Row, Side, in_turn, quotients
from fewshot import Embeddings, FeatureScorer
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.tasks import TaskBatch

_EASYFSL = {"SimpleShot": SimpleShot, "ProtoNet": PrototypicalNetworks}


class GivenTasks(TaskSampler):  # type: ignore[misc]
    """easyfsl's sampler with tasks that are already drawn, so that both sides see the same ones.

    Its own constructor calls torch's with an argument that torch no longer takes; that is all that is left out.
    """

    def __init__(self, rows: list[list[int]], shots: int, queries: int, ways: int) -> None:
        self._rows = rows
        self.n_way, self.n_shot, self.n_query, self.n_tasks = ways, shots, queries, len(rows)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._rows)


class Contract:
    """A classifier that shows nothing but the contract, so that no path of its own is taken."""

    transductive = False

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See `Classifier`."""
        return self._classifier(tasks)


def run(scratch: Path, quick: bool) -> list[Row]:
    """Ours with the prototype's own path and through the contract, all on the same episodes.

    easyfsl compares with prototypes by the cosine under the name SimpleShot, by the distance as PrototypicalNetworks.
    """
    count, rounds = (500, 3) if quick else (10_000, 3)
    stored, table = features(20, 600)
    embeddings = Embeddings(stored, torch.ones(len(stored), dtype=torch.bool), {}, 0)
    sampler = EpisodeSampler(table, ways=5, shots=5, queries=15, episodes=count)
    ours: dict[str, Classifier] = {
        "prototype": Prototype(),
        "prototype through the contract": Contract(Prototype()),
        "Euclidean prototype through the contract": Contract(Prototype(metric="euclidean")),
    }
    scorers = {name: FeatureScorer(embeddings, classifier) for name, classifier in ours.items()}
    theirs = {name: method(torch.nn.Identity()) for name, method in _EASYFSL.items()}
    tasks = GivenTasks([rows_by_class(episode) for episode in sampler], 5, 15, 5)
    data = FeaturesDataset(table.labels.tolist(), stored, list(table.class_names))
    loader = DataLoader(data, batch_sampler=tasks, collate_fn=tasks.episodic_collate_fn)
    accuracy: dict[str, float] = {}

    def score(name: str) -> None:
        accuracy[name] = evaluate(sampler, scorers[name]).mean

    def easyfsl(name: str) -> None:
        accuracy[name] = easyfsl_evaluate(theirs[name], loader, device="cpu", use_tqdm=False)

    sides: dict[str, Side] = {name: partial(score, name) for name in ours}
    sides |= {name: partial(easyfsl, name) for name in theirs}
    sides["sklearn"] = lambda: _nearest_centroid(sampler, stored.numpy(), count // 10)
    seconds = in_turn(sides, rounds, warm_up=quick)
    rows = []
    for (name, bar), other in zip(
        zip(ours, (20.0, 8.0, None), strict=True), ("SimpleShot", "SimpleShot", "ProtoNet"), strict=True
    ):
        if abs(accuracy[name] - accuracy[other]) > 1e-6:
            raise RuntimeError(f"accuracies differ: {accuracy}")
        rows.append(
            Row(f"{count:,} episodes on stored features, {name}", seconds[name], seconds[other], "s", f"easyfsl {other}",
                quotients(seconds[other], seconds[name]), bar, note=f"accuracy {accuracy[name]:.7f} and {accuracy[other]:.7f}")
        )  # fmt: skip
    tenth = [10 * value for value in seconds["sklearn"]]
    name = "Euclidean prototype through the contract"
    return [
        *rows,
        Row(f"{count:,} episodes on stored features, {name}", seconds[name], tenth, "s", "NearestCentroid, from a tenth",
            quotients(tenth, seconds[name]), note="scikit-learn fits and predicts task by task"),
    ]  # fmt: skip


def _nearest_centroid(sampler: EpisodeSampler, stored: npt.NDArray[Any], count: int) -> float:
    right = []
    for episode in sampler[:count]:
        fitted = NearestCentroid().fit(stored[episode.support], episode.support_labels)
        right.append((fitted.predict(stored[episode.query]) == episode.query_labels).mean())
    return float(np.mean(right))
