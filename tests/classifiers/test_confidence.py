"""Calibration on validation episodes: temperatures by ways and shots, thresholds for foreign pictures, and what they cost."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from episodes import EpisodeSampler, ImageTable
from episodes.errors import UsageError
from experiments.calibration import settings_of
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers import INDUCTIVE, build_classifier
from fewshot.classifiers.answers import Answers
from fewshot.classifiers.base import class_statistics
from fewshot.classifiers.calibrate import fit_temperature_surface, measure_confidence
from fewshot.classifiers.calibration import apply_temperature, calibration_error
from fewshot.classifiers.calibration_episodes import leave_classes_out
from fewshot.classifiers.confidence import Confidence
from fewshot.classifiers.kinds import Calibration
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.classifiers.shipped import FILE, shipped_calibration
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.classifiers.surface import Surface, evaluate_all
from fewshot.commands.cli import main
from fewshot.embedding.embed import Embeddings
from fewshot.training import TrainConfig, train


def pictures(classes: int, seed: int, width: int = 48, spread: float = 1.5) -> tuple[ImageTable, Embeddings]:
    """Classes of twenty noisy unit vectors, each class as noisy as the next."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.arange(classes).repeat_interleave(20)
    noise = spread * torch.randn(len(labels), width, generator=generator)
    features = torch.nn.functional.normalize(centres[labels] + noise, dim=-1)
    table = ImageTable(list(range(len(labels))), labels.numpy(), tuple(f"c{i}" for i in range(classes)))
    return table, Embeddings(features, torch.ones(len(labels), dtype=torch.bool), {}, len(labels))


@pytest.fixture(scope="module")
def blobs() -> tuple[ImageTable, Embeddings]:
    return pictures(15, 0)


def test_every_inductive_classifier_gets_better_calibrated(blobs: tuple[ImageTable, Embeddings]) -> None:
    table, embeddings = blobs
    statistics = class_statistics(embeddings.features, torch.from_numpy(table.labels.astype(np.int64)))
    found = measure_confidence(embeddings, table, statistics, seed=0, queries=100)
    assert tuple(found) == INDUCTIVE
    for name, known in found.items():
        assert known.ece_after < 0.09, name  # of 100 queries a size, most of it is their number
        assert known.ece_after <= known.ece_before + 0.01, name
        assert known.new_classes and known.outsiders > 400
    assert {"simpleshot", "gda"}.isdisjoint(measure_confidence(embeddings, table, None, seed=0, queries=20))


def test_few_classes_say_that_they_were_not_new() -> None:
    table, embeddings = pictures(4, 1)
    known = measure_confidence(embeddings, table, None, seed=0, classifiers=["prototype"])["prototype"]
    assert not known.new_classes and "on these same classes" in known.describe()
    assert known.log_temperature.ways == (2, 3)
    table, embeddings = pictures(2, 1)  # none of two can be left out
    assert measure_confidence(embeddings, table, None, seed=0) == {}


def test_the_temperature_of_every_size_is_found() -> None:
    """Labels drawn from known chances; the classifier's are as much too sure as a surface says."""
    random, answers = np.random.default_rng(0), []
    for ways in (2, 5, 10, 20):
        for shots in (1, 2, 5, 10):
            logits = random.normal(0, 1.5, (2000, ways))
            labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
            warmth = 2.5 * ways**-0.2 * shots**-0.6
            answers.append(Answers(ways, shots, log_softmax(logits * warmth, axis=1), labels, logits[:0]))
    found = fit_temperature_surface(answers)
    for each in answers:
        truth = 2.5 * each.ways**-0.2 * each.shots**-0.6
        assert float(np.exp(found(each.ways, each.shots))) == pytest.approx(truth, rel=0.06)


def test_where_every_answer_is_right_temperatures_stay_sensible() -> None:
    scores = np.log([[0.8, 0.2]] * 50)
    found = fit_temperature_surface([Answers(2, k, scores, np.zeros(50, int), scores[:0]) for k in (1, 5)])
    assert (np.abs(found([2, 2, 20], [1, 5, 1])) < 7).all()


