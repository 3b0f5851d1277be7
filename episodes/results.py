"""Results of an evaluation: every answer, accuracy by episode, mean with 95 % interval, a DataFrame."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from episodes.class_interval import Losses, accuracy_for_new_classes, new_classes_ci95
from episodes.episode import UNKNOWN
from episodes.labels import read_truth
from episodes.notebook import table as html_table
from episodes.paired import PairedDifference, paired_difference
from episodes.predictions import read_predictions, write_predictions
from episodes.scoring import ScoreResult, score_predictions
from episodes.statistics import mean_interval, task_accuracies
from episodes.table import ImageTable
from episodes.wording import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PairedDifference",
    "Results",
    "ScoreResult",
    "mean_interval",
    "paired_difference",
    "read_predictions",
    "read_truth",
    "score_predictions",
    "write_predictions",
]

_SHOWN = 10  # episodes in a notebook
Int64Array = np.ndarray[Any, np.dtype[np.int64]]
Float64Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Results:
    """M answers to the queries of T episodes, in episode order and then query order.

    Attributes:
        names: (T,) names of the episodes.
        vocabulary: class names that ``predicted`` and ``truth`` point into.
        episode: (M,) int64 number of the episode.
        row: (M,) int64 row of the picture in its table.
        predicted: (M,) int64 vocabulary id, -1 = no answer (an unreadable picture, a task without classes).
        truth: (M,) int64 vocabulary id, -1 = unknown, -2 = none of the episode's classes.
        confidence: (M,) float32 probability of the answer, NaN where there is none.
        runner_up: (M,) int64 vocabulary id of the second-best class, -1 = none; None where nobody asked for it.
        margin: (M,) float32 confidence less the runner-up's: the smaller, the less sure; None as above.
        classes: (T, N) int64 vocabulary ids of the episodes' classes, -1 = padding; None where they are not known.
    """

    names: Sequence[str]
    vocabulary: tuple[str, ...]
    episode: Int64Array
    row: Int64Array
    predicted: Int64Array
    truth: Int64Array
    confidence: np.ndarray[Any, np.dtype[np.float32]]
    runner_up: Int64Array | None = None
    margin: np.ndarray[Any, np.dtype[np.float32]] | None = None
    classes: Int64Array | None = None

    @cached_property
    def accuracy(self) -> Float64Array:
        """(T,) share of right answers; no answer counts as wrong; NaN where no true label is known."""
        right = self.predicted == self.truth
        return task_accuracies(self.episode, right, self.truth != UNKNOWN, len(self.names))

    @cached_property
    def _interval(self) -> tuple[float, float]:
        return mean_interval(self.accuracy)

    @property
    def mean(self) -> float:
        """Mean accuracy over the episodes whose truth is known."""
        return self._interval[0]

    @property
    def ci95(self) -> float:
        """Half-width of the 95 % interval of the mean, over episodes of this pool of classes and pictures."""
        return self._interval[1]

    @cached_property
    def new_classes(self) -> tuple[float, float]:
        """95 % interval (low, high) of the mean accuracy over episodes of new classes like these; NaN below three classes.

        See :mod:`episodes.class_interval`.
        """
        losses = Losses(self.episode, self.truth, ((1, self.predicted),), self.classes)
        return accuracy_for_new_classes(self.mean, new_classes_ci95(losses))

    @property
    def unanswered(self) -> int:
        """How many queries have no answer."""
        return int((self.predicted < 0).sum())

    def summary(self) -> str:
        """One line: accuracy with its interval, episodes, queries, and what was left without an answer."""
        known = int((~np.isnan(self.accuracy)).sum())
        size = f"{counted(len(self.names), 'episode')}, {counted(len(self.row), 'query', 'queries')}"
        if known == 0:
            text = f"{size}; no true labels, so no accuracy"
        else:
            text = f"{self.mean:.2%} ± {self.ci95:.2%} ({size})"
            text += f"; truth known in {counted(known, 'episode')}" if known < len(self.names) else ""
        if self.unanswered:
            text += f"; {counted(self.unanswered, 'query', 'queries')} without an answer" + (
                ", counted as wrong" if known else ""
            )
        return text

    def __repr__(self) -> str:
        return f"<Results: {self.summary()}>"

    def _repr_html_(self) -> str:
        """The summary, and the episodes that went worst."""
        order = np.argsort(np.nan_to_num(self.accuracy, nan=2.0), kind="stable")[:_SHOWN]
        counts = np.bincount(self.episode, minlength=len(self.names))
        rows = [
            (self.names[i], int(counts[i]), "unknown" if np.isnan(self.accuracy[i]) else f"{self.accuracy[i]:.1%}")
            for i in order.tolist()
        ]
        return html_table(("episode", "queries", "accuracy"), rows, f"{self.summary()}; the worst:")

    def to_frame(self, table: ImageTable) -> "pd.DataFrame":
        """DataFrame with task, image, label, confidence, truth, and where they are known runner_up, margin; '' = no label."""
        import pandas as pd

        return pd.DataFrame(self.to_columns(table))

    def to_columns(self, table: ImageTable) -> dict[str, Any]:
        """The columns of `to_frame`, by name: what needs no DataFrame need not load pandas."""
        names = np.array([*self.vocabulary, ""], dtype=object)
        columns = {
            "task": np.array(self.names, dtype=object)[self.episode],
            "image": np.array([table.image_name(row) for row in self.row.ravel().tolist()], dtype=object),
            "label": names[np.maximum(self.predicted, -1)],
            "confidence": self.confidence,
            "truth": names[np.maximum(self.truth, -1)],
        }
        if self.runner_up is not None and self.margin is not None:
            columns |= {"runner_up": names[self.runner_up], "margin": self.margin}
        return columns
