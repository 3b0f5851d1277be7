"""The result CSV and the truth CSV: writing, reading, and scoring one against the other.

Read with the csv module, as text only: pandas would make something else of a class called ``NA`` or ``007``.
"""

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from episodes.errors import DataError, UsageError
from episodes.files import atomic_write, display_name, is_printable, natural_key
from episodes.formulas import Labels, closest_reading, defuse

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("task", "image", "label", "confidence")
_NAMED = 5
StrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class ScoreResult:
    """Accuracy of a result CSV: mean over tasks in [0, 1], 95 % half-width, and the accuracy of each task."""

    accuracy: float
    ci95: float
    images: int
    tasks: int
    per_task: dict[str, float]


def write_predictions(
    frame: "pd.DataFrame", path: StrPath, columns: Sequence[str] = COLUMNS, *, defuse_formulas: bool = False
) -> None:
    """Write rows as they come: UTF-8, LF, a header, confidence with 4 decimals, '' where there is no label.

    Args:
        frame: at least the columns asked for.
        path: replaced in one step.
        columns: which columns, in which order.
        defuse_formulas: put ``'`` before names that a spreadsheet would compute; scoring knows them all the same.

    Raises:
        UsageError: a column that there is not, one given twice, or none.
        DataError: the place cannot be written.
    """
    wanted = list(columns)
    unknown = [name for name in wanted if name not in frame.columns]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise UsageError(
            f"columns are distinct and among {', '.join(map(str, frame.columns))}; found {', '.join(wanted)}"
        )
    texts = [[_text(name, value) for value in frame[name].tolist()] for name in wanted]
    if defuse_formulas:
        texts = [list(map(defuse, column)) for column in texts]
    with atomic_write(path) as stream:
        # Told of both line ends, the writer quotes names that hold either; rows still end in LF.
        writer = csv.writer(_UnixLines(stream), lineterminator="\r\n")
        writer.writerow(wanted)
        writer.writerows(zip(*texts, strict=True))


class _UnixLines:
    """Rows that end in CR LF -> the same rows ended by LF; the writer hands over one row at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, row: str) -> int:
        return self._stream.write(row.removesuffix("\r\n") + "\n")


def _text(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if column == "confidence":
        return f"{float(value):.4f}"
    text = str(value)  # a name in a frame is escaped already, and only once
    return text if is_printable(text) else display_name(text)


def read_rows(path: StrPath, needed: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file that has at least the columns ``needed``, in any order.

    Raises:
        DataError: not there, not UTF-8, a column missing or a row of another length; names file and line.
    """
    shown = display_name(os.fspath(path))
    expected = f"a CSV file with the columns {','.join(needed)}"
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
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


def read_labels(path: StrPath) -> Labels:
    """The labels of a truth or result CSV: task -> image -> label.

    Raises:
        DataError: see :func:`read_rows`; also where an image of a task appears twice, or there are no rows.
    """
    header, rows = read_rows(path, COLUMNS[:3])
    task, image, label = (header.index(name) for name in COLUMNS[:3])
    labels: Labels = {}
    twice = []
    for row in rows:
        of_task = labels.setdefault(row[task], {})
        if row[image] in of_task:
            twice.append(f"{row[task]}/{row[image]}")
        of_task[row[image]] = row[label]
    if twice:
        raise DataError(f"{display_name(os.fspath(path))}: rows appear more than once: {name_some(twice)}")
    if not labels:
        raise DataError(f"{display_name(os.fspath(path))} holds a header but no rows")
    return labels


def read_predictions(path: StrPath) -> "pd.DataFrame":
    """A result CSV as a DataFrame: text as it stands ('' = no label), confidence as a number (NaN = none).

    Raises:
        DataError: see :func:`read_rows`; also where a confidence is not a number.
    """
    import pandas as pd

    header, rows = read_rows(path, COLUMNS[:3])
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    if "confidence" in header:
        try:
            frame["confidence"] = [float(text) if text else math.nan for text in frame["confidence"]]
        except ValueError as error:
            raise DataError(f"{display_name(os.fspath(path))}: a confidence is not a number: {error}") from error
    return frame


def read_truth(path: StrPath) -> "pd.DataFrame":
    """A truth CSV (``task,image,label``) as a DataFrame of text; raises as :func:`read_labels` does."""
    import pandas as pd

    rows = [(task, image, label) for task, of in read_labels(path).items() for image, label in of.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS[:3]), dtype=object)


def score_predictions(result_csv: StrPath, truth_csv: StrPath) -> ScoreResult:
    """Accuracy of a result CSV; an empty label counts as wrong.

    Raises:
        DataError: the files do not list the same images, an image appears twice, or a true label is empty.
    """
    from episodes.statistics import mean_interval, task_accuracies  # numpy: the names of the columns need none

    found, truth = read_labels(result_csv), read_labels(truth_csv)
    result_name, truth_name = display_name(os.fspath(result_csv)), display_name(os.fspath(truth_csv))
    if _keys(found) != _keys(truth) or not _names(found) <= _names(truth):  # one of them may be defused
        found = closest_reading(found, _keys(truth), _names(truth))
        truth = closest_reading(truth, _keys(found), _names(found))
    expected_keys, found_keys = _keys(truth), _keys(found)
    missing, extra = expected_keys - found_keys, found_keys - expected_keys
    if missing:
        raise DataError(f"{result_name} lacks {len(missing)} images of {truth_name}: {name_some(_slashed(missing))}")
    if extra:
        raise DataError(f"{result_name} has {len(extra)} images that {truth_name} lacks: {name_some(_slashed(extra))}")
    empty = [f"{task}/{image}" for task, of in truth.items() for image, label in of.items() if not label]
    if empty:
        raise DataError(f"{truth_name} has rows without a label: {name_some(empty)}")
    names = sorted(truth, key=natural_key)
    task = [number for number, name in enumerate(names) for _ in truth[name]]
    right = [found[name][image] == label for name in names for image, label in truth[name].items()]
    accuracies = task_accuracies(task, right, [True] * len(right), len(names))
    mean, half_width = mean_interval(accuracies)
    return ScoreResult(
        mean, half_width, len(right), len(names), dict(zip(names, accuracies.ravel().tolist(), strict=True))
    )


def _names(labels: Labels) -> set[str]:
    return {name for of in labels.values() for name in of.values()}


def _keys(labels: Labels) -> set[tuple[str, str]]:
    return {(task, image) for task, of in labels.items() for image in of}


def _slashed(keys: set[tuple[str, str]]) -> list[str]:
    return sorted((f"{task}/{image}" for task, image in keys), key=natural_key)


def name_some(names: Sequence[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
