"""The task engine is cheap to import and stands on nothing above it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import episodes

ROOT = Path(__file__).parents[2]


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    loaded = modules_after("import episodes; assert episodes.DataError")
    assert not loaded & {"numpy", "pandas", "torch", "learn2learn"}


def test_no_module_needs_torch_pandas_or_learn2learn() -> None:
    names = [path.stem for path in (ROOT / "episodes").glob("*.py") if path.stem != "__init__"]
    loaded = modules_after("\n".join(f"import episodes.{name}" for name in names))
    assert len(names) > 10 and not loaded & {"torch", "pandas", "learn2learn", "fewshot", "experiments"}


def test_nothing_from_the_layers_above() -> None:
    for path in (ROOT / "episodes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"fewshot", "experiments"}, path


def test_every_public_name_is_there() -> None:
    for name in episodes.__all__:
        assert getattr(episodes, name) is not None
    assert set(episodes.__all__) == set(episodes._HOME) and set(episodes.__all__) <= set(dir(episodes))


@pytest.mark.parametrize(
    "lines",
    [
        "from episodes import evaluate",
        "import episodes.evaluate\nfrom episodes import evaluate",
        "from episodes import Score\nfrom episodes import evaluate",
        "from episodes.evaluate import evaluate",
        "import episodes\nepisodes.Score\nevaluate = episodes.evaluate",
    ],
)
def test_evaluate_can_be_called_whatever_was_imported_before(lines: str) -> None:
    code = f"{lines}\ntry:\n    evaluate([], None)\nexcept ValueError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "needs at least one episode" in done.stdout, done.stderr
