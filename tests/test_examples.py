"""The examples run as they stand, scripts and notebooks, and say what they are there to say."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from fewshot.registry import CLASSIFIERS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ACCURACY = r"\d+\.\d\d% ± \d\.\d\d% \(200 episodes"
SAYS = {
    "episodic_loop.py": rf"before  {ACCURACY}.*\nafter   {ACCURACY}.*\ngain    [+-]\d\.\d\d%",
    "new_classifier.py": rf"parzen     {ACCURACY}.*\nprototype  {ACCURACY}.*\ndifference",
    "new_encoder.py": rf"small-conv-net  {ACCURACY}.*\ntiny            9\d\.",
    "sklearn_pipeline.py": r"FewShotClassifier    \d+\.\d% in 4 folds.*\nLogisticRegression   \d+\.\d% in 4 folds",
}


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if python had been started with a script of the folder, and no arguments."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", ["example"])
    monkeypatch.setattr(CLASSIFIERS, "_added", {})


@pytest.mark.parametrize("name", SAYS)
def test_a_script_runs(name: str, beside: None, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert re.search(SAYS[name], capsys.readouterr().out)


def run_cell(source: str, names: dict[str, Any]) -> object:
    """Run a cell; what its last expression gives, which a notebook would show."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last is not None else None


@pytest.mark.parametrize("name", ["first_look.ipynb", "compare.ipynb"])
def test_a_notebook_runs(name: str, beside: None) -> None:
    document = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    assert all(cell["outputs"] == [] for cell in document["cells"] if cell["cell_type"] == "code")
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in document["cells"] if cell["cell_type"] == "code"]
    kinds = [type(each).__name__ for each in shown if each is not None]
    expected = {"first_look.ipynb": ["ImageTable", "EpisodeSampler", "ShownFigure", "DataFrame", "DataFrame", "Results", "ShownFigure"],
                "compare.ipynb": ["ShownFigure", "Results"]}  # fmt: skip
    assert kinds == expected[name]
    for each in shown:
        if hasattr(each, "_repr_png_"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert each._repr_png_().startswith(b"\x89PNG")
        elif each is not None:
            assert "<table" in each._repr_html_()  # type: ignore[attr-defined]


def test_the_list_names_every_example() -> None:
    listed = set(re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")} - {"drawn.py"}
