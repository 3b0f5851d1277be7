"""What the terminal is told."""

from __future__ import annotations

import numpy as np

from episodes import Results
from fewshot.console import accuracy_of, accuracy_text, percent


def test_an_interval_is_not_given_of_a_handful_of_pictures() -> None:
    def results(pictures: int) -> Results:
        rows = np.arange(120) % pictures
        right = (rows % 2).astype(np.int64)
        names = [f"e{i}" for i in range(12)]
        return Results(
            names, ("a", "b"), np.arange(120) // 10, rows, right, np.zeros(120, np.int64), np.ones(120, np.float32)
        )

    assert accuracy_text(results(6)) == "50.0 % of only 6 pictures, too few for an interval"
    assert accuracy_of(0.256, 0.011, 6) == "25.6 % of only 6 pictures, too few for an interval"
    assert accuracy_text(results(30)) == percent(results(30).mean, results(30).ci95)
