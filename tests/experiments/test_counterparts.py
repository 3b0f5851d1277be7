"""Ours against theirs: the same answers where they are the same method, and a loss that shows in the table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from episodes import EpisodeSampler, evaluate
from experiments.claims.worlds import World
from experiments.counterparts import accuracies, report
from experiments.theirs import Array, Counterpart, counterparts
from fewshot import FeatureScorer
from fewshot.classifiers import Statistics
from fewshot.classifiers.gda import GaussianDiscriminant
from fewshot.classifiers.prototype import Prototype


def test_their_accuracies_are_ours_where_the_method_is_the_same() -> None:
    generator = np.random.default_rng(0)
    table, embeddings = World.of(generator, classes=40).benchmark(generator, 12, 12)
    sampler = EpisodeSampler(table, ways=4, shots=3, queries=5, episodes=20, seed=1)
    same = [each for each in counterparts() if each.ours == "nearest" or "euclidean" in each.title]
    assert [each.title for each in same] == ["prototype (metric euclidean)", "prototype (metric euclidean)", "nearest"]
    for each in same:
        expected = evaluate(sampler, FeatureScorer(embeddings, each.build(None))).accuracy
        found = accuracies(sampler, range(20), embeddings, each.answer)
        np.testing.assert_allclose(found, expected)
        assert 0.3 < found.mean() < 0.95


def test_ours_has_the_settings_that_its_row_names() -> None:
    def answer(support: Array, labels: Array, query: Array) -> Array:
        return labels

    plain, other = Counterpart("prototype", "x", answer), Counterpart("gda", "x", answer, settings={"shrinkage": 0.5})
    statistics = Statistics(torch.zeros(3), torch.eye(3), 9)
    assert (plain.title, plain.build(None)) == ("prototype", Prototype())
    assert other.title == "gda (shrinkage 0.5)"
    built = other.build(statistics)
    assert isinstance(built, GaussianDiscriminant) and built.shrinkage == 0.5 and built.statistics is statistics
    with pytest.raises(TypeError, match="metrics"):
        Counterpart("prototype", "x", answer, settings={"metrics": "euclidean"}).build(None)


def test_a_significant_loss_is_bold_and_folders_weigh_the_same() -> None:
    rows = [
        {"data": "pacs", "folder": folder, "shots": 1, "ours": "ridge", "theirs": "x", "difference": d, "ci95": 0.003}
        for folder, d in (("a", -0.02), ("b", 0.0))
    ]
    text = report(pd.DataFrame(rows))
    assert "| ridge | x | **-1.0 ± 0.2** |" in text and "pacs, 1 shot |" in text
    assert "**" not in report(pd.DataFrame([{**rows[1], "difference": -0.002}]))


@pytest.mark.parametrize("name", ["ridge", "logistic", "tim", "ptmap", "bdcspn", "laplacianshot", "gda"])
def test_each_of_ours_has_a_counterpart(name: str) -> None:
    assert any(each.ours == name for each in counterparts())
