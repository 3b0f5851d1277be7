"""evaluate and Results against plain loops."""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from episodes import (
    OUTSIDE,
    UNKNOWN,
    DataError,
    Episode,
    EpisodeBatch,
    EpisodeSampler,
    ImageTable,
    UsageError,
    evaluate,
    paired_difference,
)

MakeTable = Callable[[Sequence[int]], ImageTable]
Scores = np.ndarray[Any, np.dtype[Any]]


def row_scores(batch: EpisodeBatch) -> Scores:
    """Log-probabilities that depend on the query row and the class name only, not on the batch."""
    ids = np.array([int(name[1:]) for name in batch.vocabulary] + [0])[batch.class_ids]
    raw = np.sin(batch.query[:, :, None] * 12.9898 + ids[:, None, :] * 78.233) * 3
    raw = np.where(np.arange(ids.shape[1]) < batch.n_way[:, None, None], raw, -np.inf)
    return np.asarray(raw - np.log(np.exp(raw).sum(axis=2, keepdims=True)))


def constant(value: float) -> Callable[[EpisodeBatch], Scores]:
    return lambda batch: np.full((*batch.query.shape, batch.class_ids.shape[1]), value)


def ragged(make_table: MakeTable) -> EpisodeSampler:
    return EpisodeSampler(
        make_table([40] * 8), ways=(2, 6), shots=(1, 3), queries=4, episodes=23, query_balance=1.0, shots_per_class=True
    )


def test_equals_a_loop_over_single_episodes(make_table: MakeTable) -> None:
    sampler = ragged(make_table)
    results = evaluate(sampler, row_scores, chunk=5, runners_up=True)
    at = 0
    for t, episode in enumerate(sampler):
        right = 0
        assert episode.query_labels is not None
        for row, label in zip(episode.query.tolist(), episode.query_labels.tolist(), strict=True):
            raw = [math.sin(row * 12.9898 + int(name[1:]) * 78.233) * 3 for name in episode.class_names]
            best = raw.index(max(raw))
            assert (results.episode[at], results.row[at]) == (t, row)
            assert results.vocabulary[results.predicted[at]] == episode.class_names[best]
            assert results.vocabulary[results.truth[at]] == episode.class_names[label]
            share = math.exp(raw[best]) / sum(map(math.exp, raw))
            assert results.confidence[at] == pytest.approx(share, rel=1e-5)
            right += best == label
            second = sorted(raw)[-2] if len(raw) > 1 else None
            assert results.runner_up is not None and results.margin is not None
            gap = share - (math.exp(second) / sum(map(math.exp, raw)) if second is not None else 0)
            assert results.margin[at] == pytest.approx(gap, abs=1e-6)
            if second is not None:
                assert results.vocabulary[results.runner_up[at]] == episode.class_names[raw.index(second)]
            at += 1
        assert results.accuracy[t] == right / len(episode.query)
    assert at == len(results.row) and list(results.names) == [e.name for e in sampler]
    assert results.mean == pytest.approx(results.accuracy.mean()) and 0 < results.mean < 1


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_chunk_and_list_change_nothing(make_table: MakeTable, chunk: int) -> None:
    sampler = ragged(make_table)
    reference, other = evaluate(sampler, row_scores), evaluate(list(sampler), row_scores, chunk=chunk)
    for field in ("episode", "row", "confidence"):
        assert np.array_equal(getattr(reference, field), getattr(other, field))
    for field in ("predicted", "truth"):
        named = [[r.vocabulary[i] for i in getattr(r, field)] for r in (reference, other)]
        assert named[0] == named[1]
    assert (reference.mean, reference.ci95) == (other.mean, other.ci95)
    assert evaluate(sampler, row_scores, chunk=chunk).mean == reference.mean


def test_ties_go_to_the_first_class(make_table: MakeTable) -> None:
    sampler = ragged(make_table)
    results = evaluate(sampler, constant(-1.0))
    assert all(
        results.vocabulary[results.predicted[m]] == sampler[int(results.episode[m])].class_names[0] for m in range(60)
    )
    assert results.confidence[0] == pytest.approx(math.exp(-1))


def special() -> tuple[ImageTable, list[Episode]]:
    table = ImageTable([f"p{i}.png" for i in range(9)], np.zeros(9, int), ("all",))
    plain = Episode(
        "plain", ("c0", "c1"), np.array([0, 1]), np.array([0, 1]), np.array([2, 3, 4]), np.array([0, 1, OUTSIDE])
    )
    none = Episode("none", (), np.array([], int), np.array([], int), np.array([5, 6]), np.array([OUTSIDE, OUTSIDE]))
    hidden = Episode("hidden", ("c2", "c0"), np.array([0, 1]), np.array([0, 1]), np.array([7, 8]), None)
    return table, [plain, none, hidden]


