"""Episode, its validation, and stacking."""

from typing import Any

import numpy as np
import pytest

from episodes import OUTSIDE, UNKNOWN, DataError, Episode, stack_episodes


def episode(**changes: Any) -> Episode:
    fields: dict[str, Any] = {
        "name": "t1",
        "class_names": ("a", "b"),
        "support": [0, 1, 2],
        "support_labels": [0, 1, 1],
        "query": [3, 4],
        "query_labels": [1, 0],
    }
    return Episode(**{**fields, **changes})


def test_arrays_become_int64() -> None:
    made = episode(support=np.array([0, 1, 2], np.int32))
    assert all(getattr(made, name).dtype == np.int64 for name in ("support", "support_labels", "query", "query_labels"))
    assert episode(query_labels=None).query_labels is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"support": [0, 1]}, "2 support rows but 3 support labels"),
        ({"query_labels": [1]}, "2 query rows but 1 query labels"),
        ({"query": [], "query_labels": []}, "no query pictures"),
        ({"query": [], "query_labels": None}, "no query pictures"),
        ({"support_labels": [0, 1, 2]}, "support labels lie in 0…1"),
        ({"support_labels": [0, 1, -1]}, "support labels lie in 0…1"),
        ({"query_labels": [2, 0]}, "query labels lie in -2…1"),
        ({"query_labels": [-3, 0]}, "query labels lie in -2…1"),
        ({"support_labels": [0, 0, 0]}, "no support picture for b"),
        ({"query": [3, 2]}, r"in support and in query, such as \[2\]"),
        ({"support": [0, -1, 2]}, "negative"),
        ({"query": [-1, 3]}, "negative"),
        ({"class_names": ("a", "a")}, "appears twice"),
        ({"support": [[0, 1, 2]]}, "one-dimensional"),
        ({"query": [0.5, 1.0]}, "array of integers"),
        ({"class_names": (), "support_labels": [0, 0, 0]}, "support labels"),
    ],
)
def test_wrong_episodes_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        episode(**changes)
    assert "episode t1" in str(error.value)


def test_a_task_without_classes_is_an_episode() -> None:
    empty = episode(class_names=(), support=[], support_labels=[], query_labels=[OUTSIDE, UNKNOWN])
    assert empty.class_names == () and len(empty.support) == 0


def test_stacking_pads_and_comes_back() -> None:
    first = episode()
    second = Episode("t2", ("b", "c", "d"), np.arange(3), np.arange(3), np.array([7]), None)
    third = episode(name="t3", class_names=(), support=[], support_labels=[], query_labels=[OUTSIDE, UNKNOWN])
    batch = stack_episodes([first, second, third])
    assert batch.vocabulary == ("a", "b", "c", "d") and list(batch.names) == ["t1", "t2", "t3"] and len(batch) == 3
    assert batch.class_ids.tolist() == [[0, 1, -1], [1, 2, 3], [-1, -1, -1]] and batch.n_way.tolist() == [2, 3, 0]
    assert batch.support.tolist() == [[0, 1, 2], [0, 1, 2], [-1, -1, -1]]
    assert batch.support_labels.tolist() == [[0, 1, 1], [0, 1, 2], [-1, -1, -1]]
    assert batch.query.tolist() == [[3, 4], [7, -1], [3, 4]]
    assert batch.query_labels.tolist() == [[1, 0], [-1, -1], [-2, -1]]
    assert batch.query_mask.tolist() == [[True, True], [True, False], [True, True]]
    assert batch.support_mask.sum(axis=1).tolist() == [3, 3, 0]
    for made, original in zip(batch, [first, second, third], strict=True):
        assert_same(made, original)


def assert_same(made: Episode, original: Episode) -> None:
    assert (made.name, made.class_names) == (original.name, original.class_names)
    for name in ("support", "support_labels", "query", "query_labels"):
        ours, theirs = getattr(made, name), getattr(original, name)
        assert (ours is None and theirs is None) or ours.tolist() == theirs.tolist()


def test_stacking_nothing_raises() -> None:
    with pytest.raises(DataError, match="at least one"):
        stack_episodes([])
