"""The numbers of a page against pandas, numpy and scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import confusion_matrix

from episodes import OUTSIDE, UNKNOWN, Results
from fewshot.predict import Prediction
from fewshot.report.numbers import NO_ANSWER, NONE_OF_THEM, confusion, histogram, number_classes, number_tasks
from tests.report.conftest import METHOD


def some_results() -> Results:
    """Two tasks; a picture without an answer, one of unknown truth, one of no class."""
    return Results(
        names=["one", "two"],
        vocabulary=("a", "b", "c"),
        episode=np.array([0, 0, 0, 0, 1, 1, 1]),
        row=np.arange(7),
        predicted=np.array([0, 1, -1, 1, 2, 1, 2]),
        truth=np.array([0, 0, 1, UNKNOWN, 2, OUTSIDE, 1]),
        confidence=np.array([0.95, 0.5, np.nan, 0.55, 1.0, 0.05, 0.75], dtype=np.float32),
    )


def test_tasks_agree_with_a_groupby_of_the_rows(prediction: Prediction) -> None:
    frame = prediction.frame
    for task, estimated in zip(number_tasks(prediction), number_tasks(prediction, METHOD), strict=True):
        rows = frame[frame.task == task.episode.name]
        assert task.answers.stop - task.answers.start == len(rows) == 12
        assert list(rows.index) == list(range(task.answers.start, task.answers.stop))
        assert np.isclose(task.mean_confidence, rows.confidence.mean())
        assert np.isclose(task.accuracy, (rows.label == rows.truth).mean())
        counts = rows.label.value_counts()
        assert dict(task.shares) == {name: counts.get(name, 0) for name in task.episode.class_names}
        assert task.shots.tolist() == [3, 3, 3]
        assert task.estimate is None and estimated.estimate is not None


def test_the_confusion_is_that_of_scikit_learn(prediction: Prediction) -> None:
    frame, names = prediction.frame, prediction.table.class_names
    found = confusion(prediction.results, slice(0, len(frame)), names)
    assert found is not None and found.truths == found.answers == names
    np.testing.assert_array_equal(found.counts, confusion_matrix(frame.truth, frame.label, labels=list(names)))
    assert found.counts.trace() < found.counts.sum()  # there are mistakes to show
    times = [n for _, _, n in found.mistakes]
    assert times == sorted(times, reverse=True) and sum(times) == found.counts.sum() - found.counts.trace()


def test_confusion_keeps_what_is_no_class() -> None:
    results = some_results()
    first, second = confusion(results, slice(0, 4), ("a", "b")), confusion(results, slice(4, 7), ("b", "c"))
    assert first is not None and second is not None
    assert (first.truths, first.answers) == (("a", "b"), ("a", "b", NO_ANSWER))
    assert first.counts.tolist() == [[1, 1, 0], [0, 0, 1]]  # the fourth has no known truth
    assert (second.truths, second.answers) == (("b", "c", NONE_OF_THEM), ("b", "c"))
    assert second.counts.tolist() == [[0, 1], [0, 1], [1, 0]]
    assert confusion(results, slice(3, 4), ("a", "b")) is None


def test_classes_are_counted_over_all_tasks_worst_first() -> None:
    classes = number_classes(some_results())
    assert [(c.name, c.right, c.pictures, c.mistaken_for) for c in classes] == [
        (NONE_OF_THEM, 0, 1, (("b", 1),)),
        ("b", 0, 2, ((NO_ANSWER, 1), ("c", 1))),
        ("a", 1, 2, (("b", 1),)),
        ("c", 1, 1, ()),
    ]


def test_the_histogram_is_that_of_numpy(prediction: Prediction) -> None:
    sure = prediction.results.confidence
    found = histogram(prediction.results)
    np.testing.assert_array_equal(found.total, np.histogram(sure, 20, (0, 1))[0])
    wrong = prediction.results.predicted != prediction.results.truth
    np.testing.assert_array_equal(found.wrong, np.histogram(sure[wrong], 20, (0, 1))[0])
    mixed = histogram(some_results(), bins=10)
    assert mixed.right.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 2]  # 1.0 is in the last
    assert mixed.wrong.tolist() == [1, 0, 0, 0, 0, 1, 0, 1, 0, 0]
    assert mixed.unknown.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
