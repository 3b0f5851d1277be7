"""What an ablation is: a question, the runs that answer it, how they are measured, and what is compared with what.

It is a Python file: a docstring that asks the question and `configs(base)`, which returns named `TrainConfig`s. Two more names may be
in it: `MEASURES`, where finished runs are to be measured in several ways, and `COMPARE`, pairs of names (a, b) for a less b; without
it every run is compared with the first one. Against the untouched encoder all are compared anyway.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import experiments.ablations
from episodes.errors import UsageError
from fewshot.config import TrainConfig

OWN = "own"
Configs = Callable[[TrainConfig], dict[str, TrainConfig]]


@dataclass(frozen=True)
class Measure:
    """How a finished run is measured on test data.

    Attributes:
        classifier: Names the queries; one of `fewshot evaluate --classifier`, or "own" for the run's own method (`--method`), which is
            prototypes for the untouched encoder, and where selection kept that.
        alpha: Measure this mix of old (0) and tuned (1) weights instead of the kept ones (WiSE-FT).
        features: Classify by the encoder's embeddings, or by what the residual classifier's first half makes of them.
    """

    classifier: str = "prototype"
    alpha: float | None = None
    features: Literal["encoder", "residual"] = "encoder"

    def to_json(self) -> dict[str, Any]:
        """The measure's settings by name."""
        return asdict(self)

    @property
    def of_untouched(self) -> Measure | None:
        """What stands beside it for the untouched encoder; None where nothing does."""
        return (
            None if self.features == "residual" else Measure("prototype" if self.classifier == OWN else self.classifier)
        )


@dataclass(frozen=True)
class Ablation:
    """One question.

    Attributes:
        name: Of its file.
        question: The first line of its docstring.
        configs: Base settings -> run name -> settings.
        measures: Name -> how each run is measured; one of the name "" by default.
        compare: Pairs (a, b) of conditions, for a less b; None compares each with the first.
    """

    name: str
    question: str
    configs: Configs
    measures: Mapping[str, Measure]
    compare: tuple[tuple[str, str], ...] | None = None

    def pairs(self, conditions: list[str]) -> list[tuple[str, str]]:
        """What is compared with what.

        Args:
            conditions: All of them, in order.

        Returns:
            Pairs (a, b), for a less b.

        Raises:
            UsageError: `COMPARE` names what is none of them.
        """
        if self.compare is None:
            return [(name, conditions[0]) for name in conditions[1:]]
        unknown = {name for pair in self.compare for name in pair} - set(conditions)
        if unknown:
            raise UsageError(
                f"{self.name}: COMPARE names {', '.join(sorted(unknown))}; its conditions are {', '.join(conditions)}"
            )
        return list(self.compare)


def condition(run: str, measure: str) -> str:
    """What a run under a measure is called: the run's name where there is one measure only."""
    return f"{run}, {measure}" if measure else run


def shipped() -> dict[str, Ablation]:
    """Name -> ablation, of all that lie in `experiments/ablations/`."""
    names = [module.name for module in pkgutil.iter_modules(experiments.ablations.__path__)]
    return {name: _made(name, importlib.import_module(f"experiments.ablations.{name}")) for name in names}


def load(name: str) -> Ablation:
    """An ablation by its name, or by the path of a user's own file.

    Args:
        name: One of `shipped`, or a path that ends in .py.

    Raises:
        UsageError: There is none, or the file is no ablation.
    """
    if name.endswith(".py"):
        return _made(Path(name).stem, python_file(Path(name)))
    known = shipped()
    if name not in known:
        raise UsageError(
            f"no ablation is called {name!r}; there are {', '.join(known)}; or give the path of a file, such as my.py"
        )
    return known[name]


def python_file(path: Path) -> ModuleType:
    """Run a user's file as a module.

    Args:
        path: Anywhere.

    Raises:
        UsageError: It is not there, or cannot be run.
    """
    spec = importlib.util.spec_from_file_location(f"ablation_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"{path}: there is no such file; expected a Python file of your own")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{path}: cannot be run as Python ({type(error).__name__}: {error})") from error
    return module


def _made(name: str, module: ModuleType) -> Ablation:
    where = module.__file__ or name
    question = (module.__doc__ or "").strip().splitlines()
    configs = getattr(module, "configs", None)
    if not question or not callable(configs):
        raise UsageError(f"{where}: expected a docstring that asks the question, and a function configs(base)")
    measures = getattr(module, "MEASURES", {"": Measure()})
    pairs = getattr(module, "COMPARE", None)
    return Ablation(name, question[0], configs, measures, None if pairs is None else tuple((a, b) for a, b in pairs))
