"""What the README shows is run as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewshot import FewShot
from fewshot.commands.cli import main
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[1]


def code_blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_the_training_loop_of_the_readme_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "train_data", 12, 10)
    write_pictures(tmp_path / "test_data", 8, 10, seed=1, offset=20)
    monkeypatch.chdir(tmp_path)
    block = code_blocks(name, "python")[1]
    if name != "README.md":
        assert code_blocks(name, "python") == code_blocks("README.md", "python")  # run once
        return
    assert block.count("episodes=100)") == 1  # of training: a minute of them shows no more than a few
    exec(compile(block.replace("episodes=100)", "episodes=6)"), name, "exec"), {})
    assert re.match(r"\d+\.\d+% ± \d+\.\d+%", capsys.readouterr().out)
    assert len(pd.read_csv(tmp_path / "answers.csv")) == 600 * 5 * 5


def test_the_three_lines_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "support", 3, 3)
    others = sorted(write_pictures(tmp_path / "other", 2, 2, seed=1, offset=20).rglob("*.png"))
    monkeypatch.chdir(tmp_path)
    for source, name in zip(others, ("x.jpg", "y.jpg", "fox1.jpg", "fox2.jpg"), strict=True):
        source.rename(name)
    names: dict[str, Any] = {}
    exec(compile(code_blocks("README.md", "python")[0], "README.md", "exec"), names)
    assert capsys.readouterr().out.split()[:5] == ["image", "label", "confidence", "runner_up", "margin"]
    assert names["model"].counts == {"class00": 3, "class01": 3, "class02": 3, "fox": 2}
    assert FewShot.load("pets").predict(["fox1.jpg"]) == ["fox"]


def test_the_ten_minutes_of_the_documents_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "pictures", 8, 8)
    monkeypatch.chdir(tmp_path)
    (block,) = code_blocks("docs/index.md", "sh")
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        assert words[0] == "fewshot" and main(words[1:]) == 0, line
    assert all((tmp_path / f"{name}.html").is_file() for name in ("report", "evaluation", "run"))
    assert len(pd.read_csv("result.csv")) == len(pd.read_csv("tuned.csv")) == 20 * 3 * 3


def test_the_wrong_ones_are_shown_without_task_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets = write_pictures(tmp_path / "pets", 3, 3)
    (tmp_path / "new_photos").mkdir()
    lines = ["image,label"]
    for number, picture in enumerate(sorted(pets.glob("*/02.png"))):
        picture.rename(tmp_path / "new_photos" / f"{number}.png")
        lines.append(f"{number}.png,class0{(number + 1) % 3}")  # a truth that makes some answers wrong
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(code_blocks("README.md", "sh")[2])
    assert words[:2] == ["fewshot", "predict"] and main([word.replace("lite2", "tiny") for word in words[1:]]) == 0
    more = re.search(r"`--sort (--columns \S+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert more is not None and main(["predict", *words[2:7], "--backbone", "tiny", "--sort", *more[1].split()]) == 0
    assert list(pd.read_csv("result.csv")) == ["image", "label", "confidence", "runner_up", "margin"]
    assert "0.png" in Path("page.html").read_text(encoding="utf-8")


def test_both_readmes_show_the_same_commands_and_pictures() -> None:
    english, chinese = (code_blocks(name, "sh") for name in ("README.md", "README.zh-CN.md"))
    plain = [[re.sub(r"\s*#.*", "", block) for block in blocks] for blocks in (english, chinese)]
    assert plain[0] == plain[1] and len(english) >= 2
    pictures = [
        re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / n).read_text(encoding="utf-8"))
        for n in ("README.md", "README.zh-CN.md")
    ]
    assert pictures[0] == pictures[1] and pictures[0]
    for picture in pictures[0]:
        assert (ROOT / picture).is_file()


def test_links_lead_somewhere() -> None:
    for name in (
        "README.md",
        "README.zh-CN.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ):  # those of docs/ are looked at by `make docs`
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8")):
            assert target.startswith("http") or (ROOT / target).exists(), f"{name}: {target}"
