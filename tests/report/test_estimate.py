"""The label-free estimate against plain loops and scipy."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from episodes import Episode
from fewshot.classifiers import TRANSDUCTIVE, build_classifier
from fewshot.classifiers.leave_one_out import leave_one_out_accuracy
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.tasks import TaskBatch
from fewshot.embedding.embed import Embeddings
from fewshot.predict import Prediction
from fewshot.report.estimate import estimate_task, leave_one_of_each_out, wilson_interval
from tests.report.conftest import METHOD

PLAIN = Prototype(
    shots_exponent=0
)  # as `plain_loop` reckons: without a picture, its class has fewer shots than the others


def plain_loop(features: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """Nearest mean direction, each picture left out in turn: position -> the class that it is given."""
    given = {}
    for i in range(len(features)):
        rest = np.arange(len(features)) != i
        if not (rest & (labels == labels[i])).any():
            continue
        means = {c: features[rest & (labels == c)].mean(0) for c in np.unique(labels)}
        given[i] = max(means, key=lambda c: features[i] @ means[c] / np.linalg.norm(means[c]))
    return given


def test_it_names_each_support_picture_by_the_others(prediction: Prediction) -> None:
    wrong = 0
    for episode in prediction.episodes:
        features = prediction.embeddings.features[episode.support]
        given = plain_loop(features.double().numpy(), episode.support_labels)
        estimate = estimate_task(episode, prediction.embeddings, PLAIN)
        assert estimate is not None and estimate.pictures == len(given) == 9
        expected = {int(episode.support[i]): c for i, c in given.items() if c != episode.support_labels[i]}
        assert estimate.misnamed == {row: episode.class_names[c] for row, c in expected.items()}
        assert estimate.right == 9 - len(expected)
        labels = torch.from_numpy(episode.support_labels)
        assert estimate.accuracy == pytest.approx(leave_one_out_accuracy(PLAIN, features, labels, 3))
        wrong += len(expected)
    assert wrong  # else nothing was tested about misnamed pictures


def test_unreadable_and_single_pictures_are_left_out() -> None:
    points = [[0.0, 0], [1, 0], [1, 0.1], [0, 0], [0, 1], [0.1, 1], [-1, -1]]
    readable = torch.tensor([False, True, True, False, True, True, True])
    features = torch.nn.functional.normalize(torch.tensor(points), dim=1)
    embeddings = Embeddings(features, readable, {0: "empty", 3: "empty"}, 5)
    episode = Episode("t", ("lost", "a", "b", "single"), np.arange(7), np.array([0, 1, 1, 1, 2, 2, 3]), np.array([7]))
    estimate = estimate_task(episode, embeddings, METHOD)
    assert estimate is not None
    assert (estimate.accuracy, estimate.right, estimate.pictures, estimate.misnamed) == (1.0, 4, 4, {})


@dataclasses.dataclass(frozen=True)
class Together:
    """The nearest prototype, which says that it is transductive and keeps what it was asked about."""

    asked: list[list[int]]
    transductive: bool = True

    def __call__(self, tasks: TaskBatch) -> Tensor:
        for labels, mask in zip(tasks.support_labels, tasks.query_mask, strict=True):
            self.asked.append((labels < 0).nonzero().squeeze(1).tolist())
            assert len(self.asked[-1]) == int(mask.sum())
        return METHOD(tasks)


def test_a_transductive_classifier_is_asked_about_one_picture_of_each_class() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0, 1, 0, 2, 1, 0, 3])
    points = generator.normal(size=(7, 5)) + 2 * np.eye(5)[labels]
    features = torch.nn.functional.normalize(torch.tensor(points, dtype=torch.float32), dim=1)
    embeddings = Embeddings(features, torch.ones(7, dtype=torch.bool), {}, 7)
    method = Together([])
    estimate = estimate_task(Episode("t", tuple("abcd"), np.arange(7), labels, np.array([7])), embeddings, method)
    assert method.asked == [[0, 1], [2, 4], [5]]  # never the only picture of a class
    answers = leave_one_of_each_out(Together([]), features, torch.from_numpy(labels), 4)
    assert answers.isnan().all(1).tolist() == [False, False, False, True, False, False, True]
    right = []
    for fold in method.asked:
        rest = np.setdiff1d(np.arange(7), fold)
        means = [features[rest[labels[rest] == c]].mean(0) for c in range(4)]
        cosines = torch.stack([features[fold] @ m / m.norm() for m in means], 1)
        assert answers[fold].argmax(1).tolist() == cosines.argmax(1).tolist()
        right += (cosines.argmax(1).numpy() == labels[fold]).tolist()
    assert estimate is not None and (estimate.right, estimate.pictures) == (sum(right), 5)


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_transductive_classifiers_get_a_fair_estimate_and_do_not_warn(name: str) -> None:
    """Asked about one picture alone, those that assume balance answer at random: 20 % here."""
    generator = np.random.default_rng(1)
    labels = np.tile(np.arange(5), 5)
    points = generator.normal(size=(25, 32)) + 6 * np.eye(32)[labels]
    features = torch.nn.functional.normalize(torch.tensor(points, dtype=torch.float32), dim=1)
    embeddings = Embeddings(features, torch.ones(25, dtype=torch.bool), {}, 25)
    episode = Episode("t", tuple("abcde"), np.arange(25), labels, np.array([25]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = estimate_task(episode, embeddings, build_classifier(name))
    assert estimate is not None and estimate.accuracy > 0.9


def test_there_is_none_at_one_shot() -> None:
    embeddings = Embeddings(torch.eye(3), torch.ones(3, dtype=torch.bool), {}, 3)
    episode = Episode("t", ("a", "b"), np.array([0, 1]), np.array([0, 1]), np.array([2]))
    assert estimate_task(episode, embeddings, METHOD) is None
    broken = Embeddings(torch.zeros(3, 3), torch.zeros(3, dtype=torch.bool), {0: "x", 1: "x", 2: "x"}, 0)
    assert estimate_task(episode, broken, METHOD) is None


@pytest.mark.parametrize(("right", "total"), [(0, 1), (3, 9), (9, 9), (20, 25), (1, 200)])
def test_the_interval_is_that_of_scipy(right: int, total: int) -> None:
    expected = binomtest(right, total).proportion_ci(method="wilson")
    assert wilson_interval(right, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_trials_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson_interval(0, 0)
