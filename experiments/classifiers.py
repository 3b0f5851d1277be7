"""Which few-shot classifier should one use? All of them on the same episodes of four kinds of pictures.

    python -m experiments.classifiers --data DIR [--output runs/classifiers]

DIR holds tin/novel, omniglot/novel, grocery and pacs/<domain> as class folders; `--sets FOLDER ...` measures on class folders of your own
below DIR instead. Every classifier, 1 and 5 shots, query sets with as many pictures of each class and such as a Dirichlet distribution
divides. Writes classifiers.csv, every figure, and classifiers.md: accuracies with 95 % intervals, the paired difference from the prototype,
what would be chosen without each set and how it fares there, and tasks a second.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from episodes import paired_difference, read_class_folders
from experiments.measuring import run_command, write_measured
from fewshot.classifiers import CLASSIFIER_NAMES, TEXT, TRANSDUCTIVE, ImbalanceWarning, build_classifier
from fewshot.classifiers.statistics import shipped_statistics, statistics_of_folder
from fewshot.device import resolve_device
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder
from fewshot.encoders.text import class_texts
from fewshot.evaluation import EpisodeSet, EvaluationRow, evaluate_sets, read_episode_sets

SETS = {
    "tin novel": ("tin/novel",),
    "omniglot novel": ("omniglot/novel",),
    "grocery": ("grocery",),
    "pacs": ("pacs/art_painting", "pacs/cartoon", "pacs/photo", "pacs/sketch"),
}
BASE = "prototype"  # what the others are compared with: the default


@dataclass(frozen=True)
class Arguments:
    """All few-shot classifiers on the same episodes."""

    data: Path  # folder that holds the image sets as class folders
    sets: tuple[str, ...] = tuple(SETS)  # "tin novel", "omniglot novel", grocery, pacs, or class folders below data
    output: Path = Path("runs/classifiers")  # where classifiers.csv and classifiers.md go
    classifiers: tuple[str, ...] = CLASSIFIER_NAMES
    shots: tuple[int, ...] = (1, 5)
    ways: int = 5
    queries: int = 15
    concentration: float = 2.0  # of the Dirichlet distribution of unbalanced queries
    episodes: int = 600  # of each folder and setting
    seed: int = 0
    backbone: str = "tiny"
    statistics: Path | None = None  # training classes, for a backbone that ships without
    device: str = "auto"


@dataclass(frozen=True)
class Row:
    """One classifier in one setting on one folder. Accuracies and differences are shares in [0, 1].

    Attributes:
        difference, difference_ci95: mean over episodes of this classifier's accuracy - the prototype's.
        rate: tasks a second, from sampling to accuracies.
    """

    data: str
    folder: str
    classifier: str
    shots: int
    queries: str
    episodes: int
    accuracy: float
    ci95: float
    difference: float
    difference_ci95: float
    rate: float


def measure(arguments: Arguments) -> Iterator[Row]:
    """Every folder, setting and classifier; the prototype first, for the others are compared with it.

    Raises:
        DataError: a folder cannot be used.
    """
    encoder = load_encoder(arguments.backbone, device=resolve_device(arguments.device))
    own = arguments.statistics
    statistics = shipped_statistics(arguments.backbone) if own is None else statistics_of_folder(encoder, own)
    names = [BASE, *(name for name in arguments.classifiers if name != BASE)]
    classifiers = {name: build_classifier(name, statistics=statistics, encoder=encoder) for name in names}
    for data in arguments.sets:
        for folder in SETS.get(data, (data,)):
            table = read_class_folders(arguments.data / folder)
            embeddings = embed_images(encoder, table.items)
            for row, problem in embeddings.problems.items():
                print(
                    f"warning: {table.items[row]}: cannot be read ({problem}); as a query it counts as wrong",
                    file=sys.stderr,
                )
            texts = class_texts(table.class_names, arguments.backbone) if set(names) & set(TEXT) else None
            for queries, group in episode_sets(arguments, folder):
                base: EvaluationRow | None = None
                for name, classifier in classifiers.items():
                    started = time.perf_counter()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", ImbalanceWarning)  # it is what is measured here
                        [found] = evaluate_sets(
                            [group], embeddings, {name: classifier}, backbone=arguments.backbone, class_text=texts
                        )
                    rate = len(group.episodes) / (time.perf_counter() - started)
                    base = base or found
                    yield _row(data, folder, queries, found, base, rate)


def episode_sets(arguments: Arguments, folder: str) -> Iterator[tuple[str, EpisodeSet]]:
    """The settings of one folder, as (kind of queries, episodes)."""
    for queries, balance in (("even", None), ("unbalanced", arguments.concentration)):
        _, sets = read_episode_sets(
            arguments.data / folder,
            ways=(arguments.ways,),
            shots=arguments.shots,
            queries=arguments.queries,
            episodes=arguments.episodes,
            seed=arguments.seed,
            query_balance=balance,
        )
        yield from ((queries, group) for group in sets)


def _row(data: str, folder: str, queries: str, found: EvaluationRow, base: EvaluationRow, rate: float) -> Row:
    paired = paired_difference(found.results, base.results)
    assert isinstance(found.shots, int)
    return Row(
        data,
        folder,
        found.classifier,
        found.shots,
        queries,
        found.episodes,
        found.results.mean,
        found.results.ci95,
        paired.mean,
        paired.ci95,
        rate,
    )


def pooled(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Means over folders with the interval of that mean: folders are independent, each weighs the same.

    Returns columns accuracy, ci95, difference, difference_ci95, worst (the lowest difference of a set), rate (median).
    """

    def root_of_squares(values: pd.Series[float]) -> float:
        return math.sqrt(float((values**2).sum())) / len(values)

    keys = [*by, "classifier", "shots", "queries"]
    return frame.groupby(keys, sort=False).agg(
        accuracy=("accuracy", "mean"),
        ci95=("ci95", root_of_squares),
        difference=("difference", "mean"),
        difference_ci95=("difference_ci95", root_of_squares),
        worst=("difference", "min"),
        rate=("rate", "median"),
    )


