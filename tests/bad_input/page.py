"""docs/bad-input.md, made of the tables that the tests run: `python -m tests.bad_input.page` writes it anew."""

from __future__ import annotations

from pathlib import Path

from tests.bad_input.browsing import ASKS
from tests.bad_input.case import Case, Group
from tests.bad_input.pictures import KINDS, Kind
from tests.bad_input.table import GROUPS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bad-input.md"
ENDS = {0: "0, done", 1: "1, nothing written", 2: "2, nothing written", 3: "3, done, named"}
HEAD = """# What bad input gets

Made by `python -m tests.bad_input.page` of the tables in `tests/bad_input/`, which `make test` runs row by row: {total} kinds.
No row of a result was lost, none was added, and no older file was harmed, in any of them.

Exit status: 0 done; 1 a fault in the input, 2 a fault in what was asked for (nothing is written, an older result stays); 3 done,
but some input could not be read (each is named). `--strict` makes 1 of 3.

## Files where a picture belongs

As a query: a picture that can be read is answered; one that cannot keeps its row, with an empty label, and is named with the
reason. As a support picture it is left out and named, and its class too if it was the last. In training the next picture of its
class takes its place. What is passed over has no row and is counted, with examples.
"""

BROWSER = """## The page in the browser (`app`)

200 is taken (what cannot be read is named, and is in no class); everything else changes nothing: classes and pictures stay as they are.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def of_kinds(kinds: tuple[Kind, ...]) -> str:
    rows = [(kind.what, kind.gets if kind.readable or not kind.has_row else f"named: “{kind.gets}”") for kind in kinds]
    return table(("file", "gets"), rows)


def of_case(case: Case) -> tuple[str, ...]:
    unanswered = "; its pictures keep their rows, with empty labels" if case.unanswered else ""
    said = f"“{case.says}”" if case.says else ""
    return case.what, ENDS[case.status] + unanswered, said


def of_group(group: Group) -> str:
    return table(("input", "exit status", "said, among other words"), [of_case(case) for case in group.cases])


def of_asks() -> str:
    rows = [(ask.what, str(ask.status), f"“{ask.says}”" if ask.says else "") for ask in ASKS]
    return table(("sent", "HTTP status", "answered, among other words"), rows)


def page() -> str:
    """The whole page."""
    total = sum(map(len, KINDS.values())) + sum(len(group.cases) for group in GROUPS) + len(ASKS)
    parts = [HEAD.format(total=total)]
    parts += [f"### {title}\n\n{of_kinds(kinds)}\n" for title, kinds in KINDS.items()]
    parts += [f"## {group.title}\n\n{of_group(group)}\n" for group in GROUPS]
    parts.append(f"{BROWSER}\n{of_asks()}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
