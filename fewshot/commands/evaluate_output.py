"""What `fewshot evaluate` says and writes: the table in the terminal, what stands below it, and files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from episodes.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from episodes import ImageTable
    from fewshot.evaluation import Comparison, EvaluationRow


def table_of(rows: list[EvaluationRow]) -> str:
    """The rows as aligned text; transductive classifiers are marked."""
    cells = _cells(rows)
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([*lines, *_footnotes(rows)])


def markdown_of(rows: list[EvaluationRow]) -> str:
    """The same table in Markdown."""
    head, *cells = ([cell.replace("|", "\\|") for cell in line] for line in _cells(rows))
    lines = [head, ["---"] * len(head), *cells]
    notes = "".join(f"\n{note}\n" for note in _footnotes(rows)).replace("* ", "\\* ")
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + notes


def latex_of(rows: list[EvaluationRow]) -> str:
    """The same table in LaTeX, for the package booktabs."""
    head, *cells = (" & ".join(_latex(cell) for cell in line) + r" \\" for line in _cells(rows))
    columns = "ll" + "r" * (len(_cells(rows)[0]) - 2)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *cells,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*lines, *(f"% {note}" for note in _footnotes(rows))]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "…": r"\dots{}", "−": "$-$",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _footnotes(rows: list[EvaluationRow]) -> list[str]:
    from fewshot.classifiers import TRANSDUCTIVE

    marked = any(row.classifier in TRANSDUCTIVE for row in rows)
    return ["* transductive: an answer may depend on the other queries of its task"] if marked else []


def _cells(rows: list[EvaluationRow]) -> list[tuple[str, ...]]:
    """The table's head and lines.

    Class folders are a sample of the classes that somebody has: there the interval for new classes comes first.
    """
    from fewshot.classifiers import TRANSDUCTIVE
    from fewshot.console import interval, percent

    def text(value: int | str | None) -> str:
        return "mixed" if value is None else str(value)

    sampled = any(row.seed is not None for row in rows)
    pool = ("95 %, these classes",) if sampled else ("95 %, these tasks",)
    both = ("95 %, new classes", *pool) if sampled else (*pool, "95 %, new classes")
    head = ("encoder", "classifier", "ways", "shots", "queries", "episodes", "seed", "accuracy", *both)
    cells: list[tuple[str, ...]] = [head]
    for row in rows:
        found = row.results
        shown = (interval(*found.new_classes), f"± {100 * found.ci95:.1f}" if found.ci95 == found.ci95 else "-")
        sizes = (text(row.ways), text(row.shots), text(row.queries), str(row.episodes))
        marked = f"{row.classifier} *" if row.classifier in TRANSDUCTIVE else row.classifier
        seed = "-" if row.seed is None else str(row.seed)
        accuracy = percent(found.mean, float("nan"))
        cells.append((row.encoder, marked, *sizes, seed, accuracy, *(shown if sampled else reversed(shown))))
    return cells


def details(rows: list[EvaluationRow], comparisons: list[Comparison]) -> str:
    """The worst class of each row, and the paired differences."""
    from episodes.class_accuracy import per_class_accuracy

    lines = []
    for row in rows:
        worst = per_class_accuracy(row.results).iloc[0]
        label = f"{row.encoder}, {row.classifier}, {f'{row.shots}-shot' if row.shots is not None else 'mixed shots'}"
        lines.append(
            f"worst class of {label}: {worst['class']}, {100 * worst['accuracy']:.1f} % of its {counted(worst['queries'], 'answer')}"
        )
    return "\n".join([*lines, *comparison_lines(comparisons)])


def comparison_lines(comparisons: list[Comparison]) -> list[str]:
    """The paired differences, a line each."""
    lines = []
    for pair in comparisons:
        a, b = pair.first, pair.second
        names = (a.classifier, b.classifier) if a.encoder == b.encoder else (a.encoder, b.encoder)
        setting = f"{a.ways}-way {a.shots}-shot" if a.ways and a.shots else "these tasks"
        lines.append(f"{names[0]} minus {names[1]}, {setting}: {pair.difference.summary()}")
    return lines


def write_tables(
    table: ImageTable,
    rows: list[EvaluationRow],
    *,
    output: Path | None = None,
    answers: Path | None = None,
    per_class: Path | None = None,
    matrix: Path | None = None,
    defuse_formulas: bool = False,
) -> None:
    """The tables that were asked for, as files: of the rows, of every answer, of classes, and the last row's confusion matrix."""
    import pandas as pd

    from episodes.class_accuracy import confusion, per_class_accuracy
    from episodes.files import atomic_write

    frames: tuple[tuple[Path | None, Callable[[], pd.DataFrame]], ...] = (
        (output, lambda: pd.DataFrame([row.document for row in rows])),
        (answers, lambda: _one_below_the_other(rows, lambda row: row.results.to_frame(table))),
        (per_class, lambda: _one_below_the_other(rows, lambda row: per_class_accuracy(row.results))),
        (matrix, lambda: confusion(rows[-1].results).reset_index()),
    )
    written = {".md": markdown_of, ".tex": latex_of}
    for path, frame in frames:
        if path is not None and path.suffix in written:
            with atomic_write(path) as stream:
                stream.write(written[path.suffix](rows))
        elif path is not None:
            made = frame()
            _save(_defused(made) if defuse_formulas and path.suffix != ".parquet" else made, path)


def _one_below_the_other(rows: list[EvaluationRow], frame: Callable[[EvaluationRow], pd.DataFrame]) -> pd.DataFrame:
    """A frame of each row, with columns that say which row it is of."""
    import pandas as pd

    keys = ("classifier", "backbone", "checkpoint", "ways", "shots")
    parts = [frame(row).assign(**{key: row.document[key] for key in keys}) for row in rows]
    return pd.concat(parts, ignore_index=True)


def _defused(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose names and columns no spreadsheet computes."""
    from episodes.formulas import defuse

    return frame.map(lambda cell: defuse(cell) if isinstance(cell, str) else cell).rename(columns=defuse)


def _save(frame: pd.DataFrame, path: Path) -> None:
    """CSV or Parquet by the file's name, moved into place whole."""
    from episodes.files import atomic_write

    if path.suffix == ".parquet":
        for name in ("ways", "shots"):  # numbers beside ranges: a column of Parquet holds one kind
            if name in frame and any(isinstance(value, str) for value in frame[name]):
                frame = frame.assign(**{name: [None if value is None else str(value) for value in frame[name]]})
        with atomic_write(path, "wb") as stream:
            frame.to_parquet(stream, index=False)
    else:
        with atomic_write(path) as stream:
            frame.to_csv(stream, index=False, lineterminator="\n")
