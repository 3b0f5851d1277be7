"""An ablation's runs as Ray tasks: on the cores and GPUs of this machine, or on a cluster whose nodes share the folders.

A run resumes from its folder, so that a task whose worker died is simply tried again, by Ray itself (Moritz et al. 2018, arXiv 1712.05889).
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.errors import UsageError
from experiments.engine.ablation import Measure
from experiments.engine.execute import Outcome, execute
from experiments.engine.measure import TestPlan
from experiments.engine.plan import PlannedRun, absolute
from fewshot.console import Console

CHECKOUT = Path(__file__).resolve().parents[2]
_RETRIES = 3  # of a run whose worker died
_PATIENCE = 30  # seconds for a cluster to answer
_PASSED_ON = ("FEWSHOT_CACHE", "XDG_CACHE_HOME", "HOME")  # so that workers share the caches


@dataclass(frozen=True)
class RayBackend:
    """Does runs as Ray tasks; see `experiments.engine.run.Backend`.

    Attributes:
        address: Of a cluster; "auto" is one that runs on this machine, or a new one of its own.
        cpus: Cores a run takes, and its threads.
        gpus: GPUs a run takes; 0.25 puts four runs on one.
    """

    address: str = "auto"
    cpus: int = 1
    gpus: float = 0.0

    def __call__(
        self, runs: Sequence[PlannedRun], measures: Mapping[str, Measure], tests: TestPlan, console: Console
    ) -> Iterable[Outcome]:
        """Do them all; a run that Ray gives up on counts as failed.

        Raises:
            UsageError: Ray is not installed, or there is no such cluster.
        """
        ray = connect(self.address, self.cpus, quiet=console.quiet)
        try:
            needs = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": _RETRIES}
            task = ray.remote(_execute).options(**needs)
            tests = dataclasses.replace(tests, folders=tuple(folder.absolute() for folder in tests.folders))
            placed = [dataclasses.replace(run, config=absolute(run.config)) for run in runs]
            waiting = [task.remote(run, dict(measures), tests, console.quiet, self.cpus) for run in placed]
            return [_outcome(ray, run, each) for run, each in zip(runs, waiting, strict=True)]
        finally:
            ray.shutdown()


def library() -> Any:
    """Ray, imported.

    Raises:
        UsageError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--ray needs the library ray: pip install 'fewshot-episodes[ray]', or pip install 'ray[tune]'"
        ) from error
    return ray


def connect(address: str, cpus: int, *, quiet: bool) -> Any:
    """The library, connected.

    Args:
        address: As in `RayBackend`.
        cpus: Threads of each worker.
        quiet: Whether workers' lines stay with them.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
    """
    ray = library()
    variables = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]))
    variables |= {"PYTHONPATH": path, "OMP_NUM_THREADS": str(cpus)}
    settings: dict[str, Any] = {"runtime_env": {"env_vars": variables}, "log_to_driver": not quiet}
    try:
        _knock(address)
        ray.init(address=None if address == "auto" else address, logging_level="ERROR", **settings)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"--ray {address}: cannot connect ({error}). Give the address of a running cluster, or auto"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Whether anybody listens there; Ray itself would try for minutes.

    Raises:
        OSError: Nobody does.
        ValueError: It is no host:port.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=_PATIENCE).close()


def _execute(
    run: PlannedRun, measures: dict[str, Measure], tests: TestPlan, quiet: bool, threads: int
) -> tuple[Any, str]:
    """In a worker: do one run; its status and error."""
    import torch

    torch.set_num_threads(threads)
    outcome = execute(run, measures, tests, Console(quiet))
    return outcome.status, outcome.error


def _outcome(ray: Any, run: PlannedRun, waiting: Any) -> Outcome:
    try:
        status, error = ray.get(waiting)
    except ray.exceptions.RayError as problem:
        return Outcome(run, "failed", " ".join(str(problem).split())[:300])
    return Outcome(run, status, error)
