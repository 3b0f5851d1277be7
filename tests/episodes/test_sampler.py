"""EpisodeSampler: pinned episodes, an independent second implementation, nesting, independence, errors."""

import pickle
import runpy
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from episodes import DataError, EpisodeSampler, ImageTable, UsageError, stack_episodes

PlainSampler = runpy.run_path(str(Path(__file__).with_name("plain_sampler.py")))["PlainSampler"]
MakeTable = Callable[[Sequence[int]], ImageTable]
SIZES = [12, 30, 9, 25, 40, 11, 18, 300]
FIELDS = ("class_ids", "n_way", "support", "support_labels", "query", "query_labels")

SETTINGS: list[dict[str, Any]] = [
    {"ways": 3, "shots": 2, "queries": 3, "seed": 7},
    {"ways": (2, 4), "shots": (1, 3), "queries": 2, "seed": -5},
    {"ways": (2, 4), "shots": (1, 3), "queries": 2, "seed": 2**63 + 11, "shots_per_class": True},
    {"ways": 3, "shots": 1, "queries": 5, "seed": 3, "max_shots": 4, "query_balance": 1.0},
    {"ways": (1, 5), "shots": (1, 2), "queries": 4, "query_balance": 0.3, "shots_per_class": True},
]


def shuffled(table: ImageTable) -> ImageTable:
    return ImageTable(table.items, np.random.default_rng(0).permutation(table.labels), table.class_names)


def test_golden_episodes(make_table: MakeTable) -> None:
    """These must never change: published numbers are named by their seed."""
    table = make_table(SIZES)
    sampler = EpisodeSampler(table, ways=3, shots=2, queries=3, seed=7, episodes=1_000_000)
    golden = {
        0: (("c1", "c7", "c4"), [24, 35, 386, 433, 94, 111], [31, 27, 30, 439, 301, 347, 98, 114, 102]),
        1: (("c7", "c1", "c3"), [345, 250, 15, 29, 74, 73], [276, 306, 210, 38, 41, 17, 51, 75, 63]),
        999_999: (("c0", "c3", "c1"), [6, 9, 58, 62, 17, 35], [1, 4, 10, 69, 64, 70, 18, 15, 13]),
    }
    for i, (names, support, query) in golden.items():
        episode = sampler[i]
        assert (episode.class_names, episode.support.tolist(), episode.query.tolist()) == (names, support, query)
    ragged = EpisodeSampler(
        table, ways=(2, 4), shots=(1, 3), queries=2, seed=-5, episodes=10, shots_per_class=True, query_balance=1.0
    )[4]
    assert ragged.class_names == ("c6", "c7", "c3") and ragged.query_labels is not None
    assert ragged.support.tolist() == [134, 139, 140, 162, 55, 68]
    assert ragged.support_labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert ragged.query.tolist() == [382, 197, 312, 152, 412, 232] and ragged.query_labels.tolist() == [1] * 6


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("arrange", [shuffled, lambda table: table])
def test_equals_the_plain_implementation(
    make_table: MakeTable, settings: dict[str, Any], arrange: Callable[[ImageTable], ImageTable]
) -> None:
    table = arrange(make_table(SIZES))
    sampler = EpisodeSampler(table, episodes=60, **settings)
    plain = PlainSampler(
        rows=[np.flatnonzero(table.labels == c).tolist() for c in range(len(SIZES))],
        ways=sampler.ways, shots=sampler.shots, queries=sampler.queries, seed=sampler.seed,
        max_shots=sampler.max_shots, shots_per_class=sampler.shots_per_class, alpha=sampler.query_balance,
    )  # fmt: skip
    for i in range(60):
        ours, theirs = sampler[i], plain.episode(i)
        assert ours.query_labels is not None and ours.name == f"episode{i}"
        assert ours.class_names == tuple(table.class_names[c] for c in theirs.classes)
        assert (ours.support.tolist(), ours.support_labels.tolist()) == (theirs.support, theirs.support_labels)
        assert (ours.query.tolist(), ours.query_labels.tolist()) == (theirs.query, theirs.query_labels)


def test_an_episode_does_not_depend_on_which_were_asked_for_before(make_table: MakeTable) -> None:
    sampler = EpisodeSampler(make_table(SIZES), ways=3, shots=2, queries=3, episodes=300)
    alone = [sampler.batch(i, i + 1).episode(0) for i in range(300)]
    for order in (range(300), range(299, -1, -1), [0, 1, 2, 200, 201, 2, 3, 64, 65, 66, 130, 0]):
        for i in order:
            assert sampler[i].support.tolist() == alone[i].support.tolist() and sampler[i].name == f"episode{i}"
    first = sampler[0].support.tolist()
    sampler.seed = 1
    assert sampler[0].support.tolist() == sampler.batch(0, 1).episode(0).support.tolist() != first


