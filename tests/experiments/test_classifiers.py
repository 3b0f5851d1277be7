"""The study that compares all classifiers: its numbers against `fewshot evaluate`'s and a plain loop's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.classifiers import Arguments, left_out, pooled, report, run
from fewshot.commands.cli import main


def test_rows_are_those_of_evaluate(
    vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(other_folders, tmp_path / "data" / "grocery")
    names = ("nearest", "prototype", "soft-kmeans")
    frame = run(
        Arguments(
            tmp_path / "data", ("grocery",), tmp_path / "out", classifiers=names, ways=3, queries=4, shots=(1, 3), episodes=40, seed=5,
            backbone=str(vit_file), device="cpu",
        )
    )  # fmt: skip
    assert len(frame) == 2 * 2 * 3 and set(frame["classifier"]) == set(names)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "classifiers.csv"), frame)
    capsys.readouterr()
    for queries, balance in (("even", "even"), ("unbalanced", "dirichlet:2")):
        command = [
            "evaluate",
            str(tmp_path / "data" / "grocery"),
            "--backbone",
            str(vit_file),
            "--classifier",
            *names,
            "--ways",
            "3",
        ]
        command += [
            "--queries",
            "4",
            "--shots",
            "1",
            "3",
            "--episodes",
            "40",
            "--seed",
            "5",
            "--query_balance",
            balance,
            "--json",
        ]
        assert main([*command, "--device", "cpu"]) == 0
        for row in json.loads(capsys.readouterr().out):
            chosen = frame[(frame["queries"] == queries) & (frame["shots"] == row["shots"])]
            [mine] = chosen[chosen["classifier"] == row["classifier"]].to_dict("records")
            [base] = chosen[chosen["classifier"] == "prototype"].to_dict("records")
            assert (mine["accuracy"], mine["ci95"]) == (row["accuracy"], row["ci95"])
            assert mine["difference"] == pytest.approx(mine["accuracy"] - base["accuracy"])
    text = (tmp_path / "out" / "classifiers.md").read_text()
    assert "soft-kmeans \\*" in text and "Accuracy on grocery" in text


def test_folders_of_a_set_and_sets_weigh_the_same() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "data": data, "folder": folder, "classifier": name, "shots": 1, "queries": "even", "episodes": 10,
            **dict(zip(("accuracy", "ci95", "difference", "difference_ci95", "rate"), rng.random(5), strict=True)),
        }
        for data, folder in (("a", "a"), ("b", "b1"), ("b", "b2"), ("b", "b3"))
        for name in ("prototype", "nearest")
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    value = {(r["folder"], r["classifier"]): r for r in rows}
    by_set = pooled(frame, ["data"])
    found = by_set.loc[("b", "nearest", 1, "even")]
    parts = [value[(folder, "nearest")] for folder in ("b1", "b2", "b3")]
    assert found["accuracy"] == pytest.approx(sum(p["accuracy"] for p in parts) / 3)
    assert found["difference_ci95"] == pytest.approx(sum(p["difference_ci95"] ** 2 for p in parts) ** 0.5 / 3)
    overall = pooled(by_set.reset_index(), []).loc[("nearest", 1, "even")]
    assert overall["difference"] == pytest.approx((value[("a", "nearest")]["difference"] + found["difference"]) / 2)
    assert overall["worst"] == min(value[("a", "nearest")]["difference"], found["difference"])
    assert f"{100 * overall['difference']:+.1f} ± {100 * overall['difference_ci95']:.1f}" in report(frame)


def test_a_set_has_no_say_in_what_is_chosen_for_it() -> None:
    gains = {
        "a": {"gda": 5.0, "ridge": 1.0, "ptmap": 0.0},
        "b": {"gda": 3.0, "ridge": 2.0, "ptmap": 9.0},
        "c": {"gda": -9.0, "ridge": 1.0, "ptmap": 0.0},
    }
    rows = [
        {"data": data, "classifier": name, "shots": 5, "queries": "even", "difference": gain, "difference_ci95": 0.5}
        for data, own in gains.items()
        for name, gain in own.items()
    ]
    by_set = pd.DataFrame(rows).set_index(["data", "classifier", "shots", "queries"])
    found = left_out(by_set, transductive=False).set_index("data")
    assert dict(found["choice"]) == {"a": "ridge", "b": "ridge", "c": "gda"}
    assert dict(found["difference"]) == {"a": 1.0, "b": 2.0, "c": -9.0}
    assert dict(left_out(by_set, transductive=True).set_index("data")["choice"]) == {
        "a": "ptmap",
        "b": "ridge",
        "c": "ptmap",
    }
    assert left_out(by_set.loc[["a"]], transductive=True).empty
