"""What a person looks at first, and that every task and class gets its share of the room."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from episodes import OUTSIDE, UNKNOWN, Results, evaluate
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.evaluation import EpisodeSet
from fewshot.predict import Prediction
from fewshot.report.breakdown import by_setting, reliability
from fewshot.report.evaluation import joined, named_episodes
from fewshot.report.numbers import number_tasks
from fewshot.report.plane import on_grid, principal_plane
from fewshot.report.selection import rows_wanted, select
from fewshot.report.telling import confident_mistakes, least_sure, telling
from fewshot.report.thumbnails import BudgetSpent, Thumbnails
from tests.report.conftest import METHOD
from tests.report.test_numbers import some_results


def test_the_most_confident_mistake_of_all_tasks_comes_first(prediction: Prediction) -> None:
    frame = prediction.frame
    wrong = frame[frame.label != frame.truth].sort_values("confidence", ascending=False, kind="stable")
    assert confident_mistakes(prediction.results).tolist() == wrong.index.tolist()
    assert least_sure(prediction.results).tolist() == frame.sort_values("confidence", kind="stable").index.tolist()


def test_what_is_unknown_or_unanswered_is_no_mistake() -> None:
    results = some_results()
    assert confident_mistakes(results).tolist() == [
        6,
        1,
        5,
    ]  # of the others two are right, one is unknown, one unanswered
    assert sorted(telling(results).tolist()) == list(range(7)) and telling(results)[-1] == 2


def test_every_task_gets_its_share(prediction: Prediction) -> None:
    episodes = [dataclasses.replace(prediction.episodes[i % 3], name=f"t{i}") for i in range(60)]
    results = evaluate(episodes, FeatureScorer(prediction.embeddings, METHOD))
    many = dataclasses.replace(prediction, episodes=episodes, results=results)
    tasks = list(enumerate(number_tasks(many)))
    enough = Thumbnails(many.table.items, 10**9)
    everything = select(many, tasks, enough)
    assert len(everything.answers) == 60 * 12 and sum(map(len, everything.supports.values())) == 60 * 9
    assert (
        len(enough.made) == rows_wanted(many, tasks) == len(many.table)
    )  # each picture once, however often it is shown
    assert select(many, tasks, Thumbnails(many.table.items, 0)).answers == ()


@pytest.mark.parametrize(("truth", "ascending"), [(1, False), (UNKNOWN, True)])
def test_the_surest_mistakes_and_the_least_sure_answers_get_room_first(
    prediction: Prediction, truth: int, ascending: bool
) -> None:
    class Ten(Thumbnails):
        """Room for ten pictures."""

        def add(self, row: int) -> None:
            if len(self.made) == 10:
                raise BudgetSpent
            super().add(row)

    # All are of one class and named as another: that a class has had its share must not keep them out.
    n = len(prediction.frame)
    results = dataclasses.replace(prediction.results, predicted=np.zeros(n, np.int64), truth=np.full(n, truth))
    chosen = select(dataclasses.replace(prediction, results=results), [], Ten(prediction.table.items, 10**9))
    first = prediction.frame.sort_values("confidence", ascending=ascending, kind="stable").index[:10]
    assert sorted(first) == list(chosen.answers)


def test_support_that_the_others_misname_is_never_among_those_left_out(prediction: Prediction) -> None:
    tasks = list(enumerate(number_tasks(prediction, METHOD)))
    chosen = select(prediction, tasks, Thumbnails(prediction.table.items, 10**9))
    for number, task in tasks:
        assert task.estimate is not None
        rows = {int(task.episode.support[position]) for position in chosen.supports[number]}
        assert set(task.estimate.misnamed) <= rows


@pytest.mark.parametrize("shape", [(30, 5), (5, 30), (2, 4), (1, 3)])
def test_the_map_is_the_pca_of_scikit_learn(shape: tuple[int, int]) -> None:
    features = np.random.default_rng(0).normal(size=shape) * np.linspace(3, 1, shape[1])
    plane, shares = principal_plane(features)
    kept = min(2, shape[0] - 1)
    if kept == 0:
        assert (plane == 0).all() and shares == (0, 0)
        return
    fitted = PCA(kept).fit(features)
    expected = fitted.transform(features)
    np.testing.assert_allclose(np.abs(plane[:, :kept]), np.abs(expected), atol=1e-7)
    np.testing.assert_allclose(shares[:kept], fitted.explained_variance_ratio_, atol=1e-9)
    assert (plane[np.abs(plane).argmax(0), [0, 1]] >= 0).all()
    grid = on_grid(plane)
    assert grid.min() >= 0 and grid.max() <= 1000
    distances = np.linalg.norm(plane[:, None] - plane, axis=-1)
    drawn = np.linalg.norm(grid[:, None] - grid, axis=-1)
    np.testing.assert_allclose(drawn / max(drawn.max(), 1), distances / max(distances.max(), 1e-9), atol=4e-3)


def test_nothing_lies_nowhere() -> None:
    assert principal_plane(np.zeros((0, 4)))[0].shape == on_grid(np.zeros((0, 2))).shape == (0, 2)
    assert (on_grid(principal_plane(np.ones((3, 4)))[0]) == 500).all()


def test_accuracy_by_ways_and_shots_is_that_of_a_groupby(prediction: Prediction) -> None:
    tasks = number_tasks(prediction)
    fewer = dataclasses.replace(tasks[0], shots=np.array([1, 3]))
    found = by_setting([*tasks, fewer])
    assert [(s.ways, s.shots, s.tasks) for s in found] == [(2, "1–3", 1), (3, "3", 3)]
    assert found[1].accuracy == pytest.approx(np.mean([task.accuracy for task in tasks]))


def test_reliability_is_that_of_a_plain_loop() -> None:
    results = some_results()
    bins: dict[int, list[tuple[float, bool]]] = {}
    for answer, truth, sure in zip(results.predicted, results.truth, results.confidence, strict=True):
        if truth != UNKNOWN and answer >= 0:
            bins.setdefault(min(int(float(sure) * 10), 9), []).append((float(sure), bool(answer == truth)))
    found = reliability(results)
    assert [round(entry.low * 10) for entry in found] == sorted(bins)
    for entry in found:
        here = bins[round(entry.low * 10)]
        assert entry.pictures == len(here) and entry.confidence == pytest.approx(np.mean([s for s, _ in here]))
        assert (
            entry.accuracy == np.mean([r for _, r in here]) and entry.interval[0] <= entry.accuracy <= entry.interval[1]
        )


def test_joined_results_are_the_frames_one_below_the_other() -> None:
    first = some_results()
    second = dataclasses.replace(first, vocabulary=("c", "d", "a"))
    both = joined([first, second])
    assert isinstance(both, Results) and both.names == ["one", "two", "one", "two"]
    assert both.episode.tolist() == [*first.episode, *(first.episode + 2)]
    for part, start in ((first, 0), (second, 7)):
        for column in ("predicted", "truth"):
            ours = [i if i < 0 else part.vocabulary[i] for i in getattr(part, column).tolist()]
            assert [
                i if i < 0 else both.vocabulary[i] for i in getattr(both, column)[start : start + 7].tolist()
            ] == ours
    assert OUTSIDE in both.truth and UNKNOWN in both.truth


def test_episodes_of_several_settings_have_names_of_their_own(prediction: Prediction, tmp_path: Path) -> None:
    sets = [EpisodeSet(prediction.episodes, 3, shots, 4, 0) for shots in (1, 5)]
    names = [episode.name for episode in named_episodes(sets)]
    assert len(set(names)) == 6 and names[0].startswith("3-way 1-shot ") and names[-1].startswith("3-way 5-shot ")
    assert [e.name for e in named_episodes(sets[:1])] == [e.name for e in prediction.episodes]
