"""The arrows of the design: experiments -> fewshot -> episodes, never back, and imports that cost little."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("episodes", "fewshot", "experiments", "tests")
ALLOWED = {
    "episodes": {"episodes"},
    "fewshot": {"fewshot", "episodes"},
    "experiments": {"experiments", "fewshot", "episodes"},
}
# What episodes may need as soon as one of its modules is imported; torch and pandas wait for the function.
HEAVY = {"torch", "torchvision", "clip", "learn2learn", "pandas", "sklearn", "matplotlib", "lightning"}


def imports(source: str, package: str = "") -> Iterator[tuple[str, bool, int]]:
    """(absolute name, whether it runs when the module is imported, line) of every import in the source.

    `package` is the dotted package the module is in, for relative imports. Imports by a string given to
    `import_module` or `__import__` count: a lazy package init must not hide an arrow.
    """
    tree = ast.parse(source)
    deferred = set(map(id, _deferred(tree)))
    for node in ast.walk(tree):
        runs = id(node) not in deferred
        for name in _names(node, package):
            yield name, runs, getattr(node, "lineno", 0)


def _names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if not node.level:
            return [node.module or ""]
        parent = package.split(".")[: len(package.split(".")) - node.level + 1]
        return [".".join([*parent, *([node.module] if node.module else [])])]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func)
        text = node.args[0].value
        if called.endswith(("import_module", "__import__", "importorskip")) and isinstance(text, str):
            return [text if not text.startswith(".") else package + text]
    return []


def _deferred(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes that do not run on import: bodies of functions, and what only a type checker reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            bodies = node.body if isinstance(node.body, list) else [node.body]
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            bodies = list(node.body)
        else:
            continue
        for body in bodies:
            yield from ast.walk(body)


def modules(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts)


def dotted_package(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_arrows_point_one_way(package: str) -> None:
    found = modules(package)
    if not found and package == "experiments":
        pytest.skip("no experiments in this checkout")
    assert found, f"no modules in {ROOT / package}"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in found
        for name, _, line in imports(path.read_text(encoding="utf-8"), dotted_package(path))
        if name.split(".")[0] in OURS and name.split(".")[0] not in ALLOWED[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_episodes_names_torch_in_functions_of_interop_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules("episodes")
        for name, runs, line in imports(path.read_text(encoding="utf-8"), dotted_package(path))
        if name.split(".")[0] in HEAVY and (runs or (name.startswith("torch") and path.name != "interop.py"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["fewshot", "experiments"])
def test_the_layer_above_uses_no_private_names(package: str) -> None:
    """A layer above that needs something private shows that the public interface lacks it."""
    wrong = []
    for path in modules(package):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
                continue
            top = node.module.split(".")[0]
            if top in OURS and top != package:
                private = [part for part in node.module.split(".") if part.startswith("_")]
                private += [alias.name for alias in node.names if alias.name.startswith("_")]
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno} uses {name}" for name in private]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", ["episodes", "fewshot"])
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    code = f"import sys; import {package}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_module_of_episodes_loads_without_torch_and_fewshot() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules("episodes")]
    names = [name.removesuffix(".__init__") for name in names]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(*sorted({HEAVY | {'fewshot', 'experiments'}!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_scan_sees_every_kind_of_import() -> None:
    source = """
import torch.nn as nn
from fewshot.encoders.heads import ResidualClassifier
from . import sampler
from ..fewshot import losses
if TYPE_CHECKING:
    import pandas
def later():
    import experiments.runner
    importlib.import_module("fewshot.commands.cli")
lazy = import_module(".counter_random", __name__)
"""
    found = [(name, runs) for name, runs, _ in imports(source, "episodes")]
    assert sorted(found) == sorted(
        [
            ("torch.nn", True),
            ("fewshot.encoders.heads", True),
            ("episodes", True),
            ("fewshot", True),
            ("pandas", False),
            ("experiments.runner", False),
            ("fewshot.commands.cli", False),
            ("episodes.counter_random", True),
        ]
    )


# The floors of fewshot, from the ground up: a module may import from its own room and from the floors below it.
FLOORS = (
    ("version", "console", "device", "distributed", "tensors", "registry", "limits", "options", "losses"),
    ("images",),
    ("config",),
    ("encoders",),
    ("embedding",),
    ("classifiers",),
    ("adaptation",),
    ("checkpoint", "checkpoint_schema", "run_files", "evaluation", "opening", "support_files"),
    ("training",),
    ("predict",),
    ("model", "image_embedder"),
    ("report",),
    ("demo",),
    ("app",),
    ("commands",),
    ("", "__main__"),
)
# Rooms of one floor may use each other where a name is listed here, as far as no circle comes of it.
OPEN = {0, 7, 14}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def arrows(package: str) -> dict[str, set[str]]:
    """Module -> the modules of its package that it imports, in functions and for the type checker too."""
    known = {module_name(path) for path in modules(package)}
    found: dict[str, set[str]] = {}
    for path in modules(package):
        targets = found.setdefault(module_name(path), set())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                targets |= {name if name in known else node.module for name in names}
            else:
                targets |= set(_names(node, dotted_package(path)))
        found[module_name(path)] = {each for each in targets if each in known and each != module_name(path)}
    return found


def room(module: str) -> str:
    """ "fewshot.images.transform" -> "images"; the package itself -> ""."""
    return (module.split(".") + [""])[1]


def test_no_arrow_of_fewshot_points_up() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    graph = arrows("fewshot")
    assert {room(module) for module in graph} == set(floor), "a room without a floor, or a floor without its room"
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in targets
        if floor[room(target)] > floor[room(module)]
        or (
            floor[room(target)] == floor[room(module)]
            and room(target) != room(module)
            and floor[room(module)] not in OPEN
        )
    ]
    assert not wrong, "\n".join(sorted(wrong))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_no_module_needs_itself(package: str) -> None:
    """No circles: every module can be read after those that it imports."""
    graph = arrows(package)
    while leaves := {module for module, targets in graph.items() if not targets & set(graph)}:
        graph = {module: targets for module, targets in graph.items() if module not in leaves}
    assert not graph, f"a circle among {', '.join(sorted(graph))}"


def test_the_floors_see_an_arrow_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail."""
    graph = arrows("fewshot")
    assert "fewshot.classifiers.prototype" in graph and "fewshot.device" in graph["fewshot.embedding.batches"]
    monkeypatch.setitem(globals(), "arrows", lambda package: {**graph, "fewshot.device": {"fewshot.training.loop"}})
    with pytest.raises(AssertionError, match=r"fewshot.device imports fewshot.training.loop"):
        test_no_arrow_of_fewshot_points_up()
    with pytest.raises(AssertionError, match="a circle among"):
        test_no_module_needs_itself("fewshot")
