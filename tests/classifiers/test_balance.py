"""The warning of balance-assuming classifiers."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

from fewshot.classifiers import TRANSDUCTIVE, build_classifier
from fewshot.classifiers.balance import ImbalanceWarning, estimate_balance

ASSUME_BALANCE = ("bdcspn", "laplacianshot", "tim", "ptmap")


def _messages(name: str, t, mask: torch.Tensor) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_classifier(name)(t.batch(query_mask=mask))
    return [str(w.message) for w in caught if issubclass(w.category, ImbalanceWarning)]


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_warns_where_queries_are_far_from_balanced(name: str, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 15, spread=0.05)
    assert _messages(name, t, t.query_mask) == []
    skewed = t.query_mask.clone()
    skewed[2, 20:] = False  # the third task: one class whole, a third of a second, none of the others
    found = _messages(name, t, skewed)
    assert len(found) == (1 if name in ASSUME_BALANCE else 0)
    if found:
        assert found[0].startswith(name)
        assert "1 of 4 tasks" in found[0]


def test_a_few_in_a_large_batch_are_chance(tasks: Callable) -> None:
    t = tasks(50, 3, 5, 6, spread=0.05)
    skewed = t.query_mask.clone()
    skewed[:2, 6:] = False
    assert _messages("bdcspn", t, skewed) == []
    skewed[2, 6:] = False
    assert len(_messages("bdcspn", t, skewed)) == 1


def test_the_estimate_is_the_distance_from_uniform(tasks: Callable) -> None:
    t = tasks(1, 4, 5, 10, spread=0.01)
    mask = t.query_mask.clone()
    mask[0, 20:] = False  # two of four classes: half of the queries would have to move
    balance = estimate_balance(t.batch(query_mask=mask))
    assert float(balance.distance) == pytest.approx(0.5)
    nothing = estimate_balance(t.batch(query_mask=mask & False))
    assert float(nothing.distance) == 0.0
