"""`fewshot predict` beyond task folders: loose pictures, a truth, other columns, the least sure first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from episodes import EpisodeSampler, read_class_folders, read_predictions, write_task_directory
from fewshot import FewShot
from fewshot.commands.cli import main


@pytest.fixture
def tasks(other_folders: Path, tmp_path: Path) -> Path:
    """Three 4-way 2-shot tasks with 3 queries a class, and their truth."""
    sampler = EpisodeSampler(read_class_folders(other_folders), ways=4, shots=2, queries=3, episodes=3)
    return Path(write_task_directory(read_class_folders(other_folders), sampler, tmp_path / "tasks"))


def run(*arguments: object) -> int:
    return main([str(a) for a in (*arguments, "--quiet")])


def test_loose_pictures_get_the_answers_of_a_task_folder(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    task, backbone = tasks / "testB" / "task2", ("--backbone", vit_file)
    expected, found, files = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv"
    assert run("predict", task, expected, *backbone) == 0
    assert run("predict", "--support", task / "support", *backbone, "--query", task / "query", found) == 0
    assert found.read_bytes() == expected.read_bytes()
    pictures = sorted((task / "query").iterdir())[::-1]
    assert run("predict", files, "--query", *pictures, "--support", task / "support", *backbone) == 0
    lines = expected.read_text().splitlines()
    assert files.read_text().splitlines() == [lines[0], *lines[:0:-1]]


def test_a_picture_is_never_taken_for_the_result(vit_file: Path, tasks: Path) -> None:
    task = tasks / "testB" / "task2"
    pictures = sorted((task / "query").iterdir())
    before = [path.read_bytes() for path in pictures]
    assert run("predict", "--support", task / "support", "--query", *pictures, "--backbone", vit_file) == 2
    assert [path.read_bytes() for path in pictures] == before


def test_the_least_sure_come_first_with_their_runner_up(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    plain, result = tmp_path / "plain.csv", tmp_path / "result.csv"
    spoilt = sorted((tasks / "testB/task3/query").iterdir())[0]
    spoilt.write_bytes(b"spoilt")
    assert run("predict", tasks, plain, "--backbone", vit_file) == 3
    columns = "task,image,label,confidence,runner_up,margin"
    assert run("predict", tasks, result, "--backbone", vit_file, "--columns", columns, "--sort") == 3
    found, expected = read_predictions(result), read_predictions(plain)
    margins = found["margin"].tolist()
    assert margins[0] == "" and margins[1:] == sorted(margins[1:], key=float)
    assert (found["task"][0], found["image"][0], found["label"][0]) == ("task3", spoilt.name, "")
    same = found.sort_values(["task", "image"])[list(expected.columns)].reset_index(drop=True)
    assert same.equals(expected.sort_values(["task", "image"]).reset_index(drop=True))
    task = tasks / "testB" / "task1"
    model = FewShot(vit_file).fit(task / "support")
    told = model.predict_frame(sorted((task / "query").iterdir())).assign(
        image=[path.name for path in sorted((task / "query").iterdir())]
    )
    ours = found[found["task"] == "task1"].set_index("image").loc[told["image"]]
    assert ours["runner_up"].tolist() == told["runner_up"].tolist()
    assert np.allclose(ours["margin"].astype(float), told["margin"], atol=6e-5)


def test_the_truth_is_told_and_shown(
    vit_file: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = (tasks / "truth.csv").rename(tmp_path / "answers.csv")
    result, backbone = tmp_path / "result.csv", ("--backbone", vit_file)
    columns = ("--columns", "task,image=filename,label=class,truth")
    assert run("predict", tasks, result, *backbone, "--truth", truth, *columns, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["score", str(result), str(truth), "--columns", "image=filename,label=class", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["accuracy"], score["ci95"]) == (document["accuracy"], document["ci95"])
    wrong = sum(line.split(",")[2] != line.split(",")[3] for line in result.read_text().splitlines()[1:])
    assert 1 - wrong / 36 == pytest.approx(score["accuracy"]) and score["coverage"] == 1


def test_a_found_truth_is_named_and_a_strangers_is_a_warning(
    vit_file: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, page = tmp_path / "result.csv", tmp_path / "page.html"
    arguments = ["predict", str(tasks), str(result), "--backbone", str(vit_file), "--report", str(page)]
    assert main(arguments) == 0
    told, first = capsys.readouterr(), result.read_bytes()
    assert f"truth: {tasks / 'truth.csv'}, found beside the tasks" in told.err and "accuracy: " in told.out
    (tasks / "truth.csv").write_text("task,image,label\ntask9,x.png,cat\n")
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert f"warning: {tasks / 'truth.csv'} names 1 task that is not there: task9. Going on without it" in told.err
    assert "accuracy: " not in told.out and result.read_bytes() == first
    result.unlink()
    assert main([*arguments, "--truth", str(tasks / "truth.csv")]) == 1
    assert not result.exists()


def test_a_number_of_one_reads_as_one(
    vit_file: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task, result = tasks / "testB" / "task1", tmp_path / "result.csv"
    for picture in sorted((task / "query").iterdir())[1:]:
        picture.unlink()
    assert run("predict", task, result, "--backbone", vit_file) == 0
    assert "1 picture of 1 task named" in capsys.readouterr().out
    assert main(["score", str(result), str(result)]) == 0
    assert capsys.readouterr().out == "100.0 % over 1 task, 1 picture\n"
