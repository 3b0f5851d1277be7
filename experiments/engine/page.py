"""The report of an ablation: one HTML page that needs no network and runs no script, and its figures and tables as files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import fewshot
from episodes.files import atomic_write
from experiments.engine.answer import answer, first_line
from experiments.engine.figures import drawings
from experiments.engine.pairing import column_name
from experiments.engine.results import Findings
from experiments.engine.text import accuracy_table, to_latex
from fewshot.report.page import TEMPLATES

PAGE, LATEX = "report.html", "table.tex"


def write_report(findings: Findings, folder: Path) -> Path:
    """Write report.html, table.tex, and each figure as PNG, SVG and CSV.

    Args:
        findings: Of an ablation.
        folder: Where they go; it is there.

    Returns:
        The page's path.
    """
    drawn = drawings(findings)
    for drawing in drawn:
        for suffix, content in (("png", drawing.png), ("svg", drawing.svg)):
            with atomic_write(folder / f"{drawing.name}.{suffix}", "wb") as binary:
                binary.write(content)
        with atomic_write(folder / f"{drawing.name}.csv") as file:
            file.write(drawing.numbers.to_csv(index=False, lineterminator="\n"))
    latex = to_latex(findings)
    with atomic_write(folder / LATEX) as file:
        file.write(latex)
    pictures = [(each, f"data:image/png;base64,{base64.b64encode(each.png).decode()}") for each in drawn]
    with atomic_write(folder / PAGE) as file:
        file.write(
            _render(
                note=findings.note,
                first_line=first_line(findings.note),
                answer=answer(findings),
                table=accuracy_table(findings),
                costs=_costs(findings),
                pictures=pictures,
                comparisons=_comparisons(findings),
                validation=_validation(findings),
                latex=latex,
                version=fewshot.__version__,
            )
        )
    return folder / PAGE


def _render(**values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number, what: f"{number} {what}{'' if number == 1 else 's'}"
    return environment.get_template("page.html").render(**values)


def _costs(findings: Findings) -> dict[str, tuple[str, str]]:
    """Condition -> seconds of training and megabytes, where they are known."""
    means = findings.results.groupby("condition")[["seconds", "peak_memory_mb"]].mean().dropna(how="all")
    return {str(name): (_whole(row["seconds"]), _whole(row["peak_memory_mb"])) for name, row in means.iterrows()}


def _whole(number: float) -> str:
    return "–" if number != number else f"{number:,.0f}"


def _comparisons(findings: Findings) -> list[tuple[str, list[dict[str, Any]]]]:
    """Each family, such as "asked, by set", with its rows."""
    families: dict[str, list[dict[str, Any]]] = {}
    for row in findings.comparisons.to_dict("records"):
        points = f"{100 * row['difference']:+.1f} ± {100 * row['ci95']:.1f}"
        p = "–" if row["p_holm"] != row["p_holm"] else "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
        told = {
            "on": column_name(row["set"], row["shots"]),
            "points": points,
            "p": p,
            "positive": row["difference"] > 0,
        }
        families.setdefault(row["family"], []).append({**{key: row[key] for key in ("a", "b", "real")}, **told})
    return list(families.items())


def _validation(findings: Findings) -> list[dict[str, Any]]:
    runs = findings.results[findings.results["run"] != "untouched"].drop_duplicates("run")
    return [
        {
            "name": f"{row['condition']}, seed {row['seed']}",
            "cells": [
                f"{100 * row['val_untouched']:.1f}",
                f"{100 * row['val_accuracy']:.1f} ± {100 * row['val_ci95']:.1f}",
                f"{100 * row['val_difference']:+.1f} ± {100 * row['val_difference_ci95']:.1f}",
                f"{row['kept_alpha']:g}" if row["kept_alpha"] else "untouched",
            ],
        }
        for row in runs.to_dict("records")
    ]
