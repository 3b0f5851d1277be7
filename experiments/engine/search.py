"""A search over settings with Ray Tune: ASHA stops what falls behind, Optuna proposes where it is installed.

ASHA: Li et al. 2018, arXiv 1810.05934. What steers it is accuracy on validation episodes after each epoch; what it finds is to be measured
on other data, by `run` with a file of one's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from episodes.errors import DataError, UsageError
from episodes.files import atomic_write
from experiments.engine.ablation import python_file
from experiments.engine.identity import run_digest
from experiments.engine.plan import RUNS, absolute
from experiments.engine.ray_backend import RayBackend, connect, library
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.limits import hints_of
from fewshot.run_files import RESUME, is_finished

TABLE = "search.csv"


def search(
    file: Path, base: TrainConfig, root: Path, console: Console, *, trials: int, backend: RayBackend
) -> tuple[pd.DataFrame, Path]:
    """Try settings, and write a table of all trials, best first.

    Args:
        file: Python with a docstring and `space(tune)`, which returns setting -> domain of `ray.tune`.
        base: Settings that are not searched.
        root: Folder of all ablations.
        console: Tells what is done.
        trials: How many settings.
        backend: Where, and what each trial takes.

    Returns:
        The table, and where it was written.

    Raises:
        UsageError: Ray is not installed, or the file is no space.
        DataError: No trial got as far as an epoch.
    """
    library()
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    space = _space(python_file(file), file, tune)
    ray = connect(backend.address, backend.cpus, quiet=console.quiet)
    try:
        root = root.absolute()
        trainable = tune.with_resources(
            _trial(absolute(base), root, backend.cpus), {"cpu": backend.cpus, "gpu": backend.gpus}
        )
        scheduler = ASHAScheduler(
            time_attr="epoch", max_t=base.epochs, grace_period=min(base.epochs, max(1, base.epochs // 4))
        )
        settings = tune.TuneConfig(
            metric="val_accuracy", mode="max", num_samples=trials, scheduler=scheduler, search_alg=_proposer(base.seed)
        )
        run = tune.RunConfig(name="tune", storage_path=str(root / "search" / file.stem), verbose=0)
        grid: Any = tune.Tuner(trainable, param_space=space, tune_config=settings, run_config=run).fit()
        rows = [_row(result) for result in grid if result.metrics and "val_accuracy" in result.metrics]
        errors = [str(result.error) for result in grid if result.error]
    finally:
        ray.shutdown()
    if not rows:
        raise DataError(f"{file}: no trial got as far as an epoch{': ' + errors[0][:500] if errors else ''}")
    table = pd.DataFrame(rows).sort_values("val_accuracy", ascending=False, ignore_index=True)
    folder = root / "search" / file.stem
    with atomic_write(folder / TABLE) as written:
        written.write(table.to_csv(index=False, lineterminator="\n"))
    return table, folder / TABLE


def _space(module: ModuleType, file: Path, tune: Any) -> dict[str, Any]:
    make = getattr(module, "space", None)
    if not callable(make):
        raise UsageError(
            f"{file}: expected a function space(tune) that returns setting -> domain, such as tune.loguniform(1e-6, 1e-3)"
        )
    space: dict[str, Any] = make(tune)
    unknown = set(space) - set(hints_of(TrainConfig))
    if unknown or not space:
        named = ", ".join(sorted(unknown)) or "nothing"
        raise UsageError(f"{file}: space(tune) names {named}; expected settings of 'fewshot train --help'")
    return space


def _proposer(seed: int) -> Any:
    """Optuna where it is installed; None is random search."""
    try:
        import optuna
    except ImportError:
        return None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(seed=seed)


def _trial(base: TrainConfig, root: Path, threads: int) -> Callable[[dict[str, Any]], None]:
    """What a worker does with one proposal: a run in the folder of its hash, which goes on if it was begun."""

    def trial(proposal: dict[str, Any]) -> None:
        import torch
        from ray import tune

        from fewshot.training.loop import train

        torch.set_num_threads(threads)
        config = dataclasses.replace(base, **proposal)
        digest = run_digest(config)
        folder = root / RUNS / digest

        def tell(row: dict[str, Any]) -> None:
            tune.report({"val_accuracy": row["val_accuracy"], "epoch": row["epoch"], "run": digest})

        if is_finished(folder):
            for row in pd.read_csv(folder / "metrics.csv").query("kind == 'epoch'").to_dict("records"):
                tell(row)
            return
        train(
            dataclasses.replace(config, output=folder, resume=(folder / RESUME).is_file()),
            Console(quiet=True),
            on_epoch=tell,
        )

    return trial


def _row(result: Any) -> dict[str, Any]:
    told = {name: result.metrics[name] for name in ("val_accuracy", "epoch", "run")}
    return {**told, **{f"config.{name}": value for name, value in result.config.items()}}
