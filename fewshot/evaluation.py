"""Few-shot accuracy of encoders and classifiers over class folders or task directories: one embedding pass, any number of rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes import Episode, EpisodeSampler, ImageTable, Results, evaluate, read_class_folders, read_task_directory
from episodes.errors import DataError
from fewshot.classifiers.base import Classifier
from fewshot.embeddings import Embeddings
from fewshot.scoring import FeatureScorer


@dataclass(frozen=True, eq=False)
class EvaluationRow:
    """One line of an evaluation: what was measured, over what, and the result.

    Attributes:
        ways, shots, queries: None where they differ between the tasks of a directory.
        checkpoint: None is the untouched encoder.
        seed: None where tasks were read from a directory.
    """

    classifier: str
    backbone: str
    checkpoint: str | None
    ways: int | None
    shots: int | None
    queries: int | None
    episodes: int
    seed: int | None
    results: Results

    @property
    def document(self) -> dict[str, Any]:
        """The row of `fewshot evaluate --json`."""
        kept = {key: value for key, value in vars(self).items() if key != "results"}
        return {**kept, "accuracy": self.results.mean, "ci95": self.results.ci95}


@dataclass(frozen=True, eq=False)
class EpisodeSet:
    """Episodes of one kind over the rows of one table."""

    episodes: Sequence[Episode]
    ways: int | None
    shots: int | None
    queries: int | None
    seed: int | None


def is_task_directory(root: str | Path) -> bool:
    """Whether `root` holds tasks (support/ and query/ folders) rather than class folders."""
    top = Path(root)
    places = [top, top / "testB"]
    try:
        places += [entry for entry in top.iterdir() if entry.is_dir()]
    except OSError:
        return False
    return (
        any((place / "support").is_dir() or (place / "query").is_dir() for place in places) or (top / "testB").is_dir()
    )


def read_episode_sets(
    root: str | Path,
    *,
    ways: Sequence[int] = (5,),
    shots: Sequence[int] = (1, 5),
    queries: int = 15,
    episodes: int = 600,
    seed: int = 0,
    nested: bool = False,
) -> tuple[ImageTable, list[EpisodeSet]]:
    """The episodes to evaluate on: sampled from class folders, or read from tasks with a truth.csv.

    All settings of ways and shots share `max_shots`, so that shots nest and queries stay the same. For tasks the settings of
    sampling are not looked at.

    Raises:
        DataError: the folder cannot be used, classes are too small, or tasks have no truth.csv.
    """
    if is_task_directory(root):
        table, tasks = read_task_directory(root)
        if all(task.query_labels is None for task in tasks):
            raise DataError(
                f"{os.fspath(root)}: holds tasks, but no truth.csv (task,image,label) to measure against. Put one beside testB, or use "
                "fewshot predict"
            )
        return table, [_from_tasks(tasks)]
    table = read_class_folders(root, nested=nested)
    sets = []
    for way in ways:
        for shot in shots:
            sampler = EpisodeSampler(
                table, ways=way, shots=shot, queries=queries, seed=seed, episodes=episodes, max_shots=max(shots)
            )
            sets.append(EpisodeSet(sampler, way, shot, queries, seed))
    return table, sets


def _from_tasks(tasks: list[Episode]) -> EpisodeSet:
    def same(values: set[float]) -> int | None:
        value = values.pop() if len(values) == 1 else None
        return int(value) if value is not None and value == int(value) else None

    ways = same({len(task.class_names) for task in tasks})
    shots = same({len(task.support) / len(task.class_names) for task in tasks if task.class_names})
    queries = same({len(task.query) / len(task.class_names) for task in tasks if task.class_names})
    return EpisodeSet(tasks, ways, shots, queries, None)


def evaluate_sets(
    sets: Sequence[EpisodeSet],
    embeddings: Embeddings,
    classifiers: Mapping[str, Classifier],
    *,
    backbone: str,
    checkpoint: str | None = None,
    device: Any = "cpu",
) -> list[EvaluationRow]:
    """A row for every classifier and set, in that order, all from the same embeddings."""
    return [
        EvaluationRow(
            name,
            backbone,
            checkpoint,
            group.ways,
            group.shots,
            group.queries,
            len(group.episodes),
            group.seed,
            evaluate(group.episodes, FeatureScorer(embeddings, classifier, device=device)),
        )
        for name, classifier in classifiers.items()
        for group in sets
    ]
