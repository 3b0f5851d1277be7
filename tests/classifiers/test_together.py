"""Weights of several encoders, against plain loops over pictures and candidate weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from episodes.errors import UsageError
from fewshot.classifiers import build_classifier
from fewshot.classifiers.together import (
    COMMON_SHARE,
    DISTANCE_POWER,
    PRIOR_PICTURES,
    SCALE,
    Segment,
    Together,
    candidate_weights,
    task_weights,
)
from fewshot.encoders import load_encoder

SEGMENTS = (Segment(30, 0.4), Segment(18, 0.2))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def plain_weights(support: Tensor, labels: Tensor, segments: tuple[Segment, ...]) -> np.ndarray:
    """(P,) weights of one task, with a prototype made anew for each picture left out and each candidate."""
    ends = np.cumsum([segment.width for segment in segments])[:-1]
    parts = [unit(part) for part in np.split(support.double().numpy(), ends, axis=1)]
    classes = [np.flatnonzero(labels.numpy() == label) for label in np.unique(labels.numpy())]
    ratios = []
    for part, segment in zip(parts, segments, strict=True):
        pairs = [part[a] @ part[b].T for a in classes for b in classes if a is not b]
        distance = np.mean([1 - pair.mean() for pair in pairs])
        ratios.append(0.0 if segment.usual_distance is None else np.log(distance / segment.usual_distance))
    first = np.exp(DISTANCE_POWER * np.array(ratios))
    first /= first.sum()
    if all(len(rows) < 2 for rows in classes):
        return first
    parts = [without_common(part, part, classes) for part in parts]
    totals = []
    for candidate in candidate_weights(len(segments)).double().numpy():
        whole = np.concatenate([part * weight**0.5 for part, weight in zip(parts, candidate, strict=True)], axis=1)
        total = PRIOR_PICTURES * (first * np.log(np.maximum(candidate, 0.02))).sum()
        for own, rows in enumerate(classes):
            for row in rows if len(rows) > 1 else ():
                means = [whole[other[other != row]].mean(0) for other in classes]
                scores = SCALE * np.array([whole[row] @ unit(mean) for mean in means])
                total += scores[own] - np.log(np.exp(scores - scores.max()).sum()) - scores.max()
        totals.append(total)
    chance = np.exp(np.array(totals) - max(totals))
    return (chance / chance.sum()) @ candidate_weights(len(segments)).double().numpy()


def without_common(rows: np.ndarray, support: np.ndarray, classes: list[np.ndarray]) -> np.ndarray:
    """Unit rows (n, D) less a share of the mean of the classes' means, of unit norm again."""
    return unit(rows - COMMON_SHARE * np.mean([support[own].mean(0) for own in classes], axis=0))


@pytest.mark.parametrize(
    "segments", [SEGMENTS, (Segment(20, 0.3), Segment(10, None), Segment(18, 0.5))], ids=["2", "3"]
)
@pytest.mark.parametrize("shots", [(1, 1, 1, 1), (5, 5, 5, 5), (1, 4, 2, 5)], ids=str)
def test_weights_are_what_a_plain_loop_finds(
    tasks: Callable, segments: tuple[Segment, ...], shots: tuple[int, ...]
) -> None:
    t = tasks(3, 4, 5, 2, spread=0.4)
    kept = torch.cat([5 * label + torch.arange(count) for label, count in enumerate(shots)])
    garbage = torch.randn(3, 2, 48, generator=torch.Generator().manual_seed(0))
    support = torch.cat([t.support[:, kept], garbage], 1)
    labels = torch.cat([t.support_labels[:, kept], torch.full((3, 2), -1)], 1)
    found = task_weights(t.batch(support=support, support_labels=labels), segments)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    for i in range(3):
        expected = plain_weights(t.support[i, kept], t.support_labels[i, kept], segments)
        assert np.abs(found[i].numpy() - expected).max() < 1e-4


