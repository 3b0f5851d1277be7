"""Run an ablation from beginning to end: plan, do every run, collect the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from experiments.engine.ablation import Ablation, Measure
from experiments.engine.execute import Outcome, execute
from experiments.engine.measure import TestPlan
from experiments.engine.plan import PlannedRun, plan
from experiments.engine.results import Findings, collect
from fewshot.config import TrainConfig
from fewshot.console import Console

#: Does runs, in whatever order, and gives what became of each, in the order they came in.
Backend = Callable[[Sequence[PlannedRun], Mapping[str, Measure], TestPlan, Console], Iterable[Outcome]]


def one_after_the_other(
    runs: Sequence[PlannedRun], measures: Mapping[str, Measure], tests: TestPlan, console: Console
) -> list[Outcome]:
    """The default backend: this process does them all, what others can start from first."""
    done = {run: execute(run, measures, tests, console) for run in sorted(runs, key=_most_unfrozen_first)}
    return [done[run] for run in runs]


def _most_unfrozen_first(run: PlannedRun) -> tuple[int, float]:
    """Within a seed: hidden states behind few blocks serve those runs that freeze more."""
    blocks = run.config.unfreeze_blocks
    return run.seed, -math.inf if blocks == "all" else -blocks


def run_ablation(
    ablation: Ablation,
    base: TrainConfig,
    root: Path,
    console: Console,
    *,
    seeds: int = 1,
    settings: Sequence[str] = (),
    tests: TestPlan | None = None,
    backend: Backend = one_after_the_other,
) -> tuple[Findings, Path]:
    """Do what is not done yet, and write the tables.

    Args:
        ablation: The question.
        base: Settings that its runs start from.
        root: Folder of all ablations.
        console: Tells what is done.
        seeds: How many of each run.
        settings: "key=value" for every run.
        tests: What finished runs are measured on; their validation pictures by default.
        backend: Does the runs.

    Returns:
        The findings, and the folder they were written to.

    Raises:
        DataError: No run could be finished.
        UsageError: The ablation or a setting makes no sense.
    """
    tests = tests or TestPlan()
    runs = plan(ablation, base, root, seeds=seeds, settings=settings)
    console.line(f"{ablation.name}: {len(runs)} runs, {ablation.question}")
    outcomes = list(backend(runs, ablation.measures, tests, console))
    findings = collect(ablation, outcomes, tests)
    folder = root / ablation.name
    findings.write(folder)
    return findings, folder
