"""A finished run, and the untouched encoder, on data that chose nothing: the same seeded episodes for all, accuracy by episode.

n pictures, D embedding width, E episodes. What a measurement gives lies in the run's folder by the hash of what it depends on, so
that none is made twice. Only pictures that are in an episode are embedded, and of those only what lies behind the frozen blocks is
computed anew for each run: their hidden states are shared.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from episodes import Episode, ImageTable, Score, evaluate
from episodes.files import atomic_write
from experiments.engine.ablation import OWN, Measure
from experiments.engine.identity import RESULTS_VERSION, data_fingerprint, digest_of
from experiments.engine.plan import PlannedRun
from experiments.engine.weights import Weights, of_run, of_untouched
from fewshot.adaptation.meta import score_of
from fewshot.classifiers import NEEDS_STATISTICS, build_classifier
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings, embed_images
from fewshot.evaluation import EpisodeSet, read_episode_sets
from fewshot.training.data import default_workers, read_split
from fewshot.training.hidden_state_cache import HiddenStateCache
from fewshot.training.validation import Purpose, Validation

MEASURED, VALIDATION = "measured", "validation"


@dataclass(frozen=True)
class TestPlan:
    """What finished runs are measured on.

    Attributes:
        folders: Class folders, or directories of tasks with their truth; none stands for the runs' own validation pictures.
        episodes: Of each kind, from class folders.
        ways, shots, queries: Of these episodes.
        seed: Of these episodes, the same for every run.
    """

    folders: tuple[Path, ...] = ()
    episodes: int = 600
    ways: int = 5
    shots: tuple[int, ...] = (1, 5)
    queries: int = 15
    seed: int = 0

    __test__ = False  # pytest: this is no test


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Pictures and the episodes over them.

    Attributes:
        folder: Where they lie; None for a run's validation pictures.
        key: All that the episodes depend on.
        table: The pictures.
        groups: Episodes of one kind each.
    """

    folder: Path | None
    key: str
    table: ImageTable
    groups: list[EpisodeSet]


def evaluation_sets(tests: TestPlan, config: TrainConfig) -> Iterator[EvaluationSet]:
    """What a run is measured on, one after the other.

    Args:
        tests: The plan.
        config: Of the run, for its validation pictures where the plan has no folders.

    Yields:
        The sets.
    """
    if not tests.folders:
        yield _validation_set(config)
    for folder in tests.folders:
        yield _test_set(folder, tests, config.nested)


@lru_cache(maxsize=16)
def _test_set(folder: Path, tests: TestPlan, nested: bool) -> EvaluationSet:
    table, groups = read_episode_sets(
        folder,
        ways=(tests.ways,),
        shots=tests.shots,
        queries=tests.queries,
        episodes=tests.episodes,
        seed=tests.seed,
        nested=nested,
    )
    settings = [tests.ways, tests.shots, tests.queries, tests.episodes, tests.seed, nested]
    return EvaluationSet(folder, digest_of([data_fingerprint(folder), settings]), table, groups)


def _validation_set(config: TrainConfig) -> EvaluationSet:
    """The pictures that select within a run, in episodes that the choice of the mix did not see."""
    split = read_split(config, Console(quiet=True, stream=io.StringIO()))  # training has said all that there is to say
    validation = Validation(split.validation, config, 0, None)
    episodes = validation.episodes(Purpose.DECIDE)
    table = validation.table
    group = EpisodeSet(episodes, validation.ways, validation.shots, validation.queries, config.seed)
    data = data_fingerprint(config.val_data or config.train_data)
    names = [table.image_name(row) for row in range(len(table))]
    settings = [validation.ways, validation.shots, validation.queries, config.val_episodes, config.seed]
    return EvaluationSet(None, digest_of([data, names, settings]), table, [group])


def measured_path(folder: Path, measure: Measure, evaluated: EvaluationSet) -> Path:
    """Where a measurement lies.

    Args:
        folder: Of the run.
        measure: How it is measured.
        evaluated: On what.

    Returns:
        The JSON file's path.
    """
    key = digest_of({"version": RESULTS_VERSION, "measure": measure.to_json(), "on": evaluated.key})
    return folder / MEASURED / f"{key}.json"


def untouched_folder(run: PlannedRun) -> Path:
    """Where the measurements of a run's untouched encoder lie, beside the runs.

    Args:
        run: The run.

    Returns:
        The folder, by what the encoder's embeddings depend on.
    """
    config = run.config
    key = digest_of([config.backbone, config.embed_views, config.precision, config.device])
    return run.folder.parent / f"untouched-{key}"


