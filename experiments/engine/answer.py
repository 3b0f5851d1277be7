"""The answer to an ablation's question in a sentence, made from its numbers and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.engine.pairing import ALL_SETS, column_name, condition_means
from experiments.engine.results import UNTOUCHED, Findings

MOST = 4  # pairs that a sentence names


def first_line(note: Mapping[str, Any]) -> str:
    """What the numbers are of; where no test data was given, that they are of the data that selected the runs.

    Args:
        note: Of the findings.
    """
    seeds = f"{len(note['seeds'])} seed{'s' if len(note['seeds']) > 1 else ''}"
    if not note["tested"]:
        return (
            f"These numbers are of the validation pictures, which selected the runs: they look better than they are. {seeds}. Give "
            "--test_data for numbers of data that selected nothing."
        )
    return f"Measured on {' and '.join(note['sets'])}, which selected nothing, on the same episodes for all; {seeds}."


def answer(findings: Findings) -> str:
    """The best condition by the mean of all sets and shots, what it gains, and which differences are real.

    Args:
        findings: Of an ablation.

    Returns:
        One or two sentences.
    """
    note = findings.note
    names = [*note["untouched"], *note["conditions"]]
    means = condition_means(findings.episodes).groupby("condition")["accuracy"].mean()
    best = max((name for name in names if name in means.index), key=lambda name: means[name])
    over = "sets and shots" if len(note["sets"]) > 1 else f"shots on {note['sets'][0]}"
    parts = [f"Highest on the mean of {over}: {best} ({100 * means[best]:.1f} %)"]
    parts += _compared(findings, "against untouched", "the untouched encoder")
    parts += _worse_on_one_set(findings)
    parts += _compared(findings, "asked", None)
    sentence = "; ".join(parts) + "."
    sentence += _kept_untouched(findings)
    if len(note["seeds"]) == 1:
        sentence += " With one seed, how much runs differ from seed to seed is in none of the intervals."
    return sentence


def _kept_untouched(findings: Findings) -> str:
    """How many runs are measured as the untouched encoder because validation kept that; nothing where none is."""
    results = findings.results
    runs = results[results["run"] != UNTOUCHED].drop_duplicates("run")
    kept = int((runs["kept_alpha"] == 0).sum())
    if not kept:
        return ""
    return f" Validation kept the untouched encoder in {kept} of {len(runs)} runs; --mix 1 measures what they tuned."


def _compared(findings: Findings, what: str, against: str | None) -> list[str]:
    """Which differences of a family are real after Holm's correction."""
    table = findings.comparisons
    together = f"{what}, {ALL_SETS}"
    family = table[table["family"] == (together if (table["family"] == together).any() else f"{what}, by set")]
    if family.empty:
        return []
    real, who = family[family["real"]], f"against {against}" if against else "among the runs"
    if real.empty:
        none = f"none of {len(family)} differences is real" if len(family) > 1 else "the one difference is not real"
        return [f"{who}, {none} after Holm's correction"]
    told = [_pair(part, against) for _, part in real.groupby(["a", "b"], sort=False)]
    more = f", and {len(told) - MOST} more" if len(told) > MOST else ""
    rest = len(family) - len(real)
    others = f" ({rest} of {len(family)} are not told apart)" if rest else ""
    return [f"{who}, real after Holm's correction{others}: {', '.join(told[:MOST])}{more}"]


def _worse_on_one_set(findings: Findings) -> list[str]:
    """Real losses against the untouched encoder that the mean of several sets may hide."""
    table = findings.comparisons
    family = table[table["family"] == "against untouched, by set"]
    worse = family[family["real"] & (family["difference"] < 0)]
    if worse.empty or len(findings.note["sets"]) < 2:
        return []
    told = [_pair(part, "untouched") for _, part in worse.groupby(["a", "b"], sort=False)]
    more = f", and {len(told) - MOST} more" if len(told) > MOST else ""
    return [f"on a set by itself, really worse than the untouched encoder: {', '.join(told[:MOST])}{more}"]


def _pair(rows: pd.DataFrame, against: str | None) -> str:
    """A pair's differences, such as "4 blocks +2.1 ± 0.5 points at 1 shot and +1.2 ± 0.4 at 5"."""
    first = rows.iloc[0]
    told = []
    for row in rows.to_dict("records"):
        where = "" if row["set"] == ALL_SETS else f" on {row['set']}"
        where += (
            "" if row["shots"] is None or row["shots"] != row["shots"] else f" at {column_name('', row['shots'])[2:]}"
        )
        told.append(f"{100 * row['difference']:+.1f} ± {100 * row['ci95']:.1f} points{where}")
    return f"{first['a']}{'' if against else ' against ' + first['b']} {' and '.join(told)}"
