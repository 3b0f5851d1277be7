"""Dirichlet-unbalanced query counts."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from episodes import EpisodeSampler, ImageTable, UsageError
from episodes.balance import check_balance, unbalanced_counts
from episodes.counter_random import START, fold

MakeTable = Callable[[Sequence[int]], ImageTable]


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_counts_follow_the_dirichlet_multinomial(alpha: float) -> None:
    tasks, ways, total = 6000, 4, 12
    caps = np.full((tasks, ways), total)
    counts = unbalanced_counts(fold(START, np.arange(tasks)), np.full(tasks, ways), caps, np.full(tasks, total), alpha)
    assert (counts.sum(axis=1) == total).all()
    # One class against the others: a beta-binomial distribution.
    expected = stats.betabinom(total, alpha, (ways - 1) * alpha).pmf(np.arange(total + 1)) * tasks
    tail = int(np.flatnonzero(expected < 5)[0]) if (expected < 5).any() else total + 1
    for label in range(ways):
        seen = np.bincount(counts[:, label], minlength=total + 1).astype(float)
        grouped = np.append(seen[:tail], seen[tail:].sum()), np.append(expected[:tail], expected[tail:].sum())
        keep = grouped[1] > 0
        assert stats.chisquare(grouped[0][keep], grouped[1][keep]).pvalue > 1e-3


def test_large_concentration_is_nearly_balanced_small_one_is_not() -> None:
    tasks = np.arange(500)
    caps, total = np.full((500, 5), 75), np.full(500, 75)
    spread = [
        unbalanced_counts(fold(START, tasks), np.full(500, 5), caps, total, alpha).max(axis=1).mean()
        for alpha in (0.1, 1.0, 100.0)
    ]
    assert spread[0] > 55 > spread[1] > 30 > 22 > spread[2] > 15


def test_only_real_ways_get_queries_and_caps_hold() -> None:
    tasks = np.arange(400)
    n_way = 1 + tasks % 4
    caps = np.full((400, 4), 6)
    counts = unbalanced_counts(fold(START, tasks), n_way, caps, n_way * 5, 1.0)
    given = counts.sum(axis=1)
    assert counts.max() == 6 and (given >= 1).all() and (given <= n_way * 5).all()
    assert (counts[np.arange(4) >= n_way[:, None]] == 0).all()


def test_shrinking_is_told(make_table: MakeTable) -> None:
    small = EpisodeSampler(make_table([20] * 5), shots=5, queries=15, episodes=100, query_balance=2.0)
    told = small.shrunk_queries()
    given = [len(episode.query) for episode in small]
    assert (told.episodes, told.asked, told.given) == (100, 7500, sum(given))
    assert told.shrunk == sum(count < 75 for count in given) > 90
    assert (
        f"{told.shrunk} of 100 episodes" in told.summary() and f"{sum(given)} queries instead of 7500" in told.summary()
    )
    assert small.shrunk_queries(10, 20).asked == 750
    large = EpisodeSampler(make_table([90] * 5), shots=5, queries=15, episodes=100, query_balance=2.0)
    assert large.shrunk_queries().summary() == "" and large.shrunk_queries().given == 7500


def test_the_most_queries_that_can_be_drawn() -> None:
    """Sums of weights stay below 2**32, in units of 1/4096: (1 + queries) x 4096 for one way at concentration 1."""
    check_balance(1.0, 1, 2**20 - 2)
    with pytest.raises(UsageError, match="too many queries"):
        check_balance(1.0, 1, 2**20 - 1)