def report(frame: pd.DataFrame) -> str:
    """Markdown: what each classifier gains on the average of the sets, then each set's accuracies."""
    by_set = pooled(frame, ["data"])
    overall = pooled(by_set.reset_index(), [])
    settings = list(frame[["shots", "queries"]].drop_duplicates().itertuples(index=False, name=None))
    heads = [f"{shots} shot{'s' if shots > 1 else ''}, {queries}" for shots, queries in settings]
    lines = ["Points gained over the prototype, mean of the sets (in brackets: the set where it gains least).", ""]
    lines += _head(["classifier", *heads, "tasks a second"])
    for name in frame["classifier"].unique():
        keys = [(name, *setting) for setting in settings]
        rows = [overall.loc[key] for key in keys]
        cells = [_gain(row) for row in rows]
        lines.append(_line([_marked(name), *cells, f"{rows[-1].rate:,.0f}"]))
    lines += ["", *left_out_lines(by_set)]
    for data in frame["data"].unique():
        lines += ["", f"Accuracy on {data}, %.", "", *_head(["classifier", *heads])]
        for name in frame["classifier"].unique():
            rows = [by_set.loc[key] for key in [(data, name, *setting) for setting in settings]]
            lines.append(_line([_marked(name), *(f"{100 * row.accuracy:.1f} ± {100 * row.ci95:.1f}" for row in rows)]))
    return "\n".join([*lines, "", "\\* transductive: an answer may depend on the other queries of its task.", ""])


def left_out(by_set: pd.DataFrame, transductive: bool) -> pd.DataFrame:
    """What would be chosen without each set, by the mean gain on the others, and what it gains on the set itself.

    Args:
        by_set: `pooled` by "data".
        transductive: whether transductive classifiers may be chosen.

    Returns:
        One row a set, number of shots and kind of queries: data, shots, queries, choice, difference, difference_ci95.
    """
    table = by_set.reset_index()
    table = table if transductive else table[~table["classifier"].isin(TRANSDUCTIVE)]
    rows = []
    for (shots, queries), group in table.groupby(["shots", "queries"], sort=False):
        for data in group["data"].unique():
            others = group[group["data"] != data]
            if others.empty:
                continue
            choice = others.groupby("classifier", sort=False)["difference"].mean().idxmax()
            [found] = group[(group["data"] == data) & (group["classifier"] == choice)].to_dict("records")
            kept = {key: found[key] for key in ("difference", "difference_ci95")}
            rows.append({"data": data, "shots": shots, "queries": queries, "choice": choice, **kept})
    return pd.DataFrame(rows)


def left_out_lines(by_set: pd.DataFrame) -> list[str]:
    """Markdown of `left_out`: nothing where there is one set only."""
    lines = []
    for what, transductive in (("inductive classifiers", False), ("all classifiers", True)):
        found = left_out(by_set, transductive)
        if found.empty:
            return []
        lines += [
            f"Chosen without the set, among {what}, by the mean gain on the others: what it gains on the set.",
            "",
        ]
        settings = list(found[["shots", "queries"]].drop_duplicates().itertuples(index=False, name=None))
        lines += _head(["set left out", *(f"{shots} shot{'s' if shots > 1 else ''}, {q}" for shots, q in settings)])
        for data, rows in found.groupby("data", sort=False):
            cells = [
                f"{row['choice']}: {100 * row['difference']:+.1f} ± {100 * row['difference_ci95']:.1f}"
                for row in rows.to_dict("records")
            ]
            lines.append(_line([str(data), *cells]))
        lines.append("")
    return lines


def _gain(row: pd.Series[float]) -> str:
    text = f"{100 * row.difference:+.1f} ± {100 * row.difference_ci95:.1f}"
    text = f"**{text}**" if row.difference > row.difference_ci95 else text
    return f"{text} ({100 * row.worst:+.1f})"


def _marked(name: str) -> str:
    return f"{name} \\*" if name in TRANSDUCTIVE else name


def _head(cells: Sequence[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def run(arguments: Arguments) -> pd.DataFrame:
    """Measure, write both files, and return every row.

    Raises:
        DataError: a folder cannot be used.
    """
    return write_measured(measure(arguments), arguments.output, "classifiers", _said, report)


def _said(row: Row) -> str:
    return f"{row.folder}, {row.shots} shots, {row.queries}: {row.classifier} {row.accuracy:.2%} ± {row.ci95:.2%}"


def main() -> int:
    """Parse and run."""
    return run_command("classifiers", Arguments, run, __doc__)


if __name__ == "__main__":
    sys.exit(main())
