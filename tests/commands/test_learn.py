"""`fewshot learn`: steps for a checkpoint beside it, for a backbone in a file, used where they are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fewshot import FewShot
from fewshot.checkpoint import load_checkpoint
from fewshot.classifiers import learning
from fewshot.classifiers.learned import shipped_steps
from fewshot.commands.cli import main
from fewshot.run_files import LEARNED


@pytest.fixture(autouse=True)
def _few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "TASKS", 4)
    monkeypatch.setattr(learning.learn_steps, "__kwdefaults__", {**learning.learn_steps.__kwdefaults__, "updates": 5})


def test_a_checkpoint_uses_what_was_learned_for_it(
    tiny_runs: Path, class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(tiny_runs / "a", tmp_path / "run"))
    assert load_checkpoint(run).steps is None
    assert main(["learn", str(class_folders), "--checkpoint", str(run), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"output": str(run / LEARNED), "learned_on": str(class_folders), "unreadable": 0}
    steps = load_checkpoint(run).steps
    assert steps is not None and steps.learned_on == str(class_folders)
    model = FewShot(run, classifier="learned")
    assert model._classifier.steps.learned_on == str(class_folders)
    assert FewShot("tiny", classifier="learned")._classifier.steps is shipped_steps()
    model.fit(class_folders).save(tmp_path / "kept")
    assert FewShot.load(tmp_path / "kept")._classifier.steps.learned_on == str(class_folders)
    (run / LEARNED).write_text("{}")
    tasks = ["evaluate", str(class_folders), "--shots", "1", "--queries", "2", "--episodes", "2"]
    assert main([*tasks, "--checkpoint", str(run), "--classifier", "learned"]) == 1
    assert str(run / LEARNED) in capsys.readouterr().err


def test_a_backbone_needs_a_file(
    vit_file: Path, class_folders: Path, other_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, file = (
        ["learn", str(class_folders), str(other_folders), "--backbone", str(vit_file)],
        tmp_path / "steps.json",
    )
    assert main(command) == 2 and "--output FILE.json" in capsys.readouterr().err
    assert main([*command, "--output", str(file)]) == 0
    assert f"--learned {file}" in capsys.readouterr().out
    tasks = [str(class_folders), "--backbone", str(vit_file), "--shots", "1", "--queries", "5", "--episodes", "20"]
    answers = []
    for more in ([], ["--learned", str(file)]):
        table = tmp_path / f"{len(more)}.csv"
        assert main(["evaluate", *tasks, "--classifier", "learned", "--answers", str(table), *more]) == 0
        answers.append(table.read_text())
    assert answers[0] != answers[1]
    assert main(["evaluate", *tasks, "--classifier", "learned", "--learned", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
