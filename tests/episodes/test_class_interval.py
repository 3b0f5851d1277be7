"""Intervals for new classes: against a plain jackknife, and by their coverage where the truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from episodes import Results, mean_interval, paired_difference
from episodes.class_interval import Losses, accuracy_for_new_classes, new_classes_ci95
from episodes.statistics import student_t_975


def results(classes: np.ndarray, truth: np.ndarray, predicted: np.ndarray, vocabulary: int = 50) -> Results:
    """Of episodes with (T, N) classes and (T, Q) truth and answers."""
    episode = np.repeat(np.arange(len(truth)), truth.shape[1])
    names = [f"e{i}" for i in range(len(truth))]
    flat = predicted.reshape(-1)
    confidence = np.full(len(flat), 0.5, dtype=np.float32)
    words = tuple(f"c{i}" for i in range(vocabulary))
    return Results(names, words, episode, episode * 0, flat, truth.reshape(-1), confidence, classes=classes)


def plain_jackknife(classes: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
    """Variance over classes and over episodes of (T,) losses, by leaving every class's episodes out in turn."""
    count, known = len(losses), sorted(set(classes.reshape(-1)))
    moved, chance = [], []
    for c in known:
        without = [loss for loss, row in zip(losses, classes, strict=True) if c not in row]
        moved.append(np.mean(without) - losses.mean())
        # each episode's own part of that move: what would come of it if it were one of many like it
        parts = [
            (losses.mean() - loss) * count / len(without) if c in row else 0.0
            for loss, row in zip(losses, classes, strict=True)
        ]
        chance.append(np.var(parts, ddof=1) / count)
    n = len(known)
    spread = (np.array(moved) - np.mean(moved)) ** 2
    return max(0.0, (n - 1) / n * float((spread - chance).sum())), float(np.var(losses, ddof=1) / count)


def test_it_is_the_plain_jackknife_over_classes() -> None:
    generator = np.random.default_rng(0)
    classes = np.array(list(itertools.combinations(range(9), 3)))
    truth = np.repeat(classes, 4, axis=1)
    hard = np.linspace(0, 0.6, 9)
    other = np.take_along_axis(classes, generator.integers(0, 3, truth.shape), 1)
    predicted = np.where(generator.random(truth.shape) < hard[truth], other, truth)
    found = results(classes, truth, predicted)
    of_classes, of_episodes = plain_jackknife(classes, (predicted != truth).mean(1))
    assert of_classes > 0
    freedom = (of_classes + of_episodes) ** 2 / (of_classes**2 / 8 + of_episodes**2 / (len(classes) - 1))
    half = student_t_975(int(freedom)) * math.sqrt(of_classes + of_episodes)
    assert new_classes_ci95(Losses(found.episode, found.truth, ((1, found.predicted),), classes)) == pytest.approx(
        half, rel=1e-9
    )
    low, high = found.new_classes
    assert (math.log(high / (1 - high)) - math.log(low / (1 - low))) / 2 == pytest.approx(
        half / (found.mean * (1 - found.mean))
    )


def benchmark(generator: np.random.Generator, n_classes: int, ways: int = 5) -> Results:
    """150 one-shot episodes of classes drawn from a world of Gaussian ones, named by the nearest support picture."""
    width, queries, pictures = 12, 5, 20
    centres = generator.normal(size=(n_classes, 1, width))
    spread = np.exp(0.4 * generator.normal(size=(n_classes, 1, 1)))
    pool = centres + spread * generator.normal(size=(n_classes, pictures, width))
    classes = np.argsort(generator.random((150, n_classes)), 1)[:, :ways]
    chosen = np.argsort(generator.random((150, ways, pictures)), 2)[..., : queries + 1]
    features = pool[classes[..., None], chosen]
    support, query = features[:, :, 0], features[:, :, 1:].reshape(150, -1, width)
    nearest = (support**2).sum(-1)[:, None] - 2 * query @ support.transpose(0, 2, 1)
    predicted = np.take_along_axis(classes, nearest.argmin(-1), 1)
    return results(classes, np.repeat(classes, queries, axis=1), predicted)


