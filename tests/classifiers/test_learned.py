"""The learned steps against plain loops, files of them, and learning itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from episodes import EpisodeSampler, ImageTable
from episodes.errors import DataError
from fewshot.classifiers import build_classifier
from fewshot.classifiers.auto import Auto
from fewshot.classifiers.learned import SHIPPED, Learned, Steps, assign, shipped_steps
from fewshot.classifiers.learning import Domain, learn_steps, narrowed
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.embedding.embed import Embeddings
from tests.classifiers.conftest import pictures


def plain_scores(
    support: np.ndarray, labels: np.ndarray, query: np.ndarray, alone: np.ndarray, steps: list
) -> np.ndarray:
    """(Q, N) of one task by the formulas of `Steps`, class by class and query by query."""
    everything = np.concatenate([support, query])
    everything = everything / np.linalg.norm(everything, axis=1, keepdims=True)
    everything = everything - everything.mean(0)
    everything = everything / np.sqrt((everything**2).sum(1).mean())
    support, query = everything[: len(support)], everything[len(support) :]
    ways = labels.max() + 1
    shots = np.array([(labels == c).sum() for c in range(ways)])
    means, weight, share = np.stack([support[labels == c].mean(0) for c in range(ways)]), shots.astype(float), None
    first = np.array([[((q - m) ** 2).sum() for m in means] for q in query])
    contrast = np.log((first.mean(1) - first.min(1)).sum() / first.mean(1).sum() / 0.25)
    for step in steps:
        a = {name: np.dot(each, [1, np.log(shots.mean()), contrast]) for name, each in step.items()}
        distance = np.array([[((q - m) ** 2).sum() for m in means] for q in query])
        noise = distance.min(1).mean()
        scores = -0.5 * np.exp(a["temperature"]) * (distance - a["scatter"] * noise / weight) + a["evidence"] * alone
        if share is not None:
            scores = scores + a["balance"] * np.log(share + 1e-3)
        assigned = np.exp(scores - scores.max(1, keepdims=True))
        assigned /= assigned.sum(1, keepdims=True)
        share, trusted = assigned.mean(0), np.exp(a["trust"]) * assigned
        weight = shots + trusted.sum(0)
        for c in range(ways):
            means[c] = (support[labels == c].sum(0) + trusted[:, c] @ query) / weight[c]
    return scores


@pytest.mark.parametrize("shots", [1, 5])
def test_scores_are_those_of_a_plain_loop(tasks: Callable, shots: int) -> None:
    t = tasks(3, 4, 5, 6, spread=0.3).to(torch.float64)
    kept = torch.arange(20).view(4, 5)[:, :shots].flatten()
    support, labels = t.support[:, kept], t.support_labels[:, kept]
    uneven = torch.arange(24) < 17  # of the last class one query alone
    batch = t.batch(support=support, support_labels=labels, query_mask=uneven.expand(3, -1))
    found, alone = assign(batch, shipped_steps().values).log_softmax(-1), Auto()(batch)
    steps = json.loads(SHIPPED.read_text())["steps"]
    for i in range(3):
        parts = (support[i], labels[i], t.query[i, :17], alone[i, :17].double())
        expected = torch.from_numpy(plain_scores(*(part.numpy() for part in parts), steps)).log_softmax(-1)
        torch.testing.assert_close(found[i, :17], expected, atol=1e-4, rtol=0)


def test_it_gains_on_queries_of_any_balance(tasks: Callable) -> None:
    t = tasks(60, 5, 1, 15, spread=0.13)
    prototype, learned = build_classifier("prototype"), build_classifier("learned")
    for kept in (torch.arange(75), torch.arange(75)[torch.arange(75) % 15 < torch.arange(5).repeat_interleave(15) * 4]):
        batch = t.batch(query=t.query[:, kept], query_mask=t.query_mask[:, kept])
        before, after = ((each(batch).argmax(-1) == t.truth[:, kept]).float().mean() for each in (prototype, learned))
        assert after > before + 0.02


def test_steps_survive_a_file_and_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "learned.json"
    shipped_steps().write(path)
    assert torch.equal(Steps.read(path).values, shipped_steps().values)
    whole = json.loads(path.read_text())
    before = [{name: each[:2] for name, each in step.items()} for step in whole["steps"]]  # as files used to be
    path.write_text(json.dumps({**whole, "steps": before}))
    assert torch.equal(Steps.read(path).values[..., :2], shipped_steps().values[..., :2])
    assert bool((Steps.read(path).values[..., 2] == 0).all())
    for damage in (
        "",
        "[]",
        json.dumps({"steps": []}),
        json.dumps({**whole, "steps": [{**whole["steps"][0], "trust": [1e9, 0, 0]}]}),
        json.dumps({**whole, "steps": [{**whole["steps"][0], "trust": [0]}]}),
        json.dumps({**whole, "steps": [{**whole["steps"][0], "trust": [float("nan"), 0, 0]}]}),
        json.dumps({**whole, "steps": [{"trust": [0, 0]}]}),
    ):
        path.write_text(damage)
        with pytest.raises(DataError, match="fewshot learn") as error:
            Steps.read(path)
        assert str(path) in str(error.value)
    path.unlink()
    os.mkfifo(path)  # a checkpoint of a stranger: nothing is waited for
    with pytest.raises(DataError, match="a FIFO, not a regular file"):
        Steps.read(path)


def domain(classes: int, each: int, seed: int, spread: float) -> Domain:
    features, _ = pictures(classes, each, seed, spread=spread)
    labels = np.repeat(np.arange(classes), each).astype(np.int32)
    table = ImageTable(list(range(len(labels))), labels, tuple(f"class{label:02d}" for label in range(classes)))
    flat = features.flatten(0, 1)
    return Domain("made up", Embeddings(flat, torch.ones(len(flat), dtype=torch.bool), {}, 0), table)


def accuracy(steps: Steps, held_out: Domain) -> float:
    scorer, right = FeatureScorer(held_out.embeddings, Learned(steps)), []
    for balance in (None, 1.0):
        batch = EpisodeSampler(held_out.table, ways=5, queries=15, query_balance=balance, seed=5).batch(0, 100)
        right.append(
            ((scorer(batch).argmax(-1) == batch.query_labels) & batch.query_mask).sum() / batch.query_mask.sum()
        )
    return float(np.mean(right))


def test_learning_gains_on_classes_that_it_did_not_see() -> None:
    """From settings that are bad for these features, and the same twice."""
    told: list[tuple[int, int]] = []
    seen, held_out = domain(20, 20, 1, 0.16), domain(20, 20, 2, 0.16)
    state = torch.random.get_rng_state()
    start = learn_steps([seen], "nothing", updates=1)
    learned = learn_steps([seen], "pictures", updates=30, progress=lambda *at: told.append(at))
    assert accuracy(learned, held_out) > accuracy(start, held_out) + 0.005
    assert torch.equal(learned.values, learn_steps([seen], "pictures", updates=30).values)
    assert told[-1] == (30, 30) and learned.learned_on == "pictures"
    assert torch.equal(state, torch.random.get_rng_state())


def test_too_few_pictures_to_learn_from_are_told() -> None:
    with pytest.raises(DataError, match="made up: learning needs 2 classes of 3 pictures"):
        learn_steps([domain(3, 2, 0, 0.1)], "too few")


def test_narrowed_features_keep_their_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    wide: Tensor = torch.randn(50, 6, generator=generator) @ torch.randn(6, 40, generator=generator)
    narrow = narrowed(wide, 6)
    distances = ((rows.unsqueeze(0) - rows.unsqueeze(1)).norm(dim=-1) for rows in (narrow, wide))
    torch.testing.assert_close(*distances, atol=1e-3, rtol=0)
    assert narrow.shape == (50, 6) and narrowed(wide, 40) is wide
