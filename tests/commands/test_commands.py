"""The command line as people use it: train, make-tasks, predict, score, evaluate, and what goes wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from episodes import EpisodeSampler, evaluate, read_class_folders, read_task_directory, write_task_directory
from fewshot.commands.cli import main
from fewshot.registry import COMMANDS
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tasks(other_folders: Path, tmp_path: Path) -> Path:
    """Six 4-way 2-shot tasks with 3 queries a class, and their truth."""
    table = read_class_folders(other_folders)
    sampler = EpisodeSampler(table, ways=4, shots=2, queries=3, episodes=6)
    return Path(write_task_directory(table, sampler, tmp_path / "tasks"))


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_main_job_end_to_end(
    vit_file: Path, class_folders: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, tasks, result = tmp_path / "run", tmp_path / "t", tmp_path / "result.csv"
    common = [
        "--workers",
        0,
        "--epochs",
        1,
        "--batch_size",
        16,
        "--queries",
        1,
        "--val_episodes",
        20,
        "--val-queries",
        3,
    ]
    assert run("train", "--train_data", class_folders, "--val-data", other_folders, "--output", checkpoint,
               "--backbone", vit_file, "--unfreeze_blocks", "all", *common) == 0  # fmt: skip
    assert f"fewshot predict TEST_DIR RESULT.csv --checkpoint {checkpoint}" in capsys.readouterr().out
    assert run("make-tasks", other_folders, tasks, "--tasks", 5, "--ways", 4, "--shots", 2, "--queries", 3) == 0
    assert run("predict", tasks, result, "--checkpoint", checkpoint) == 0
    capsys.readouterr()
    assert run("score", result, tasks / "truth.csv", "--json") == 0
    score = json.loads(capsys.readouterr().out)
    assert score["images"] == 60 and score["tasks"] == 5
    assert run("evaluate", tasks, "--checkpoint", checkpoint, "--json") == 0
    table = json.loads(capsys.readouterr().out)
    assert table[-1]["accuracy"] == score["accuracy"] and table[-1]["ci95"] == score["ci95"]  # to the last digit
    assert set(table[0]) == {
        "classifier", "backbone", "checkpoint", "ways", "shots", "queries", "episodes", "seed", "accuracy", "ci95",
            "new_classes_low", "new_classes_high",
    }  # fmt: skip
    assert (table[0]["ways"], table[0]["shots"], table[0]["queries"]) == (4, 2, 3)


def test_predict_writes_the_contract(
    vit_file: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "result.csv"
    assert run("predict", tasks, result, "--backbone", vit_file) == 0
    said = capsys.readouterr()
    assert "untouched" in said.err and "no checkpoint was given" in said.err
    text = result.read_bytes()
    assert text.startswith(b"task,image,label,confidence\n") and b"\r" not in text
    found = rows(result)
    _, episodes = read_task_directory(tasks)
    assert [r["task"] for r in found] == [e.name for e in episodes for _ in e.query]
    for row in found:
        assert (tasks / "testB" / row["task"] / "query" / row["image"]).is_file()
        assert (tasks / "testB" / row["task"] / "support" / row["label"]).is_dir()
        assert len(row["confidence"].split(".")[1]) == 4 and 0.25 <= float(row["confidence"]) <= 1
    for place in (tasks / "testB", tasks / "testB" / "task3"):
        other = tmp_path / "other.csv"
        assert run("predict", place, other, "--backbone", vit_file) == 0
        name = None if place.name == "testB" else "task3"
        assert rows(other) == [r for r in found if name in (None, r["task"])]


def test_predictions_are_those_of_a_plain_loop_with_the_clip_package(
    vit_file: Path, tasks: Path, tmp_path: Path
) -> None:
    import torch
    from PIL import Image

    from fewshot.encoders._clip_import import import_clip, import_clip_model

    result = tmp_path / "result.csv"
    assert run("predict", tasks, result, "--backbone", vit_file, "--precision", "32") == 0
    model = import_clip_model().build_model(torch.load(vit_file, weights_only=True)).float()
    preprocess = import_clip().clip._transform(32)

    def embed(path: Path) -> np.ndarray:
        with torch.no_grad():
            vector = model.encode_image(preprocess(Image.open(path)).unsqueeze(0))[0].double().numpy()
        return np.asarray(vector / np.linalg.norm(vector))

    expected = {}
    for task in (tasks / "testB").iterdir():
        centres = {}
        for folder in (task / "support").iterdir():
            mean = np.mean([embed(p) for p in folder.iterdir()], axis=0)
            centres[folder.name] = mean / np.linalg.norm(mean)
        for picture in (task / "query").iterdir():
            cosines = {name: 10 * float(embed(picture) @ c) for name, c in centres.items()}
            best = max(cosines, key=lambda name: cosines[name])
            total = sum(np.exp(value) for value in cosines.values())
            expected[task.name, picture.name] = (best, np.exp(cosines[best]) / total)
    for row in rows(result):
        label, confidence = expected[row["task"], row["image"]]
        assert row["label"] == label and float(row["confidence"]) == pytest.approx(confidence, abs=1e-4)


def test_same_bytes_cold_warm_and_with_other_workers(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    texts = set()
    for i, extra in enumerate((["--no_cache"], [], [], ["--workers", 3, "--no-cache"])):
        result = tmp_path / f"{i}.csv"
        assert run("predict", tasks, result, "--backbone", vit_file, *extra) == 0
        texts.add(result.read_bytes())
    assert len(texts) == 1


def test_columns_are_picked_and_ordered(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.csv"
    assert run("predict", tasks, result, "--backbone", vit_file, "--columns", "image,label") == 0
    assert result.read_text().splitlines()[0] == "image,label"
    assert run("predict", tasks, result, "--backbone", vit_file, "--columns", "image,colour") == 2


def test_broken_pictures_keep_their_rows(
    vit_file: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole.csv"
    assert run("predict", tasks, whole, "--backbone", vit_file) == 0
    query = sorted((tasks / "testB/task2/query").iterdir())[0]
    support = sorted(p for p in (tasks / "testB/task3/support").iterdir())[0]
    lone = sorted(p for p in (tasks / "testB/task4/support").iterdir())[0]
    query.write_bytes(b"")
    for path in support.iterdir():
        path.write_bytes(b"broken")
    sorted(lone.iterdir())[0].write_bytes(b"broken")
    (tasks / "testB/task1/query/.DS_Store").write_bytes(b"")
    (tasks / "testB/task1/query/notes.txt").write_bytes(b"")
    result = tmp_path / "result.csv"
    assert run("predict", tasks, result, "--backbone", vit_file) == 3
    said = capsys.readouterr().err
    assert str(query) in said and f"task3: class {support.name} has no readable support picture" in said
    assert "task4: class" not in said
    before, after = rows(whole), rows(result)
    assert [(r["task"], r["image"]) for r in before] == [(r["task"], r["image"]) for r in after]
    for a, b in zip(before, after, strict=True):
        if a["image"] == query.name and a["task"] == "task2":
            assert b["label"] == b["confidence"] == ""
        elif a["task"] not in ("task3", "task4"):
            assert a == b
        assert b["label"] != support.name or b["task"] != "task3"
    assert run("evaluate", tasks, "--backbone", vit_file, "--json") == 3
    table = json.loads(capsys.readouterr().out)
    assert run("score", result, tasks / "truth.csv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == table[0]["accuracy"]
    result.unlink()
    assert run("predict", tasks, result, "--backbone", vit_file, "--strict") == 1
    assert not result.exists()


def test_a_task_without_any_usable_class_has_empty_labels(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    for path in (tasks / "testB/task5/support").rglob("*.png"):
        path.write_bytes(b"broken")
    shutil.rmtree(tasks / "testB/task6/support")
    (tasks / "testB/task6/support/empty").mkdir(parents=True)
    result = tmp_path / "result.csv"
    assert run("predict", tasks, result, "--backbone", vit_file) == 3
    for row in rows(result):
        assert (row["label"] == "") == (row["task"] in ("task5", "task6"))


def test_evaluate_on_class_folders_equals_a_plain_loop(
    vit_file: Path, other_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot.embedding.embed import embed_images
    from fewshot.encoders import load_encoder

    settings = ["--ways", 3, "--shots", 1, 2, "--queries", 4, "--episodes", 30, "--seed", 5, "--precision", "32"]
    assert run("evaluate", other_folders, "--backbone", vit_file, "--json", *settings) == 0
    table = json.loads(capsys.readouterr().out)
    pictures = read_class_folders(other_folders)
    features = embed_images(load_encoder(str(vit_file)), pictures.items, precision="32").features.numpy()
    for row in table:
        sampler = EpisodeSampler(pictures, ways=3, shots=row["shots"], max_shots=2, queries=4, episodes=30, seed=5)
        accuracies = []
        for episode in sampler:
            s, q = features[episode.support], features[episode.query]
            centres = np.stack([s[episode.support_labels == c].mean(0) for c in range(3)])
            centres /= np.linalg.norm(centres, axis=1, keepdims=True)
            accuracies.append(((q @ centres.T).argmax(1) == episode.query_labels).mean())
        assert row["accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-9)
    assert [row["shots"] for row in table] == [1, 2]


def test_evaluate_draws_ways_and_shots_from_ranges(
    vit_file: Path, other_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot import FeatureScorer, build_classifier, embed_images, load_encoder

    settings = ["--ways", "2-4", 3, "--shots", "1-2", "--shots_per_class", "--queries", 4, "--episodes", 40]
    assert run("evaluate", other_folders, "--backbone", vit_file, "--json", *settings, "--precision", "32") == 0
    ranged, plain = json.loads(capsys.readouterr().out)
    assert (ranged["ways"], ranged["shots"], plain["ways"], plain["shots"]) == ("2-4", "1-2", 3, "1-2")
    table = read_class_folders(other_folders)
    sampler = EpisodeSampler(table, ways=(2, 4), shots=(1, 2), queries=4, episodes=40, shots_per_class=True)
    assert {len(episode.class_names) for episode in sampler} == {2, 3, 4}
    embeddings = embed_images(load_encoder(str(vit_file)), table.items, precision="32")
    expected = evaluate(sampler, FeatureScorer(embeddings, build_classifier("prototype")))
    assert ranged["accuracy"] == pytest.approx(expected.mean, abs=1e-9)
    assert run("evaluate", other_folders, "--backbone", vit_file, *settings) == 0
    assert "2-4   1-2" in capsys.readouterr().out


def test_make_tasks_draws_ways_and_shots_from_ranges(other_folders: Path, tmp_path: Path) -> None:
    settings = ["--ways", "2-4", "--shots", "1-3", "--queries", 2, "--tasks", 12]
    assert run("make-tasks", other_folders, tmp_path / "out", *settings) == 0
    supports = [task / "support" for task in (tmp_path / "out" / "testB").iterdir()]
    assert {len(list(support.iterdir())) for support in supports} == {2, 3, 4}
    assert {len(list(folder.iterdir())) for support in supports for folder in support.iterdir()} == {1, 2, 3}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["evaluate", "{tasks}", "--backbone", "{vit}", "--ways", "5-2"], 2, "a range such as 5-20"),
        (["make-tasks", "{tasks}/testB/task1/support", "out", "--shots", "few"], 2, "a range such as 5-20"),
        ([], 2, "usage: fewshot"),
        (["fly"], 2, "no command 'fly'"),
        (["predict"], 2, "TEST_DIR"),
        (["train", "--train_data", "x", "--epochs", "none"], 2, "epochs"),
        (["train", "--train_data", "/nowhere"], 1, "/nowhere"),
        (["predict", "/nowhere", "result.csv", "--backbone", "{vit}"], 1, "/nowhere"),
        (["predict", "{tasks}", "result.csv", "--backbone", "ViT-B/31"], 2, "ViT-B/31"),
        (["predict", "{tasks}", "no/such/result.csv", "--backbone", "{vit}"], 1, "no/such"),
        (["predict", "{tasks}", "result.csv", "--backbone", "{vit}", "--classifier", "magic"], 2, "magic"),
        (["predict", "{tasks}", "result.csv", "--backbone", "{vit}", "--classifier", "gda"], 2, "statistics"),
        (["predict", "{tasks}", "result.csv", "--checkpoint", "{tasks}"], 1, "not a checkpoint"),
        (["predict", "{tasks}", "result.csv", "--device", "cuda:9"], 2, "cuda:9"),
        (["predict", "{tasks}", "result.csv", "--backbone", "{vit}", "--precision", "16", "--device", "cpu"], 2, "GPU"),
        (["score", "{tasks}/truth.csv", "/nowhere.csv"], 1, "/nowhere.csv"),
        (["evaluate", "{tasks}/testB/task1/query", "--backbone", "{vit}"], 1, "query"),
    ],
)
def test_errors_name_what_is_wrong(
    arguments: list[str], status: int, message: str, vit_file: Path, tasks: Path, tmp_path: Path
) -> None:
    filled = [a.replace("{vit}", str(vit_file)).replace("{tasks}", str(tasks)) for a in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "fewshot", *filled], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "result.csv").exists() and not (tmp_path / "runs").exists()


def test_missing_weights_name_the_download_command(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", tasks, tmp_path / "r.csv", "--download_root", tmp_path) == 1
    assert "fewshot download --model_name ViT-B/32" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", *COMMANDS.entries])
def test_help_needs_neither_torch_nor_pandas(command: str) -> None:
    code = (
        "import sys\nfrom fewshot.commands.cli import main\n"
        f"try:\n    status = main({[*([command] if command else []), '--help']!r})\n"
        "except SystemExit as stop:\n    status = stop.code\n"
        "assert not status, status\nassert not {'torch', 'pandas', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "fewshot" in done.stdout


@pytest.mark.parametrize("group", [False, True], ids=["the process", "its group"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_stop_a_run_that_can_be_resumed(
    number: signal.Signals,
    status: int,
    group: bool,
    vit_file: Path,
    class_folders: Path,
    other_folders: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "run"
    arguments = ["train", "--train_data", class_folders, "--val_data", other_folders, "--output", output]
    arguments += [
        "--backbone",
        vit_file,
        "--unfreeze_blocks",
        1,
        "--batch_size",
        16,
        "--queries",
        1,
        "--workers",
        2 * group,
    ]
    arguments += ["--epochs", 100000, "--val_episodes", 5, "--val_queries", 3]
    process = subprocess.Popen(
        [sys.executable, "-m", "fewshot", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore SIGINT and hand that on; a command that a person runs does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch "):
            break
    os.killpg(process.pid, number) if group else process.send_signal(number)
    said = process.stderr.read()
    assert process.wait() == status
    assert "--resume" in said and str(output) in said and "Traceback" not in said
    assert (output / "resume.safetensors").is_file() and not (output / "model.safetensors").exists()


def test_doctor_and_cache(tasks: Path, vit_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--json") == 0
    assert json.loads(capsys.readouterr().out)["torch"]
    assert run("predict", tasks, tmp_path / "r.csv", "--backbone", vit_file) == 0
    capsys.readouterr()
    assert run("cache", "info", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    distinct = {p.read_bytes() for p in (tasks / "testB").rglob("*.png")}
    assert info["entries"] == len(distinct)
    assert run("cache", "clear") == 0
    capsys.readouterr()
    assert run("cache", "info", "--json") == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 0


def test_predict_json_names_the_unreadable(vit_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = write_pictures(tmp_path / "p", 3, 4)
    tasks = tmp_path / "t"
    assert run("make-tasks", pictures, tasks, "--tasks", 2, "--ways", 3, "--shots", 1, "--queries", 2, "--quiet") == 0
    broken = sorted((tasks / "testB/task1/query").iterdir())[1]
    broken.write_bytes(b"x")
    capsys.readouterr()
    assert run("predict", tasks, tmp_path / "r.csv", "--backbone", vit_file, "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "rows": 12, "tasks": 2, "unreadable": [str(broken)], "faults": [], "output": str(tmp_path / "r.csv"),
        "backbone": str(vit_file), "checkpoint": None,
    }  # fmt: skip


def test_one_task_without_classes_has_empty_labels(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    lone = tasks / "testB/task2"
    for folder in (lone / "support").iterdir():
        for path in folder.iterdir():
            path.unlink()
    result = tmp_path / "result.csv"
    assert run("predict", lone, result, "--backbone", vit_file) == 3
    assert all(row["label"] == row["confidence"] == "" for row in rows(result)) and len(rows(result)) == 12


def test_broken_tasks_are_named_and_the_others_answered(
    vit_file: Path, tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, whole = tmp_path / "result.csv", tmp_path / "whole.csv"
    assert run("predict", tasks, whole, "--backbone", vit_file) == 0
    shutil.rmtree(tasks / "testB/task1/query")
    (tasks / "testB/task1/query").write_text("a file")
    shutil.rmtree(tasks / "testB/task2/support")
    (tasks / "testB/task9").mkdir()
    capsys.readouterr()
    assert run("predict", tasks, result, "--backbone", vit_file, "--strict") == 1
    refused = capsys.readouterr().err
    assert "3 tasks are broken" in refused and not result.exists()
    assert run("predict", tasks, result, "--backbone", vit_file) == 3
    said = capsys.readouterr()
    assert [said.err.count(f"{tasks}/testB/task{i} has") for i in (1, 2, 9)] == [1, 1, 1]
    expected = [row for row in rows(whole) if row["task"] != "task1"]
    for row in expected:
        if row["task"] == "task2":
            row["label"] = row["confidence"] = ""
    assert rows(result) == expected
    answered = sum(row["label"] != "" for row in expected)
    assert f"{answered} of {len(expected)} pictures" in said.out and "broken tasks: 3" in said.out
    assert run("evaluate", tasks, "--backbone", vit_file, "--strict") == 1


def test_a_thread_of_a_picture_is_harmless(vit_file: Path, tasks: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = sorted((tasks / "testB/task1/query").iterdir())[0]
    Image.new("RGB", (1, 60000), "red").save(picture)
    assert run("predict", tasks, tmp_path / "r.csv", "--backbone", vit_file) == 0
    assert rows(tmp_path / "r.csv")[0]["label"]


@pytest.mark.parametrize("output", ["{tasks}", "{tasks}/nowhere/r.csv"])
def test_outputs_are_checked_first(
    vit_file: Path, tasks: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", tasks, output.format(tasks=tasks), "--backbone", vit_file) == 1
    assert "encoder:" not in capsys.readouterr().err


def test_an_output_is_never_an_input(
    vit_file: Path, tasks: Path, class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "r.csv"
    assert run("predict", tasks, result, "--backbone", vit_file, "--report", tmp_path / "." / "r.csv") == 2
    assert "is RESULT.csv itself" in capsys.readouterr().err and not result.exists()
    settings = ["--backbone", vit_file, "--unfreeze_blocks", 1]
    for output in (class_folders, class_folders / "runs" / "first"):
        assert run("train", "--train_data", class_folders, *settings, "--output", output) == 2
        assert "among its classes" in capsys.readouterr().err and not (class_folders / "runs").exists()


def test_names_that_are_not_utf8_are_printable(
    vit_file: Path, tasks: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    name = os.fsdecode(b"bad-\xff.png")
    (tasks / "testB/task1/query" / name).write_bytes(b"broken")
    assert run("predict", tasks, tmp_path / "r.csv", "--backbone", vit_file, "--json") == 3
    assert any("bad-%FF.png" in path for path in json.loads(capsysbinary.readouterr().out)["unreadable"])
