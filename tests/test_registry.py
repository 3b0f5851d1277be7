"""What is registered where: by a decorator in this package, by another package's entry point, at run time."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from episodes.errors import UsageError
from fewshot.commands.cli import main
from fewshot.encoders import family_of
from fewshot.registry import CLASSIFIERS, COMMANDS, ENCODERS, Registry

THIRD_PARTY = '''
from dataclasses import dataclass
from typing import ClassVar

from fewshot.classifiers import maths
from fewshot.encoders.clip_files import TinyFamily


@dataclass(frozen=True)
class First:
    """Always the first class."""

    scale: float = 1.0
    transductive: ClassVar[bool] = False

    def __call__(self, tasks):
        scores = tasks.query.new_zeros(*tasks.query.shape[:2], tasks.n_way)
        scores[..., 0] = self.scale
        return maths.log_probabilities(scores)


class Renamed(TinyFamily):
    """The embedded encoder under another name."""

    def load(self, backbone, download_root=None):
        return super().load("tiny", download_root)
'''


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed beside this one, and one whose module is missing."""
    (tmp_path / "foreignpack.py").write_text(THIRD_PARTY)
    info = tmp_path / "foreignpack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreignpack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fewshot.classifiers]\nfirst = foreignpack:First\nlost = foreignpack:Lost\nprototype = foreignpack:First\n"
        "[fewshot.encoders]\nrenamed:<x> = foreignpack:Renamed\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for registry in (CLASSIFIERS, ENCODERS):
        monkeypatch.setattr(registry, "_found", None)
    yield
    sys.modules.pop("foreignpack", None)
    for registry in (CLASSIFIERS, ENCODERS):
        registry._found = None


@pytest.mark.parametrize("registry", [CLASSIFIERS, ENCODERS, COMMANDS], ids=["classifiers", "encoders", "commands"])
def test_what_is_read_from_the_source_is_what_is_defined(registry: Registry) -> None:
    for name, entry in registry.entries.items():
        module, _, attribute = entry.place.partition(":")
        assert getattr(entry.load(), "__name__", None) == attribute, name
        assert entry.load().__module__ == module and entry.summary
    positions = [entry.position for entry in registry.entries.values()]
    assert positions == sorted(positions)


def test_a_package_adds_a_classifier_and_an_encoder(
    third_party: None, other_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(other_folders), "--backbone", "renamed:it", "--classifier", "first", "prototype"]
    assert main([*arguments, "--shots", "1", "--queries", "2", "--episodes", "5", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "first" in said and "untouched renamed:it" in said
    assert " 20.0 " in said  # always the first of five classes
    assert CLASSIFIERS.entries["prototype"].source == "fewshot"  # what is ours cannot be replaced
    assert type(family_of("renamed:it")).__name__ == "Renamed"


def test_a_package_that_is_broken_is_named(third_party: None) -> None:
    with pytest.raises(UsageError, match=r"'lost' of the package foreignpack cannot be loaded from foreignpack:Lost"):
        CLASSIFIERS.entries["lost"].load()


def test_the_longest_prefix_answers() -> None:
    registry = Registry("NOWHERE", "nowhere")
    for name in ("<anything>", "a:<x>", "a:b:<x>", "a:exact"):
        registry.register(name)(type(name, (), {}))
    expected = {"a:exact": "a:exact", "a:b:c": "a:b:<x>", "a:c": "a:<x>", "z": "<anything>"}
    for asked, answering in expected.items():
        entry = registry.find(asked)
        assert entry is not None and entry.name == answering
    assert Registry("NOWHERE", "nowhere").find("z") is None
