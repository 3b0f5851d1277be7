"""Measure the claims one after another, and write the page after each: what is cut off keeps what it had."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import experiments.claims
from episodes.errors import UsageError
from episodes.files import atomic_write
from experiments.claims.base import Claim, Data
from experiments.claims.page import page_of, section, sections_of


def claims() -> dict[str, Claim]:
    """Module name -> claim, in alphabetical order."""
    found = {}
    for info in pkgutil.iter_modules(experiments.claims.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"experiments.claims.{info.name}")
        if hasattr(module, "measure"):
            found[info.name] = cast("Claim", module)
    return found


def measure_claims(
    root: Path,
    *,
    only: Sequence[str] = (),
    page: Path,
    known: Mapping[str, Claim] | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """Measure, write the page, and return its text.

    Args:
        root: holds the image sets as class folders.
        only: the claims to measure; their modules' names. All where none is named.
        page: what is written; of a page that is there, sections that are not measured stay.
        known: the claims there are; those of this package by default.
        say: is told what goes on.

    Raises:
        UsageError: a claim was named that there is not.
        DataError: an image set cannot be used.
    """
    known = claims() if known is None else known
    chosen = _chosen(only, known)
    data = Data(root, say)
    sections = sections_of(page.read_text(encoding="utf-8")) if page.is_file() else {}
    text = ""
    for name in chosen:
        claim = known[name]
        say(f"{name}: {claim.NAME}")
        started = time.process_time()
        rows = list(claim.measure(data))
        sections[claim.NAME] = section(claim.CLAIM, rows, time.process_time() - started)
        for row in rows:
            say(f"  {'missed' if row.has_bar and not row.passed else 'ok':<7}{row.what}, {row.on}: {row.measured:.2f}")
        text = page_of({each.NAME: sections[each.NAME] for each in known.values() if each.NAME in sections})
        page.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(page) as stream:
            stream.write(text)
    return text


def _chosen(only: Sequence[str], known: Mapping[str, Claim]) -> list[str]:
    unknown = [name for name in only if name not in known]
    if unknown:
        raise UsageError(f"no claim is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if not only or name in only]
