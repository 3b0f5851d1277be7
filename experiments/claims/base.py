"""What a claim is made of: rows of nominal and measured, and the image sets to measure on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from episodes import ImageTable, read_class_folders
from fewshot import Embeddings, embed_images, load_encoder
from fewshot.embedding.cache import EmbeddingCache

CHOSEN_ON = ("tin/val", "omniglot/base")
"""Class folders on which settings may be chosen."""
REPORTED_ON = (
    "tin/novel",
    "omniglot/novel",
    "grocery",
    "pacs/art_painting",
    "pacs/cartoon",
    "pacs/photo",
    "pacs/sketch",
)
"""Class folders on which nothing was chosen: claims are measured here."""


@dataclass(frozen=True)
class Row:
    """One figure of a claim. Values are in `unit`: 95.0 is 95 %, 1.5 is 1.5 points.

    Attributes:
        what: what was measured, such as "coverage, 20 classes": a column of the page.
        on: on what: a simulation, an image set and an encoder: a row of the page.
        measured: the figure.
        ci95: half-width of its 95 % interval; None where it is not known.
        nominal: what the program says; None where that is no number.
        low, high: the bar: from `low` to `high`. Both infinite: the figure is reported, nothing is demanded.
        unit: of all of them.
        note: what else the reader should know of it, in a few words.
    """

    what: str
    on: str
    measured: float
    ci95: float | None = None
    nominal: float | None = None
    low: float = -math.inf
    high: float = math.inf
    unit: Literal["%", "points", ""] = "%"
    note: str = ""

    @property
    def has_bar(self) -> bool:
        """Whether something is demanded of the figure."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    @property
    def missed_by(self) -> float:
        """How far the figure lies beyond the bar; 0 within it, NaN where nothing could be measured."""
        if math.isnan(self.measured):
            return math.nan
        return max(0.0, self.low - self.measured, self.measured - self.high)

    @property
    def passed(self) -> bool:
        """Whether the figure lies within the bar; a figure that is no number does not."""
        return self.missed_by == 0


class Claim(Protocol):
    """A module of this package that measures a claim."""

    NAME: str
    CLAIM: str
    measure: Callable[[Data], Iterable[Row]]


@dataclass(frozen=True, eq=False)
class Data:
    """Image sets below one folder, embedded when they are asked for; kept in memory and in the embedding cache.

    Attributes:
        root: holds tin, omniglot, grocery and pacs as class folders.
        say: is told what goes on.
    """

    root: Path
    say: Callable[[str], None] = print
    _known: dict[tuple[str, str], tuple[ImageTable, Embeddings]] = field(default_factory=dict, repr=False)

    def embedded(self, folder: str, backbone: str) -> tuple[ImageTable, Embeddings]:
        """The pictures of a folder such as "tin/novel", and their embeddings by an encoder such as "tiny".

        Raises:
            DataError: the folder is not there, or is none of class folders.
            UsageError: the encoder's weights are missing.
        """
        if (folder, backbone) not in self._known:
            table = read_class_folders(self.root / folder)
            self.say(f"  embeddings of {folder} by {backbone}")
            embeddings = embed_images(load_encoder(backbone, device="cpu"), table.items, cache=EmbeddingCache())
            self._known[folder, backbone] = table, embeddings
        return self._known[folder, backbone]
