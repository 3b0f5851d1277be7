"""The label-free estimate against plain loops and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import betabinom, binomtest, norm

from episodes import Episode, evaluate
from fewshot.classifiers import TRANSDUCTIVE, build_classifier
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.embedding.embed import Embeddings
from fewshot.predict import Prediction
from fewshot.report.estimate import estimate_task, leave_one_of_each_out, predicted_interval, wilson_interval
from fewshot.report.missing_shot import SUPPORT_NOISE, accuracy_with_one_more
from tests.report.conftest import METHOD

PLAIN = Prototype(
    shots_exponent=0
)  # as `plain_loop` reckons: without a picture, its class has fewer shots than the others


def plain_loop(features: np.ndarray, labels: np.ndarray) -> dict[int, int]:
    """Nearest mean direction, the k-th picture of every class left out at a time: position -> the class that it is given."""
    given = {}
    for fold in range(int(np.bincount(labels).max())):
        out = [np.flatnonzero(labels == c)[fold] for c in np.unique(labels) if 1 < (labels == c).sum() > fold]
        rest = np.setdiff1d(np.arange(len(labels)), out)
        means = {c: features[rest][labels[rest] == c].mean(0) for c in np.unique(labels)}
        for i in out:
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
        assert estimate.accuracy == pytest.approx(accuracy_with_one_more(1 - len(expected) / 9, 3, 3))
        assert estimate.interval[0] < estimate.accuracy < estimate.interval[1] or estimate.accuracy == 1
        wrong += len(expected)
    assert wrong  # else nothing was tested about misnamed pictures


def test_unreadable_and_single_pictures_are_left_out() -> None:
    points = [[0.0, 0], [1, 0], [1, 0.1], [0, 0], [0, 1], [0.1, 1], [-1, -1], [1, 1]]
    readable = torch.tensor([False, True, True, False, True, True, True, True])
    features = torch.nn.functional.normalize(torch.tensor(points), dim=1)
    embeddings = Embeddings(features, readable, {0: "empty", 3: "empty"}, 5)
    episode = Episode("t", ("lost", "a", "b", "single"), np.arange(7), np.array([0, 1, 1, 1, 2, 2, 3]), np.array([7]))
    estimate = estimate_task(episode, embeddings, METHOD)
    assert estimate is not None
    assert (estimate.accuracy, estimate.right, estimate.pictures, estimate.misnamed) == (1.0, 4, 4, {})


def test_one_picture_of_each_class_is_left_out_at_a_time() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0, 1, 0, 2, 1, 0, 3])
    points = generator.normal(size=(7, 5)) + np.eye(5)[labels]
    features = torch.nn.functional.normalize(torch.tensor(points, dtype=torch.float32), dim=1)
    answers = leave_one_of_each_out(PLAIN, features, torch.from_numpy(labels), 4)
    assert answers.isnan().all(1).tolist() == [False, False, False, True, False, False, True]  # never an only picture
    given = plain_loop(features.double().numpy(), labels)
    assert {i: int(answers[i].argmax()) for i in given} == given


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_a_transductive_classifier_gets_no_number(name: str) -> None:
    """It sees one query of each class here, and whatever comes in earnest."""
    embeddings = Embeddings(torch.eye(6), torch.ones(6, dtype=torch.bool), {}, 6)
    episode = Episode("t", ("a", "b"), np.arange(4), np.array([0, 0, 1, 1]), np.array([4, 5]))
    assert estimate_task(episode, embeddings, PLAIN) is not None
    assert estimate_task(episode, embeddings, build_classifier(name)) is None


@pytest.mark.parametrize("shots", [2, 5])
def test_estimates_are_right_on_average_and_their_intervals_hold(shots: int) -> None:
    """Gaussian classes: many tasks whose accuracy is known."""
    generator = np.random.default_rng(shots)
    errors, inside, leave_one_out, tasks = [], [], [], 250
    for _ in range(tasks):
        centres, queries = generator.normal(size=(5, 1, 40)), 10
        points = centres + 2.0 * generator.normal(size=(5, shots + queries, 40))
        features = torch.nn.functional.normalize(torch.from_numpy(points).float().reshape(-1, 40), dim=1)
        embeddings = Embeddings(features, torch.ones(len(features), dtype=torch.bool), {}, len(features))
        rows = np.arange(len(features)).reshape(5, -1)
        labels, truth = np.repeat(np.arange(5), shots), np.repeat(np.arange(5), queries)
        episode = Episode("t", tuple("abcde"), rows[:, :shots].ravel(), labels, rows[:, shots:].ravel(), truth)
        accuracy = evaluate([episode], FeatureScorer(embeddings, PLAIN)).mean
        estimate = estimate_task(episode, embeddings, PLAIN)
        assert estimate is not None
        errors.append(estimate.accuracy - accuracy)
        inside.append(estimate.interval[0] <= accuracy <= estimate.interval[1])
        leave_one_out.append(estimate.right / estimate.pictures - accuracy)
    assert abs(np.mean(errors)) < 0.03 and 0.90 <= np.mean(inside) <= 0.99
    assert abs(np.mean(errors)) < abs(np.mean(leave_one_out))
    if shots == 2:
        assert np.mean(leave_one_out) < -0.07  # what would be told without the missing shot


def test_the_interval_holds_whole_shares_of_the_queries() -> None:
    """One of fifty supports misnamed: all fifty queries right is one query's step away, and no surprise."""
    labels = np.repeat(np.arange(5), 10)
    features = torch.eye(5)[torch.from_numpy(np.concatenate([labels, labels]))]
    features[0] = features[10]
    embeddings = Embeddings(features, torch.ones(100, dtype=torch.bool), {}, 100)
    episode = Episode("t", tuple("abcde"), np.arange(50), labels, np.arange(50, 100), labels)
    estimate = estimate_task(episode, embeddings, PLAIN)
    assert estimate is not None and estimate.right == 49 and 0.97 < estimate.accuracy < 1
    assert estimate.interval[1] == 1 == evaluate([episode], FeatureScorer(embeddings, PLAIN)).mean


