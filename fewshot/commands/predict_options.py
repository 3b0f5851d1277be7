"""What `fewshot predict` takes, and what of it is refused before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from episodes.errors import UsageError
from episodes.predictions import COLUMNS, OFFERED, parse_columns
from fewshot.commands.common import WithClassifier, weights_file
from fewshot.commands.outputs import check_outputs
from fewshot.limits import Within
from fewshot.options import own_fields_first
from fewshot.registry import CLASSIFIERS

_MORE = ", ".join(f"{name} ({text})" for name, text in OFFERED.items() if text)


@own_fields_first
@dataclass(frozen=True, kw_only=True)
class Options(WithClassifier):
    """Name pictures: the queries of a directory of tasks, or with --support and --query any pictures by any class folders."""

    test_dir: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="TEST_DIR")] = None
    """The folder that holds testB/, a folder of tasks, or one task; left out with --support."""
    result: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="RESULT.csv")] = None
    """The CSV to write: task,image,label,confidence."""
    support: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Instead of TEST_DIR: the folder with a folder of labelled pictures for each class."""
    query: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR|FILE")] = ()
    """With --support: the pictures to name, and folders of them; RESULT.csv may follow."""
    truth: Annotated[Path | None, tyro.conf.arg(metavar="FILE.csv")] = None
    """The true labels, task,image,label (one task needs no task): says the accuracy, and shows the mistakes in --report. With
    --report a truth.csv beside the tasks is found by itself."""
    classifier: Annotated[str | None, tyro.conf.arg(help=(
        f"The few-shot method: {CLASSIFIERS.describe()}. Unless given, prototype, or the method that a checkpoint was trained with."
    ))] = None  # fmt: skip
    adapt: Literal["blocks", "norms", "projection"] | None = None
    """Tune this part of the encoder on each task's support pictures first; slower, for pictures unlike any seen before."""
    report: Path | None = None
    """Write a page with every task's pictures, answers and confidences there too: FILE.html."""
    reject: Annotated[float, Within(0, 1, above=True, below=True)] | None = None
    """Answer "unknown" where the confidence is so low that this share of pictures of foreign classes would still be
    taken for one of the task's (such as 0.05), by the task's ways and shots. Needs a checkpoint, or tiny, lite0 or lite2, which know
    their confidences; the output tells how many pictures of known classes that costs."""
    columns: Annotated[str, tyro.conf.arg(help=(
        f"Which columns the CSV has, in which order; there are also {_MORE}. image=filename,label=class gives them other names."
    ))] = ",".join(COLUMNS)  # fmt: skip
    sort: bool = False
    """The least sure answers first (by the margin, over all tasks); those without an answer before them."""
    defuse_formulas: bool = False
    """Put ' before names in the CSV that a spreadsheet would compute: those that begin with = + - @, a tab or a line's end.
    'fewshot score' reads both."""

    def __post_init__(self) -> None:
        """Find RESULT.csv among the names, whichever way the pictures are given.

        Raises:
            UsageError: it is missing, or one of the two ways is given by halves.
        """
        super().__post_init__()
        named = [path for path in (self.test_dir, self.result) if path is not None]
        queries = list(self.query)
        if self.support is None:
            if queries:
                raise UsageError(
                    "--query needs --support: the folder with a folder of labelled pictures for each class"
                )
            if len(named) < 2:
                raise UsageError("expected TEST_DIR RESULT.csv, or --support DIR --query DIR|FILE... RESULT.csv")
            return
        if not named and len(queries) > 1 and queries[-1].suffix.lower() == ".csv":
            named = [queries.pop()]  # --query takes every name up to the next option
        if len(named) != 1 or not queries:
            raise UsageError(
                f"expected --support DIR --query DIR|FILE... RESULT.csv, found {len(queries)} names to --query and {len(named)} "
                "others; the one other name is RESULT.csv, and TEST_DIR is left out"
            )
        for field, value in (("test_dir", None), ("result", named[0]), ("query", tuple(queries))):
            object.__setattr__(self, field, value)

    @property
    def named_by(self) -> str:
        """The few-shot method's name."""
        return self.classifier or "prototype"

    @property
    def output(self) -> Path:
        """RESULT.csv."""
        assert self.result is not None  # __post_init__ has seen to it
        return self.result


def checked_columns(options: Options) -> dict[str, str]:
    """Column -> what it is called in the CSV, with every output known to be writable.

    Raises:
        UsageError: a column that there is not, one given twice, or none; or one for which something else is missing; an output that is
            an input.
        DataError: an output that cannot be written.
    """
    try:
        columns = parse_columns(options.columns)
    except UsageError as error:
        raise UsageError(f"--{error}") from error
    if "truth" in columns and options.truth is None:
        raise UsageError("--columns truth: the true labels are not known; give them with --truth FILE.csv")
    check_outputs(
        {"RESULT.csv": options.output, "--report": options.report},
        (
            options.test_dir,
            options.support,
            *options.query,
            options.truth,
            options.checkpoint,
            options.statistics,
            options.learned,
            weights_file(options),
        ),
    )
    return columns
