"""What `fewshot evaluate` offers beyond one accuracy: classifiers, comparison, balance, breakdown, files."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from episodes import mean_interval
from fewshot.commands.cli import main
from fewshot.training import TrainConfig, train
from tests.conftest import write_pictures

SETTINGS = ["--ways", "3", "--shots", "1", "3", "--queries", "4", "--episodes", "40", "--precision", "32"]


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_comparison_is_paired_on_the_same_episodes(
    vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers.csv"
    command = ["evaluate", other_folders, "--backbone", vit_file, *SETTINGS, "--classifier", "prototype", "nearest"]
    assert run(*command, "--compare", "nearest", "prototype", "--answers", answers, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["rows"]) == 4 and len(document["comparisons"]) == 2
    frame = pd.read_csv(answers)
    frame["right"] = frame["label"] == frame["truth"]
    by_task = frame.groupby(["classifier", "shots", "task"])["right"].mean()
    for comparison in document["comparisons"]:
        shots = comparison["shots"]
        difference = by_task["nearest"][shots] - by_task["prototype"][shots]
        mean, half_width = mean_interval(difference.to_numpy())
        assert comparison["difference"] == pytest.approx(mean) and comparison["ci95"] == pytest.approx(half_width)
    by_row = {(r["classifier"], r["shots"]): r["accuracy"] for r in document["rows"]}
    for key, accuracy in by_row.items():
        assert by_task[key].mean() == pytest.approx(accuracy)


def test_transductive_ones_are_marked_and_files_hold_the_table(
    vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, confusion = tmp_path / "table.parquet", tmp_path / "confusion.csv"
    command = ["evaluate", other_folders, "--backbone", vit_file, *SETTINGS, "--classifier", "soft-kmeans"]
    assert run(*command, "--output", output, "--confusion", confusion) == 0
    said = capsys.readouterr().out
    assert "soft-kmeans *" in said and "* transductive" in said and "worst class" in said
    table = pd.read_parquet(output)
    assert list(table["shots"]) == [1, 3] and table["accuracy"].between(0, 1).all()
    matrix = pd.read_csv(confusion, index_col=0)
    assert matrix.to_numpy().sum() == 40 * 3 * 4
    assert np.trace(matrix.iloc[:, :-1].to_numpy()) / (40 * 12) == pytest.approx(table["accuracy"].iloc[1])


def test_accuracy_by_class_is_that_of_the_answers(vit_file: Path, other_folders: Path, tmp_path: Path) -> None:
    answers, per_class = tmp_path / "answers.csv", tmp_path / "per_class.csv"
    command = ["evaluate", other_folders, "--backbone", vit_file, *SETTINGS, "--quiet"]
    assert run(*command, "--answers", answers, "--per_class", per_class) == 0
    frame = pd.read_csv(answers)
    expected = (frame["label"] == frame["truth"]).groupby([frame["shots"], frame["truth"]]).mean()
    found = pd.read_csv(per_class)
    assert found.groupby("shots")["accuracy"].is_monotonic_increasing.all()
    by_class = found.set_index(["shots", "class"])["accuracy"]
    pd.testing.assert_series_equal(by_class.sort_index(), expected.sort_index(), check_names=False)


def test_a_checkpoint_is_not_quietly_measured_on_classes_it_knows(
    small_run: TrainConfig, class_folders: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(dataclasses.replace(small_run, epochs=1))
    strange = write_pictures(tmp_path / "strange", 4, 10, seed=3, offset=60)
    command = ["--checkpoint", tmp_path / "run", *SETTINGS, "--quiet"]
    for folder, told in ((class_folders, "was trained on: 12"), (other_folders, "was validated on: 8"), (strange, "")):
        capsys.readouterr()
        assert run("evaluate", folder, *command) == 0
        said = capsys.readouterr().err
        assert (told in said) if told else ("known" not in said and "shared" not in said)
        assert run("evaluate", folder, *command, "--strict") == (1 if told else 0)


def test_parquet_takes_numbers_beside_ranges(vit_file: Path, other_folders: Path, tmp_path: Path) -> None:
    output, per_class = tmp_path / "table.parquet", tmp_path / "per_class.parquet"
    command = [
        "evaluate",
        other_folders,
        "--backbone",
        vit_file,
        "--ways",
        "3",
        "2-4",
        "--shots",
        "1",
        "--queries",
        "4",
        "--quiet",
    ]
    assert run(*command, "--episodes", "10", "--precision", "32", "--output", output, "--per_class", per_class) == 0
    assert list(pd.read_parquet(output)["ways"]) == ["3", "2-4"]
    assert set(pd.read_parquet(per_class)["ways"]) == {"3", "2-4"}


def test_unbalanced_queries(vit_file: Path, other_folders: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    command = ["evaluate", other_folders, "--backbone", vit_file, *SETTINGS, "--quiet", "--answers", answers]
    assert run(*command, "--query_balance", "dirichlet:2") == 0
    counts = pd.read_csv(answers).groupby(["shots", "task", "truth"]).size()
    assert counts.nunique() > 2 and counts.max() <= 10 - 3
    assert run(*command, "--query_balance", "skewed") == 2


def test_statistics_of_a_folder(
    vit_file: Path, class_folders: Path, other_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", other_folders, "--backbone", vit_file, *SETTINGS, "--classifier", "simpleshot", "gda"]
    assert run(*command) == 2
    assert "--statistics" in capsys.readouterr().err
    assert run(*command, "--statistics", class_folders, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == 4


def test_names_are_read_by_the_text_side(other_folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", other_folders, "--backbone", "tiny", *SETTINGS, "--classifier", "zero-shot", "text-blend"]
    assert run(*command, "--prompt", "a drawing of {}.", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    zero_shot = [row["accuracy"] for row in rows if row["classifier"] == "zero-shot"]
    assert zero_shot[0] == zero_shot[1]  # the support set is not looked at, and the queries are the same
    assert run(*command, "--prompt", "no place for a name") == 2


@pytest.mark.parametrize("flag", ["--output", "--answers", "--confusion"])
def test_outputs_are_checked_before_anything_is_computed(vit_file: Path, other_folders: Path, flag: str) -> None:
    command = ["evaluate", other_folders, "--backbone", vit_file, *SETTINGS]
    assert run(*command, flag, "table.xlsx") == 2
    assert run(*command, flag, "/nowhere/table.csv") == 1


def test_leaked_pictures_are_told_and_refused_when_strict(
    vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = tmp_path / "tasks"
    settings = ["--tasks", 2, "--ways", 3, "--shots", 1, "--queries", 2, "--quiet"]
    assert run("make-tasks", other_folders, tasks, *settings) == 0
    support = next((tasks / "testB/task1/support").rglob("*.png"))
    sorted((tasks / "testB/task1/query").iterdir())[0].write_bytes(support.read_bytes())
    assert run("evaluate", tasks, "--backbone", vit_file) == 0
    assert "accuracy will look better than it is" in capsys.readouterr().err
    assert run("evaluate", tasks, "--backbone", vit_file, "--strict") == 1


def test_adaptation_gets_rows_of_its_own_and_leaves_the_others(
    vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--ways", "3", "--shots", "2", "--queries", "3", "--episodes", "4", "--precision", "32", "--json"]
    assert run("evaluate", other_folders, "--backbone", vit_file, *settings) == 0
    (plain,) = json.loads(capsys.readouterr().out)
    assert run("evaluate", other_folders, "--backbone", vit_file, *settings, "--adapt", "projection") == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == plain and [row["classifier"] for row in rows] == ["prototype", "prototype+projection"]


def test_predict_adapts_and_reports(vit_file: Path, other_folders: Path, tmp_path: Path) -> None:
    tasks, page = tmp_path / "tasks", tmp_path / "page.html"
    settings = ["--tasks", 2, "--ways", 3, "--shots", 2, "--queries", 2, "--quiet"]
    assert run("make-tasks", other_folders, tasks, *settings) == 0
    command = ["predict", tasks, tmp_path / "r.csv", "--backbone", vit_file, "--adapt", "norms", "--report", page]
    assert run(*command) == 0
    text = page.read_text(encoding="utf-8")
    assert "task2" in text and "uncalibrated" in text and "http://" not in text.replace("http://www.w3.org", "")
    assert len(pd.read_csv(tmp_path / "r.csv")) == 12


def test_the_table_as_markdown_and_latex(
    vit_file: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "evaluate",
        other_folders,
        "--backbone",
        vit_file,
        "--ways",
        "3",
        "--queries",
        "3",
        "--episodes",
        "20",
        "--quiet",
    ]
    words += ["--classifier", "prototype", "soft-kmeans"]
    for suffix in ("md", "tex"):
        assert main([str(word) for word in [*words, "--output", tmp_path / f"t.{suffix}"]]) == 0
    printed = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()[:5]]
    markdown = (tmp_path / "t.md").read_text().splitlines()
    assert [line.strip("| ").split(" | ") for line in markdown[:1] + markdown[2:6]] == printed
    latex = (tmp_path / "t.tex").read_text()
    rows = [line.removesuffix(r" \\").split(" & ") for line in latex.splitlines() if line.endswith(r"\\")]
    plain = [[cell.replace(r"$\pm$", "±").replace(r"\%", "%").replace(r"\_", "_") for cell in row] for row in rows]
    assert [[cell.replace("--", "–") for cell in row] for row in plain] == [
        [cell.replace("--", "–") for cell in row] for row in printed
    ]
    assert (
        latex.startswith(r"\begin{tabular}{ll")
        and "* transductive" in latex
        and "\\* transductive" in "\n".join(markdown)
    )
