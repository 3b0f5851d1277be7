"""Names that a spreadsheet would compute: ``=1+1.png`` in a CSV becomes ``'=1+1.png``, and is still known for what it is.

The apostrophe is what OWASP's page on CSV injection advises; a spreadsheet then shows the text.
"""

import re
from collections.abc import Iterable

Labels = dict[str, dict[str, str]]  # task -> image -> label

# After apostrophes too, so that what was defused is never taken for a name that has one by itself. The last four are the
# full-width forms, which some spreadsheets take for the plain ones.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def defuse(text: str) -> str:
    """``text`` with ``'`` before it if a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def restore(text: str) -> str:
    """What :func:`defuse` made ``text`` from."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def closest_reading(labels: Labels, keys: set[tuple[str, str]], names: Iterable[str]) -> Labels:
    """A file's labels as they are, or restored if those fit better: a file does not say whether it was defused.

    Args:
        labels: as they stand in the file.
        keys: (task, image) that it should have.
        names: labels that it may have.
    """
    known = {*names, ""}
    restored = {restore(t): {restore(i): restore(name) for i, name in of.items()} for t, of in labels.items()}

    def strangers(reading: Labels) -> int:
        found = {(task, image) for task, of in reading.items() for image in of}
        return len(found ^ keys) + len({name for of in reading.values() for name in of.values()} - known)

    return min(labels, restored, key=strangers)  # the first of equals
