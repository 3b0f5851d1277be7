"""How a training batch is made of episodes: ways, episodes a step, steps an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from episodes.errors import UsageError
from episodes.ranges import upper
from episodes.wording import counted
from fewshot.config import TrainConfig


@dataclass(frozen=True)
class EpisodePlan:
    """Ways, and what follows from the batch.

    Attributes:
        ways: Classes an episode, a number or an inclusive range.
        episodes_per_step: Over all processes.
        steps_per_epoch: Training pictures divided by the batch, rounded up.
    """

    ways: int | tuple[int, int]
    episodes_per_step: int
    steps_per_epoch: int


def plan_episodes(config: TrainConfig, n_images: int, n_eligible: int, processes: int = 1) -> EpisodePlan:
    """How a batch is made of episodes.

    Unset ways: batch_size // (shots + queries), so that one episode fills the batch (at most the eligible classes). Set, the
    batch holds batch_size // (ways * (shots + queries)) episodes, shared evenly among the processes.

    Args:
        config: Settings of the run.
        n_images: Training pictures.
        n_eligible: Classes with enough pictures for an episode.
        processes: How many share the batch.

    Returns:
        Ways, episodes a step, and steps an epoch.

    Raises:
        UsageError: The batch is too small for one episode a process, and the message names the smallest that works; or it is
            larger than the training set.
    """
    most = max(n_images, TrainConfig.batch_size)
    if config.batch_size > most:
        raise UsageError(
            f"batch_size is {config.batch_size}, but there are {n_images} training pictures: give at most {most}"
        )
    per_class = upper(config.shot_range) + config.queries
    ways = config.way_range
    if ways is None:
        ways = min(config.batch_size // (per_class * processes), n_eligible)
        if ways < 2:
            raise UsageError(
                f"batch_size {config.batch_size} holds no episode of at least 2 classes with {per_class} pictures each"
                f"{f' for each of {processes} processes' if processes > 1 else ''}: the smallest that works is {2 * per_class * processes}"
                if n_eligible >= 2
                else f"an episode needs at least 2 classes with {per_class} pictures each; found {n_eligible}"
            )
    episodes = config.batch_size // (upper(ways) * per_class)
    episodes -= episodes % processes
    if episodes < processes:
        raise UsageError(
            f"batch_size {config.batch_size} is too small for {counted(processes, 'episode')} of {upper(ways)} ways x {per_class} "
            f"pictures: the smallest that works is {upper(ways) * per_class * processes}"
        )
    return EpisodePlan(ways, episodes, math.ceil(n_images / config.batch_size))
