"""Few-shot accuracy of encoders and classifiers over class folders or task directories, from one embedding pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from episodes import (
    Episode,
    EpisodeSampler,
    ImageTable,
    PairedDifference,
    Results,
    Score,
    evaluate,
    paired_difference,
    read_class_folders,
    read_task_directory,
)
from episodes.errors import DataError, UsageError
from episodes.ranges import IntRange, parse_range, range_text, upper
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.kinds import Calibration
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.embedding.embed import Embeddings


@dataclass(frozen=True, eq=False)
class EvaluationRow:
    """One line of an evaluation: what was measured, over what, and the result.

    Attributes:
        ways, shots, queries: None where they differ between the tasks of a directory; ways and shots are such as "5-20"
            where each episode draws its own.
        checkpoint: None is the untouched encoder.
        seed: None where tasks were read from a directory.
    """

    classifier: str
    backbone: str
    checkpoint: str | None
    ways: int | str | None
    shots: int | str | None
    queries: int | None
    episodes: int
    seed: int | None
    results: Results

    @property
    def encoder(self) -> str:
        """The encoder's name in tables."""
        return self.checkpoint or f"untouched {self.backbone}"

    @property
    def document(self) -> dict[str, Any]:
        """The row of `fewshot evaluate --json`."""
        kept = {key: value for key, value in vars(self).items() if key != "results"}
        low, high = self.results.new_classes
        return {
            **kept,
            "accuracy": self.results.mean,
            "ci95": self.results.ci95,
            "new_classes_low": low,
            "new_classes_high": high,
        }


@dataclass(frozen=True, eq=False)
class EpisodeSet:
    """Episodes of one kind over the rows of one table."""

    episodes: Sequence[Episode]
    ways: int | str | None
    shots: int | str | None
    queries: int | None
    seed: int | None


def is_task_directory(root: str | Path) -> bool:
    """Whether `root` holds tasks (support/ and query/ folders) rather than class folders."""
    top = os.fspath(root)
    try:
        places = [top, os.path.join(top, "testB"), *(os.path.join(top, name) for name in os.listdir(top))]
    except OSError:
        return False
    # os.path.isdir says no of a folder that may not be entered, where Path.is_dir raises
    parts = (os.path.join(place, part) for place in places for part in ("support", "query"))
    return os.path.isdir(places[1]) or any(map(os.path.isdir, parts))


def read_episode_sets(
    root: str | Path,
    *,
    ways: Sequence[IntRange] = (5,),
    shots: Sequence[IntRange] = (1, 5),
    queries: int = 15,
    episodes: int = 600,
    seed: int = 0,
    nested: bool = False,
    shots_per_class: bool = False,
    query_balance: float | None = None,
) -> tuple[ImageTable, list[EpisodeSet]]:
    """The episodes to evaluate on: sampled from class folders, or read from tasks with a truth.csv.

    `ways` and `shots` are numbers or ranges, such as "5-20". All settings share `max_shots`, so that shots nest and queries
    stay the same. For tasks the settings of sampling have no effect. `query_balance` is the concentration of a Dirichlet
    distribution over the classes that divides the queries; None gives each class the same number.

    Raises:
        DataError: the folder cannot be used, classes are too small, or tasks have no truth.csv.
        UsageError: a number or range of ways or shots is none.
    """
    all_ways, all_shots = [parse_range(way, "ways") for way in ways], [parse_range(shot, "shots") for shot in shots]
    if is_task_directory(root):
        table, tasks = read_task_directory(root)
        if all(task.query_labels is None for task in tasks):
            raise DataError(
                f"{os.fspath(root)}: holds tasks, but no truth.csv (task,image,label) to measure against. Put one beside "
                "testB, or use fewshot predict"
            )
        return table, [_from_tasks(tasks)]
    table = read_class_folders(root, nested=nested)
    sets = []
    for way in all_ways:
        for shot in all_shots:
            sampler = EpisodeSampler(
                table,
                ways=way,
                shots=shot,
                queries=queries,
                seed=seed,
                episodes=episodes,
                max_shots=max(map(upper, all_shots)),
                shots_per_class=shots_per_class,
                query_balance=query_balance,
            )
            sets.append(EpisodeSet(sampler, _shown(way), _shown(shot), queries, seed))
    return table, sets


