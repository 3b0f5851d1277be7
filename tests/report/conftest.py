"""Small tasks that were truly predicted, and a way to look into a page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from episodes import EpisodeSampler, read_class_folders, write_task_directory
from fewshot.classifiers import build_classifier
from fewshot.encoders import load_encoder
from fewshot.predict import Prediction, predict

METHOD = build_classifier("prototype")


@dataclass
class Element:
    """One element of a page with its attributes and all text inside it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())


@dataclass
class Page(HTMLParser):
    """A page as a browser's parser sees it."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"never closed: {[e.tag for e in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.elements.append(element)
        if tag not in ("meta", "img", "br", "wbr", "link", "input"):
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].tag == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, of_class: str = "") -> list[Element]:
        return [e for e in self.elements if e.tag == tag and (not of_class or of_class in e.classes)]

    def data(self, name: str) -> Any:
        """What a block of JSON holds."""
        (block,) = [e for e in self.all("script") if e.attributes.get("id") == name]
        return json.loads(block.text)

    @property
    def text(self) -> str:
        return " ".join(self.all("main")[0].text.split())


@pytest.fixture(scope="session")
def make_tasks(other_folders: Path) -> Callable[..., Path]:
    """Write tasks with their truth."""

    def make(root: Path, *, tasks: int = 3, ways: int = 3, shots: int = 3, queries: int = 4) -> Path:
        sampler = EpisodeSampler(
            read_class_folders(other_folders), ways=ways, shots=shots, queries=queries, episodes=tasks
        )
        return Path(write_task_directory(read_class_folders(other_folders), sampler, root))

    return make


@pytest.fixture(scope="session")
def name_tasks(vit_file: Path) -> Callable[..., Prediction]:
    """Predict with a small CLIP of random weights: some answers are right, some are wrong."""
    encoder = load_encoder(str(vit_file))

    def name(root: Path, *, find_truth: bool = True) -> Prediction:
        return predict(root, encoder, METHOD, find_truth=find_truth, workers=1)

    return name


@pytest.fixture(scope="session")
def prediction(
    make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path_factory: pytest.TempPathFactory
) -> Prediction:
    """Three 3-way 3-shot tasks with 4 queries a class and known truth; read-only."""
    return name_tasks(make_tasks(tmp_path_factory.mktemp("report") / "tasks"))
