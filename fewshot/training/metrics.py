"""metrics.csv: every number of a run, rewritten whole after each row so that a killed run leaves a complete file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from episodes.files import atomic_write

COLUMNS = (
    "kind",  # untouched, epoch, wise-ft, decision
    "epoch",
    "step",
    "loss",
    "prototypical_loss",
    "class_loss",
    "prototypical_share",  # of the gradient at the embeddings; the class loss has the rest
    "train_accuracy",
    "visual_lr",
    "classifier_lr",
    "scale",
    "alpha",
    "val_accuracy",
    "val_ci95",
    "val_episodes",
    "difference",  # paired, best mix minus untouched
    "difference_ci95",
    "images_per_second",
    "seconds",
)
TIME_COLUMNS = ("images_per_second", "seconds")

Row = dict[str, Any]


class Metrics:
    """The rows of a run, kept in step with its metrics.csv and, where TensorBoard is installed, its event files."""

    def __init__(self, folder: Path, rows: list[Row] | None = None) -> None:
        """Open metrics.csv, with the rows of an earlier part of the run.

        Args:
            folder: of the run.
            rows: those of the part of the run before it was resumed.
        """
        self._folder = folder
        self.rows = list(rows or [])
        steps = [int(row["step"]) for row in self.rows if row.get("step") is not None]
        self._board = _board(folder, max(steps) + 1 if steps else 0)

    def add(self, kind: str, **values: float | int | None) -> None:
        """Append a row and write the file.

        Raises:
            KeyError: a value without a column.
        """
        unknown = set(values) - set(COLUMNS)
        if unknown:
            raise KeyError(f"metrics.csv has no column {sorted(unknown)}")
        row: Row = {"kind": kind, **values}
        self.rows.append(row)
        self.write()
        if self._board is not None and values.get("step") is not None:
            for name, value in values.items():
                if name not in ("step", "epoch") and value is not None:
                    self._board.add_scalar(name, value, values["step"])
            self._board.flush()

    def write(self) -> None:
        """Write metrics.csv."""
        with atomic_write(self._folder / "metrics.csv") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in self.rows:
                writer.writerow([_cell(row.get(column)) for column in COLUMNS])

    def close(self) -> None:
        """Let the event file go; its writer has a thread of its own, which would otherwise last as long as the process."""
        if self._board is not None:
            self._board.close()


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def _board(folder: Path, resumed: int) -> Any:
    """A TensorBoard writer, where TensorBoard is installed; what an interrupted part wrote from step `resumed` on is void."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=resumed)
