"""The demo, whole: what it promises on the README's first screen."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from episodes.errors import DataError
from fewshot.console import Console
from fewshot.demo.run import run_demo


@pytest.mark.slow
def test_the_demo_learns_unseen_alphabets(tmp_path: Path) -> None:
    result = run_demo(tmp_path / "demo", Console(quiet=True))
    assert result.after.accuracy >= 0.80
    assert result.after.accuracy - result.before.accuracy > result.after.ci95 + result.before.ci95
    assert result.before.images == result.after.images == 100 * 5 * 15
    for path in (result.tasks, result.truth, result.checkpoint, result.before_csv, result.after_csv):
        assert path.exists()
    model = (result.checkpoint / "model.safetensors").read_bytes()
    again = run_demo(tmp_path / "demo", Console(quiet=True))  # nothing is done twice
    assert again == result and (result.checkpoint / "model.safetensors").read_bytes() == model


def test_a_file_in_its_place_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for target, said in ((tmp_path / "file", "found a file"), (tmp_path / "file" / "demo", "none can be made there")):
        with pytest.raises(DataError, match=rf"{target}: expected a new folder.*{said}.*fewshot demo DIR"):
            run_demo(target, Console(quiet=True))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_takes_no_more_is_told_with_the_folder(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, usual[1]))
    try:
        with pytest.raises(
            DataError, match=rf"{tmp_path}/demo/pictures: the pictures cannot be drawn there \(File too large"
        ):
            run_demo(tmp_path / "demo", Console(quiet=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
