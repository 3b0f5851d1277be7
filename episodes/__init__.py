"""The task engine: classes, episodes, task directories and results.

Importing it is cheap: every public name is loaded on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from episodes.counter_random import random_bits
    from episodes.episode import OUTSIDE, UNKNOWN, Episode, EpisodeBatch, stack_episodes
    from episodes.errors import DataError, TruthError, UsageError
    from episodes.evaluate import Score, evaluate
    from episodes.folders import read_class_folders
    from episodes.paths import PathList
    from episodes.results import (
        PairedDifference,
        Results,
        ScoreResult,
        mean_interval,
        paired_difference,
        read_predictions,
        read_truth,
        score_predictions,
        write_predictions,
    )
    from episodes.sampler import EpisodeSampler
    from episodes.single_task import read_support_and_query
    from episodes.table import ImageTable, PassedOver
    from episodes.tasks import find_truth, read_task_directory, write_task_directory

_HOME = {
    "OUTSIDE": "episode",
    "UNKNOWN": "episode",
    "Episode": "episode",
    "EpisodeBatch": "episode",
    "stack_episodes": "episode",
    "DataError": "errors",
    "TruthError": "errors",
    "UsageError": "errors",
    "Score": "evaluate",
    "evaluate": "evaluate",
    "read_class_folders": "folders",
    "random_bits": "counter_random",
    "PathList": "paths",
    "PairedDifference": "results",
    "Results": "results",
    "ScoreResult": "results",
    "mean_interval": "results",
    "paired_difference": "results",
    "read_predictions": "results",
    "read_truth": "results",
    "score_predictions": "results",
    "write_predictions": "results",
    "EpisodeSampler": "sampler",
    "ImageTable": "table",
    "PassedOver": "table",
    "find_truth": "tasks",
    "read_support_and_query": "single_task",
    "read_task_directory": "tasks",
    "write_task_directory": "tasks",
}

__all__ = [
    "OUTSIDE",
    "UNKNOWN",
    "DataError",
    "Episode",
    "EpisodeBatch",
    "EpisodeSampler",
    "ImageTable",
    "PairedDifference",
    "PassedOver",
    "PathList",
    "Results",
    "Score",
    "ScoreResult",
    "TruthError",
    "UsageError",
    "evaluate",
    "find_truth",
    "mean_interval",
    "paired_difference",
    "random_bits",
    "read_class_folders",
    "read_predictions",
    "read_support_and_query",
    "read_task_directory",
    "read_truth",
    "score_predictions",
    "stack_episodes",
    "write_predictions",
    "write_task_directory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'episodes' has no attribute {name!r}")
    value = getattr(import_module(f"episodes.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