SIZES = [(ways, shots) for ways in (2, 5, 10, 20) for shots in (1, 2, 5, 10)]


@pytest.mark.parametrize("name", ["prototype", "ridge"])
def test_the_claims_hold_on_other_classes(name: str) -> None:
    """In every cell an error of at most 4 points, and 3 to 7 % of foreign pictures accepted at 0.05, on classes that chose nothing."""
    table, embeddings = pictures(150, 2)
    known = measure_confidence(embeddings, table, None, seed=0, classifiers=[name], queries=3000)[name]
    calibration = Calibration((known,))
    table, embeddings = pictures(150, 4)
    scorer, errors, flat, accepted, told = FeatureScorer(embeddings, build_classifier(name)), [], [], [], []
    likeness, readable = np.zeros((len(table), 1)), np.ones(len(table), dtype=bool)
    one = float(np.exp(known.log_temperature(5, 5)))
    for ways, shots in SIZES:
        sampler = EpisodeSampler(table, ways=ways + 10, shots=shots, queries=5, seed=9, episodes=4000 // (5 * ways))
        batch = leave_classes_out(sampler.batch(0, len(sampler)), ways)
        traits = calibration.traits(batch, likeness, readable)
        temperature, needed = calibration.temperature(traits)[0], calibration.threshold(0.05, traits)[0]
        scores, own = scorer(batch), batch.query_labels >= 0
        errors.append(calibration_error(scores[own], batch.query_labels[own], temperature))
        flat.append(calibration_error(scores[own], batch.query_labels[own], one))
        sure = np.exp(apply_temperature(scores, temperature)).max(-1)
        accepted.append((sure[batch.query_labels == -2] >= needed).mean())
        told.append(abs((sure[own] < needed).mean() - calibration.cost(0.05, traits)[0]))
    assert max(errors) < 0.04, errors
    if name == "prototype":
        assert max(flat) > 0.06, flat  # what one temperature for all sizes does
    else:
        assert max(flat) < 0.04, flat  # ridge brings the scores of every task to the same gap itself: one is enough
    assert min(accepted) > 0.03 and max(accepted) < 0.08, accepted  # the bar is 0.07; these classes are few
    assert max(told) < 0.1, told


def test_a_surface_is_its_formula_within_its_sizes() -> None:
    surface = Surface((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), (2, 10), (1, 5))
    w, s = math.log(7), math.log(3)
    assert float(surface(7, 3)) == pytest.approx(1 + 2 * w + 3 * s + 4 * w * w + 5 * w * s + 6 * s * s)
    assert surface([50, 1], [80, 0.5]).tolist() == surface([10, 2], [5, 1]).tolist()
    bent = Surface((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0), (2, 10), (1, 5))
    cubic = 7 * w**3 + 8 * w * w * s + 9 * w * s * s + 10 * s**3
    assert float(bent(7, 3)) == pytest.approx(float(surface(7, 3)) + cubic)
    twice = dataclasses.replace(bent, coefficients=tuple(2 * each for each in bent.coefficients))
    ways, shots = np.array([1, 3, 7, 50]), np.array([0.5, 2, 3, 80])
    assert evaluate_all([bent, twice], ways, shots) == pytest.approx(np.stack([bent(ways, shots), twice(ways, shots)]))
    assert evaluate_all([bent, twice], 7, 3) == pytest.approx([bent(7, 3), twice(7, 3)])


def test_unequal_shots_count_by_their_harmonic_mean_and_unreadable_pictures_not_at_all() -> None:
    table, _ = pictures(8, 0)
    batch = EpisodeSampler(table, ways=(2, 6), shots=(1, 6), shots_per_class=True, queries=2, episodes=30).batch(0, 30)
    readable = np.ones(len(table), dtype=bool)
    readable[::3] = False
    traits = Calibration((dataclasses.replace(EXAMPLE),)).traits(batch, np.zeros((len(table), 1)), readable)
    for i in range(30):
        episode = batch.episode(i)
        kept = [label for row, label in zip(episode.support, episode.support_labels, strict=True) if readable[row]]
        counts = [kept.count(label) for label in set(kept)]
        assert traits.ways[i] == max(1, len(counts))
        assert traits.shots[i] == pytest.approx(len(counts) / sum(1 / n for n in counts) if counts else 1)
    assert (traits.kinds == 1).all()


FLAT = Surface((0.0,) * 6, (2, 20), (1, 10))
EXAMPLE = Confidence(
    FLAT,
    (0.01, 0.1, 0.5),
    tuple(dataclasses.replace(FLAT, coefficients=(c, 0.0, 0.0, 0.0, 0.0, 0.0)) for c in (3.0, 1.0, -1.0)),
    (FLAT, FLAT, FLAT),
    0.1,
    0.05,
    True,
    100,
    "examples",
)


def test_a_task_takes_after_the_pictures_that_it_resembles() -> None:
    warm = dataclasses.replace(EXAMPLE, log_temperature=Surface((1.0, 0, 0, 0, 0, 0), (2, 20), (1, 10)))
    centres = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    calibration = Calibration((EXAMPLE, warm), centres)
    table = ImageTable(list(range(20)), np.repeat([0, 1], 10), ("a", "b"))
    batch = EpisodeSampler(table, ways=2, shots=2, queries=1, episodes=3).batch(0, 3)

    def temperature(x: float, y: float) -> float:
        likeness = calibration.likeness(torch.tensor([[float(x), float(y)]]).expand(20, 2)).numpy()
        return float(calibration.temperature(calibration.traits(batch, likeness, np.ones(20, dtype=bool)))[0])

    assert temperature(1, 0) == pytest.approx(1, rel=0.02)
    assert temperature(0, 1) == pytest.approx(math.e, rel=0.02)
    assert temperature(0.5, 0.5) == pytest.approx(math.exp(0.5), rel=1e-3)
    assert temperature(0.9, 0.2) < temperature(0.6, 0.4) < temperature(0.4, 0.6)


def test_shares_between_those_that_are_kept_lie_between() -> None:
    values = [float(EXAMPLE.threshold(rate, 5, 1)) for rate in (0.01, 0.03, 0.1, 0.2, 0.5)]
    assert values[0] == 3 and values[2] == 1 and values[4] == -1 and sorted(values, reverse=True) == values
    for rate in (0.001, 0.7):
        with pytest.raises(UsageError, match="expected 0.01 to 0.5"):
            EXAMPLE.threshold(rate, 5, 1)


def test_it_survives_json_and_older_checkpoints_are_read() -> None:
    again = Confidence.from_json(json.loads(json.dumps(EXAMPLE.to_json())))
    assert again == EXAMPLE
    # Thresholds of degree 3 beside a temperature of degree 2, as they are written now.
    tens = tuple(
        dataclasses.replace(each, coefficients=(*each.coefficients, 0.5, 0.0, 0.0, 0.0)) for each in EXAMPLE.thresholds
    )
    mixed = Confidence.from_json(json.loads(json.dumps(dataclasses.replace(EXAMPLE, thresholds=tens).to_json())))
    assert mixed.thresholds == tens and mixed.log_temperature == EXAMPLE.log_temperature
    assert float(mixed.threshold(0.1, 5, 1)) == pytest.approx(
        float(EXAMPLE.threshold(0.1, 5, 1)) + 0.5 * math.log(5) ** 3
    )
    quantiles = np.linspace(0.2, 1, 201).tolist()
    old = {"temperature": 2.0, "ece_before": 0.2, "ece_after": 0.1, "outsider_confidence": quantiles, "outsiders": 300}
    known = Calibration((Confidence.from_json(old),))
    table, embeddings = pictures(8, 0)
    batch = EpisodeSampler(table, ways=(2, 6), shots=(1, 4), queries=2, episodes=9).batch(0, 9)
    traits = known.traits(batch, known.likeness(embeddings.features).numpy(), embeddings.readable.numpy())
    assert known.temperature(traits) == pytest.approx(np.full(9, 2.0))
    assert known.threshold(0.05, traits) == pytest.approx(np.full(9, quantiles[190]))
    assert np.isnan(known.cost(0.05, traits)).all()


def test_leaving_classes_out_changes_nothing_else(blobs: tuple[ImageTable, Embeddings]) -> None:
    batch = EpisodeSampler(blobs[0], ways=6, shots=(1, 4), queries=2, episodes=20).batch(0, 20)
    smaller = leave_classes_out(batch, 4)
    for i in range(20):
        whole, rest = batch.episode(i), smaller.episode(i)
        assert rest.class_names == whole.class_names[:4]
        assert rest.support.tolist() == whole.support[whole.support_labels < 4].tolist()
        assert rest.query.tolist() == whole.query.tolist()
        assert (rest.query_labels == np.where(whole.query_labels < 4, whole.query_labels, -2)).all()


def test_what_ships_is_of_the_classifiers_as_they_are() -> None:
    """A default that changed makes the calibration that was measured with it wrong: run `python -m experiments.calibration` again."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    assert tuple(shipped_calibration("tiny")) == INDUCTIVE
    for backbone, known in stored.items():
        assert set(known["settings"]) == set(known["classifiers"])
        for name, settings in known["settings"].items():
            assert settings == settings_of(build_classifier(name, statistics=shipped_statistics("tiny"))), (
                backbone,
                name,
            )
    assert shipped_calibration("ViT-B/32") == {}


def test_the_checkpoint_keeps_it_and_predict_uses_it(
    small_run: TrainConfig, vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(small_run, epochs=1, val_episodes=20)
    calibration = load_checkpoint(train(config).path).calibration["prototype"]
    known = calibration.parts[0]
    tasks, sure, plain = tmp_path / "tasks", tmp_path / "sure.csv", tmp_path / "plain.csv"
    assert main(["make-tasks", str(other_folders), str(tasks), "--tasks", "8", "--ways", "4", "--queries", "3"]) == 0
    common = ["predict", str(tasks), "--precision", "32", "--quiet"]
    assert main([*common, str(plain), "--backbone", str(vit_file)]) == 0
    assert "uncalibrated" in capsys.readouterr().out
    assert main([*common, str(sure), "--checkpoint", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "confidence calibrated" in said
    assert f"(off by {100 * known.ece_after:.1f} % there)" in said

    def rows(path: Path) -> list[dict[str, str]]:
        with path.open() as file:
            return list(csv.DictReader(file))

    if not load_checkpoint(tmp_path / "run").tuned:  # then only the temperature differs, and no answer may change
        assert [r["label"] for r in rows(sure)] == [r["label"] for r in rows(plain)]
    picky = tmp_path / "picky.csv"
    assert main([*common, str(picky), "--checkpoint", str(tmp_path / "run"), "--reject", "0.3"]) == 0
    said = capsys.readouterr().out
    threshold = 1 / (1 + math.exp(-float(known.threshold(0.3, 4, 5))))  # make-tasks: 5 shots
    cost = 1 / (1 + math.exp(-float(known.cost(0.3, 4, 5))))
    assert f"{threshold:.4f}" in said and f"and {100 * cost:.0f} % of pictures of its own classes do not" in said
    for a, b in zip(rows(sure), rows(picky), strict=True):
        if abs(float(a["confidence"]) - threshold) > 1e-4:
            assert b["label"] == ("unknown" if float(a["confidence"]) < threshold else a["label"])
    assert main([*common, str(picky), "--backbone", str(vit_file), "--reject", "0.3"]) == 2
    assert main([*common, str(picky), "--checkpoint", str(tmp_path / "run"), "--reject", "3"]) == 2
    assert main([*common, str(picky), "--checkpoint", str(tmp_path / "run"), "--reject", "0.001"]) == 2
