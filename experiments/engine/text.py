"""An ablation's findings in the terminal: a Markdown table, and what was told apart."""

from __future__ import annotations

import pandas as pd

from experiments.engine.answer import answer, first_line
from experiments.engine.pairing import column_name, condition_means
from experiments.engine.results import Findings


def summary(findings: Findings) -> str:
    """Everything a terminal needs.

    Args:
        findings: Of an ablation.

    Returns:
        Several lines.
    """
    parts = [f"# {findings.note['question']}", first_line(findings.note), to_markdown(findings), answer(findings)]
    parts += [f"failed: {f['run']}, seed {f['seed']}: {f['error']} ({f['folder']})" for f in findings.note["failed"]]
    return "\n\n".join(parts)


def to_markdown(findings: Findings) -> str:
    """The table as Markdown, in percent.

    Args:
        findings: Of an ablation.

    Returns:
        A line for each condition.
    """
    table = accuracy_table(findings)
    lines = ["| " + " | ".join(["condition", *table.columns]) + " |", "|" + "---|" * (len(table.columns) + 1)]
    return "\n".join([*lines, *("| " + " | ".join([str(name), *row]) + " |" for name, row in table.iterrows())])


def to_latex(findings: Findings) -> str:
    """The table for a paper: booktabs, and the question as its caption.

    Args:
        findings: Of an ablation.

    Returns:
        A `table` environment; the document needs the package booktabs.
    """
    table = accuracy_table(findings)
    head = " & ".join(["", *map(_latex, table.columns)])
    rows = [" & ".join([_latex(str(name)), *map(_latex, row)]) for name, row in table.iterrows()]
    untouched = len(findings.note["untouched"])
    body = [*(f"{row} \\\\" for row in rows[:untouched]), r"\midrule", *(f"{row} \\\\" for row in rows[untouched:])]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(findings.note['question'])} {_latex(first_line(findings.note))}}}",
    ]
    lines += [
        rf"\label{{tab:{findings.note['ablation'].replace('_', '-')}}}",
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
    ]
    return "\n".join(
        [*lines, r"\toprule", f"{head} \\\\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    )


def _latex(text: str) -> str:
    """Text that TeX sets as it is."""
    return "".join(_TEX.get(letter, letter) for letter in text)


_TEX = {letter: f"\\{letter}" for letter in "&%$#_{}"}
_TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}


def accuracy_table(findings: Findings) -> pd.DataFrame:
    """Accuracy by condition, untouched first, and by set and shots: percent, with the 95 % interval of seeds and episodes together.

    Args:
        findings: Of an ablation.

    Returns:
        Text in every cell.
    """
    means = condition_means(findings.episodes)
    columns = [column_name(where, shots) for where, shots in zip(means["set"], means["shots"], strict=True)]
    cells = [_cell(mean, ci95) for mean, ci95 in zip(means["accuracy"], means["ci95"], strict=True)]
    table = means.assign(column=columns, cell=cells).pivot(index="condition", columns="column", values="cell")
    order = [name for name in (*findings.note["untouched"], *findings.note["conditions"]) if name in table.index]
    return table.reindex(order)[list(dict.fromkeys(columns))].fillna("–")


def _cell(mean: float, ci95: float) -> str:
    return f"{100 * mean:.1f}" + (f" ± {100 * ci95:.1f}" if ci95 == ci95 else "")


def mean_accuracy(findings: Findings) -> pd.Series[float]:
    """Mean over sets and shots, by condition."""
    return condition_means(findings.episodes).groupby("condition")["accuracy"].mean()