def test_what_is_drawn_ahead_is_bounded_and_does_not_travel(make_table: MakeTable) -> None:
    sampler = EpisodeSampler(make_table([400] * 200), ways=100, shots=100, queries=200, episodes=50)
    fresh = len(pickle.dumps(sampler))
    assert (
        len(sampler[0].query) == 20_000 and len(sampler[1].query) == 20_000
    )  # of 30,000 pictures, one is drawn at a time
    peaks = []
    tracemalloc.start()
    for draw in (lambda: sampler.batch(2, 3), lambda: sampler[2]):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert draw() is not None
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
    assert len(pickle.dumps(sampler)) == fresh


@pytest.mark.parametrize("settings", SETTINGS)
def test_batch_is_the_same_episodes_stacked(make_table: MakeTable, settings: dict[str, Any]) -> None:
    table = shuffled(make_table(SIZES))
    sampler = EpisodeSampler(table, episodes=200, **settings)
    batch = sampler.batch(20, 120)
    alone = stack_episodes([sampler[i] for i in range(20, 120)])
    assert list(batch.names) == list(alone.names) and batch.vocabulary == table.class_names
    for name in FIELDS[1:]:
        assert np.array_equal(getattr(batch, name), getattr(alone, name)), name
    for t in range(100):  # the vocabularies differ, the names they give do not
        assert batch.episode(t).class_names == alone.episode(t).class_names


def test_episodes_are_well_formed(make_table: MakeTable) -> None:
    table = shuffled(make_table(SIZES))
    batch = EpisodeSampler(table, ways=(2, 5), shots=(1, 4), queries=4, episodes=300, shots_per_class=True).batch(
        0, 300
    )
    ways, shots = set(), set()
    for episode in batch:  # validation refuses rows in support and query, classes without support
        rows = [*episode.support.tolist(), *episode.query.tolist()]
        assert len(set(rows)) == len(rows) and episode.query_labels is not None
        labels = [*episode.support_labels.tolist(), *episode.query_labels.tolist()]
        assert [table.class_names[table.labels[row]] for row in rows] == [
            episode.class_names[label] for label in labels
        ]
        assert np.bincount(episode.query_labels).tolist() == [4] * len(episode.class_names)
        ways.add(len(episode.class_names))
        shots.update(np.bincount(episode.support_labels).tolist())
    assert ways == {2, 3, 4, 5} and shots == {1, 2, 3, 4}


def test_shots_nest_and_queries_stay(make_table: MakeTable) -> None:
    table = make_table(SIZES)
    one, five = (EpisodeSampler(table, ways=3, shots=k, queries=4, max_shots=5, episodes=50) for k in (1, 5))
    for few, many in zip(one, five, strict=True):
        assert few.class_names == many.class_names and few.query.tolist() == many.query.tolist()
        for label in range(3):
            longer = many.support[many.support_labels == label].tolist()
            assert few.support[few.support_labels == label].tolist() == longer[:1] and len(longer) == 5


def test_ways_nest(make_table: MakeTable) -> None:
    table = make_table(SIZES)
    two, four = (EpisodeSampler(table, ways=n, shots=2, queries=4, episodes=50) for n in (2, 4))
    for few, many in zip(two, four, strict=True):
        assert few.class_names == many.class_names[:2]
        assert few.support.tolist() == many.support[:4].tolist() and few.query.tolist() == many.query[:8].tolist()


def test_unbalanced_queries_keep_classes_and_supports(make_table: MakeTable) -> None:
    table = make_table([200] * 6)
    balanced = EpisodeSampler(table, ways=4, shots=3, queries=5, episodes=50)
    unbalanced = EpisodeSampler(table, ways=4, shots=3, queries=5, episodes=50, query_balance=0.5)
    differing = 0
    for even, uneven in zip(balanced, unbalanced, strict=True):
        assert even.class_names == uneven.class_names and even.support.tolist() == uneven.support.tolist()
        assert len(uneven.query) == 20 and uneven.query_labels is not None
        differing += np.bincount(uneven.query_labels, minlength=4).tolist() != [5] * 4
    assert differing > 40


def test_seeds_and_indices_give_different_episodes(make_table: MakeTable) -> None:
    table = make_table([300] * 8)
    samplers = [EpisodeSampler(table, seed=seed, episodes=20) for seed in (0, 1, -1, 2**40)]
    rows = {tuple(episode.query.tolist()) for sampler in samplers for episode in sampler}
    assert len(rows) == 80


