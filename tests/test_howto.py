"""The how-to pages: every command and every block of Python runs, in the order of the page."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from fewshot.commands.cli import main
from tests.conftest import write_pictures

DOCS = Path(__file__).resolve().parents[1] / "docs"


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, text) of the page's blocks."""
    return re.findall(r"```(\w+)\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of."""
    root = tmp_path_factory.mktemp("howto")
    write_pictures(root / "pets", 3, 6)
    (root / "new_photos").mkdir()
    lines = ["image,label"]
    for picture in sorted((root / "pets").glob("*/0[45].png")):
        name = f"{picture.parent.name}-{picture.name}"
        picture.rename(root / "new_photos" / name)
        lines.append(f"{name},{picture.parent.name}")
    (root / "truth.csv").write_text("\n".join(lines))
    write_pictures(root / "more_classes", 6, 8, seed=1, offset=20)
    shutil.copytree(root / "pets", root / "labelled")
    shutil.copytree(root / "new_photos", root / "unlabelled")
    shutil.copytree(root / "more_classes", root / "test_data")
    return root


@pytest.mark.parametrize(
    "name", ["howto-practitioners.md", "howto-researchers.md", "howto-annotators.md", "moving-clip.md"]
)
def test_a_page_runs(name: str, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    found = blocks(name)
    assert len(found) >= 2 and {language for language, _ in found} <= {"sh", "python"}
    for language, text in found:
        if language == "python":
            exec(compile(text, name, "exec"), {})
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            assert words[0] == "fewshot" and main(words[1:]) == 0, line
    if name == "howto-practitioners.md":
        assert list(pd.read_csv("unsure.csv")) == ["image", "label", "confidence", "runner_up", "margin"]
        assert list(pd.read_csv("named.csv")) == ["filename", "class"] and Path("table.md").is_file()
        assert set(pd.read_csv("result.csv")["image"]) == {path.name for path in Path("new_photos").iterdir()}
    if name == "howto-researchers.md":
        assert r"\toprule" in Path("table.tex").read_text(encoding="utf-8")


def test_the_site_lists_every_page() -> None:
    nav = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert {path.name for path in DOCS.glob("*.md")} == set(re.findall(r"([\w-]+\.md)", nav))
