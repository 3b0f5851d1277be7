"""The page of claims: a section each, and above them a list of the bars that were missed.

A section has a row for everything that was measured on (an image set, an encoder and a classifier, say) and a column for every figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from experiments.claims.base import Row

HEAD = """# What the program claims, and what was measured

    python -m experiments claims --data DIR        # DIR: tin, omniglot, grocery and pacs as class folders; writes this page

Each claim that the program makes in its output, how it was tested, and the figures, with what the program says (*nominal*) and a bar at the
head of their column: between which figures the claim counts as true. Nothing was chosen on tin novel, omniglot novel, grocery and pacs;
settings were chosen on tin val and omniglot base. Of columns without a bar nothing is demanded.

Whether a classifier is as good as easyfsl's or scikit-learn's of that name is another question, with a command of its own
(`python -m experiments.counterparts`): the figures, and the losses that remain, are in
[classifiers.md](classifiers.md#against-easyfsl-and-scikit-learn).
"""
_MISSED = re.compile(r"^- (.* \*\*missed\*\* by .*)$", re.MULTILINE)
_SECONDS = re.compile(r"^\*Measured in ([\d,]+) seconds", re.MULTILINE)
_HEADING = re.compile(r"^## ", re.MULTILINE)
_SUMMARY = "Bars missed"


def section(claim: str, rows: Sequence[Row], seconds: float) -> str:
    """The text of one section below its heading: the claim, its tables, the bars missed, and the processor seconds it took."""
    parts = [claim.strip(), *_tables(rows)]
    missed = [_told(row) for row in rows if row.has_bar and not row.passed]
    if missed:
        parts.append("\n".join(missed))
    return "\n\n".join([*parts, f"*Measured in {seconds:,.0f} seconds of one core.*"])


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    """Tables of what was measured on, one for all that have the same columns."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(row.on, []).append(row)
    tables: dict[tuple[str, ...], list[str]] = {}
    for on, found in lines.items():
        line = " | ".join([on, *map(_cell, found)])
        tables.setdefault(tuple(map(_column, found)), []).append(f"| {line} |")
    for columns, body in tables.items():
        yield "\n".join([f"| on | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *body])


def _column(row: Row) -> str:
    nominal = "" if row.nominal is None else f"nominal {_number(row.nominal, row.unit)}"
    bar = f"bar {_bar(row)}" if row.has_bar else ""
    known = "; ".join(filter(None, (nominal, bar)))
    return f"{row.what} ({known})" if known else row.what


def _cell(row: Row) -> str:
    text = _measured(row)
    if row.has_bar and not row.passed:
        text = f"**{text}: missed**"
    return f"{text} ({row.note})" if row.note else text


def _told(row: Row) -> str:
    unit = {"%": "points", "": ""}.get(row.unit, row.unit)
    by = f"{row.missed_by:.1f} {unit}".rstrip()
    return f"- {row.what}, {row.on}: {_measured(row)} (bar {_bar(row)}), **missed** by {by}"


def _measured(row: Row) -> str:
    return _number(row.measured, row.unit) + (f" ± {row.ci95:.1f}" if row.ci95 is not None else "")


def _number(value: float, unit: str) -> str:
    return f"{value:+.1f}" if unit == "points" else f"{value:.1f} {unit}".strip()


def _bar(row: Row) -> str:
    low, high = _number(row.low, row.unit), _number(row.high, row.unit)
    if row.low == float("-inf"):
        return f"≤ {high}"
    return f"≥ {low}" if row.high == float("inf") else f"{low} to {high}"


def sections_of(page: str) -> dict[str, str]:
    """Heading -> text of the sections of a page that was written before; the summary is none of them."""
    found = {}
    for part in _HEADING.split(page)[1:]:
        heading, _, text = part.partition("\n")
        found[heading.strip()] = text.strip()
    found.pop(_SUMMARY, None)
    return found


def page_of(sections: Mapping[str, str]) -> str:
    """The whole page: head, the figures that missed their bar, and the sections in their order."""
    missed = [f"- {name}: {line}" for name, text in sections.items() for line in _MISSED.findall(text)]
    seconds = sum(int(each.replace(",", "")) for text in sections.values() for each in _SECONDS.findall(text))
    parts = [
        f"{HEAD}\nThe whole page takes {seconds / 60:.0f} minutes of one core, once the pictures are embedded.\n",
        f"## {_SUMMARY}\n",
        "\n".join(missed or ["None."]) + "\n",
        *(f"## {name}\n\n{text}\n" for name, text in sections.items()),
    ]
    return "\n".join(parts)
