"""The label-free estimate of a task's accuracy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from fewshot.classifiers import build_classifier
from fewshot.classifiers.estimator import FewShotClassifier
from fewshot.classifiers.leave_one_out import leave_one_out_accuracy, leave_one_out_log_probabilities
from fewshot.classifiers.prototype import Prototype


@pytest.mark.parametrize("name", ["prototype", "logistic"])
def test_is_scikit_learns_leave_one_out(tasks: Callable, name: str) -> None:
    t = tasks(1, 4, 5, 1)
    x, y = t.support[0], t.support_labels[0]
    ours = leave_one_out_log_probabilities(build_classifier(name), x, y, 4, chunk=7)
    theirs = cross_val_predict(FewShotClassifier(name), x.numpy(), y.numpy(), cv=LeaveOneOut(), method="predict_proba")
    torch.testing.assert_close(ours.exp().double(), torch.from_numpy(theirs), atol=1e-5, rtol=0)
    expected = (theirs.argmax(1) == y.numpy()).mean()
    assert leave_one_out_accuracy(build_classifier(name), x, y, 4) == pytest.approx(expected)


def test_tells_an_easy_task_from_a_hard_one(tasks: Callable) -> None:
    easy, hard = tasks(1, 5, 5, 1, spread=0.03), tasks(1, 5, 5, 1, spread=0.5)
    estimates = [leave_one_out_accuracy(Prototype(), t.support[0], t.support_labels[0], 5) for t in (easy, hard)]
    assert estimates[0] is not None
    assert estimates[1] is not None
    assert estimates[0] > 0.95 > 0.6 > estimates[1]


def test_not_available_at_one_shot_and_skips_single_pictures(tasks: Callable) -> None:
    t = tasks(1, 3, 1, 1)
    assert leave_one_out_accuracy(Prototype(), t.support[0], t.support_labels[0], 3) is None
    t = tasks(1, 3, 3, 1)
    keep = torch.tensor([0, 3, 4, 5, 6, 7, 8])  # class 0 has one picture left
    answers = leave_one_out_log_probabilities(Prototype(), t.support[0][keep], t.support_labels[0][keep], 3)
    assert answers.isnan().any(1).tolist() == [True] + [False] * 6


def test_class_names_reach_the_classifier(tasks: Callable) -> None:
    t = tasks(1, 3, 3, 1, spread=0.05)
    zero_shot = build_classifier("zero-shot")
    assert leave_one_out_accuracy(zero_shot, t.support[0], t.support_labels[0], 3, t.class_text[0]) == 1.0
