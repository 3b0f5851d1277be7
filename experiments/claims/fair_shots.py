"""Classes of few and of many pictures in one task: what fairness gains, and that equal shots stay as they are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes import EpisodeSampler, ImageTable
from experiments.claims.base import REPORTED_ON, Data, Row
from fewshot import Embeddings, build_classifier
from fewshot.classifiers.tasks import TaskBatch

NAME = "Classes of unequal shots"
CLAIM = """A class of one picture is not passed over for one of ten: `prototype`, `ridge`, `logistic`, `lp++` and `nearest` take back the
advantage of many pictures, and with equal shots not a bit changes. Five classes of 1, 2, 5, 10 and 10 pictures, 10 queries a class, 600
tasks of each of seven folders that chose nothing; the gain over the same classifier without it, folders weighing the same."""

SHOTS = (1, 2, 5, 10, 10)
SWITCH = {"prototype": "shots_exponent"} | dict.fromkeys(("ridge", "logistic", "lp++", "nearest"), "shots_strength")
"""Classifier -> the setting that makes it fair; 0 leaves that out."""
TASKS = 600


def measure(data: Data) -> Iterator[Row]:
    """The gain of each classifier, and the folder where it gains least."""
    for backbone in ("tiny", "lite2"):
        by_folder = [gains(*unequal_tasks(*data.embedded(folder, backbone))) for folder in REPORTED_ON]
        for name in SWITCH:
            found = [each[name] for each in by_folder]
            means = [100 * float(gain.mean()) for gain in found]
            error = 100 * math.sqrt(sum(float(gain.var(ddof=1)) / len(gain) for gain in found)) / len(found)
            on, least = f"{name}, {backbone}", int(np.argmin(means))
            yield Row("gain, mean of the folders", on, float(np.mean(means)), ci95=1.96 * error, low=0, unit="points")
            yield Row("gain where it is least", on, means[least], unit="points", note=REPORTED_ON[least])


def gains(tasks: TaskBatch, truth: Tensor) -> dict[str, Any]:
    """(T,) what fairness adds to each task's accuracy, by classifier."""
    found = {}
    for name, switch in SWITCH.items():
        fair: Any = build_classifier(name)
        found[name] = _right(fair, tasks, truth) - _right(dataclasses.replace(fair, **{switch: 0.0}), tasks, truth)
    return found


def unequal_tasks(table: ImageTable, embeddings: Embeddings) -> tuple[TaskBatch, Tensor]:
    """Tasks whose classes have the pictures of `SHOTS`, and the true class (T, Q) of their queries."""
    sampler = EpisodeSampler(table, ways=len(SHOTS), shots=max(SHOTS), queries=10, episodes=TASKS, seed=5)
    batch = sampler.batch(0, TASKS)
    kept = np.concatenate([np.arange(max(SHOTS)) < shots for shots in SHOTS])
    support, query = (torch.from_numpy(rows) for rows in (batch.support[:, kept], batch.query))
    labels, features = torch.from_numpy(batch.support_labels[:, kept]), embeddings.features
    tasks = TaskBatch(features[support], labels, features[query], torch.ones_like(query, dtype=torch.bool), len(SHOTS))
    return tasks, torch.from_numpy(batch.query_labels)


def _right(classifier: Any, tasks: TaskBatch, truth: Tensor) -> Any:
    """(T,) accuracy of each task."""
    return (classifier(tasks).argmax(-1) == truth).double().mean(1).numpy()
