"""CONTRIBUTING's recipes, followed to the letter in a copy of the checkout: the files that it shows, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shown_files() -> dict[str, str]:
    """Path -> text of every file that CONTRIBUTING.md shows whole."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(r"^( *)`([\w/]+\.py)`:\n\n *```python\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return {path: textwrap.dedent(body) for _, path, body in found}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout with those files written into it."""
    top = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    for name in ("episodes", "fewshot", "experiments", "tests"):
        shutil.copytree(ROOT / name, top / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.cfg", "README.md"):
        shutil.copy(ROOT / name, top)
    for path, text in shown_files().items():
        assert not (top / path).exists(), f"{path} is there already"
        (top / path).write_text(text, encoding="utf-8")
    return top


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=copy, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_recipes_show_what_they_promise() -> None:
    assert list(shown_files()) == [
        "fewshot/classifiers/medoid.py",
        "tests/classifiers/test_medoid.py",
        "experiments/ablations/smoothing.py",
    ]


def test_a_classifier_is_one_file_and_its_test(copy: Path) -> None:
    tests = (
        "tests/classifiers/test_medoid.py",
        "tests/classifiers/test_properties.py",
        "tests/classifiers/test_registry.py",
    )
    done = run(copy, "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "medoid or registry")
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 30  # the contract tests among them
    assert "medoid" in run(copy, "fewshot", "evaluate", "--help").stdout
    lint = run(copy, "ruff", "check", "--no-cache", "fewshot/classifiers/medoid.py", "tests/classifiers/test_medoid.py")
    assert lint.returncode == 0, lint.stdout


def test_an_ablation_is_one_file(copy: Path) -> None:
    listed = run(copy, "experiments", "list")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"smoothing\s+Does smoothing the classifier's targets help\?", listed.stdout), listed.stdout
