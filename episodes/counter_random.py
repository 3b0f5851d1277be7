"""Keyed randomness: bits that are a pure function of integer keys, by counter, in 64-bit integer arithmetic.

numpy promises no generator's stream across releases and floats differ between platforms; these do not.
The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
number generators"), and drawing with the last key as a counter walks the stream of that generator.
"""

import hashlib
from typing import Any

import numpy as np

UInt64Array = np.ndarray[Any, np.dtype[np.uint64]]
Int64Array = np.ndarray[Any, np.dtype[np.int64]]

# The state before any key (digits of pi): were it 0, key -1 would leave it 0 and so add nothing.
START = 0x243F6A8885A308D3
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_CHUNK = 1 << 13  # streams worked on at a time: what stays in a core's cache


def random_bits(*keys: int | str) -> int:
    """64 random bits that depend on every key and on their order; text keys count by their BLAKE2 hash.

    ``random_bits(seed, step, row, view)`` is the seed of one augmented picture, whoever computes it.
    """
    state = START
    for key in keys:
        if isinstance(key, str):
            key = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
        mixed = (state + (int(key) + 1) * _GOLDEN) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * _FIRST) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * _SECOND) & _MASK
        state = mixed ^ (mixed >> 31)
    return state


def fold(state: Any, key: Any) -> UInt64Array:
    """Mix one more key into states, elementwise and broadcast: ``fold(bits(a, b), c) == bits(a, b, c)``.

    Begin with ``START``.

    Args:
        state: uint64 array of any shape, or an integer.
        key: non-negative integers of a shape that broadcasts with it.
    """
    keys = np.atleast_1d(np.asarray(key)).astype(np.uint64)
    # Arrays wrap around silently, which is what is wanted; numpy scalars would warn.
    mixed = np.atleast_1d(np.asarray(state, dtype=np.uint64)) + (keys + np.uint64(1)) * np.uint64(_GOLDEN)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(_FIRST)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(_SECOND)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def bounded(bits: UInt64Array, bound: Any) -> Int64Array:
    """Random bits to integers in [0, bound) by multiply-shift: the high half of the 128-bit product.

    ``bound`` is at least 1 and below 2**32; no value is favoured by more than bound / 2**64.
    """
    limit = np.asarray(bound).astype(np.uint64)
    high = np.asarray((bits >> _HALF) * limit)
    low = np.asarray((bits & _LOW) * limit)
    low >>= _HALF
    high += low
    high >>= _HALF
    return high.view(np.int64)  # below 2**32, so the sign bit is free


def partial_permutation(states: UInt64Array, sizes: Any, draws: int) -> Int64Array:
    """The first ``draws`` places of one keyed random permutation of range(size) for each state.

    Fisher-Yates stopped early: place j depends on places before it only, so a shorter answer is the start
    of a longer one, and the cost does not depend on the sizes. A draw takes 32 bits, so no place is favoured by more
    than size / 2**32.

    Args:
        states: (R,) uint64, one stream each.
        sizes: (R,) or scalar, below 2**32.
        draws: places wanted.

    Returns:
        (R, draws) int64; -1 in places beyond the size.
    """
    limits = np.broadcast_to(np.asarray(sizes, dtype=np.int64), states.shape)
    out = np.empty((len(states), draws), dtype=np.int64)
    for start in range(0, len(states), _CHUNK):
        part = slice(start, start + _CHUNK)
        _fisher_yates(states[part], limits[part], out[part])
    return out


def _fisher_yates(states: UInt64Array, sizes: Int64Array, out: Int64Array) -> None:
    """Fill ``out`` (R, draws). Step j swaps place j with a place picked from j on; what lay there is drawn.

    A picked place still holds its own number unless an earlier step picked it too. So everything is picked at
    once, and only what was picked twice is looked into.
    """
    draws = out.shape[1]
    steps = np.arange(draws)
    left = sizes - steps[:, None]  # (draws, R): numpy is quick along the long axis only
    small = bool((sizes < draws).any())
    if small:
        np.maximum(left, 1, out=left)  # beyond the size, place j picks itself
    picks = _halves(fold(states, np.arange((draws + 1) // 2)[:, None]))[:draws]
    picks *= left.view(np.uint64)
    picks >>= _HALF
    picks += steps.astype(np.uint64)[:, None]
    # A pick and its step as one integer; narrow ones are sorted and compared at twice the rate.
    shift = draws.bit_length()
    dtype = np.uint32 if (int(sizes.max(initial=0)) + draws) >> (32 - shift) == 0 else np.uint64
    keys = np.left_shift(picks.astype(dtype), dtype(shift))
    ordered = np.ascontiguousarray(np.bitwise_or(keys, steps.astype(dtype)[:, None]).T)
    np.right_shift(ordered, dtype(shift), out=out, casting="unsafe")
    ordered.sort(axis=1)
    flat = ordered.ravel()
    again = np.flatnonzero((flat[1:] ^ flat[:-1]) < (1 << shift))  # the same place, picked again
    row, place = np.divmod(again, draws)
    row, place = row[place < draws - 1], place[place < draws - 1]  # a neighbour in the next row is none
    if len(row):
        earlier, later = (ordered[row, place + i].astype(np.int64) & ((1 << shift) - 1) for i in (0, 1))
        lowest = (ordered[row, 0] >> dtype(shift)).astype(np.int64)
        lay = earlier.copy()
        moved = lowest <= earlier  # else no step picked any of the first places, which hold their own number then
        lay[moved] = _left_behind(out, row[moved], earlier[moved])
        out[row, later] = lay
    if small:
        out[steps >= sizes[:, None]] = -1


def _halves(words: UInt64Array) -> UInt64Array:
    """(H, R) words -> (2 H, R): the upper 32 bits of each, then the lower."""
    out = np.empty((2 * len(words), words.shape[1]), dtype=np.uint64)
    np.right_shift(words, _HALF, out=out[::2])
    np.bitwise_and(words, _LOW, out=out[1::2])
    return out


def _left_behind(picks: Int64Array, row: Int64Array, step: Int64Array) -> Int64Array:
    """The value at place ``step`` before its swap, which the swap moved to the place that it picked."""
    steps = np.arange(picks.shape[1])
    lay = step.copy()
    looking = np.arange(len(row))
    while len(looking):  # what an earlier step left there, and so on back
        came = (picks[row[looking]] == lay[looking, None]) & (steps < lay[looking, None])
        moved = came.any(axis=1)
        looking, came = looking[moved], came[moved]
        lay[looking] = picks.shape[1] - 1 - came[:, ::-1].argmax(axis=1)  # the last of them
    return lay