def test_an_encoder_that_knows_nothing_counts_little(tasks: Callable) -> None:
    t = tasks(10, 5, 5, 6, spread=0.12)
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(*rows.shape[:2], 24, generator=generator) for rows in (t.support, t.query)]
    support, query = (torch.cat([rows, more], -1) for rows, more in zip((t.support, t.query), noise, strict=True))
    segments = (Segment(48, None), Segment(24, None))
    weights = task_weights(t.batch(support=support, query=query), segments)
    assert bool((weights[:, 0] > 0.6).all()) and weights[:, 0].mean() > 0.7
    prototype = build_classifier("prototype")
    right = (Together(prototype, segments)(t.batch(support=support, query=query)).argmax(-1) == t.truth).float().mean()
    alone, blind = (
        (prototype(t.batch(support=s, query=q)).argmax(-1) == t.truth).float().mean()
        for s, q in ((t.support, t.query), noise)
    )
    assert blind < 0.4 < 0.8 < alone and right > alone - 0.05


def test_parts_are_joined_by_their_weights_without_what_is_common(tasks: Callable) -> None:
    t = tasks(3, 4, 2, 6, spread=0.3)
    classes = [np.flatnonzero(t.support_labels[0].numpy() == label) for label in range(4)]
    found = Together(build_classifier("prototype"), SEGMENTS)(t.batch())
    weights = task_weights(t.batch(), SEGMENTS).double().numpy()
    for i in range(3):
        support, query = [], []
        for share, part in zip(weights[i], (slice(0, 30), slice(30, 48)), strict=True):
            own, asked = (unit(rows[i, :, part].double().numpy()) for rows in (t.support, t.query))
            support.append(share**0.5 * without_common(own, own, classes))
            query.append(share**0.5 * without_common(asked, own, classes))
        whole = np.concatenate(support, axis=1)
        centres = unit(np.stack([whole[own].mean(0) for own in classes]))
        expected = torch.from_numpy(10 * np.concatenate(query, axis=1) @ centres.T).log_softmax(-1)
        torch.testing.assert_close(found[i].double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["prototype", "auto", "tip"])
def test_the_same_encoder_twice_answers_as_once(tasks: Callable, name: str) -> None:
    t = tasks(4, 5, 2, 6, spread=0.3)
    classifier = build_classifier(name)
    common = COMMON_SHARE * t.support.mean(1, keepdim=True)
    once = classifier(t.batch(support=t.support - common, query=t.query - common))
    twice = Together(classifier, (Segment(48, None), Segment(48, None)))
    found = twice(t.batch(support=t.support.repeat(1, 1, 2), query=t.query.repeat(1, 1, 2)))
    assert twice.transductive == classifier.transductive
    torch.testing.assert_close(found.exp(), once.exp(), atol=2e-3, rtol=0)


def test_queries_are_not_looked_at(tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7)
    together = Together(build_classifier("prototype"), SEGMENTS)
    part = together(t.batch(query=t.query[:, 3:9], query_mask=t.query_mask[:, 3:9]))
    torch.testing.assert_close(part, together(t.batch())[:, 3:9])


def test_one_class_alone_is_answered(tasks: Callable) -> None:
    t = tasks(2, 1, 3, 4)
    assert bool(Together(build_classifier("prototype"), SEGMENTS)(t.batch()).eq(0).all())


def test_a_classifier_is_wrapped_only_for_several_encoders(vit_file, resnet_file, statistics) -> None:  # type: ignore[no-untyped-def]
    several = load_encoder(f"{vit_file}+{resnet_file}")
    made = build_classifier("auto", encoder=several)
    assert isinstance(made, Together) and [segment.width for segment in made.segments] == [32, 32]
    assert not isinstance(build_classifier("auto", encoder=load_encoder(str(vit_file))), Together)
    with pytest.raises(UsageError, match="'gda' needs the mean and covariance of one encoder"):
        build_classifier("gda", statistics=statistics, encoder=several)
