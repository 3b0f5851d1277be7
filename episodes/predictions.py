"""The result CSV: its columns, writing and reading.

Read with the csv module, as text only: pandas would make something else of a class called ``NA`` or ``007``.
"""

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from episodes.errors import DataError, UsageError
from episodes.files import atomic_write, display_name, is_printable
from episodes.formulas import defuse

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("task", "image", "label", "confidence")
OFFERED = {
    **dict.fromkeys(COLUMNS, ""),
    "runner_up": "the second-best class",
    "margin": "the confidence less the runner-up's",
    "truth": "the true label",
}
_LONGEST_LINE = 1 << 20  # characters
_NUMBERS = ("confidence", "margin")  # with 4 decimals
NEEDED = COLUMNS[:3]  # of a file of labels
UNKNOWN_LABEL = "unknown"  # the answer of --reject
StrPath = str | os.PathLike[str]


def parse_columns(text: str, offered: Iterable[str] = OFFERED) -> dict[str, str]:
    """Read ``image=filename,label``: a column -> what it is called in the file, in the file's order.

    Args:
        text: names between commas; behind ``=`` what a column is to be called.
        offered: the columns that there are.

    Raises:
        UsageError: a column that there is not, one given twice, two called the same, or none.
    """
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    pairs = [(name.strip(), called.strip() if equals else name.strip()) for name, equals, called in parts]
    known, (names, headers) = list(offered), (list(side) for side in (zip(*pairs, strict=True) if pairs else ((), ())))
    distinct = len(set(names)) == len(names) and len(set(headers)) == len(headers)
    if not pairs or not set(names) <= set(known) or not distinct or not all(headers):
        raise UsageError(
            f"columns {text!r}: expected distinct names out of {','.join(known)}, each with =NAME behind it if it is to be called "
            "otherwise, such as image=filename,label"
        )
    return dict(pairs)


def write_predictions(
    frame: "pd.DataFrame | Mapping[str, Sequence[Any]]",
    path: StrPath,
    columns: Sequence[str] | Mapping[str, str] = COLUMNS,
    *,
    defuse_formulas: bool = False,
) -> None:
    """Write rows as they come: UTF-8, LF, a header, confidence and margin with 4 decimals, '' where there is no label.

    Args:
        frame: at least the columns asked for, of equal lengths.
        path: replaced in one step.
        columns: which columns, in which order; as a mapping, with what each is called in the file.
        defuse_formulas: put ``'`` before names that a spreadsheet would compute; scoring knows them all the same.

    Raises:
        UsageError: a column that there is not, one given twice, or none.
        DataError: the place cannot be written.
    """
    wanted, there = list(columns), list(frame)
    unknown = [name for name in wanted if name not in there]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise UsageError(f"columns are distinct and among {', '.join(map(str, there))}; found {', '.join(wanted)}")
    texts = [[_text(name, value) for value in _plain(frame[name])] for name in wanted]
    if defuse_formulas:
        texts = [list(map(defuse, column)) for column in texts]
    with atomic_write(path) as stream:
        # Told of both line ends, the writer quotes names that hold either; rows still end in LF.
        writer = csv.writer(_UnixLines(stream), lineterminator="\r\n")
        writer.writerow(columns.values() if isinstance(columns, Mapping) else wanted)
        writer.writerows(zip(*texts, strict=True))


class _UnixLines:
    """Rows that end in CR LF -> the same rows ended by LF; the writer hands over one row at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        return self._stream.write(row.removesuffix("\r\n") + "\n")


def _plain(column: Any) -> list[Any]:
    """Of an array or a Series, Python's own numbers."""
    return list(column.tolist()) if hasattr(column, "tolist") else list(column)


def _text(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if column in _NUMBERS:
        return f"{float(value):.4f}"
    text = str(value)  # a name in a frame is escaped already, and only once
    return text if is_printable(text) else display_name(text)


def read_rows(path: StrPath, needed: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file that has at least the columns ``needed``, in any order.

    Raises:
        DataError: not there, not UTF-8, a column missing or a row of another length; names file and line.
    """
    shown = display_name(os.fspath(path))
    expected = f"a CSV file with the columns {','.join(needed or NEEDED)}"
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            # A line beyond any sense (/dev/zero is one without end) comes in pieces, of which csv refuses the first.
            reader = csv.reader(iter(lambda: stream.readline(_LONGEST_LINE), ""), strict=True)
            header = next(reader, [])
            missing = [name for name in needed if name not in header]
            if missing or len(set(header)) < len(header):
                raise DataError(f"{shown}: expected {expected}, found the header {','.join(header) or '(empty)'}")
            rows = []
            for row in reader:
                if len(row) == len(header):
                    rows.append(row)
                elif row:
                    raise DataError(
                        f"{shown}, line {reader.line_num}: expected {len(header)} values "
                        f"({','.join(header)}), found {len(row)}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"cannot read {shown}: {getattr(error, 'strerror', None) or error}; expected {expected}"
        ) from error
    return header, rows


def read_predictions(path: StrPath) -> "pd.DataFrame":
    """A result CSV as a DataFrame: text as it stands ('' = no label), confidence as a number (NaN = none).

    Raises:
        DataError: see :func:`read_rows`; also where a confidence is not a number.
    """
    import pandas as pd

    header, rows = read_rows(path, NEEDED)
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    if "confidence" in header:
        try:
            frame["confidence"] = [float(text) if text else math.nan for text in frame["confidence"]]
        except ValueError as error:
            raise DataError(f"{display_name(os.fspath(path))}: a confidence is not a number: {error}") from error
    return frame
