"""What `fewshot evaluate` takes, and what of it is refused before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from episodes.errors import UsageError
from fewshot.commands.common import WithClassifier, weights_file
from fewshot.commands.outputs import check_outputs
from fewshot.limits import Count, CountOrRangeText, WaysText
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS

_OUTPUTS = ("output", "answers", "per_class", "confusion")


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """Few-shot accuracy with its 95 % interval; with a checkpoint, beside the untouched encoder's, and by its own method."""

    data_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA_DIR")]
    """Class folders, or a directory of tasks with a truth.csv."""
    classifier: Annotated[tuple[str, ...], tyro.conf.arg(help=f"The few-shot methods: {CLASSIFIERS.describe()}.")] = (
        "prototype",
    )
    ways: tuple[WaysText, ...] = ("5",)
    """Classes an episode; several numbers are several settings, 5-20 draws anew for each episode."""
    shots: tuple[CountOrRangeText, ...] = ("1", "5")
    """Support pictures a class; several numbers are several settings, 1-10 draws anew for each episode."""
    shots_per_class: bool = False
    """A range of shots is drawn for each class, not for each episode."""
    queries: Count = 15
    """Query pictures a class."""
    episodes: Count = 600
    """How many episodes."""
    query_balance: str = "even"
    """even, or dirichlet:2 for query sets that are unbalanced by a Dirichlet distribution of that concentration."""
    nested: bool = False
    """Class folders lie deeper: DATA_DIR/<group>/<class>/<picture>."""
    adapt: Literal["blocks", "norms", "projection"] | None = None
    """Measure also with this part of the encoder tuned on each task's support pictures, as CLASSIFIER+PART."""
    compare: tuple[str, str] | None = None
    """Two classifiers, or two encoders (checkpoint folders or 'untouched'), to be compared on the same episodes."""
    output: Path | None = None
    """Write the table there too: .csv or .parquet with every number, .md or .tex as it is printed."""
    answers: Path | None = None
    """Write every query's answer and truth there: .csv or .parquet."""
    per_class: Path | None = None
    """Write each row's accuracy by class there, worst class first: .csv or .parquet."""
    confusion: Path | None = None
    """Write the last row's confusion matrix there, as .csv."""
    report: Path | None = None
    """Write a page there too: FILE.html, with the table, the pictures of mistakes, and every episode to look into."""
    defuse_formulas: bool = False
    """Put ' before names in CSVs that a spreadsheet would compute: those that begin with = + - @, a tab or a line's end."""

    def __post_init__(self) -> None:
        """Check every option before anything is read.

        Raises:
            UsageError: One is outside its limits, or a list of what to measure is empty.
        """
        super().__post_init__()
        for name in ("classifier", "ways", "shots"):
            if not getattr(self, name):
                raise UsageError(f"--{name}: expected at least one, found none; leave it out for the default")


def parse_balance(text: str) -> float | None:
    """Read the balance of queries: "even" -> None, "dirichlet:2" -> 2.0.

    Raises:
        UsageError: anything else.
    """
    kind, _, number = text.partition(":")
    if text == "even":
        return None
    try:
        if kind == "dirichlet" and float(number) > 0:
            return float(number)
    except ValueError:
        pass
    raise UsageError(
        f"--query_balance {text!r}: expected 'even', or 'dirichlet:' and a positive number such as dirichlet:2"
    )


def refuse_outputs(options: Options) -> None:
    """Refuse outputs that could not be written, before anything is computed."""
    for flag in _OUTPUTS:
        path = getattr(options, flag)
        if path is None:
            continue
        allowed = {"confusion": (".csv",), "output": (".csv", ".parquet", ".md", ".tex")}.get(
            flag, (".csv", ".parquet")
        )
        if path.suffix not in allowed:
            raise UsageError(f"--{flag} {path}: expected a file name that ends in {' or '.join(allowed)}")
    if options.report is not None and options.report.suffix.lower() != ".html":
        raise UsageError(f"--report {options.report}: expected a file name that ends in .html")
    others = [Path(name) for name in options.compare or () if Path(name).is_dir()]
    check_outputs(
        {f"--{flag}": getattr(options, flag) for flag in (*_OUTPUTS, "report")},
        (options.data_dir, options.checkpoint, options.statistics, options.learned, weights_file(options), *others),
    )
