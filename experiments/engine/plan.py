"""The runs of an ablation: every condition with every seed, each with the folder that its hash names."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.errors import UsageError
from experiments.engine.ablation import Ablation
from experiments.engine.identity import run_digest
from fewshot.config import TrainConfig
from fewshot.limits import hints_of, problem_with

RUNS = "runs"


@dataclass(frozen=True)
class PlannedRun:
    """One run to be done.

    Attributes:
        name: Of its condition.
        seed: Its own.
        digest: Of settings and data.
        config: Its settings, with `output` set.
    """

    name: str
    seed: int
    digest: str
    config: TrainConfig

    @property
    def folder(self) -> Path:
        """Where it goes."""
        assert self.config.output is not None
        return self.config.output

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.name}, seed {self.seed} ({self.digest})"


def plan(
    ablation: Ablation, base: TrainConfig, root: Path, *, seeds: int = 1, settings: Sequence[str] = ()
) -> list[PlannedRun]:
    """Every run of an ablation, condition by condition within a seed: what they share is computed by the first.

    Args:
        ablation: The question.
        base: Settings that its runs start from.
        root: Folder of all ablations; runs go below it by their hash, so that ablations share them.
        seeds: How many, from `base.seed` on.
        settings: "key=value", said of every run over what the ablation says.

    Returns:
        The runs in the order to do them in.

    Raises:
        UsageError: Two conditions are one and the same run, or a setting is none.
    """
    runs: list[PlannedRun] = []
    for seed in range(base.seed, base.seed + seeds):
        configs = ablation.configs(dataclasses.replace(base, seed=seed))
        if not configs:
            raise UsageError(f"{ablation.name}: configs(base) gives no runs")
        seen: dict[str, str] = {}
        for name, config in configs.items():
            config = with_settings(config, settings)
            digest = run_digest(config)
            if digest in seen:
                raise UsageError(
                    f"{ablation.name}: {seen[digest]!r} and {name!r} are the same run: their settings are equal"
                )
            seen[digest] = name
            runs.append(PlannedRun(name, seed, digest, dataclasses.replace(config, output=root / RUNS / digest)))
    return runs


def with_settings(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """Settings changed by "key=value"; "augmentation.flip=0" reaches into one.

    Args:
        config: To change.
        settings: In the order to apply them.

    Returns:
        A new one.

    Raises:
        UsageError: There is no such setting, or the value is none for it.
    """
    for text in settings:
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--set {text!r}: expected key=value, such as epochs=5")
        config = _changed(config, name.replace("-", "_"), value, text)
    return config


def absolute(config: TrainConfig) -> TrainConfig:
    """The same settings with paths that hold wherever a worker runs.

    Args:
        config: Of a run.

    Returns:
        A new one.
    """
    paths: dict[str, Any] = {name: value.absolute() for name, value in vars(config).items() if isinstance(value, Path)}
    if os.path.isfile(config.backbone):
        paths["backbone"] = os.path.abspath(config.backbone)
    return dataclasses.replace(config, test_data=tuple(each.absolute() for each in config.test_data), **paths)


def _changed(settings: Any, name: str, value: str, text: str) -> Any:
    name, _, rest = name.partition(".")
    hints = hints_of(type(settings))
    if name not in hints:
        raise UsageError(f"--set {text!r}: there is no setting {name!r}; see 'fewshot train --help'")
    if rest:
        if not dataclasses.is_dataclass(getattr(settings, name)):
            raise UsageError(f"--set {text!r}: {name!r} has no parts")
        return dataclasses.replace(settings, **{name: _changed(getattr(settings, name), rest, value, text)})
    for candidate in _readings(value):
        if problem_with(candidate, hints[name], name) is None:
            if isinstance(candidate, str) and Path in (hints[name], *typing.get_args(hints[name])):
                candidate = Path(candidate)
            return dataclasses.replace(settings, **{name: candidate})
    raise UsageError(f"--set {text!r}: {problem_with(_readings(value)[0], hints[name], name)}")


def _readings(value: str) -> list[Any]:
    """What a value may mean: JSON, in tuples, "none", or text."""
    readings: list[Any] = [None] if value.lower() == "none" else []
    try:
        found = json.loads(value.lower() if value.lower() in ("true", "false") else value)
        readings.append(tuple(found) if isinstance(found, list) else found)
    except ValueError:
        pass
    return [*readings, value, Path(value)]
