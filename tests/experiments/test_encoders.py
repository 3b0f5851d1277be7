"""The table of encoders: what is compared with what, and which bars are reached."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments import encoders
from experiments.encoders import Arguments, Kind, bars, report, run
from fewshot.encoders.lite import weights_path
from tests.conftest import write_pictures


def row(name: str, group: str, folder: str, difference: float, shots: int = 5) -> dict[str, object]:
    settings = {"shots": shots, "queries": "even", "accuracy": 0.8, "ci95": 0.01, "difference_ci95": 0.002}
    return {"folder": folder, "name": name, "group": group, "difference": difference, **settings}


def test_bars_are_of_the_mean_and_of_the_worst_set() -> None:
    frame = pd.DataFrame(
        [
            row("tiny", "one view", "a", 0.0),
            row("tiny, 2 views", "views", "a", 0.03),
            row("tiny, 2 views", "views", "b", -0.003),  # the mean is enough, the worst set is not
            row("tiny, auto", "auto", "a", 0.02),
            row("tiny, auto", "auto", "b", 0.001),
            row("tiny, auto", "auto", "a", 0.0, shots=1),  # no bar
            row("tiny, alpha-tim", "alpha-tim", "a", 0.02),
            row("tiny, learned", "learned", "a", 0.019),  # below alpha-tim
        ]
    )
    lines = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in bars(frame)[2:]}
    assert set(lines) == {(name, "5 shots, even") for name in ("tiny, 2 views", "tiny, auto", "tiny, learned")}
    reached = {name: line.split("|")[-2].strip() for (name, _), line in lines.items()}
    assert reached == {"tiny, 2 views": "**no**", "tiny, auto": "yes", "tiny, learned": "**no**"}
    assert "-0.3 (b)" in lines["tiny, 2 views", "5 shots, even"] and "+2.0" in lines["tiny, learned", "5 shots, even"]


@pytest.mark.skipif(weights_path("lite0") is None, reason="needs the extra [lite]")
def test_several_encoders_are_compared_with_the_better_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    write_pictures(tmp_path / "data" / "a", 5, 8)
    monkeypatch.setattr(encoders, "SINGLE", ("tiny", "lite0"))
    monkeypatch.setattr(encoders, "TOGETHER", ("lite0+tiny",))
    monkeypatch.setattr(
        encoders, "KINDS", (Kind("one view", "tiny"), Kind("one view", "lite0"), Kind("together", "lite0+tiny"))
    )
    monkeypatch.setattr(encoders, "episode_sets", lambda shared, folder: small_sets(shared.data / folder))
    frame = run(Arguments(tmp_path / "data", ("a",), tmp_path / "out"))
    found = frame.set_index("name")
    better = found["accuracy"][["tiny", "lite0"]].max()
    assert found["difference"]["lite0+tiny"] == pytest.approx(found["accuracy"]["lite0+tiny"] - better)
    assert (tmp_path / "out" / "encoders.md").read_text() == report(frame)


def small_sets(root: Path):  # type: ignore[no-untyped-def]
    from fewshot.evaluation import read_episode_sets

    _, sets = read_episode_sets(root, shots=(1,), queries=3, episodes=10)
    return [("even", group) for group in sets]
