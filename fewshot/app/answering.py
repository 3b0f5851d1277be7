"""Names for the pictures of a workspace, as `fewshot predict` gives them, with the support pictures that lie nearest to each."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewshot.app.naming import distinct, write_task
from fewshot.app.workspace import Workspace
from fewshot.predict import Prediction

# What answers: (folder that holds testB, name of the classifier, told of pictures done) -> the prediction.
Answer = Callable[[Path, str, Callable[[int, int], None]], Prediction]
_NEAREST = 3


@dataclass(frozen=True)
class Named:
    """Answers as the page shows them, and the files that hold them."""

    document: dict[str, Any]
    result: Path
    report: Path


class Naming:
    """Names a workspace's pictures, one workspace at a time: they share an encoder."""

    def __init__(self, answer: Answer, write: Callable[[Prediction, str, Path, Path], None]) -> None:
        """Store what does the work.

        Args:
            answer: predicts a task.
            write: writes the result's CSV and the report of a prediction by a classifier.
        """
        self._answer, self._write = answer, write
        self._one = threading.Lock()
        self.progress = (0, 0)

    def __call__(self, workspace: Workspace, classifier: str) -> Named:
        """The answers, in the order in which the pictures were added.

        Raises:
            UsageError: fewer than two classes with pictures, or nothing to name.
            DataError: as `fewshot.predict.predict`.
        """
        with self._one:
            self.progress = (0, 0)
            with workspace.lock:  # what is answered is one state of it
                root = workspace.folder / "task"
                shutil.rmtree(root, ignore_errors=True)
                classes = {name: workspace.files(ids) for name, ids in workspace.classes.items()}
                places = write_task(
                    root / "testB" / workspace.task_name, classes, workspace.files(workspace.queries), copy=False
                )
                ids = [number for of_class in workspace.classes.values() for number in of_class]
                queries, changes = list(workspace.queries), workspace.changes
                names = distinct(name for name, _ in workspace.files(queries))
            prediction = self._answer(root, classifier, self._tell)
            result, report = workspace.folder / "result.csv", workspace.folder / "report.html"
            self._write(prediction, classifier, result, report)
        pictures = dict(enumerate([*ids, *queries]))
        by_row = [pictures[places[path]] for path in prediction.table.paths()]
        document = {
            "answers": _answers(prediction, by_row, dict(zip(queries, names, strict=True))),
            "warnings": warnings_of(prediction, root),
            "classifier": classifier,
            "changes": changes,
        }
        return Named(document, result, report)

    def _tell(self, done: int, total: int) -> None:
        self.progress = (done, total)


def _answers(prediction: Prediction, by_row: list[int], names: dict[int, str]) -> list[dict[str, Any]]:
    """One a picture: id, name, label ('' where there is none), confidence, the nearest support pictures with their cosine."""
    (episode,) = prediction.episodes
    features, readable = prediction.embeddings.features, prediction.embeddings.readable
    support = [row for row in episode.support.tolist() if readable[row]]
    found = {}
    for row, answer in zip(prediction.results.row.tolist(), prediction.frame.itertuples(), strict=True):
        near: list[list[float]] = []
        if readable[row] and support:
            cosines = features[support] @ features[row]
            order = cosines.argsort(descending=True, stable=True)[:_NEAREST].tolist()
            near = [[by_row[support[i]], round(float(cosines[i]), 3)] for i in order]
        label = str(answer.label)
        found[by_row[row]] = {
            "id": by_row[row],
            "name": str(answer.image),
            "label": label,
            "confidence": round(float(answer.confidence), 4) if label else None,
            "nearest": near,
        }
    return [found[number] for number in names]


def warnings_of(prediction: Prediction, root: Path) -> list[str]:
    """What is broken, a sentence each, in the words of `fewshot predict` but without the folder that only the page knows."""
    inside = str(prediction.table.paths([0])[0]).rpartition("/testB/")[0] or str(root)
    told = [fault.replace(f"{inside}/testB/", "") for fault in prediction.faults]
    for path, problem in sorted(prediction.unreadable.items()):
        told.append(f"{path.rpartition('/testB/')[2].partition('/')[2]} cannot be read ({problem})")
    for _, name in prediction.lost_classes:
        told.append(f"class {name} has no readable picture: it cannot be an answer")
    return told