def _shown(value: int | tuple[int, int]) -> int | str:
    return value if isinstance(value, int) else range_text(value)


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
    class_text: dict[str, Tensor] | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    adapt: Callable[[Embeddings, Callable[[Embeddings], Score]], Mapping[str, Score]] | None = None,
    device: Any = "cpu",
) -> list[EvaluationRow]:
    """A row for every classifier and set, in that order, all from the same embeddings.

    Calibrations by classifier name give the confidences of `predict`; those of other names stay as they are. `adapt` makes
    further scores, by name, from the embeddings and from what classifies; each gets rows of its own, such as
    "prototype+blocks".
    """
    rows = []
    for name, classifier in classifiers.items():

        def plain(found: Embeddings, name: str = name, classifier: Classifier = classifier) -> Score:
            known = (calibrations or {}).get(name)
            return FeatureScorer(found, classifier, class_text=class_text, calibration=known, device=device)

        scores = {name: plain(embeddings)}
        if adapt is not None:
            scores |= {f"{name}+{part}": score for part, score in adapt(embeddings, plain).items()}
        for called, score in scores.items():
            rows += rows_of(called, score, sets, backbone, checkpoint)
    return rows


def rows_of(
    name: str, score: Score, sets: Sequence[EpisodeSet], backbone: str, checkpoint: str | None
) -> list[EvaluationRow]:
    """A row for every set, of one way to name queries."""
    rows = []
    for group in sets:
        sizes = (group.ways, group.shots, group.queries, len(group.episodes), group.seed)
        rows.append(EvaluationRow(name, backbone, checkpoint, *sizes, evaluate(group.episodes, score)))
    return rows


@dataclass(frozen=True, eq=False)
class Comparison:
    """B against A on the same episodes: a positive difference means that A is better."""

    first: EvaluationRow
    second: EvaluationRow
    difference: PairedDifference

    @property
    def document(self) -> dict[str, Any]:
        """The comparison as `fewshot evaluate --json` gives it."""
        return {
            "compare": [[row.encoder, row.classifier] for row in (self.first, self.second)],
            "ways": self.first.ways,
            "shots": self.first.shots,
            "difference": self.difference.mean,
            "ci95": self.difference.ci95,
            "ci95_new_classes": self.difference.ci95_new_classes,
            "episodes": self.difference.episodes,
            "episodes_needed": self.difference.episodes_needed,
        }


def compare(rows: Sequence[EvaluationRow], first: str, second: str) -> list[Comparison]:
    """Pair the rows of two classifiers, or of two encoders, setting by setting.

    Args:
        rows: of one evaluation.
        first: classifier names, checkpoint paths, or "untouched".
        second: what the first is compared with, named likewise.

    Raises:
        UsageError: one of them is not among the rows, or they name the same rows.
    """
    first, second = (str(Path(name)) if os.path.isdir(name) else name for name in (first, second))

    def named(name: str) -> list[EvaluationRow]:
        found = [r for r in rows if name in (r.classifier, r.checkpoint) or (name == "untouched" and not r.checkpoint)]
        if not found:
            known = sorted({r.classifier for r in rows} | {r.checkpoint or "untouched" for r in rows})
            raise UsageError(f"--compare {name!r}: not among what was evaluated: {', '.join(known)}")
        return found

    def setting(row: EvaluationRow) -> tuple[object, ...]:
        same = (row.ways, row.shots, row.queries)
        by_classifier = first in {r.classifier for r in rows}
        return (*same, row.encoder) if by_classifier else (*same, row.classifier)

    ours, theirs = named(first), named(second)
    if "untouched" in (first, second):  # of the backbone that it is compared with, where there are several
        known = {row.backbone for row in (theirs if first == "untouched" else ours)}
        ours, theirs = ([row for row in side if row.backbone in known] for side in (ours, theirs))
    others = {setting(row): row for row in theirs}
    pairs = [(row, others[setting(row)]) for row in ours if setting(row) in others]
    if not pairs or any(a is b for a, b in pairs):
        raise UsageError(f"--compare {first!r} {second!r}: give two classifiers, or two encoders, that differ")
    return [Comparison(a, b, paired_difference(a.results, b.results)) for a, b in pairs]