@pytest.mark.parametrize(("share", "trials", "queries"), [(0.8, 7.5, 20), (1.0, 22.7, 75), (0.3, 3.2, 1), (0.0, 4, 9)])
def test_the_interval_is_the_narrowest_that_is_likely_enough(share: float, trials: float, queries: int) -> None:
    low, high = (round(queries * end) for end in predicted_interval(share, trials, queries))
    chance = betabinom(queries, trials * share + 0.5, trials * (1 - share) + 0.5).pmf(np.arange(queries + 1))
    assert chance[low : high + 1].sum() >= 0.95
    width = high - low + 1
    narrower = [chance[start : start + width - 1].sum() for start in range(queries + 3 - width)]
    assert max(narrower) < 0.95


def test_one_more_shot_adds_less_and_less() -> None:
    gains = [accuracy_with_one_more(0.6, 5, shots) - 0.6 for shots in (2, 3, 5, 10, 100)]
    assert gains == sorted(gains, reverse=True) and gains[-1] > 0
    assert [accuracy_with_one_more(share, 5, 3) for share in (0.1, 0.2, 1.0)] == [0.1, 0.2, 1.0]
    assert accuracy_with_one_more(0.76, 2, 10**9) == pytest.approx(0.76, abs=1e-6)


def test_two_choices_are_those_of_the_normal_distribution() -> None:
    """With two ways the accuracy is Phi(d / sqrt 2)."""
    before, shots = 0.7, 4
    separation = norm.ppf(before) * np.sqrt(2)
    grown = separation * np.sqrt((1 + SUPPORT_NOISE / (shots - 1)) / (1 + SUPPORT_NOISE / shots))
    assert accuracy_with_one_more(before, 2, shots) == pytest.approx(norm.cdf(grown / np.sqrt(2)), abs=1e-4)


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


@pytest.mark.parametrize("total", [3.7, 7.1, 9.3, 18.1, 33.3])
def test_the_interval_of_all_or_none_reaches_the_end(total: float) -> None:
    assert wilson_interval(total, total)[1] == 1 and wilson_interval(0, total)[0] == 0


def test_no_trials_have_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one"):
        wilson_interval(0, 0)
