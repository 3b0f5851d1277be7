"""Keyed randomness: fixed values, agreement with plain integers, uniformity."""

import itertools

import numpy as np
import pytest
from scipy import stats

from episodes.counter_random import START, bounded, fold, partial_permutation, random_bits

EDGES = [0, 1, 2, 12345, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def test_pinned_values() -> None:
    assert random_bits(0) == 0x2CB0F69F4ABEA221
    assert random_bits(1, 2, 3) == 0x32F22F3E2DAAC32C
    assert random_bits(-1) == random_bits(2**64 - 1) == 0xE9E0033E3BADAF36
    assert random_bits("view", 0, 5) == 0x92382F552272C782


def test_the_stream_of_splitmix64() -> None:
    # First outputs of the reference SplitMix64 for seed 1234567, which also other languages pin.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [int(fold(1234567, counter)[0]) for counter in range(4)] == expected


def test_arrays_equal_scalars() -> None:
    for first, second in itertools.product(EDGES, EDGES):
        state = fold(START, np.array([first], dtype=np.uint64))
        assert int(fold(state, np.array([second], dtype=np.uint64))[0]) == random_bits(first, second)
    grid = fold(fold(START, np.arange(3)[:, None]), np.arange(4))
    assert grid.shape == (3, 4)
    assert grid.tolist() == [[random_bits(i, j) for j in range(4)] for i in range(3)]


def test_every_key_and_their_order_count() -> None:
    keys = [(), (0,), (0, 0), (1,), (-1,), (0, 1), (1, 0), (-1, 0), (2,), ("a",), ("b",), ("a", 0)]
    assert len({random_bits(*key) for key in keys}) == len(keys)


def test_bounded_is_the_high_half_of_the_product() -> None:
    values = [*EDGES, *(random_bits(i) for i in range(200))]
    for bound in (1, 2, 3, 5, 1000, 2**31 + 7, 2**32 - 1):
        drawn = bounded(np.array(values, dtype=np.uint64), bound).tolist()
        assert drawn == [value * bound >> 64 for value in values]


@pytest.mark.parametrize("largest", [[], [2**31]], ids=["narrow", "wide"])
def test_permutation_equals_fisher_yates_on_a_list(largest: list[int]) -> None:
    sizes = np.array([1, 2, 3, 7, 20, 21, 50, 1000, *largest] * 40)
    states = fold(START, np.arange(len(sizes)))
    drawn = partial_permutation(states, sizes, 20)
    for size, state, row in zip(sizes.tolist(), states.tolist(), drawn.tolist(), strict=True):
        places: dict[int, int] = {}  # what lies elsewhere than at the place of its own number
        expected = []
        for j in range(min(size, 20)):
            word = int(fold(state, j // 2)[0])
            bits = word & 0xFFFFFFFF if j % 2 else word >> 32
            k = j + (bits * (size - j) >> 32)
            expected.append(places.get(k, k))
            places[k] = places.get(j, j)
        assert row == (expected + [-1] * 20)[:20]


def test_a_shorter_permutation_is_the_start_of_a_longer_one() -> None:
    states = fold(START, np.arange(20_000))  # more than one chunk
    long = partial_permutation(states, 30, 30)
    assert np.array_equal(partial_permutation(states, 30, 7), long[:, :7])
    assert np.array_equal(np.sort(long, axis=1), np.broadcast_to(np.arange(30), long.shape))


@pytest.mark.parametrize("size", [4, 11])
def test_permutations_are_uniform(size: int) -> None:
    drawn = partial_permutation(fold(START, np.arange(24_000)), size, 3)
    number = drawn @ np.array([size * size, size, 1])
    possible = [a * size * size + b * size + c for a, b, c in itertools.permutations(range(size), 3)]
    seen = np.array([(number == value).sum() for value in possible])
    assert seen.sum() == 24_000
    assert stats.chisquare(seen).pvalue > 1e-3
