"""Every case of bad input, really run: the exit status and the words of the table, and nothing lost."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from episodes import EpisodeSampler, read_class_folders, write_task_directory
from fewshot.commands.cli import main
from tests.bad_input.case import OLD, Case, Group, Place, predict
from tests.bad_input.table import GROUPS
from tests.conftest import write_pictures

CASES = [(group, case) for group in GROUPS for case in group.cases]


def run(arguments: Any) -> tuple[int, str]:
    """Exit status, and what was said on standard error."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main([os.fspath(word) if isinstance(word, Path) else str(word) for word in arguments])
        except SystemExit as left:
            status = int(left.code or 0)
    return status, said.getvalue()


@pytest.fixture(scope="module")
def whole(tiny_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, bytes]:
    """Nothing is broken here; with the CSV that is right."""
    root = tmp_path_factory.mktemp("whole")
    place = place_at(root)
    write_pictures(place.classes, 6, 5)
    table = read_class_folders(write_pictures(root / "others", 4, 6, seed=1, offset=20))
    sampler = EpisodeSampler(table, ways=2, shots=2, queries=2, episodes=2)
    write_task_directory(table, sampler, place.tasks)
    shutil.rmtree(root / "others")
    shutil.copytree(tiny_runs / "a", place.run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_CACHE", str(place.cache))
        assert run(predict(place))[0] == 0
    result = place.result.read_bytes()
    place.result.write_bytes(OLD)
    return place, result


def place_at(root: Path) -> Place:
    return Place(root, root / "tasks", root / "classes", root / "run", root / "cache", root / "result.csv")


def files_of(place: Place) -> dict[Path, tuple[int, int, int]]:
    """All that lies there, the cache left out: path -> what changes when somebody writes it."""
    paths = [path for path in place.root.rglob("*") if place.cache not in (path, *path.parents)]
    return {
        path: (path.lstat().st_ino, path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in paths
        if not path.is_dir()
    }


def query_pictures(tasks: Path) -> list[tuple[str, str]]:
    """What must have a row, by the rule alone: picture files of tasks, in the order of the names used here."""
    found = [path for path in tasks.glob("testB/*/query/*.png") if path.is_file()]
    return sorted((path.parts[-3], path.name) for path in found)


@pytest.mark.parametrize(("group", "case"), CASES, ids=[f"{group.title}: {case.what}" for group, case in CASES])
def test_a_case_gets_what_the_table_says(
    group: Group, case: Case, whole: tuple[Place, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_at(tmp_path / "place")
    shutil.copytree(whole[0].root, place.root)
    monkeypatch.setenv("FEWSHOT_CACHE", str(place.cache))
    monkeypatch.chdir(place.root)
    words, more = group.command(place), case.breaks(place)
    words = (*words, *(more if isinstance(more, tuple) else ()))
    before = files_of(place)
    status, said = run(words)
    assert status == case.status, said
    assert case.says in said and "Traceback" not in said
    after = files_of(place)
    if status in (1, 2):
        assert after == before and place.result.read_bytes() == OLD
        assert said.strip().splitlines()[-1].startswith(("fewshot ", "'fewshot ", "  For full helptext"))
        return
    assert after.keys() >= before.keys() and {path for path in before if after[path] != before[path]} <= {place.result}
    if words[0] == "predict":
        with place.result.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["task"], row["image"]) for row in rows] == query_pictures(place.tasks)
        assert all((row["label"] == "") == (row["task"] in case.unanswered) for row in rows)
        assert not group.same_result or place.result.read_bytes() == whole[1]
