"""Where an evaluation is right and wrong: accuracy by class, and what is taken for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from episodes.errors import DataError
from episodes.results import Results

if TYPE_CHECKING:
    import pandas as pd


def per_class_accuracy(results: Results) -> pd.DataFrame:
    """DataFrame with class, queries, accuracy in [0, 1], worst class first; over all queries with a known true class.

    Raises:
        DataError: no true label is known.
    """
    import pandas as pd

    known = results.truth >= 0
    if not known.any():
        raise DataError("no true label is known, so there is no accuracy by class")
    size = len(results.vocabulary)
    asked = np.bincount(results.truth[known], minlength=size)
    right = np.bincount(results.truth[known & (results.predicted == results.truth)], minlength=size)
    seen = np.flatnonzero(asked)
    frame = pd.DataFrame(
        {
            "class": [results.vocabulary[i] for i in seen],
            "queries": asked[seen],
            "accuracy": right[seen] / asked[seen],
        }
    )
    return frame.sort_values("accuracy", kind="stable", ignore_index=True)


def confusion(results: Results) -> pd.DataFrame:
    """Counts of queries by true class (rows) and answer (columns; the last column "" counts those without an answer).

    Raises:
        DataError: no true label is known.
    """
    import pandas as pd

    known = results.truth >= 0
    if not known.any():
        raise DataError("no true label is known, so there is no confusion matrix")
    size = len(results.vocabulary)
    answers = np.where(results.predicted >= 0, results.predicted, size)
    counts = np.bincount(results.truth[known] * (size + 1) + answers[known], minlength=size * (size + 1))
    table = counts.reshape(size, size + 1)
    used = np.flatnonzero(table.sum(1) + table[:, :size].sum(0))
    names = [results.vocabulary[i] for i in used]
    return pd.DataFrame(
        table[np.ix_(used, np.append(used, size))], index=pd.Index(names, name="truth"), columns=[*names, ""]
    )
