"""ImageTable: every picture once, with its class; a row number is a picture's identity from here on."""

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from episodes.errors import DataError
from episodes.files import display_name
from episodes.notebook import table, thumbnails
from episodes.paths import PathList
from episodes.wording import counted, counted_kind

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
_EXAMPLES = 3
_SHOWN = 10  # classes in a notebook


@dataclass(frozen=True)
class PassedOver:
    """What a scan left out: how many by reason, with a few example paths of each."""

    counts: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()  # what is wrong with tasks as tasks: a sentence each, which names the task

    @property
    def total(self) -> int:
        """How many things were left out."""
        return sum(self.counts.values())

    def summary(self) -> str:
        """One line such as ``passed over: 2 hidden (…/.a, …/.b); 1 empty folder (…/c)``; '' if nothing."""
        parts = []
        for reason, count in self.counts.items():
            shown = self.examples.get(reason, ())
            more = ", …" if count > len(shown) else ""
            many = counted_kind(count, reason)
            parts.append(f"{many} ({', '.join(shown)}{more})" if shown else many)
        return "passed over: " + "; ".join(parts) if parts else ""


class PassedOverCounter:
    """Collects what is passed over while a folder is scanned."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, tuple[str, ...]] = {}
        self._faults: list[str] = []

    def fault(self, text: str) -> None:
        """Note what is wrong with a task; it costs no other task anything."""
        self._faults.append(text)

    def add(self, reason: str, *path: str) -> None:
        """Count one thing that is passed over, and keep its path as an example."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        kept = self._examples.get(reason, ())
        if len(kept) < _EXAMPLES:
            self._examples[reason] = (*kept, display_name(os.path.join(*path)))

    def result(self) -> PassedOver:
        """What was collected."""
        return PassedOver(self._counts, self._examples, tuple(self._faults))


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Pictures and their classes.

    Attributes:
        items: (n,) paths, or other keys where the pictures live elsewhere (a data set of one's own).
        labels: (n,) int32, -1 where the class is unknown.
        class_names: (C,) distinct names; position = label.
        passed_over: what the scan left out.

    Raises:
        DataError: no pictures, lengths that differ, a label without a class, or a class name twice.
    """

    items: Sequence[Path | Hashable]
    labels: IntArray
    class_names: tuple[str, ...]
    passed_over: PassedOver = field(default_factory=PassedOver)

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"labels of an ImageTable are integers, found {labels.dtype}")
        object.__setattr__(self, "labels", labels.astype(np.int32, copy=False))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if labels.ndim != 1 or len(labels) != len(self.items):
            raise DataError(f"an ImageTable takes one label an item: {len(self.items)} items, labels {labels.shape}")
        if not len(labels):
            raise DataError("an ImageTable needs at least one picture, found none")
        if labels.min() < -1 or labels.max() >= len(self.class_names):
            raise DataError(
                f"labels of an ImageTable with {len(self.class_names)} classes lie in "
                f"-1…{len(self.class_names) - 1}, found {labels.min()}…{labels.max()}"
            )
        if len(set(self.class_names)) < len(self.class_names):
            twice = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
            raise DataError(f"class names are distinct; these appear twice: {', '.join(twice[:5])}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<ImageTable of {self.summary()}>"

    def _repr_html_(self) -> str:
        """Up to ten classes with a few pictures each."""
        shown = range(min(_SHOWN, len(self.class_names)))
        rows = [(self.class_names[i], int(self.counts[i]), thumbnails(self, self.rows_of(i).tolist())) for i in shown]
        more = len(self.class_names) - len(shown)
        return table(("class", "pictures", ""), rows, self.summary() + (f"; {more} more classes" if more else ""))

    def summary(self) -> str:
        """How much there is: ``24 pictures in 3 classes``."""
        return f"{counted(len(self), 'picture')} in {counted(len(self.class_names), 'class', 'classes')}"

    @cached_property
    def counts(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(C,) pictures of each class."""
        known = self.labels if self.labels.min() >= 0 else self.labels[self.labels >= 0]
        return np.bincount(known, minlength=len(self.class_names)).astype(np.int64, copy=False)

    @cached_property
    def grouping(
        self,
    ) -> "tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]] | None]":
        """(C,) where each class starts in the list of rows by class, and that list (None: row = position)."""
        order: np.ndarray[Any, np.dtype[np.int64]] | None = None
        if bool((self.labels[1:] < self.labels[:-1]).any()):
            order = np.argsort(self.labels, kind="stable").astype(np.int64, copy=False)
        first_known = int((self.labels < 0).sum())
        starts = first_known + np.concatenate([[0], np.cumsum(self.counts)[:-1]]).astype(np.int64)
        return starts[: len(self.class_names)], order

    def rows_of(self, label: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(n_c,) the rows of one class, ascending."""
        if not 0 <= label < len(self.class_names):
            raise DataError(f"there is no class {label}: the table has {len(self.class_names)} classes")
        starts, order = self.grouping
        start, stop = int(starts[label]), int(starts[label] + self.counts[label])
        return np.arange(start, stop, dtype=np.int64) if order is None else order[start:stop]

    def select_classes(self, labels: Sequence[int]) -> "ImageTable":
        """The pictures of some classes, relabelled 0… in the given order; rows keep their order."""
        wanted = [int(label) for label in labels]
        if not wanted or len(set(wanted)) < len(wanted):
            raise DataError(f"select_classes takes one or more distinct labels, found {wanted[:20]}")
        if min(wanted) < 0 or max(wanted) >= len(self.class_names):
            raise DataError(f"labels lie in 0…{len(self.class_names) - 1}, found {min(wanted)}…{max(wanted)}")
        # One slot more than there are classes: label -1 lands on it and stays -1.
        renumbered = np.full(len(self.class_names) + 1, -1, dtype=np.int32)
        renumbered[wanted] = np.arange(len(wanted), dtype=np.int32)
        new_labels = renumbered[self.labels]
        rows = np.flatnonzero(new_labels >= 0)
        names = tuple(self.class_names[label] for label in wanted)
        return ImageTable(_take(self.items, rows), new_labels[rows], names, self.passed_over)

    def select_rows(self, rows: Sequence[int] | IntArray) -> "ImageTable":
        """Some pictures, in the given order, with all the classes as they are."""
        wanted = np.asarray(rows, dtype=np.int64)
        return ImageTable(_take(self.items, wanted), self.labels[wanted], self.class_names, self.passed_over)

    def paths(self, rows: Iterable[int] | None = None) -> list[str]:
        """The pictures ``rows`` (default: all) as path strings.

        Raises:
            DataError: the items of this table are not paths.
        """
        if isinstance(self.items, PathList):
            return self.items.strings(rows)
        picked = (self.items[row] for row in (range(len(self)) if rows is None else rows))
        return [_as_path(item) for item in picked]

    def image_name(self, row: int) -> str:
        """The name a picture goes by in results: its file name, printable."""
        if isinstance(self.items, PathList):
            return display_name(self.items.names[row])
        item = self.items[row]
        return display_name(item.name if isinstance(item, Path) else str(item))


def _as_path(item: object) -> str:
    if isinstance(item, (str, os.PathLike)):
        return str(os.fspath(item))
    raise DataError(f"this needs pictures on disk, but an item of the table is {item!r}, not a path")


def _take(items: Sequence[Path | Hashable], rows: IntArray) -> Sequence[Path | Hashable]:
    return items.take(rows) if isinstance(items, PathList) else [items[row] for row in rows.ravel().tolist()]
