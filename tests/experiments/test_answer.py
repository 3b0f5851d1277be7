"""The sentence that answers is made from the numbers: what is real, what a mean of sets would hide, what validation kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.engine.answer import answer
from experiments.engine.pairing import compare_all
from experiments.engine.results import Findings

EPISODES = 40


def findings(gains: dict[str, tuple[float, float]], kept: float = 1.0) -> Findings:
    """Two sets, three seeds; each condition's gain on either over the untouched encoder, which episodes spread alike."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for place, where in enumerate("xy"):
        easy = generator.normal(0.7, 0.1, EPISODES)
        for name, gain in {"untouched": (0.0, 0.0), **gains}.items():
            for seed in (-1,) if name == "untouched" else (0, 1, 2):
                accuracy = easy + gain[place] + generator.normal(0, 0.001, EPISODES) * (seed >= 0)
                keys = {"condition": name, "set": where, "shots": 1, "seed": seed}
                rows += [{**keys, "episode": i, "accuracy": value} for i, value in enumerate(accuracy)]
    names = list(gains)
    note = {
        "untouched": ["untouched"],
        "conditions": names,
        "pairs": [(name, names[0]) for name in names[1:]],
        "against_untouched": [(name, "untouched") for name in names],
        "sets": ["x", "y"],
        "seeds": [0, 1, 2],
    }
    results = pd.DataFrame([{"run": name, "kept_alpha": kept} for name in names])
    episodes = pd.DataFrame(rows)
    return Findings(results, episodes, pd.DataFrame(), compare_all(episodes, note), note)


def test_what_is_real_is_told_with_its_size() -> None:
    told = answer(findings({"a": (0.04, 0.02), "b": (0.0, 0.0)}))
    assert told.startswith("Highest on the mean of sets and shots: a (")
    assert "real after Holm's correction (1 of 2 are not told apart): a +3.0 ± 0." in told
    assert "b against a -3.0 ± 0." in told and "worse" not in told and "Validation kept" not in told


def test_a_loss_that_the_mean_of_the_sets_hides_is_told() -> None:
    told = answer(findings({"a": (0.08, -0.04)}))
    assert "a +2.0 ± 0." in told
    assert "on a set by itself, really worse than the untouched encoder: a -4.0 ± 0." in told
    assert "points on y at 1 shot" in told


def test_runs_that_kept_the_untouched_encoder_are_counted_and_one_difference_is_no_plural() -> None:
    told = answer(findings({"a": (0.0, 0.0)}, kept=0.0))
    assert "against the untouched encoder, the one difference is not real after Holm's correction" in told
    assert "Validation kept the untouched encoder in 1 of 1 runs; --mix 1 measures" in told
