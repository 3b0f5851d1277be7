"""Every kind of picture file, really predicted, measured and trained on: it gets what the table says."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from pathlib import Path

import pytest
from PIL import features

from episodes import decoding
from episodes.files import display_name
from fewshot.commands.cli import main
from tests.bad_input.pictures import EPS, KINDS, Kind, picture

ALL = [kind for kinds in KINDS.values() for kind in kinds if not kind.needs or features.check(kind.needs)]
Predicted = tuple[int, str, dict[tuple[str, str], str]]


def path_of(folder: Path, kind: Kind) -> Path:
    return folder / os.fsdecode(kind.name)


def run(*arguments: object) -> tuple[int, str]:
    """Exit status, and what was said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main([str(argument) for argument in arguments])
    return status, said.getvalue()


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task for every kind: it is among the queries, and alone in a class."""
    root = tmp_path_factory.mktemp("kinds") / "testB"
    for number, kind in enumerate(ALL):
        task = root / f"task{number}"
        for seed, name in ((1, "first"), (2, "second")):
            (task / "support" / name).mkdir(parents=True)
            picture(seed).save(task / "support" / name / "s.png")
        for folder in (task / "query", task / "support" / "alone"):
            folder.mkdir()
            kind.make(path_of(folder, kind))
        picture(1).save(task / "query" / "ordinary.png")
    return root


@pytest.fixture(scope="module")
def predicted(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """Exit status, what was said, and the labels."""
    result = tmp_path_factory.mktemp("result") / "r.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_CACHE", str(result.parent))
        status, said = run("predict", tasks, result, "--backbone", "tiny")
    with result.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {(row["task"], row["image"]): row["label"] for row in rows}
    assert len(found) == len(rows)
    return status, said, found


def test_no_row_is_lost_and_none_is_added(predicted: Predicted) -> None:
    status, said, found = predicted
    expected = {(f"task{n}", display_name(os.fsdecode(kind.name))) for n, kind in enumerate(ALL) if kind.has_row}
    assert set(found) == expected | {(f"task{n}", "ordinary.png") for n in range(len(ALL))}
    assert status == 3 and said.count(": cannot be read (") == 2 * sum(k.has_row and not k.readable for k in ALL)
    assert "Warning" not in said  # of libraries


@pytest.mark.parametrize("number", range(len(ALL)), ids=[kind.what for kind in ALL])
def test_a_kind_gets_what_the_table_says(number: int, tasks: Path, predicted: Predicted) -> None:
    kind, (_, said, found) = ALL[number], predicted
    task, shown = f"task{number}", display_name(os.fsdecode(kind.name))
    assert found[task, "ordinary.png"] == "first"  # a neighbour is never harmed
    if kind.has_row:  # a picture is closest to itself, wherever it could be read
        assert found[task, shown] == ("alone" if kind.readable else "")
    lost = f"{task}: class alone has no readable support picture"
    assert (lost in said) == (kind.has_row and not kind.readable)
    for folder in (tasks / task / "query", tasks / task / "support" / "alone"):
        told = [line for line in said.split("warning: ") if line.startswith(f"{folder}/{shown}: cannot be read")]
        assert len(told) == (kind.has_row and not kind.readable)
        assert all(kind.gets in line and kind.gets for line in told)


def test_training_passes_over_what_cannot_be_read(tmp_path: Path) -> None:
    classes = tmp_path / "classes"
    for number, kind in enumerate(ALL):
        (classes / f"c{number}").mkdir(parents=True)
        for seed in range(3):
            picture(10 * number + seed).save(classes / f"c{number}" / f"{seed}.png")
        kind.make(path_of(classes / f"c{number}", kind))
    settings = ["--backbone", "tiny", "--unfreeze_blocks", 1, "--epochs", 1, "--batch_size", 32, "--queries", 1]
    settings += ["--val_queries", 1, "--val_episodes", 10, "--workers", 0]
    status, said = run("train", "--train_data", classes, *settings, "--output", tmp_path / "run", "--strict")
    broken = sum(kind.has_row and not kind.readable for kind in ALL)
    assert status == 1 and f"{broken} pictures cannot be read" in said and not (tmp_path / "run").exists()
    status, said = run("train", "--train_data", classes, *settings, "--output", tmp_path / "run")
    named = said.count("; passed over\n")
    assert status == 3 and 0 < named <= broken and (tmp_path / "run" / "model.safetensors").is_file()


def test_no_format_of_ours_runs_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to a program named gs; here that is one that leaves a mark."""
    program, mark = tmp_path / "gs", tmp_path / "mark"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    from PIL import EpsImagePlugin, Image

    with monkeypatch.context() as patch, contextlib.suppress(OSError):
        patch.setattr(EpsImagePlugin, "gs_binary", None)
        Image.open(io.BytesIO(EPS)).load()
    assert mark.exists()  # the payload works
    mark.unlink()
    with pytest.raises(decoding.UnreadableImage, match="known format"):
        decoding.decode(EPS)
    assert not mark.exists()


def test_a_file_that_vanishes_between_index_and_reading(tmp_path: Path) -> None:
    from typing import Any

    from fewshot.classifiers import build_classifier
    from fewshot.embedding.embed import Embeddings, embed_images
    from fewshot.encoders import load_encoder
    from fewshot.predict import predict

    for name in ("support/a/1.png", "support/b/1.png", "query/1.png", "query/2.png"):
        path = tmp_path / "task1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(len(name)).save(path)

    def late(*arguments: Any, **settings: Any) -> Embeddings:
        (tmp_path / "task1/query/2.png").unlink()
        return embed_images(*arguments, **settings)

    prediction = predict(tmp_path / "task1", load_encoder("tiny"), build_classifier("prototype"), embed=late)
    assert prediction.frame["image"].tolist() == ["1.png", "2.png"]
    assert [bool(label) for label in prediction.frame["label"]] == [True, False]
    assert ["No such file" in problem for problem in prediction.unreadable.values()] == [True]


def test_a_picture_that_may_not_be_read(tmp_path: Path) -> None:
    """Of a process without the rights that root has."""
    import multiprocessing

    folder = tmp_path / "open"
    folder.mkdir()
    picture().save(folder / "p.png")
    (folder / "p.png").chmod(0)
    process = multiprocessing.get_context("fork").Process(target=read_without_rights, args=(folder / "p.png",))
    process.start()
    process.join()
    assert process.exitcode == 0


def read_without_rights(path: Path) -> None:
    os.chdir(path.parent)  # the folders above may be closed to others
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(decoding.UnreadableImage, match="Permission denied"):
        decoding.read_bytes(path.name)
