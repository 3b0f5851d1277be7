"""Every comparison of an ablation: asked for, and against the untouched encoder; on each set, and on the mean of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.engine.compare import difference, holm
from experiments.engine.measure import VALIDATION

ALL_SETS = "mean of the sets"
ASKED, UNTOUCHED = "asked", "against untouched"
REAL = 0.05
_COLUMNS = (
    "family", "a", "b", "set", "shots", "difference", "ci95", "p", "p_holm", "real", "seeds", "seed_spread", "episodes",
)  # fmt: skip


def compare_all(episodes: pd.DataFrame, note: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each pair, set and shots, with Holm's correction within each family.

    A family is what one sentence may be made from: the pairs that were asked for, or those with the untouched encoder, on the mean of
    the sets; and the same broken down by set.

    Args:
        episodes: As in `Findings`.
        note: Its pairs and sets.

    Returns:
        The columns family, a, b, set, shots, difference, ci95, p, p_holm, real (after correction), seeds, seed_spread, episodes.
    """
    accuracies = _by_seed(episodes)
    kinds = list(dict.fromkeys(zip(episodes["set"], episodes["shots"].map(_plain), strict=True)))
    rows: list[dict[str, Any]] = []
    for what, pairs in ((ASKED, note["pairs"]), (UNTOUCHED, note["against_untouched"])):
        for where in (ALL_SETS, "by set"):
            if where == ALL_SETS and len(note["sets"]) < 2:
                continue
            family = [row for a, b in pairs for row in _of_pair(accuracies, kinds, a, b, where == ALL_SETS)]
            for row, corrected in zip(family, holm([row["p"] for row in family]), strict=True):
                rows.append({**row, "family": f"{what}, {where}", "p_holm": corrected, "real": bool(corrected < REAL)})
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def condition_means(episodes: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each condition by set and shots, with the interval of seeds and episodes together.

    Args:
        episodes: As in `Findings`.

    Returns:
        The columns condition, set, shots, accuracy, ci95, seeds.
    """
    rows = []
    for (name, where, shots), by_seed in _by_seed(episodes).items():
        values = np.stack(list(by_seed.values()))
        found = difference([(values, np.zeros_like(values))], same_episodes=where != VALIDATION)
        numbers = {"accuracy": found.mean, "ci95": found.ci95, "seeds": found.seeds}
        rows.append({"condition": name, "set": where, "shots": shots, **numbers})
    return pd.DataFrame(rows)


def column_name(where: str, shots: float | str | None) -> str:
    """A set and its shots, such as "pacs/sketch, 5 shots"."""
    if shots is None or shots != shots:
        return where
    number = shots if isinstance(shots, str) else int(shots)
    return f"{where}, {number} shot{'' if number == 1 else 's'}"


def _plain(shots: Any) -> Any:
    """Shots as a whole number; None where tasks have their own."""
    return None if shots is None or shots != shots else int(shots) if not isinstance(shots, str) else shots


def _by_seed(episodes: pd.DataFrame) -> dict[tuple[Any, ...], dict[int, npt.NDArray[np.float64]]]:
    """(condition, set, shots) -> seed -> (E,) accuracies in the order of the episodes."""
    found: dict[tuple[Any, ...], dict[int, npt.NDArray[np.float64]]] = {}
    keys = ["condition", "set", "shots", "seed"]
    for (name, where, shots, seed), part in episodes.groupby(keys, sort=False, dropna=False):
        values = part.sort_values("episode")["accuracy"].to_numpy(dtype=np.float64)
        found.setdefault((name, where, _plain(shots)), {})[int(seed)] = values
    return found


def _of_pair(
    accuracies: Mapping[tuple[Any, ...], Mapping[int, npt.NDArray[np.float64]]],
    kinds: Sequence[tuple[str, Any]],
    a: str,
    b: str,
    together: bool,
) -> list[dict[str, Any]]:
    """Rows of one pair: by shots over all sets together, or by set and shots."""
    groups: dict[tuple[str, Any], list[tuple[str, Any]]] = {}
    for where, shots in kinds:
        groups.setdefault((ALL_SETS if together else where, shots), []).append((where, shots))
    rows = []
    for (where, shots), parts in groups.items():
        pairs = [_matched(accuracies.get((a, *part), {}), accuracies.get((b, *part), {})) for part in parts]
        if any(pair is None for pair in pairs) or (together and len(pairs) < 2):
            continue
        found = difference([pair for pair in pairs if pair is not None], same_episodes=where != VALIDATION)
        numbers = {"difference": found.mean, "ci95": found.ci95, "p": found.p, "seeds": found.seeds}
        more = {"seed_spread": found.seed_spread, "episodes": found.episodes}
        rows.append({"a": a, "b": b, "set": where, "shots": shots, **numbers, **more})
    return rows


def _matched(
    a: Mapping[int, npt.NDArray[np.float64]], b: Mapping[int, npt.NDArray[np.float64]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """(S, E) accuracies of the seeds that both have; an untouched encoder (seed -1) goes with every seed."""
    a_seeds, b_seeds = [s for s in a if s >= 0], [s for s in b if s >= 0]
    both = sorted(set(a_seeds) & set(b_seeds)) if b_seeds and a_seeds else sorted(a_seeds or b_seeds)
    if not both:
        return None
    sides = [[side.get(seed, side.get(-1)) for seed in both] for side in (a, b)]
    if any(values is None for side in sides for values in side):
        return None
    return np.stack(sides[0]), np.stack(sides[1])  # type: ignore[arg-type]
