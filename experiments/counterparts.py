"""Do easyfsl's or scikit-learn's classifiers do better than ours, on the same features and episodes?

    python -m experiments.counterparts --data DIR [--backbone tiny] [--output runs/counterparts]

DIR holds tin/novel, omniglot/novel, grocery and pacs/<domain> as class folders. Theirs have their own default settings, and features of
unit norm as ours; ours too, but where a row names others, to be the very method that theirs is (`experiments.theirs` has them all). Writes
counterparts.csv and counterparts.md: the paired difference, ours less theirs, with its 95 % interval.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from episodes import EpisodeSampler, evaluate, paired_difference, read_class_folders
from episodes.errors import DataError
from experiments.classifiers import SETS
from experiments.measuring import run_command, write_measured
from experiments.theirs import Answer, Array, counterparts
from fewshot import Embeddings, FeatureScorer, embed_images, load_encoder
from fewshot.classifiers import NEEDS_STATISTICS, ImbalanceWarning
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.embedding.cache import EmbeddingCache


@dataclass(frozen=True)
class Arguments:
    """Ours less theirs on the same features and episodes."""

    data: Path
    """Folder that holds the image sets as class folders."""
    backbone: str = "tiny"
    """The encoder."""
    sets: tuple[str, ...] = tuple(SETS)
    """Which of them: "tin novel", "omniglot novel", grocery, pacs."""
    shots: tuple[int, ...] = (1, 5)
    """Support pictures a class."""
    episodes: int = 200
    """Of each folder and number of shots; a part of them for the slow ones (lp++ and tim a half, ptmap a quarter)."""
    only: tuple[str, ...] = ()
    """Our classifiers to compare; all that have a counterpart by default."""
    seed: int = 0
    """Of the episodes."""
    output: Path = Path("runs/counterparts")
    """Where counterparts.csv and counterparts.md go."""


@dataclass(frozen=True)
class Row:
    """Ours less theirs on one folder; shares in [0, 1]."""

    data: str
    folder: str
    shots: int
    ours: str
    theirs: str
    episodes: int
    accuracy: float
    difference: float
    ci95: float


def measure(arguments: Arguments) -> Iterator[Row]:
    """Every folder, number of shots and counterpart.

    Raises:
        DataError: a folder cannot be used.
    """
    encoder, statistics = load_encoder(arguments.backbone, device="cpu"), shipped_statistics(arguments.backbone)
    pairs = [
        each
        for each in counterparts()
        if (not arguments.only or each.ours in arguments.only)
        and (statistics is not None or each.ours not in NEEDS_STATISTICS)
    ]
    for data in arguments.sets:
        for folder in SETS[data]:
            table = read_class_folders(arguments.data / folder)
            embeddings = embed_images(encoder, table.items, cache=EmbeddingCache())
            for shots in arguments.shots:
                sampler = EpisodeSampler(
                    table,
                    ways=5,
                    shots=shots,
                    queries=15,
                    episodes=arguments.episodes,
                    seed=arguments.seed,
                    max_shots=max(arguments.shots),
                )
                for pair in pairs:
                    if shots < pair.fewest_shots:
                        continue
                    scorer = FeatureScorer(embeddings, pair.build(statistics))
                    episodes = range(max(2, arguments.episodes // pair.part))
                    ours = evaluate([sampler[i] for i in episodes], scorer).accuracy
                    theirs = accuracies(sampler, episodes, embeddings, pair.answer)
                    found = paired_difference(ours, theirs)
                    yield Row(
                        data,
                        folder,
                        shots,
                        pair.title,
                        pair.name,
                        len(episodes),
                        float(ours.mean()),
                        found.mean,
                        found.ci95,
                    )


def accuracies(sampler: EpisodeSampler, episodes: range, embeddings: Embeddings, answer: Answer) -> Array:
    """(T,) accuracy of each episode, as theirs answers it."""
    features, found = embeddings.features.numpy(), []
    for number in episodes:
        episode = sampler[number]
        given = answer(features[episode.support], episode.support_labels, features[episode.query])
        found.append(float((given == episode.query_labels).mean()))
    return np.array(found)


def report(frame: pd.DataFrame) -> str:
    """Markdown: a row for each pair, a column for each set and number of shots; the folders of a set weigh the same."""
    cells = frame.groupby(["ours", "theirs", "data", "shots"], sort=False).agg(
        difference=("difference", "mean"),
        ci95=("ci95", lambda values: math.sqrt(float((values**2).sum())) / len(values)),
    )
    settings = list(frame[["data", "shots"]].drop_duplicates().itertuples(index=False, name=None))
    head = ["ours", "theirs", *(f"{data}, {shots} shot{'s' if shots > 1 else ''}" for data, shots in settings)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for ours, theirs in frame[["ours", "theirs"]].drop_duplicates().itertuples(index=False, name=None):
        row = [ours, theirs]
        for setting in settings:
            key = (ours, theirs, *setting)
            row.append(_cell(cells.loc[key]) if key in cells.index else "")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _cell(found: pd.Series[float]) -> str:
    text = f"{100 * found.difference:+.1f} ± {100 * found.ci95:.1f}"
    return f"**{text}**" if found.difference < -found.ci95 else text


def run(arguments: Arguments) -> pd.DataFrame:
    """Measure, write both files, and return every row.

    Raises:
        DataError: a folder cannot be used, or an image set is not known.
    """
    unknown = [name for name in arguments.sets if name not in SETS]
    if unknown:
        raise DataError(f"unknown image sets {', '.join(unknown)}; expected some of {', '.join(SETS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImbalanceWarning)
        return write_measured(measure(arguments), arguments.output, "counterparts", _said, report)


def _said(row: Row) -> str:
    return f"{row.folder}, {row.shots} shots: {row.ours} less {row.theirs} {row.difference:+.2%} ± {row.ci95:.2%}"


def main() -> int:
    """Parse and run."""
    return run_command("counterparts", Arguments, run, __doc__)


if __name__ == "__main__":
    sys.exit(main())
