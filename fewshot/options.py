"""Options that commands and the settings of training share, each said once. Importable without torch."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from fewshot.limits import Seed, check

if TYPE_CHECKING:
    from fewshot.console import Console

Options = TypeVar("Options", bound=type)


def own_fields_first(kind: Options) -> Options:
    """List a dataclass's own fields before those it inherits, so that `--help` begins with what a command is about.

    Args:
        kind: A dataclass; its constructor stays as it is.

    Returns:
        The same class.
    """
    fields = getattr(kind, "__dataclass_fields__")  # noqa: B009 (mypy knows no such attribute of a plain type)
    names = dict.fromkeys(name for each in kind.__mro__ for name in inspect.get_annotations(each) if name in fields)
    setattr(kind, "__dataclass_fields__", {name: fields[name] for name in names})  # noqa: B010
    return kind


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How much is printed, and as what."""

    quiet: bool = False
    """Print only the result."""
    json: bool = False
    """Print one machine-readable document and nothing else."""

    def __post_init__(self) -> None:
        """Check every option before anything is read.

        Raises:
            UsageError: One is outside its limits.
        """
        check(self)

    @property
    def console(self) -> Console:
        """Progress on the terminal, unless it is to be quiet; of several processes only the first prints."""
        from fewshot.console import Console
        from fewshot.distributed import is_main_process

        return Console(self.quiet or self.json or not is_main_process())


@dataclass(frozen=True, kw_only=True)
class ComputeOptions(OutputOptions):
    """Where, how exactly and from which seed things are computed."""

    seed: Seed = 0
    """Every random choice follows from it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """Arithmetic of the encoder: bfloat16 where the hardware has it."""
