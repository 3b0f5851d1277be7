"""Accuracy by class and confusion against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from episodes.class_accuracy import confusion, per_class_accuracy
from episodes.errors import DataError
from episodes.results import Results


def make(truth: np.ndarray, predicted: np.ndarray) -> Results:
    size = len(truth)
    rows = np.arange(size)
    return Results(
        ("t",), ("ape", "bee", "cat", "dog"), np.zeros(size, int), rows, predicted, truth, np.ones(size, np.float32)
    )


def test_both_agree_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 3, 200), generator.integers(-1, 3, 200)
    truth[:5], results = -1, make(truth, predicted)
    known = truth >= 0
    expected = confusion_matrix(truth[known], predicted[known], labels=[0, 1, 2, -1])[:3]
    table = confusion(results)
    assert list(table.index) == ["ape", "bee", "cat"] and list(table.columns) == ["ape", "bee", "cat", ""]
    assert np.array_equal(table.to_numpy(), expected) and table.index.name == "truth"
    by_class = per_class_accuracy(results).set_index("class")
    for i, name in enumerate(("ape", "bee", "cat")):
        assert by_class.loc[name, "accuracy"] == expected[i, i] / expected[i].sum()
        assert by_class.loc[name, "queries"] == expected[i].sum()
    assert list(by_class["accuracy"]) == sorted(by_class["accuracy"])


def test_without_truth_there_is_an_error() -> None:
    results = make(np.full(3, -1), np.zeros(3, int))
    for function in (per_class_accuracy, confusion):
        with pytest.raises(DataError, match="no true label"):
            function(results)