@pytest.mark.parametrize("chunk", [1, 3])
def test_unreadable_hidden_and_classless(chunk: int) -> None:
    table, episodes = special()

    def score(batch: EpisodeBatch) -> Scores:
        scores = np.full((*batch.query.shape, batch.class_ids.shape[1]), -0.5)
        scores[batch.query == 3] = np.nan  # unreadable
        return scores

    results = evaluate(episodes, score, chunk=chunk)
    frame = results.to_frame(table)
    assert frame.columns.tolist() == ["task", "image", "label", "confidence", "truth"]
    assert frame["label"].tolist() == ["c0", "", "c0", "", "", "c2", "c2"]
    assert frame["truth"].tolist() == ["c0", "c1", "", "", "", "", ""]
    assert frame["task"].tolist() == ["plain"] * 3 + ["none"] * 2 + ["hidden"] * 2
    assert frame["image"].tolist() == [f"p{i}.png" for i in range(2, 9)]
    assert np.isnan(results.confidence).tolist() == [False, True, False, True, True, False, False]
    assert results.confidence.dtype == evaluate(episodes[1:2], score).confidence.dtype == np.float32
    names = [[results.vocabulary[i] for i in row if i >= 0] for row in results.classes.tolist()]  # type: ignore[union-attr]
    assert names == [["c0", "c1"], [], ["c2", "c0"]]
    assert results.truth[-1] == UNKNOWN and results.unanswered == 3
    assert results.accuracy[0] == 1 / 3 and results.accuracy[1] == 0 and np.isnan(results.accuracy[2])
    assert results.mean == pytest.approx(1 / 6)
    assert results.summary() == (
        f"16.67% ± {results.ci95:.2%} (3 episodes, 7 queries); truth known in 2 episodes; "
        "3 queries without an answer, counted as wrong"
    )
    assert evaluate(episodes[2:], score).summary() == "1 episode, 2 queries; no true labels, so no accuracy"


def test_one_class_has_no_runner_up_and_neither_has_an_unreadable_picture() -> None:
    rows = np.arange(3)
    one, two = (
        Episode(f"{len(names)} ways", names, rows[: len(names)], rows[: len(names)], rows + 2)
        for names in (("a",), ("a", "b"))
    )

    def score(batch: EpisodeBatch) -> Scores:
        scores = np.broadcast_to(np.log([0.75, 0.25]), (*batch.query.shape, 2))[..., : batch.class_ids.shape[1]].copy()
        scores[batch.query == 4] = np.nan
        return scores

    results = evaluate([one], score, runners_up=True)
    assert results.runner_up is not None and results.runner_up.tolist() == [-1, -1, -1]
    np.testing.assert_allclose(results.margin, [0.75, 0.75, np.nan], rtol=1e-6)
    results = evaluate([two], score, runners_up=True)
    assert results.runner_up is not None and results.runner_up.tolist() == [1, 1, -1]
    np.testing.assert_allclose(results.margin, [0.5, 0.5, np.nan], rtol=1e-6)


def test_wrong_scores_are_refused(make_table: MakeTable) -> None:
    sampler = EpisodeSampler(make_table([20] * 5), ways=3, queries=2, episodes=4)
    with pytest.raises(DataError, match=r"\(4, 6, 3\).*found \(4, 6, 2\)"):
        evaluate(sampler, lambda batch: np.zeros((4, 6, 2)))
    with pytest.raises(DataError, match="Apply log_softmax"):
        evaluate(sampler, constant(3.0))
    with pytest.raises(DataError, match="found int64"):
        evaluate(sampler, lambda batch: np.zeros((4, 6, 3), np.int64))
    partly = np.full((4, 6, 3), -1.0)
    partly[0, 0, 1] = np.nan
    with pytest.raises(DataError, match="NaN for some classes"):
        evaluate(sampler, lambda batch: partly)
    with pytest.raises(DataError, match="at least one episode"):
        evaluate([], constant(-1.0))
    with pytest.raises(UsageError, match="chunk"):
        evaluate(sampler, constant(-1.0), chunk=0)


def test_paired_results_must_share_their_episodes(make_table: MakeTable) -> None:
    table = make_table([40] * 8)
    first, second = (EpisodeSampler(table, ways=3, queries=4, episodes=20, seed=seed) for seed in (0, 1))
    same = paired_difference(evaluate(first, row_scores), evaluate(first, constant(-1.0)))
    a, b = evaluate(first, row_scores).accuracy, evaluate(first, constant(-1.0)).accuracy
    assert same.episodes == 20 and same.mean == pytest.approx((a - b).mean())
    with pytest.raises(DataError, match="rows differ"):
        paired_difference(evaluate(first, row_scores), evaluate(second, row_scores))


def test_what_a_score_says_of_padding_is_not_looked_at(make_table: MakeTable) -> None:
    """The surest value in every column beyond an episode's classes: answers and confidences are those without."""
    sampler = ragged(make_table)

    def sure_of_padding(batch: EpisodeBatch) -> Scores:
        padded = np.arange(batch.class_ids.shape[1]) >= batch.n_way[:, None, None]
        return np.where(padded, 0.0, row_scores(batch))

    expected, found = evaluate(sampler, row_scores), evaluate(sampler, sure_of_padding)
    assert np.array_equal(found.predicted, expected.predicted) and np.array_equal(found.confidence, expected.confidence)


def test_the_module_can_be_called_as_the_function_is(make_table: MakeTable) -> None:
    asked: list[int] = []

    def counting(batch: EpisodeBatch) -> Scores:
        asked.append(len(batch.n_way))
        return row_scores(batch)

    sampler: Any = ragged(make_table)
    module: Any = sys.modules["episodes.evaluate"]
    found = module(sampler, counting, chunk=5)
    assert np.array_equal(found.predicted, evaluate(sampler, row_scores).predicted)
    assert asked == [5, 5, 5, 5, 3]
