"""Run the configurations of an ablation one after another; what is finished is not run again, what was cut off goes on."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

import experiments.ablations
from episodes.errors import UsageError
from fewshot import TrainConfig, train
from fewshot.console import Console

Configs = Callable[[TrainConfig], dict[str, TrainConfig]]


def ablations() -> dict[str, str]:
    """Name -> the question it asks, of every ablation."""
    found = {}
    for module in pkgutil.iter_modules(experiments.ablations.__path__):
        document = importlib.import_module(f"experiments.ablations.{module.name}").__doc__ or ""
        found[module.name] = document.strip().splitlines()[0]
    return found


def configs_of(name: str, base: TrainConfig, output: Path) -> dict[str, TrainConfig]:
    """The runs of an ablation, each with its folder below `output`.

    Raises:
        UsageError: there is no such ablation.
    """
    if name not in ablations():
        raise UsageError(f"no ablation is called {name!r}; there are {', '.join(ablations())}")
    configs: Configs = importlib.import_module(f"experiments.ablations.{name}").configs
    return {run: dataclasses.replace(config, output=output / name / run) for run, config in configs(base).items()}


def run_ablation(name: str, base: TrainConfig, output: Path, console: Console) -> list[Path]:
    """Run what is not finished yet, and return the folders of all runs."""
    folders = []
    for run, config in configs_of(name, base, output).items():
        folder = output / name / run
        folders.append(folder)
        if (folder / "model.safetensors").is_file():
            console.line(f"{run}: finished already")
            continue
        console.line(f"{run}:")
        train(dataclasses.replace(config, resume=(folder / "config.json").is_file()), console)
    return folders
