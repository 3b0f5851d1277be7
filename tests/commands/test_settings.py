"""Every number on the command line has a range: nonsense is refused with status 2 before anything is read or left behind."""

from __future__ import annotations

import dataclasses
import importlib
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import UsageError
from fewshot.commands.cli import main
from fewshot.config import TrainConfig
from fewshot.images.augmentation import Augmentation
from fewshot.limits import Within, check, hints_of

NEEDED = {
    "train": ["--train_data", "nowhere", "--output", "run"],
    "predict": ["nowhere", "result.csv"],
    "evaluate": ["nowhere"],
    "make-tasks": ["nowhere", "out"],
    "demo": ["demo"],
    "app": [],
}
NONSENSE = {
    int: ("-1", "1.5", "nan", "inf", "abc", "", "99999999999999999999"),
    float: ("-1", "nan", "inf", "-inf", "abc", "1e999"),
}
RANGES = ("0", "-3", "5-2", "0-4", "5-", "x", "nan", "2.5", "1-99999999999", "99999999999999999999")


def kinds(hint: Any) -> set[type]:
    """The plain types in an annotation."""
    parts = typing.get_args(hint)
    if not parts:
        return {hint} if isinstance(hint, type) else set()
    return set().union(*(kinds(part) for part in parts if not isinstance(part, Within)))


def width(hint: Any) -> int:
    """How many values an option takes: two for the ends of --crop_scale."""
    parts = typing.get_args(hint)
    return len(parts) if typing.get_origin(hint) is tuple and ... not in parts else 1


def numbers(command: str) -> Iterator[tuple[str, Any]]:
    """Name and annotation of every option of a command that takes a number."""
    options = importlib.import_module(f"fewshot.commands.{command.replace('-', '_')}").Options
    for kind in (options, *([Augmentation] if command == "train" else [])):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if field.name in ("ways", "shots") or (kinds(hints[field.name]) & {int, float}):
                yield field.name, hints[field.name]


CASES = [
    (command, name, value, width(hint))
    for command in NEEDED
    for name, hint in numbers(command)
    for value in (RANGES if name in ("ways", "shots") else NONSENSE[float if float in kinds(hint) else int])
]


def status(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as left:
        return int(left.code or 0)


def test_the_cases_are_all_settings_that_take_a_number() -> None:
    named = {(command, name) for command, name, _, _ in CASES}
    assert {"epochs", "batch_size", "val_ways", "rotation", "crop_scale", "seed", "visual_lr", "clip_norm"} <= {
        name for command, name in named if command == "train"
    }
    assert {
        ("predict", "reject"),
        ("evaluate", "episodes"),
        ("make-tasks", "tasks"),
        ("demo", "seed"),
        ("app", "port"),
    } <= named


@pytest.mark.parametrize(("command", "name"), sorted({(command, name) for command, name, _, _ in CASES}))
def test_nonsense_is_refused(
    command: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _, _, value, count in (case for case in CASES if case[:2] == (command, name)):
        found = status(command, *NEEDED[command], *[f"--{name}", *[value] * count])
        said = capsys.readouterr()
        assert found == 2, (value, said.err)
        assert name in said.err and "Traceback" not in said.err and not said.out, value
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--crop_scale", "0", "0"], "crop_scale[0] is 0.0: expected above 0"),
        (["--crop_scale", "1", "0.1"], "expected the lower share first"),
        (["--rotation", "nan"], "rotation is nan"),
        (["--rotation", "1000"], "rotation is 1000.0"),
        (["--flip", "2"], "flip is 2.0"),
        (["--batch_size", "1000000000"], "batch_size is 1000000000"),
        (["--epochs", "1000000000"], "epochs is 1000000000"),
        (["--visual_lr", "1e30"], "visual_lr is 1e+30"),
        (["--dropout", "1"], "dropout is 1.0: expected at least 0 and below 1"),
        (["--prototypical_weight", "0", "--class_weight", "0"], "nothing to learn from"),
        (["--trunk_cache", "on"], "needs --views"),
    ],
)
def test_training_says_what_is_wrong(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status("train", *NEEDED["train"], *arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and said[0].startswith("fewshot train: ") and words in said[0]
    assert said[1] == "'fewshot train --help' tells the options"
    assert list(tmp_path.iterdir()) == []


def test_defaults_and_ends_of_ranges_are_allowed() -> None:
    ends = {
        "epochs": 1,
        "batch_size": 1_000_000,
        "ways": "2-20",
        "shots": 1,
        "seed": 2**63 - 1,
        "dropout": 0.0,
        "workers": 0,
    }
    config = TrainConfig(Path("x"), unfreeze_blocks="all", views=1, val_shots=None, **ends)  # type: ignore[arg-type]
    assert config.way_range == (2, 20)
    assert Augmentation(crop_scale=(1.0, 1.0), flip=1, rotation=360, colour=0).flip == 1


@dataclasses.dataclass
class Sample:
    """One of every kind of annotation that settings use."""

    share: typing.Annotated[float, Within(0, 1, above=True)]
    pair: tuple[int, float]
    many: list[str]
    one_of: typing.Literal["a", 3]
    maybe: typing.Annotated[int, Within(2, 5)] | None
    places: tuple[Path, ...]
    table: dict[str, int]
    anything: Any = None


GOOD: dict[str, Any] = {
    "share": 1, "pair": (1, 2.5), "many": ["x"], "one_of": 3, "maybe": None, "places": (Path("p"), "q"), "table": {"k": 1},
}  # fmt: skip


def test_a_settings_check_knows_every_kind_of_annotation() -> None:
    check(Sample(**GOOD))
    assert set(hints_of(Sample)) == {*GOOD, "anything"}
    bad: list[tuple[str, Any, str]] = [
        ("share", 0, "share is 0: expected above 0 and at most 1"),
        ("share", True, "share is True: expected a number"),
        ("share", float("inf"), "share is inf"),
        ("pair", (1, 2, 3), r"pair is (1, 2, 3): expected a list of 2: a whole number, a number"),
        ("pair", (1.5, 2), "pair[0] is 1.5: expected a whole number"),
        ("many", ["x", 4], "many[1] is 4: expected text"),
        ("many", "x", "many is 'x': expected a list of text"),
        ("one_of", "b", "one_of is 'b': expected 'a' or 3"),
        ("maybe", 6, "maybe is 6: expected at least 2 and at most 5"),
        ("maybe", "x", "maybe is 'x': expected a whole number"),
        ("places", (3,), "places[0] is 3: expected a path"),
        ("table", {"k": "v"}, "table.k is 'v': expected a whole number"),
        ("table", {1: 1}, "table is {1: 1}: expected an object"),
    ]
    for name, value, words in bad:
        with pytest.raises(UsageError) as refused:
            check(Sample(**{**GOOD, name: value}))
        assert words in str(refused.value)


@pytest.mark.parametrize("command", sorted(NEEDED))
def test_help_begins_with_what_a_command_is_about(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = re.findall(r"^\W? ?--(\w+)", capsys.readouterr().out, flags=re.MULTILINE)
    inside = hints_of(Augmentation)  # listed in a box of their own
    shared = [name in ("seed", "device", "precision", "quiet", "json") for name in listed if name not in inside]
    assert any(shared) and not all(shared)
    assert shared == sorted(shared), listed
