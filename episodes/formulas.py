"""Names that a spreadsheet would compute: ``=1+1.png`` in a CSV becomes ``'=1+1.png``, and comes back when it is read.

The apostrophe is what OWASP's page on CSV injection advises; a spreadsheet then shows the text.
"""

import re
from collections.abc import Sequence

# After apostrophes too, so that what was defused is never taken for a name that has one by itself. The last four are the
# full-width forms, which some spreadsheets take for the plain ones.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def defuse(text: str) -> str:
    """``text`` with ``'`` before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def restore(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> list[list[str]]:
    """The rows of a CSV as they were before :func:`defuse`, if it was applied; only ``columns`` are looked at.

    A file with a formula that was left as it is was not defused: its apostrophes are its names' own.
    """
    read = [list(row) for row in rows]
    looks = [(row, column) for row in read for column in columns if _FORMULA.match(row[column])]
    if all(row[column].startswith("'") for row, column in looks):
        for row, column in looks:
            row[column] = row[column][1:]
    return read
