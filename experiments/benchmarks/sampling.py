"""Sampling alone, against learn2learn's task transforms; and what an episode costs as the data set grows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import learn2learn as l2l
import torch
from learn2learn.data.transforms import FusedNWaysKShots, KShots, NWays
from torch.utils.data import TensorDataset

from episodes import EpisodeSampler
from experiments.benchmarks.inputs import numbered_table
from experiments.benchmarks.measure import Row, in_turn, quotients


def run(scratch: Path, quick: bool) -> list[Row]:
    """5 ways with 20 pictures each, of 20 classes of 600; descriptions only, no picture is loaded."""
    count, rounds = (4000, 3) if quick else (20_000, 5)
    table = numbered_table(20, 600)
    labels = torch.from_numpy(table.labels.astype("int64"))
    data = l2l.data.MetaDataset(TensorDataset(labels, labels))
    tasksets = {
        "FusedNWaysKShots": l2l.data.Taskset(data, [FusedNWaysKShots(data, n=5, k=20)], num_tasks=-1),
        "NWays + KShots": l2l.data.Taskset(data, [NWays(data, 5), KShots(data, 20)], num_tasks=-1),
    }
    sampler = EpisodeSampler(table, ways=5, shots=5, queries=15, episodes=count)
    calls = {"batch": count, "one by one": count // 40, "FusedNWaysKShots": count, "NWays + KShots": count // 100}

    def batches() -> None:
        for start in range(0, count, 1000):
            sampler.batch(start, min(start + 1000, count))

    def one_by_one() -> None:
        for index in range(calls["one by one"]):
            assert len(sampler[index].query) == 75

    def theirs(name: str) -> None:
        for _ in range(calls[name]):
            tasksets[name].sample_task_description()

    sides = {"batch": batches, "one by one": one_by_one}
    seconds = in_turn({**sides, **{name: partial(theirs, name) for name in tasksets}}, rounds)
    micro = {name: [value / calls[name] * 1e6 for value in values] for name, values in seconds.items()}
    fused = "FusedNWaysKShots"
    return [
        Row("sampling an episode, in batches of 1,000", micro["batch"], micro[fused], "µs", f"learn2learn {fused}",
            quotients(micro[fused], micro["batch"]), 20.0),
        Row("sampling an episode, one by one", micro["one by one"], micro[fused], "µs", f"learn2learn {fused}",
            quotients(micro[fused], micro["one by one"])),
        Row("sampling an episode, in batches of 1,000", micro["batch"], micro["NWays + KShots"], "µs",
            "learn2learn NWays + KShots", quotients(micro["NWays + KShots"], micro["batch"])),
        *growth(quick),
    ]  # fmt: skip


def growth(quick: bool) -> list[Row]:
    """An episode's cost with 1,000,000 pictures against 10,000, in 100 classes."""
    count, rounds = (1000, 5) if quick else (5000, 9)
    samplers = {
        size: EpisodeSampler(numbered_table(100, size // 100), ways=5, shots=5, queries=15, episodes=count)
        for size in (1_000_000, 10_000)
    }

    def batches(size: int) -> None:
        for start in range(0, count, 1000):
            samplers[size].batch(start, start + 1000)

    seconds = in_turn({str(size): partial(batches, size) for size in samplers}, rounds)
    micro = {name: [value / count * 1e6 for value in values] for name, values in seconds.items()}
    large, small = micro["1000000"], micro["10000"]
    return [
        Row(
            "an episode of 1,000,000 pictures",
            large,
            small,
            "µs",
            "of 10,000 pictures",
            quotients(large, small),
            1.3,
            True,
        )
    ]
