"""Limits of settings, written once beside their types: ``epochs: Annotated[int, Within(1, 100_000)]``.

One check reads types and limits of a dataclass. It serves options from the command line, settings that a library user builds, and
what a ``config.json`` says, so that nonsense ends in one sentence wherever it comes from. It needs no torch.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from episodes.errors import UsageError
from episodes.ranges import parse_range


@dataclass(frozen=True)
class Within:
    """The numbers from ``low`` to ``high``; of a range such as "5-20", both ends.

    Attributes:
        low: The lowest number allowed.
        high: The highest; infinite where there is none.
        above: Leave out ``low`` itself.
        below: Leave out ``high`` itself.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is allowed; NaN and infinities never are.

        Args:
            value: The number.

        Returns:
            True where it lies within.
        """
        if not math.isfinite(value):
            return False
        return (self.low < value if self.above else self.low <= value) and (
            value < self.high if self.below else value <= self.high
        )

    def __str__(self) -> str:
        low = f"above {self.low}" if self.above else f"at least {self.low}"
        high = "" if self.high == math.inf else f"{' and below' if self.below else ' and at most'} {self.high}"
        return low + high


#: Limits that several commands share. A count of a million is beyond any use and within any arithmetic.
EmbedViews = Annotated[int, Within(1, 4)]
Seed = Annotated[int, Within(0, 2**63 - 1)]
Count = Annotated[int, Within(1, 1_000_000)]
CountOrRange = Annotated[int | str, Within(1, 1_000_000)]
CountOrRangeText = Annotated[str, Within(1, 1_000_000)]
#: An episode of one class is always right: it neither teaches nor measures anything.
Ways = Annotated[int | str, Within(2, 1_000_000)]
WaysText = Annotated[str, Within(2, 1_000_000)]
Workers = Annotated[int, Within(0, 1024)]
Threads = Annotated[int, Within(1, 1024)]
Share = Annotated[float, Within(0, 1, below=True)]


def check(settings: Any) -> None:
    """Check every field of a dataclass against its annotation.

    Args:
        settings: An instance; fields may be dataclasses themselves.

    Raises:
        UsageError: A field is of another type or outside its limits; names it, its value and what is allowed.
    """
    for name, hint in hints_of(type(settings)).items():
        problem = problem_with(getattr(settings, name), hint, name)
        if problem is not None:
            raise UsageError(problem)


def hints_of(kind: type[Any]) -> dict[str, Any]:
    """Types and limits of a dataclass's fields.

    Args:
        kind: The dataclass.

    Returns:
        Name -> annotation, with its limits.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def problem_with(value: Any, hint: Any, name: str) -> str | None:
    """What is wrong with a value, in words.

    Args:
        value: A Python value, or what JSON makes of it (lists for tuples, dictionaries for dataclasses).
        hint: Its annotation.
        name: What to call it, such as ``settings.epochs``.

    Returns:
        One sentence, or None where nothing is wrong.
    """
    limits: tuple[Any, ...] = ()
    if typing.get_origin(hint) is Annotated:
        hint, *rest = typing.get_args(hint)
        limits = tuple(limit for limit in rest if isinstance(limit, Within))
    if typing.get_origin(hint) in (Union, types.UnionType):
        return _problem_with_any(value, typing.get_args(hint), limits, name)
    if dataclasses.is_dataclass(hint):
        return _problem_with_fields(value, typing.cast("type[Any]", hint), name)
    inside = _parts(value, hint)
    if inside is None:
        return f"{name} is {_shown(value)}: expected {_words(hint)}"
    for part, (of, called) in inside:
        problem = problem_with(part, of, f"{name}{called}")
        if problem is not None:
            return problem
    return _beyond(value, limits, name)


def _problem_with_any(value: Any, kinds: Sequence[Any], limits: Sequence[Within], name: str) -> str | None:
    """Check a value against a union: it must fit one of the types, and keep the union's limits."""
    problems = [problem_with(value, kind, name) for kind in kinds]
    if None in problems:
        return None if value is None else _beyond(value, limits, name)
    # What the value nearly is says more than a list of all that it could have been.
    near = [problem for problem, kind in zip(problems, kinds, strict=True) if _parts(value, _bare(kind)) is not None]
    known = [kind for kind in kinds if kind is not type(None)]
    if near or (len(known) == 1 and value is not None):
        return (near or [problem_with(value, known[0], name)])[0]
    return f"{name} is {_shown(value)}: expected {' or '.join(_words(kind) for kind in kinds)}"


def _problem_with_fields(value: Any, kind: type[Any], name: str) -> str | None:
    """Check a dataclass, given as an instance or as a dictionary of its fields; fields with defaults may be missing."""
    if isinstance(value, kind):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    if not isinstance(value, Mapping):
        return f"{name or 'all of it'} is {_shown(value)}: expected an object with keys such as {_example(kind)}"
    needed = [field.name for field in dataclasses.fields(kind) if _required(field)]
    before = f"{name}." if name else ""
    for key, hint in hints_of(kind).items():
        if key in value:
            problem = problem_with(value[key], hint, before + key)
            if problem is not None:
                return problem
        elif key in needed:
            return f"{before}{key} is missing"
    return None


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _example(kind: type[Any]) -> str:
    return ", ".join(field.name for field in dataclasses.fields(kind)[:3])


def _parts(value: Any, hint: Any) -> list[tuple[Any, tuple[Any, str]]] | None:
    """(part, (its annotation, what to add to the name)) of a value's inside; None where the value is of another kind."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return [] if any(value == each and type(value) is type(each) for each in arguments) else None
    if origin in (tuple, list):
        return _elements(value, origin, arguments)
    if origin is dict:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return None
        return [(part, (arguments[1], f".{key}")) for key, part in value.items()]
    if hint is Any:
        return []
    if hint is None or hint is type(None):
        return [] if value is None else None
    if hint is Path:
        return [] if isinstance(value, (Path, str)) else None
    if hint is float:
        return [] if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    if hint is int:
        return [] if isinstance(value, int) and not isinstance(value, bool) else None
    return [] if isinstance(value, hint) else None


def _elements(value: Any, origin: Any, arguments: tuple[Any, ...]) -> list[tuple[Any, tuple[Any, str]]] | None:
    if not isinstance(value, (tuple, list)):
        return None
    alike = origin is list or arguments[1:] == (...,)
    if not alike and len(value) != len(arguments):
        return None
    of = [arguments[0]] * len(value) if alike else arguments
    return [(part, (kind, f"[{place}]")) for place, (part, kind) in enumerate(zip(value, of, strict=True))]


def _beyond(value: Any, limits: Sequence[Within], name: str) -> str | None:
    """Say what is wrong with the size of a number, or of the ends of a range such as "5-20"."""
    if not limits:
        return None
    try:
        ends = parse_range(value, name) if isinstance(value, str) else value
    except UsageError as error:
        return str(error)
    for end in ends if isinstance(ends, (tuple, list)) else (ends,):
        for limit in limits:
            if not limit.holds(end):
                return f"{name} is {value}: expected {limit}"
    return None


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _shown(value: Any) -> str:
    text = repr(str(value) if isinstance(value, Path) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
    dict: "an object",
}


def _words(hint: Any) -> str:
    hint = _bare(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(repr(each) for each in arguments)
    if origin in (tuple, list):
        many = origin is list or arguments[1:] == (...,)
        return (
            f"a list of {_words(arguments[0]) if many else f'{len(arguments)}: ' + ', '.join(map(_words, arguments))}"
        )
    if origin is dict:
        return "an object"
    if hint is None or hint is type(None):
        return "null"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))