def test_classes_and_pictures_are_uniform(make_table: MakeTable) -> None:
    batch = EpisodeSampler(make_table([20] * 10), ways=3, shots=1, queries=2, episodes=4000).batch(0, 4000)
    assert stats.chisquare(np.bincount(batch.class_ids[:, 1], minlength=10)).pvalue > 1e-3
    for rows in (batch.support, batch.query):
        assert stats.chisquare(np.bincount(rows.ravel() % 20, minlength=20)).pvalue > 1e-3
    ways = EpisodeSampler(make_table([20] * 10), ways=(2, 6), shots=(1, 4), queries=2, episodes=4000).batch(0, 4000)
    assert stats.chisquare(np.bincount(ways.n_way, minlength=7)[2:]).pvalue > 1e-3


def test_small_classes_take_no_part(make_table: MakeTable) -> None:
    sampler = EpisodeSampler(make_table([5, 6, 7]), ways=2, shots=1, queries=5, episodes=50)
    assert {name for episode in sampler for name in episode.class_names} == {"c1", "c2"}


def test_too_few_classes_names_the_small_ones(make_table: MakeTable) -> None:
    with pytest.raises(DataError) as error:
        EpisodeSampler(make_table([5, 20, 3]), ways=2, shots=1, queries=5)
    text = str(error.value)
    assert (
        "c0 (5)" in text
        and "queries (4 of these at most)" in text
        and "c2 (3)" in text
        and "at least 6 pictures" in text
        and "c1 (20)" not in text
    )
    with pytest.raises(DataError, match="and 12 more"):
        EpisodeSampler(make_table([3] * 20), ways=2, shots=1, queries=5)
    with pytest.raises(DataError, match=r"20 ways needs 20 classes.*found 3 among 3"):
        EpisodeSampler(make_table([50] * 3), ways=(2, 20))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ways": 0}, "ways"),
        ({"ways": (3, 2)}, "ways"),
        ({"shots": 0}, "shots"),
        ({"shots": (0, 2)}, "shots"),
        ({"queries": 0}, "queries"),
        ({"episodes": 0}, "episodes"),
        ({"shots": 5, "max_shots": 4}, "max_shots is at least the largest of shots, 5"),
        ({"query_balance": 0.0}, "query_balance"),
        ({"query_balance": 1e9}, "query_balance"),
        ({"query_balance": 1000.0, "queries": 1_000_000}, "too many queries"),
    ],
)
def test_settings_out_of_range(make_table: MakeTable, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EpisodeSampler(make_table([50] * 8), **settings)


def test_it_is_a_sequence(make_table: MakeTable) -> None:
    sampler = EpisodeSampler(make_table([50] * 8), episodes=7)
    assert len(sampler) == 7 and len(list(sampler)) == 7
    assert sampler[-1].name == "episode6" and [e.name for e in sampler[2:6:2]] == ["episode2", "episode4"]
    for wrong in (7, -8):
        with pytest.raises(IndexError):
            sampler[wrong]
    for start, stop in ((0, 0), (3, 2), (-1, 2), (0, 8)):
        with pytest.raises(IndexError):
            sampler.batch(start, stop)


def test_a_copy_in_another_process_gives_the_same(make_table: MakeTable) -> None:
    sampler = EpisodeSampler(shuffled(make_table(SIZES)), ways=3, shots=2, queries=3, episodes=9)
    copy = pickle.loads(pickle.dumps(sampler))
    assert [e.query.tolist() for e in copy] == [e.query.tolist() for e in sampler]


def test_global_random_state_is_left_alone(make_table: MakeTable) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    EpisodeSampler(make_table([50] * 8), query_balance=1.0).batch(0, 10)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("balance", [None, 0.5])
def test_spares_are_the_unused_pictures_of_the_class(make_table: MakeTable, balance: float | None) -> None:
    table = shuffled(make_table([12, 9, 11, 14]))
    sampler = EpisodeSampler(table, ways=3, shots=2, queries=3, episodes=5, query_balance=balance)
    for i in range(5):
        episode = sampler[i]
        for label, name in enumerate(episode.class_names):
            of_class = set(table.rows_of(table.class_names.index(name)).tolist())
            unused = of_class - {*episode.support.tolist(), *episode.query.tolist()}
            spares = [sampler.spare(i, label, number) for number in range(len(of_class))]
            assert set(spares) == of_class
            if balance is None:
                assert set(spares[: len(unused)]) == unused