@pytest.mark.parametrize("n_classes", [7, 14])  # of seven, most episodes hold most classes
def test_it_covers_the_truth_of_new_classes(n_classes: int) -> None:
    generator = np.random.default_rng(5)
    truth = np.mean([benchmark(generator, 40).mean for _ in range(60)])
    covered, covered_by_episodes, tries = 0, 0, 150
    for _ in range(tries):
        found = benchmark(generator, n_classes)
        low, high = found.new_classes
        covered += low <= truth <= high
        covered_by_episodes += abs(found.mean - truth) <= found.ci95
    assert 0.90 <= covered / tries <= 0.99  # 95 % within three standard errors, and a little for the truth's own
    assert covered_by_episodes / tries < 0.5


def test_the_same_classes_in_every_episode_and_queries_without_an_answer() -> None:
    generator = np.random.default_rng(1)
    classes = np.tile(np.arange(4), (60, 1))
    truth = np.repeat(classes, 5, axis=1)
    predicted = np.where(generator.random(truth.shape) < 0.1 + 0.1 * truth, (truth + 1) % 4, truth)
    answered = results(classes, truth, predicted)
    low, high = answered.new_classes
    assert 0 < low < answered.mean < high < 1 and high - low > 4 * answered.ci95
    silent = results(classes, truth, np.where(predicted == truth, truth, -1))
    # All is owed to the true class then: what is left is the spread of the four classes' own losses.
    by_class = [(silent.predicted != silent.truth)[silent.truth == c].mean() for c in range(4)]
    half = student_t_975(3) * np.std(by_class, ddof=1) / 2
    assert silent.new_classes == pytest.approx(accuracy_for_new_classes(silent.mean, half), abs=0.02)
    outside = results(classes, np.where(generator.random(truth.shape) < 0.2, -2, truth), predicted)
    assert np.isfinite(outside.new_classes).all()
    bare = results(classes, truth, predicted)
    object.__setattr__(bare, "classes", None)  # what truths and answers name is enough here
    assert bare.new_classes == answered.new_classes


def test_unknown_truths_change_nothing() -> None:
    found = benchmark(np.random.default_rng(2), 12)
    more = results(
        np.vstack([found.classes, found.classes[:3]]),  # type: ignore[index]
        np.vstack([found.truth.reshape(150, -1), np.full((3, 25), -1)]),
        np.vstack([found.predicted.reshape(150, -1), found.predicted.reshape(150, -1)[:3]]),
    )
    assert more.new_classes == found.new_classes


def test_episodes_that_share_no_class_are_as_good_as_classes() -> None:
    """Where each episode has classes of its own, episodes are independent: one interval is the other."""
    generator = np.random.default_rng(3)
    classes = np.arange(60).reshape(20, 3)
    truth = np.repeat(classes, 5, axis=1)
    predicted = np.where(generator.random(truth.shape) < 0.3, truth[:, ::-1], truth)
    found = results(classes, truth, predicted, 60)
    half = new_classes_ci95(Losses(found.episode, found.truth, ((1, found.predicted),), classes))
    assert half == pytest.approx(mean_interval(found.accuracy)[1])


def test_too_few_classes_are_told() -> None:
    classes = np.tile(np.arange(2), (9, 1))
    assert math.isnan(results(classes, classes, classes[:, ::-1]).new_classes[0])
    assert all(map(math.isnan, accuracy_for_new_classes(0.5, math.nan)))
    two = np.arange(8).reshape(2, 4)  # two episodes are enough, where their classes are
    low, high = results(two, two, two * (two != 5)).new_classes
    assert low < results(two, two, two * (two != 5)).mean < high


def test_a_difference_has_both_intervals() -> None:
    first = benchmark(np.random.default_rng(4), 12)
    assert paired_difference(first, first).ci95_new_classes == 0
    helped = (np.random.default_rng(5).random(first.predicted.shape) < 0.5) & (first.truth < 4)
    answers = np.where(helped, first.truth, first.predicted)
    second = results(first.classes, first.truth.reshape(150, -1), answers.reshape(150, -1))  # type: ignore[arg-type]
    difference = paired_difference(second, first)
    assert difference.mean == pytest.approx(second.mean - first.mean)
    low, high = first.new_classes
    assert difference.ci95 < difference.ci95_new_classes < (high - low) / 2  # paired: the classes are the same
    assert "for new classes: " in difference.summary()
    assert math.isnan(paired_difference(second.accuracy, first.accuracy).ci95_new_classes)
