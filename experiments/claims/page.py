"""The page of claims: a section each, and above them a list of the bars that were missed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from experiments.claims.base import Row

HEAD = """# What the program claims, and what was measured

    python -m experiments claims --data DIR        # DIR: tin, omniglot, grocery and pacs as class folders; writes this page

Each claim that the program makes in its output, how it was tested, and the figures: what it says (*nominal*) and what is true (*measured*).
Nothing was chosen on tin novel, omniglot novel, grocery and pacs; settings were chosen on tin val and omniglot base. A bar says between
which figures the claim counts as true; a missed one says by how much. Rows without a bar are told, and nothing is demanded of them.
"""
_ROW = re.compile(r"^\| .* \| \*\*missed\*\* by .* \|$", re.MULTILINE)
_HEADING = re.compile(r"^## ", re.MULTILINE)
_SUMMARY = "Bars missed"


def section(claim: str, rows: Sequence[Row], seconds: float) -> str:
    """The text of one section below its heading: the claim, the table, how long it took."""
    lines = [claim.strip(), "", "| what | on | nominal | measured | bar | |", "|---|---|---|---|---|---|"]
    lines += [_line(row) for row in rows]
    return "\n".join([*lines, "", f"*Measured in {seconds:,.0f} seconds.*"])


def _line(row: Row) -> str:
    measured = _number(row.measured, row.unit) + (f" ± {row.ci95:.1f}" if row.ci95 is not None else "")
    nominal = "" if row.nominal is None else _number(row.nominal, row.unit)
    return f"| {row.what} | {row.on} | {nominal} | {measured} | {_bar(row)} | {_verdict(row)} |"


def _number(value: float, unit: str) -> str:
    return f"{value:+.1f}" if unit == "points" else f"{value:.1f} {unit}".strip()


def _bar(row: Row) -> str:
    if not row.has_bar:
        return ""
    low, high = _number(row.low, row.unit), _number(row.high, row.unit)
    if row.low == float("-inf"):
        return f"≤ {high}"
    return f"≥ {low}" if row.high == float("inf") else f"{low} to {high}"


def _verdict(row: Row) -> str:
    if not row.has_bar:
        return ""
    if row.passed:
        return "passed"
    unit = {"%": "points", "": ""}.get(row.unit, row.unit)
    return f"**missed** by {row.missed_by:.1f} {unit}".rstrip()


def sections_of(page: str) -> dict[str, str]:
    """Heading -> text of the sections of a page that was written before; the summary is none of them."""
    found = {}
    for part in _HEADING.split(page)[1:]:
        heading, _, text = part.partition("\n")
        found[heading.strip()] = text.strip()
    found.pop(_SUMMARY, None)
    return found


def page_of(sections: Mapping[str, str]) -> str:
    """The whole page: head, the rows that missed their bar, and the sections in their order."""
    missed = [f"- {name}: {_told(line)}" for name, text in sections.items() for line in _ROW.findall(text)]
    summary = missed or ["None."]
    parts = [HEAD, f"## {_SUMMARY}\n", "\n".join(summary) + "\n"]
    parts += [f"## {name}\n\n{text}\n" for name, text in sections.items()]
    return "\n".join(parts)


def _told(line: str) -> str:
    what, on, _, measured, bar, verdict = (cell.strip() for cell in line.strip("|").split(" | "))
    return f"{what}, {on}: {measured} (bar {bar}), {verdict}"
