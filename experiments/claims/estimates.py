"""The report's estimate of a task's accuracy without labels: is it right on average, and does its interval hold?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from episodes import EpisodeSampler, ImageTable, evaluate
from experiments.claims.base import REPORTED_ON, Data, Row
from fewshot import Embeddings, FeatureScorer, build_classifier
from fewshot.classifiers import INDUCTIVE, NEEDS_STATISTICS, Classifier
from fewshot.classifiers.shipped import shipped_calibration
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.report.estimate import estimate_task

NAME = "Accuracy without labels"
CLAIM = """The report estimates each task's accuracy without a label of its queries, with a 95 % interval: of inductive classifiers,
from two pictures a class on. 5-way tasks with 10 queries a class from seven folders that chose nothing (tin novel, omniglot novel,
grocery and pacs' four domains), 150 tasks of each; the bias is the mean of estimate less accuracy (in brackets on the folder where it is
largest), coverage is of single tasks. At one shot no number is shown: the last rows say why, by what the confidence is off there although
it is calibrated. No number is shown for transductive classifiers either, nor for those that use class names."""

SHOTS = (2, 5, 10)
TASKS = 150  # of a folder and number of shots
FEW = ("prototype", "logistic", "auto")  # of the second encoder: the ones that are recommended


def measure(data: Data) -> Iterator[Row]:
    """Bias and coverage by classifier and shots."""
    for backbone, names in (("tiny", INDUCTIVE), ("lite2", FEW)):
        statistics = shipped_statistics(backbone)
        for name in names:
            if name in NEEDS_STATISTICS and statistics is None:
                continue
            classifier = build_classifier(name, statistics=statistics)
            for shots in SHOTS:
                cells = [errors(*data.embedded(folder, backbone), classifier, shots, TASKS) for folder in REPORTED_ON]
                yield from rows_of(cells, shots, f"{name}, {backbone}")
    for backbone in ("tiny", "lite2"):
        yield _at_one_shot(data, backbone)


def errors(
    table: ImageTable, embeddings: Embeddings, classifier: Classifier, shots: int, tasks: int
) -> list[tuple[float, bool]]:
    """(Estimate less accuracy, whether the interval holds the accuracy) of every task."""
    sampler = EpisodeSampler(table, ways=5, shots=shots, queries=10, episodes=tasks, seed=11, max_shots=max(SHOTS))
    accuracies = evaluate(sampler, FeatureScorer(embeddings, classifier)).accuracy
    found = []
    for episode, accuracy in zip(sampler, accuracies.tolist(), strict=True):
        estimate = estimate_task(episode, embeddings, classifier)
        if estimate is not None:
            low, high = estimate.interval
            found.append((estimate.accuracy - accuracy, low <= accuracy <= high))
    return found


def rows_of(cells: list[list[tuple[float, bool]]], shots: int, on: str) -> Iterator[Row]:
    """Bias over folders that weigh the same, with the folder where it is largest, and coverage of all tasks."""
    biases = [100 * float(np.mean([error for error, _ in cell])) for cell in cells]
    spread = [100 * float(np.std([error for error, _ in cell], ddof=1)) / math.sqrt(len(cell)) for cell in cells]
    half = 1.96 * math.sqrt(sum(each**2 for each in spread)) / len(cells)
    worst = int(np.argmax(np.abs(biases)))
    note = f"{biases[worst]:+.1f} ± {1.96 * spread[worst]:.1f} on {REPORTED_ON[worst]}"
    bias = Row(f"bias, {shots} shots", on, float(np.mean(biases)), ci95=half, low=-3, high=3, unit="points", note=note)
    covered = 100 * float(np.mean([inside for cell in cells for _, inside in cell]))
    yield bias
    yield Row(f"coverage, {shots} shots", on, covered, nominal=95, low=90, high=98)


def _at_one_shot(data: Data, backbone: str) -> Row:
    """Mean calibrated confidence less accuracy at one shot, on the folder where they are furthest apart."""
    calibration, gaps = shipped_calibration(backbone)["prototype"], []
    for folder in REPORTED_ON:
        table, embeddings = data.embedded(folder, backbone)
        scorer = FeatureScorer(embeddings, build_classifier("prototype"), calibration=calibration)
        found = evaluate(EpisodeSampler(table, ways=5, shots=1, queries=10, episodes=300, seed=11), scorer)
        gaps.append(100 * (float(found.confidence.mean()) - found.mean))
    worst = int(np.argmax(np.abs(gaps)))
    on = f"prototype, {backbone}, one shot"
    return Row("calibrated confidence less accuracy", on, gaps[worst], unit="points", note=REPORTED_ON[worst])
