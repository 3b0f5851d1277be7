"""`python -m experiments list | run NAME|FILE.py | report DIR | search | claims`: ablations and the page of claims, from the checkout."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from episodes.errors import DataError, UsageError
from fewshot.commands.stopping import Terminated, stopping
from fewshot.config import TrainConfig
from fewshot.limits import Count, Within


@dataclass(frozen=True)
class List:
    """Name the ablations and the questions they ask."""


@dataclass(frozen=True)
class Run:
    """Run an ablation; finished runs are never repeated, killed ones go on, failed ones are kept with their error (exit status 3)."""

    name: Annotated[str, tyro.conf.Positional]
    """Which; see list. Or the path of a file of your own, such as my_question.py."""
    base: Annotated[TrainConfig, tyro.conf.arg(name="")] = field()
    """Settings that its runs start from. --test_data names what every finished run is measured on."""
    runs: Path = Path("runs/ablations")
    """Where runs and tables go."""
    seeds: Count = 1
    """How many of each run, from --seed on."""
    set: tuple[str, ...] = ()
    """key=value: said of every run, over what the ablation says."""
    test_episodes: Count = 600
    """Episodes of each kind (5-way, 1 and 5 shots) from class folders."""
    ray: str | None = None
    """Do the runs as Ray tasks (extra [ray]): auto for this machine or the cluster it belongs to, or a cluster's address."""
    cpus: Count = 1
    """With --ray: cores that a run takes, and its threads."""
    gpus: Annotated[float, Within(0)] = 0.0
    """With --ray: GPUs that a run takes; 0.25 puts four runs on one."""


@dataclass(frozen=True)
class Search:
    """Search settings with Ray Tune (extra [ray]): ASHA stops what falls behind, Optuna proposes. Validation accuracy steers it."""

    space: Path
    """A Python file with a docstring and space(tune), which returns setting -> domain, such as tune.loguniform(1e-6, 1e-3)."""
    base: Annotated[TrainConfig, tyro.conf.arg(name="")] = field()
    """Settings that are not searched."""
    runs: Path = Path("runs/ablations")
    """Where runs and the table go."""
    trials: Count = 20
    """How many settings to try."""
    ray: str = "auto"
    """auto for this machine or the cluster it belongs to, or a cluster's address."""
    cpus: Count = 1
    """Cores that a trial takes, and its threads."""
    gpus: Annotated[float, Within(0)] = 0.0
    """GPUs that a trial takes."""


@dataclass(frozen=True)
class Report:
    """One HTML page of an ablation's findings, with figures and tables beside it."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where 'run' put them; of a folder of several ablations, each gets its page."""


@dataclass(frozen=True)
class Claims:
    """Measure what the program claims against the truth, and write docs/claims.md."""

    data: Path
    """Folder that holds the image sets as class folders: tin, omniglot, grocery, pacs."""
    only: tuple[str, ...] = ()
    """Claims (modules of experiments/claims) to measure anew, while the other sections stay as they are; all by default."""
    page: Path = Path("docs/claims.md")
    """Where the page goes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run one of them; statuses are those of `fewshot`."""
    command = tyro.cli(
        List | Run | Report | Search | Claims,
        prog="python -m experiments",
        config=(tyro.conf.FlagCreatePairsOff,),
        use_underscores=True,
        args=arguments,
    )
    try:
        with stopping():
            return _do(command)
    except UsageError as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 2
    except (DataError, OSError) as error:
        print(f"experiments: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("experiments: interrupted; the same command again goes on", file=sys.stderr)
        return 128 + signal.SIGINT
    except Terminated:
        print("experiments: terminated; the same command again goes on", file=sys.stderr)
        return 128 + signal.SIGTERM


def _do(command: List | Run | Report | Search | Claims) -> int:
    if isinstance(command, Claims):
        from experiments.claims.runner import measure_claims

        measure_claims(command.data, only=command.only, page=command.page)
        return 0
    if isinstance(command, Run):
        return _run(command)
    if isinstance(command, Report):
        return _report(command)
    if isinstance(command, Search):
        return _search(command)
    from experiments.engine.ablation import shipped

    known = shipped()
    width = max(map(len, known)) + 2
    for name, ablation in known.items():
        print(f"{name:<{width}}{ablation.question}")
    return 0


def _run(command: Run) -> int:
    from experiments.engine.ablation import load
    from experiments.engine.measure import TestPlan
    from experiments.engine.run import Backend, one_after_the_other, run_ablation
    from experiments.engine.text import summary
    from fewshot.console import Console

    backend: Backend = one_after_the_other
    if command.ray is not None:
        from experiments.engine.ray_backend import RayBackend

        backend = RayBackend(command.ray, command.cpus, command.gpus)
    findings, folder = run_ablation(
        load(command.name),
        command.base,
        command.runs,
        Console(command.base.quiet),
        seeds=command.seeds,
        settings=command.set,
        tests=TestPlan(command.base.test_data, command.test_episodes),
        backend=backend,
    )
    print(summary(findings))
    print(f"\ntables: {folder}; the page: python -m experiments report {folder}")
    return 3 if findings.note["failed"] else 0


def _search(command: Search) -> int:
    from experiments.engine.ray_backend import RayBackend
    from experiments.engine.search import search
    from fewshot.console import Console

    backend, console = RayBackend(command.ray, command.cpus, command.gpus), Console(command.base.quiet)
    table, path = search(command.space, command.base, command.runs, console, trials=command.trials, backend=backend)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    print(f"\ntable: {path}; validation chose these, so measure the best with 'run' and --test_data")
    return 0


def _report(command: Report) -> int:
    from experiments.engine.page import write_report
    from experiments.engine.results import NOTE, read_findings
    from experiments.engine.text import summary

    alone = (command.folder / NOTE).is_file()
    folders = [command.folder] if alone else sorted(path.parent for path in command.folder.glob(f"*/{NOTE}"))
    if not folders:
        raise DataError(f"{command.folder}: holds no ablation; expected a folder that 'python -m experiments run' made")
    for folder in folders:
        findings = read_findings(folder)
        print(summary(findings), f"\npage: {write_report(findings, folder)}\n", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
