"""The results of an ablation as tidy tables: a row for each run, evaluation set, shot and seed, and every episode beside it.

results     a row a run x set x shots x seed: accuracy, interval, costs, what validation said, the configuration
episodes    every accuracy behind it, so that anything can be paired later
curves      validation accuracy, loss and the prototypical loss's share of the gradient by epoch
comparisons paired differences with both sources of spread, Holm's correction
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from episodes import mean_interval
from episodes.errors import DataError
from episodes.files import atomic_write
from experiments.engine.ablation import Ablation, Measure, condition
from experiments.engine.execute import Outcome
from experiments.engine.measure import (
    VALIDATION,
    EvaluationSet,
    TestPlan,
    evaluation_sets,
    measured_path,
    untouched_folder,
)
from experiments.engine.pairing import compare_all
from experiments.engine.plan import PlannedRun
from experiments.engine.run_columns import about_run, curves

UNTOUCHED = "untouched"
TABLES = ("results", "episodes", "curves", "comparisons")
NOTE = "ablation.json"
#: Columns that no two runs of the same settings share.
TIMINGS = ("seconds", "wall_seconds", "peak_memory_mb", "peak_gpu_memory_mb")


@dataclass(frozen=True, eq=False)
class Findings:
    """What an ablation came to.

    Attributes:
        results, episodes, curves, comparisons: As the module says.
        note: Question, conditions, failed runs, and what was measured on.
    """

    results: pd.DataFrame
    episodes: pd.DataFrame
    curves: pd.DataFrame
    comparisons: pd.DataFrame
    note: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Every table as Parquet and CSV, and the note.

        Args:
            folder: Made where it is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            table: pd.DataFrame = getattr(self, name)
            with atomic_write(folder / f"{name}.csv") as file:
                file.write(table.to_csv(index=False, lineterminator="\n"))
            beside = folder / f".{name}.{os.getpid()}.parquet.tmp"
            table.to_parquet(beside, index=False)
            os.replace(beside, folder / f"{name}.parquet")
        with atomic_write(folder / NOTE) as file:
            json.dump(self.note, file, indent=2, ensure_ascii=False)


def read_findings(folder: Path) -> Findings:
    """What `Findings.write` wrote.

    Args:
        folder: Of the ablation.

    Raises:
        DataError: It holds none.
    """
    try:
        tables = [pd.read_parquet(folder / f"{name}.parquet") for name in TABLES]
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder}: holds no ablation ({error.filename} is missing); expected a folder that 'python -m experiments run' made"
        ) from error
    return Findings(tables[0], tables[1], tables[2], tables[3], note)


def collect(ablation: Ablation, outcomes: Sequence[Outcome], tests: TestPlan) -> Findings:
    """Put together what finished runs and their untouched encoders measured.

    Args:
        ablation: The question.
        outcomes: What became of its runs.
        tests: What they were measured on.

    Raises:
        DataError: No run is finished.
    """
    finished = [outcome.run for outcome in outcomes if outcome.status != "failed"]
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if not finished:
        first = f": {failed[0].run.title}: {failed[0].error}" if failed else ""
        raise DataError(f"{ablation.name}: all {len(failed)} runs failed{first}")
    rows, episodes = _measured(ablation, finished, tests)
    conditions = [condition(name, m) for name in dict.fromkeys(r.name for r in finished) for m in ablation.measures]
    untouched = list(dict.fromkeys(row["condition"] for row in rows if row["run"] == UNTOUCHED))
    note = {
        "ablation": ablation.name,
        "question": ablation.question,
        "conditions": conditions,
        "untouched": untouched,
        "pairs": ablation.pairs(conditions)
        if ablation.compare is None or not failed
        else _pairs_left(ablation, conditions),
        "against_untouched": _against_untouched(rows),
        "seeds": sorted({run.seed for run in finished}),
        "sets": list(dict.fromkeys(row["set"] for row in rows)),
        "tested": bool(tests.folders),
        "test_data": [str(folder) for folder in tests.folders],
        "failed": [
            {"run": o.run.name, "seed": o.run.seed, "folder": str(o.run.folder), "error": o.error} for o in failed
        ],
    }
    results, by_episode = pd.DataFrame(rows), pd.DataFrame(episodes)
    comparisons = compare_all(by_episode, note)
    return Findings(results, by_episode, pd.DataFrame(curves(finished)), comparisons, note)


def _pairs_left(ablation: Ablation, conditions: list[str]) -> list[tuple[str, str]]:
    """The pairs of which both sides have a finished run."""
    return [pair for pair in ablation.compare or () if set(pair) <= set(conditions)]


def set_names(folders: Sequence[Path]) -> dict[Path, str]:
    """What people call the sets: the shortest ends of their paths that tell them apart.

    Args:
        folders: Distinct.

    Returns:
        Folder -> name.
    """
    parts = {folder: Path(os.path.abspath(folder)).parts for folder in folders}
    for length in range(1, 50):
        names = {folder: "/".join(part[-length:]).lstrip("/") for folder, part in parts.items()}
        if len(set(names.values())) == len(set(parts.values())):
            return names
    return {folder: str(folder) for folder in folders}


def _measured(
    ablation: Ablation, runs: Sequence[PlannedRun], tests: TestPlan
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of results and of episodes."""
    names, rows, episodes = set_names(tests.folders), [], []
    several = len({run.config.backbone for run in runs}) > 1
    seen: set[tuple[Any, ...]] = set()
    for run in runs:
        about = about_run(run)
        base = f"{UNTOUCHED} {Path(run.config.backbone).name}" if several else UNTOUCHED
        for evaluated in evaluation_sets(tests, run.config):
            where = VALIDATION if evaluated.folder is None else names[evaluated.folder]
            for title, measure in ablation.measures.items():
                name, beside = condition(run.name, title), measure.of_untouched
                plain = condition(base, "" if beside in (None, Measure()) else title)
                of = {"condition": name, "run": run.digest, "seed": run.seed, "set": where, "untouched": plain}
                for row, accuracies in _read(run.folder, measure, evaluated):
                    rows.append({**of, **row, **about})
                    episodes += _episodes(of, row, accuracies)
                key = (plain, where, run.seed if evaluated.folder is None else None)
                if beside is None or key in seen:
                    continue
                seen.add(key)
                of = {**of, "condition": plain, "run": UNTOUCHED, "seed": run.seed if key[2] is not None else -1}
                settings = {"config.backbone": run.config.backbone, "config.embed_views": run.config.embed_views}
                for row, accuracies in _read(untouched_folder(run), beside, evaluated):
                    rows.append({**of, **row, **settings})
                    episodes += _episodes(of, row, accuracies)
    for row in rows:
        row["ablation"] = ablation.name
    return rows, episodes


def _read(folder: Path, measure: Measure, evaluated: EvaluationSet) -> Iterator[tuple[dict[str, Any], list[float]]]:
    """Measured rows, and the accuracies behind each."""
    for found in json.loads(measured_path(folder, measure, evaluated).read_text(encoding="utf-8")):
        accuracies = [math.nan if value is None else value for value in found.pop("accuracy")]
        mean, ci95 = mean_interval(accuracies)
        known = sum(value == value for value in accuracies)
        yield {**found, "accuracy": mean, "ci95": ci95, "episodes": known}, accuracies


def _episodes(of: Mapping[str, Any], row: Mapping[str, Any], accuracies: Sequence[float]) -> list[dict[str, Any]]:
    keys = {"condition": of["condition"], "set": of["set"], "shots": row["shots"], "seed": of["seed"]}
    return [{**keys, "episode": number, "accuracy": value} for number, value in enumerate(accuracies)]


def _against_untouched(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(condition, its untouched encoder), of those that have one."""
    there = {row["condition"] for row in rows if row["run"] == UNTOUCHED}
    pairs = dict.fromkeys((r["condition"], r["untouched"]) for r in rows if r["run"] != UNTOUCHED)
    return [pair for pair in pairs if pair[1] in there]