def measure_run(run: PlannedRun, measures: Mapping[str, Measure], tests: TestPlan, console: Console) -> None:
    """Measure a finished run wherever it was not measured yet.

    Args:
        run: Finished.
        measures: How.
        tests: On what.
        console: Tells what is done.
    """
    _measure(run, run.folder, of_run, list(measures.values()), tests, console)


def measure_untouched(run: PlannedRun, measures: Mapping[str, Measure], tests: TestPlan, console: Console) -> None:
    """The same for the untouched encoder of a run.

    Args:
        run: Finished or not.
        measures: How; what has no counterpart for an untouched encoder is left out.
        tests: On what.
        console: Tells what is done.
    """
    wanted = list(dict.fromkeys(m.of_untouched for m in measures.values() if m.of_untouched is not None))
    _measure(run, untouched_folder(run), of_untouched, wanted, tests, console)


def _measure(
    run: PlannedRun, folder: Path, load: Any, measures: list[Measure], tests: TestPlan, console: Console
) -> None:
    weights: Weights | None = None
    for evaluated in evaluation_sets(tests, run.config):
        missing = [m for m in measures if not measured_path(folder, m, evaluated).is_file()]
        if not missing:
            continue
        weights = weights or load(run)
        embedded: dict[float | None, Embeddings] = {}
        for measure in missing:
            if measure.alpha not in embedded:
                with console.bar(f"measuring on {evaluated.folder or VALIDATION}"):
                    embedded[measure.alpha] = embed(run.config, weights, measure.alpha, evaluated)
            rows = _rows(run.config, weights, measure, evaluated, embedded[measure.alpha])
            path = measured_path(folder, measure, evaluated)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                json.dump(rows, file)


def embed(config: TrainConfig, weights: Weights, alpha: float | None, evaluated: EvaluationSet) -> Embeddings:
    """(n, D) embeddings of the pictures that are in an episode; the others' rows are zero and count as unread.

    Args:
        config: Of the run.
        weights: Its encoder's.
        alpha: Which mix of old and tuned weights; None for the kept ones.
        evaluated: Pictures and episodes.

    Returns:
        What the episodes are scored by.
    """
    table = evaluated.table
    used = np.unique(np.concatenate([_rows_of(episode) for group in evaluated.groups for episode in group.episodes]))
    part = table.select_rows(used)
    encoder, workers = weights.encoder(alpha), default_workers(config.workers)
    hidden = None
    if weights.tuned:
        cache = HiddenStateCache(config, weights.untouched(), workers, weights.folder, Console(quiet=True))
        hidden = cache.of_plain(part)
    if hidden is not None:
        found = hidden.embed(encoder, config.precision)
        cache.clean()
    else:
        kept = None if weights.tuned or config.no_cache else EmbeddingCache()
        found = embed_images(encoder, part.items, precision=config.precision, workers=workers or None, cache=kept)
    features = torch.zeros(len(table), found.features.shape[1])
    readable = torch.zeros(len(table), dtype=torch.bool)
    features[used], readable[used] = found.features, found.readable
    return Embeddings(features, readable, {int(used[row]): why for row, why in found.problems.items()}, found.computed)


def _rows_of(episode: Episode) -> Any:
    return np.concatenate([episode.support, episode.query])


def _rows(
    config: TrainConfig, weights: Weights, measure: Measure, evaluated: EvaluationSet, found: Embeddings
) -> list[dict[str, Any]]:
    """Accuracy by episode, for each kind of episodes."""
    if measure.features == "residual":
        features = F.normalize(weights.residual(found.features), dim=-1) * found.readable.unsqueeze(1)
        found = Embeddings(features, found.readable, found.problems, found.computed)
    own = weights.own_method() if measure.classifier == OWN else None
    score: Score
    if own is not None:
        score = score_of(*own, weights.encoder(measure.alpha), evaluated.table, found, precision=config.precision)
    else:
        name = "prototype" if measure.classifier == OWN else measure.classifier
        needed = name in NEEDS_STATISTICS
        classifier = build_classifier(name, statistics=weights.statistics(measure.alpha) if needed else None)
        score = FeatureScorer(found, classifier, device=weights.device)
    rows = []
    for group in evaluated.groups:
        accuracy = evaluate(group.episodes, score).accuracy
        kind = {"ways": group.ways, "shots": group.shots, "queries": group.queries}
        rows.append({**kind, "accuracy": [None if value != value else float(value) for value in accuracy]})
    return rows
