"""One place to register a classifier, a family of encoders or a command: a decorator in the file that holds it.

Names and summaries are read from the source of this package, not by importing it, so that the command line can list classifiers
without loading torch. Other packages add theirs through an entry point of the group `fewshot.classifiers` or `fewshot.encoders`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from episodes.errors import UsageError

_Object = TypeVar("_Object")
_ROOT = Path(__file__).parent
LAST = 1000  # the position of what gives none: behind the built-in ones, by name


class Entry(NamedTuple):  # a dataclass would make `fewshot --help` import half as much again
    """One registered thing.

    Attributes:
        name: as the command line calls it.
        summary: a few words for `--help`.
        place: `module:attribute`, where it is defined.
        position: its place in lists; equal ones are sorted by name.
        traits: what else its decorator says.
        source: the package that brings it.
    """

    name: str
    summary: str
    place: str
    position: int = LAST
    traits: Mapping[str, Any] = MappingProxyType({})
    source: str = "fewshot"

    def load(self) -> Any:
        """Import what is registered.

        Raises:
            UsageError: another package brings it, and it cannot be imported.
        """
        module, _, attribute = self.place.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            if self.source == "fewshot":
                raise
            raise UsageError(
                f"{self.name!r} of the package {self.source} cannot be loaded from {self.place} ({type(error).__name__}: {error}). "
                f"Update or remove {self.source}"
            ) from error


class Registry:
    """All things of one kind: those in a folder of this package, in other packages, and added at run time."""

    def __init__(self, variable: str, folder: str, group: str | None = None) -> None:
        """Remember the folder and the entry-point group to look in.

        Args:
            variable: the name that this registry has here; decorators are found by it.
            folder: the folder of `fewshot` whose files may register something.
            group: the entry points' group through which other packages add theirs; None for none.
        """
        self._marker = f"@{variable}.register("
        self._folder, self._group = folder, group
        self._found: dict[str, Entry] | None = None
        self._added: dict[str, Entry] = {}

    def register(
        self, name: str, summary: str = "", *, position: int = LAST, **traits: Any
    ) -> Callable[[_Object], _Object]:
        """Register the class or function below, under a name.

        Within `fewshot` the arguments must be literals: they are read from the source. Elsewhere registering works from the
        moment in which the decorator runs; use an entry point to be known to the command line.

        Args:
            name: as the command line calls it.
            summary: a few words for `--help`.
            position: its place in lists.
            **traits: whatever else may be asked of it without importing it.
        """

        def mark(registered: _Object) -> _Object:
            module = getattr(registered, "__module__", "")
            if not module.startswith(f"fewshot.{self._folder}."):
                place = f"{module}:{getattr(registered, '__qualname__', '')}"
                self._added[name] = Entry(name, summary, place, position, traits, module.partition(".")[0])
            return registered

        return mark

    @property
    def entries(self) -> dict[str, Entry]:
        """Name -> entry, in the order of lists; what `fewshot` itself brings cannot be replaced."""
        if self._found is None:
            self._found = {entry.name: entry for entry in [*self._foreign(), *self._own()]}
        known = {**self._added, **self._found}
        return dict(sorted(known.items(), key=lambda item: (item[1].position, item[0])))

    def find(self, name: str) -> Entry | None:
        """The entry that answers to a name, be it one with a placeholder: `timm:<name>` answers to everything behind `timm:`.

        A placeholder alone answers to everything that no other entry answers to.
        """
        exact = self.entries.get(name)
        if exact is not None:
            return exact
        patterns = {entry.name.partition("<")[0]: entry for entry in self.entries.values() if "<" in entry.name}
        fitting = [prefix for prefix in patterns if name.startswith(prefix)]
        return patterns[max(fitting, key=len)] if fitting else None

    def describe(self) -> str:
        """Every name with its summary, for `--help`."""
        return "; ".join(
            f"{entry.name} ({entry.summary})" if entry.summary else entry.name for entry in self.entries.values()
        )

    def _own(self) -> Iterator[Entry]:
        for path in sorted((_ROOT / self._folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            start = -1
            while (start := text.find(f"\n{self._marker}", start + 1)) >= 0:
                module = ".".join(("fewshot", *path.relative_to(_ROOT).with_suffix("").parts)).removesuffix(".__init__")
                yield _read(text[start + 2 :], module)

    def _foreign(self) -> Iterator[Entry]:
        if self._group is None:
            return
        from importlib import metadata

        for point in metadata.entry_points(group=self._group):
            source = point.dist.name if point.dist is not None else "another package"
            yield Entry(point.name, f"from {source}", point.value, source=source)


def _read(text: str, module: str) -> Entry:
    """The entry of a decorator, from the source that begins with its call."""
    import ast

    stop = re.search(r"^(?:@|class |def )", text, re.MULTILINE)
    defined = re.search(r"^(?:class|def) (\w+)", text, re.MULTILINE)
    if stop is None or defined is None:
        raise ValueError(f"{module}: a decorator of the registry stands above neither a class nor a function")
    call = ast.parse(text[: stop.start()].strip(), mode="eval").body
    assert isinstance(call, ast.Call)
    named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg is not None}
    values = dict(zip(("name", "summary"), map(ast.literal_eval, call.args), strict=False)) | named
    position = values.pop("position", LAST)
    name, summary = values.pop("name"), values.pop("summary", "")
    return Entry(name, summary, f"{module}:{defined.group(1)}", position, values)


CLASSIFIERS = Registry("CLASSIFIERS", "classifiers", "fewshot.classifiers")
ENCODERS = Registry("ENCODERS", "encoders", "fewshot.encoders")
COMMANDS = Registry("COMMANDS", "commands")
