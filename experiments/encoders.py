"""Which encoder, how many views, which of them together, and does `auto` or `learned` help? One table, every row on the same episodes.

    python -m experiments.encoders --data DIR [--output runs/encoders]

DIR holds tin/novel, omniglot/novel, grocery and pacs/<domain> as class folders: sets that chose nothing. 1 and 5 shots, query sets with
as many pictures of each class and such as a Dirichlet distribution divides. Every row is compared, in pairs, with the prototype on
one view of the same encoder; encoders together with the better of their parts on that set. Writes encoders.csv, every figure, and
encoders.md: the table, and each bar with what was reached. What is in the cache of embeddings is not embedded again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from episodes import Results, paired_difference, read_class_folders
from experiments.classifiers import Arguments as OfClassifiers
from experiments.classifiers import episode_sets
from experiments.measuring import run_command, write_measured
from fewshot.classifiers import TRANSDUCTIVE, build_classifier
from fewshot.device import resolve_device
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings, embed_images, side_by_side
from fewshot.encoders import load_encoder
from fewshot.evaluation import evaluate_sets

FOLDERS = (
    "tin/novel",
    "omniglot/novel",
    "grocery",
    "pacs/photo",
    "pacs/art_painting",
    "pacs/cartoon",
    "pacs/sketch",
)
BASE = "prototype"


@dataclass(frozen=True)
class Kind:
    """One row of the table.

    Attributes:
        group: what it is a case of: "one view", "views", "together", "auto", "learned" or "alpha-tim".
        backbone: one, or several joined by "+".
        views: of a picture.
        classifier: its name.
    """

    group: str
    backbone: str
    views: int = 1
    classifier: str = BASE

    @property
    def name(self) -> str:
        """What the table calls it."""
        views = f", {self.views} views" if self.views > 1 else ""
        return f"{self.backbone}{views}{'' if self.classifier == BASE else f', {self.classifier}'}"


SINGLE = ("tiny", "lite0", "lite2")
VIEWS = {"tiny": 2, "lite0": 3, "lite2": 3}  # as docs/encoders.md advises, chosen on tin val and omniglot base
TOGETHER = ("lite0+tiny", "lite2+tiny", "lite2+lite0", "lite2+lite0+tiny")
KINDS = (
    *(Kind("one view", name) for name in SINGLE),
    *(Kind("views", name, VIEWS[name]) for name in SINGLE),
    *(Kind("together", name) for name in TOGETHER),
    *(Kind("auto", name, classifier="auto") for name in SINGLE),
    *(Kind("alpha-tim", name, classifier="alpha-tim") for name in SINGLE),
    *(Kind("learned", name, classifier="learned") for name in SINGLE),
    Kind("all", "lite2+lite0+tiny", classifier="auto"),
    Kind("all", "lite2+lite0+tiny", classifier="learned"),
)


@dataclass(frozen=True)
class Arguments:
    """Encoders, views, encoders together, auto and learned on the same episodes."""

    data: Path  # folder that holds the image sets as class folders
    folders: tuple[str, ...] = FOLDERS
    output: Path = Path("runs/encoders")  # where encoders.csv and encoders.md go
    groups: tuple[str, ...] = ("one view", "views", "together", "auto", "alpha-tim", "learned", "all")
    shots: tuple[int, ...] = (1, 5)
    concentration: float = 2.0  # of the Dirichlet distribution of unbalanced queries
    episodes: int = 600  # of each folder and setting
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class Row:
    """One kind in one setting on one folder; accuracies and differences are shares in [0, 1].

    Attributes:
        difference, difference_ci95: mean over episodes of its accuracy less that of what it is compared with.
    """

    folder: str
    name: str
    group: str
    shots: int
    queries: str
    accuracy: float
    ci95: float
    difference: float
    difference_ci95: float


def measure(arguments: Arguments) -> Iterator[Row]:
    """Every folder, setting and kind.

    Raises:
        DataError: a folder cannot be used.
        UsageError: an encoder's package is not installed.
    """
    encoders = {name: load_encoder(name, device=resolve_device(arguments.device)) for name in SINGLE}
    together = {name: load_encoder(name) for name in TOGETHER}
    cache = EmbeddingCache()
    shared = OfClassifiers(
        arguments.data,
        shots=arguments.shots,
        concentration=arguments.concentration,
        episodes=arguments.episodes,
        seed=arguments.seed,
    )
    kinds = [kind for kind in KINDS if kind.group in ("one view", *arguments.groups)]
    for folder in arguments.folders:
        items = read_class_folders(arguments.data / folder).items
        needed = {(part, kind.views) for kind in kinds for part in kind.backbone.split("+")}
        found = {(name, views): embed_images(encoders[name], items, cache=cache, views=views) for name, views in needed}
        for queries, group in episode_sets(shared, folder):
            results: dict[str, Results] = {}
            for kind in kinds:
                parts = kind.backbone.split("+")
                encoder = encoders[kind.backbone] if len(parts) == 1 else together[kind.backbone]
                features: Embeddings = side_by_side([found[part, kind.views] for part in parts])
                method = build_classifier(kind.classifier, encoder=encoder)
                [row] = evaluate_sets([group], features, {kind.classifier: method}, backbone=kind.backbone)
                results[kind.name] = row.results
                paired = paired_difference(row.results, max((results[part] for part in parts), key=lambda r: r.mean))
                assert isinstance(row.shots, int)
                yield Row(
                    folder,
                    kind.name,
                    kind.group,
                    row.shots,
                    queries,
                    row.results.mean,
                    row.results.ci95,
                    paired.mean,
                    paired.ci95,
                )


#: (group, what the bar asks, least mean difference, least difference on a set, shots that it is about).
BARS: Mapping[str, tuple[float, float, tuple[int, ...]]] = {
    "views": (1.0, -0.2, (1, 5)),
    "together": (0.0, -0.5, (1, 5)),
    "auto": (0.8, -0.3, (5,)),
    "learned": (0.0, -0.3, (1, 5)),
}


def report(frame: pd.DataFrame) -> str:
    """Markdown: a table for each kind of queries, cells for all shots, and the bars."""
    shots = " / ".join(str(value) for value in frame["shots"].unique())
    parts = [
        f"Accuracy in % at {shots} shots of the rows with one view of one encoder; of the others the points gained over the "
        "prototype on one view of the same encoder, or over the better of several. \\* transductive.",
        "",
    ]
    for queries, setting in frame.groupby("queries", sort=False):
        parts += [f"**Queries {queries}**", "", *_table(setting), ""]
    return "\n".join([*parts, "**Bars**", "", *bars(frame), ""])


def _table(setting: pd.DataFrame) -> list[str]:
    """Each kind (rows) on each folder (columns), all shots in one cell; the mean of the folders, and the widest 95 % interval."""
    folders = list(setting["folder"].unique())
    names = [folder.replace("pacs/", "").replace("_", " ").replace("/", " ") for folder in folders]
    lines = [_line(["", *names, "mean", "±"]), _line(["---"] * (len(folders) + 3))]
    for name in setting["name"].unique():
        rows = setting[setting["name"] == name]
        base = rows["group"].iloc[0] == "one view"
        label = f"{name} \\*" if any(name.endswith(f", {each}") for each in TRANSDUCTIVE) else str(name)
        cells = [_cell(rows[rows["folder"] == folder], base) for folder in folders]
        mean = _cell(rows.groupby("shots", sort=False)[["accuracy", "difference"]].mean(), base)
        widest = rows["ci95" if base else "difference_ci95"].max()
        lines.append(_line([label, *cells, mean, f"{100 * widest:.1f}"]))
    return lines


def _cell(rows: pd.DataFrame, base: bool) -> str:
    values = rows["accuracy"] if base else rows["difference"]
    return " / ".join(f"{100 * value:.1f}" if base else f"{100 * value:+.1f}" for value in values)


def bars(frame: pd.DataFrame) -> list[str]:
    """One line for every row of the table and setting that a bar is about: the mean, the worst set, and whether that is enough."""
    lines = [_line(["row", "setting", "mean", "worst set", "bar", "reached"]), _line(["---"] * 6)]
    for (name, shots, queries), rows in frame.groupby(["name", "shots", "queries"], sort=False):
        group = rows["group"].iloc[0]
        if group not in BARS or shots not in BARS[group][2]:
            continue
        least, worst_allowed, _ = BARS[group]
        if group == "learned":  # the mean is to be above alpha-tim's
            rival = frame[(frame["shots"] == shots) & (frame["queries"] == queries)]
            rival = rival[rival["name"] == str(name).replace("learned", "alpha-tim")]
            least = 100 * float(rival["difference"].mean()) if len(rival) else 0.0
        mean, worst = 100 * rows["difference"].mean(), rows.loc[rows["difference"].idxmin()]
        reached = mean >= least and 100 * worst["difference"] >= worst_allowed
        wanted = f"mean {least:+.1f}, worst {worst_allowed:+.1f}"
        setting = f"{shots} shot{'s' if shots > 1 else ''}, {queries}"
        said = f"{100 * worst['difference']:+.1f} ({worst['folder']})"
        lines.append(_line([str(name), setting, f"{mean:+.2f}", said, wanted, "yes" if reached else "**no**"]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def run(arguments: Arguments) -> pd.DataFrame:
    """Measure, write both files, and return every row.

    Raises:
        DataError: a folder cannot be used.
    """
    return write_measured(measure(arguments), arguments.output, "encoders", _said, report)


def _said(row: Row) -> str:
    return f"{row.folder}, {row.shots} shots, {row.queries}: {row.name} {row.accuracy:.2%}"


def main() -> int:
    """Parse and run."""
    return run_command("encoders", Arguments, run, __doc__)


if __name__ == "__main__":
    sys.exit(main())
