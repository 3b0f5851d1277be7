"""A case of bad input, and the small world that it is tried in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

OLD = b"an older result\n"


@dataclass(frozen=True)
class Place:
    """A folder of one's own with everything that commands need; a case breaks some of it.

    Attributes:
        root: holds all the others.
        tasks: two tasks of two classes, two support pictures a class, four queries.
        classes: six class folders of five pictures.
        run: a finished run of tiny.
        cache: the folder of embeddings, with those of `tasks`.
        result: a CSV that is there already.
    """

    root: Path
    tasks: Path
    classes: Path
    run: Path
    cache: Path
    result: Path

    @property
    def embeddings(self) -> Path:
        return self.cache / "embeddings.sqlite"


Words = tuple[object, ...]
Change = Callable[[Place], object]


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        what: it is, in words.
        breaks: makes it; a tuple that it returns is more words for the command.
        status: how the command ends.
        says: what it says of it on standard error; "" is nothing that matters.
        unanswered: names of tasks whose pictures all stay without an answer, where the command is `predict`.
    """

    what: str
    breaks: Change
    status: int
    says: str
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Cases of one command.

    Attributes:
        title: in the page.
        command: its words.
        cases: what is tried.
        same_result: the CSV is that of an undisturbed run, to the byte.
    """

    title: str
    command: Callable[[Place], Words]
    cases: tuple[Case, ...]
    same_result: bool = False


def predict(place: Place) -> Words:
    return "predict", place.tasks, place.result, "--backbone", "tiny"


SMALL = (
    *("--epochs", 1, "--batch_size", 8, "--queries", 1, "--val_queries", 1, "--val_episodes", 10),
    *("--workers", 0, "--unfreeze_blocks", 1),
)


def train(place: Place) -> Words:
    return "train", "--train_data", place.classes, "--backbone", "tiny", "--output", place.root / "new", *SMALL


def adding(*words: object) -> Change:
    """Breaks nothing, but says more."""
    return lambda place: words
