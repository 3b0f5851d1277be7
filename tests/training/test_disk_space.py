"""The disk is looked at before work starts, and what is asked for is what a run takes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import namedtuple
from pathlib import Path

import pytest

from episodes.errors import DataError
from fewshot.console import Console
from fewshot.embedding.hidden_states_store import evict, room
from fewshot.training import TrainConfig, train
from fewshot.training.disk_space import bytes_of_run, require_room
from fewshot.training.run import Run


class Watching(Console):
    """Notes how much a folder holds whenever something is said."""

    def __init__(self, folder: Path) -> None:
        super().__init__(quiet=True)
        self.folder, self.sizes = folder, [0]

    def line(self, text: str) -> None:
        self.sizes.append(sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()))


@pytest.mark.parametrize("blocks", [0, 1, "all"])
def test_a_run_takes_no_more_than_is_asked_for_and_not_much_less(
    small_run: TrainConfig, tmp_path: Path, blocks: int
) -> None:
    config = dataclasses.replace(small_run, unfreeze_blocks=blocks)
    assert config.output is not None
    need = bytes_of_run(Run(dataclasses.replace(config, output=tmp_path / "other"), Console(quiet=True)).model) - (
        4 << 20
    )
    console = Watching(config.output)
    train(config, console)
    state = max(console.sizes)  # one state to resume from; the next one is written beside it
    final = sum(path.stat().st_size for path in config.output.iterdir())
    held = max(2 * state, state + final)
    assert 0.8 * need < held < need + (1 << 20)


def test_a_run_that_will_not_fit_is_refused_before_work(
    small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**6, 10**6 - 1000, 1000))
    console = Watching(tmp_path)
    with pytest.raises(DataError, match=r"run: the run's files need up to \d+ MiB, 0 MiB are free there. Make room"):
        train(small_run, console)
    assert small_run.output is not None and not small_run.output.exists()


def test_room_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_room(tmp_path / "a" / "b", free // 2)
    with pytest.raises(DataError, match="a/b: the run's files need"):
        require_room(tmp_path / "a" / "b", 2 * free)


def test_what_killed_runs_left_goes(small_run: TrainConfig, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Killing(Console):
        def line(self, text: str) -> None:
            if text.startswith("epoch   1"):
                raise Killed

    with pytest.raises(Killed):
        train(small_run, Killing(quiet=True))
    assert small_run.output is not None
    (small_run.output / ".resume.safetensors.0123.tmp").write_bytes(b"half")
    train(dataclasses.replace(small_run, resume=True))
    assert not list(small_run.output.glob(".*"))
    for name, age in ((".old.1.part", 8), (".new.2.part", 6)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age * 86_400,) * 2)
    evict(tmp_path, "other")
    assert [path.name for path in tmp_path.glob(".*.part")] == [".new.2.part"]


def test_there_is_no_room_for_a_trunk_where_nothing_can_be_written() -> None:
    """Training then goes on without it. Asked by a process without the rights that root has."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        process = multiprocessing.get_context("fork").Process(target=no_room, args=(folder,))
        process.start()
        process.join()
        assert process.exitcode == 0 and room(Path("/tmp")) > 0


def no_room(folder: Path) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    assert room(folder) == room(folder / "not" / "there") == 0
