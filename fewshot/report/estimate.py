"""How accurate a task's answers probably are, told without labels: its support pictures named by each other.

One picture of each class is left out at a time: that tells the accuracy at one shot fewer, and `fewshot.report.missing_shot` what the
missing one would add. Where this cannot be known there is no number: at one shot nothing can be left out, and a calibrated
confidence alone is off by up to 20 points on kinds of pictures that it was not calibrated on; and a transductive classifier sees other
queries here than in earnest.

S support pictures, N ways, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import betaln
from torch import Tensor

from episodes import Episode
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.tasks import TaskBatch
from fewshot.embedding.embed import Embeddings
from fewshot.report.missing_shot import accuracy_with_one_more

_NORMAL_975 = 1.959963984540054
_STRETCHED = 0.75
"""What the missing shot adds stretches the chance of left-out pictures: at k shots one is worth 1 / (1 + 0.75 / (k - 1)) independent ones.
Chosen on tin val and omniglot base, with tiny and lite2, and on simulated classes whose accuracy at two shots is in the middle."""
_JEFFREYS = 0.5


@dataclass(frozen=True)
class Estimate:
    """What one task's accuracy on its queries probably is.

    Attributes:
        accuracy: expected share of right answers: the leave-one-out share, and what the shot that was missing adds to it.
        interval: 95 % interval (low, high) of the share among the task's own queries: whole ones. Wide, because supports are few.
        right, pictures: how many support pictures were named rightly, out of how many that could be left out.
        misnamed: row of the table -> the class that the other pictures give it.
    """

    accuracy: float
    interval: tuple[float, float]
    right: int
    pictures: int
    misnamed: Mapping[int, str]


def wilson_interval(right: float, total: float) -> tuple[float, float]:
    """95 % score interval of a share (Wilson, 1927, JASA 22).

    Raises:
        ValueError: there is nothing to take a share of.
    """
    if total <= 0:
        raise ValueError(f"the interval of a share needs at least one trial, got {total}")
    share, z = right / total, _NORMAL_975
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    # Rounding must not part a share of 1 from the interval's end there.
    return (0.0 if share <= 0 else max(0.0, middle - half)), (1.0 if share >= 1 else min(1.0, middle + half))


def predicted_interval(share: float, trials: float, queries: int) -> tuple[float, float]:
    """The fewest shares of right answers among `queries` that together have a chance of 95 %, from the lowest to the highest.

    After `trials` independent trials with that share of successes and Jeffreys's prior, the number of right answers is beta-binomial.

    Args:
        share: of successes among the trials.
        trials: how many; need not be whole, but more than 1, for else the likely shares lie at both ends.
        queries: at least 1.
    """
    right = np.arange(queries + 1)
    successes, failures = trials * share + _JEFFREYS, trials * (1 - share) + _JEFFREYS
    ways = -betaln(right + 1, queries - right + 1)  # logarithm of the binomial coefficient, but for a constant
    chances = np.exp(ways - math.log(queries + 1) + betaln(right + successes, queries - right + failures))
    chances /= np.exp(betaln(successes, failures))
    likeliest = np.argsort(-chances, kind="stable")
    needed = int(np.searchsorted(chances[likeliest].cumsum(), 0.95)) + 1
    return float(likeliest[:needed].min()) / queries, float(likeliest[:needed].max()) / queries


def estimate_task(episode: Episode, embeddings: Embeddings, classifier: Classifier) -> Estimate | None:
    """Name each support picture by others; None where that would tell nothing of the queries' accuracy.

    That is: of a transductive classifier, of one that uses class names, and where fewer than two classes have two readable pictures.
    Unreadable pictures, and classes that have no other, are left out just as they are when queries are named.
    """
    if classifier.transductive or "text" in getattr(classifier, "needs", ()):
        return None
    rows = torch.from_numpy(episode.support)
    labels = torch.from_numpy(episode.support_labels)
    kept = embeddings.readable[rows]
    rows, labels = rows[kept], labels[kept]
    classes, compact, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if int((counts > 1).sum()) < 2:
        return None
    names = [episode.class_names[label] for label in classes.tolist()]
    answers = leave_one_of_each_out(classifier, embeddings.features[rows], compact, len(names))
    answered = ~answers.isnan().any(1)
    given, truth = answers[answered].argmax(1), compact[answered]
    right = given == truth
    by_class = [right[truth == label].double().mean() for label in torch.unique(truth)]
    shots = max(2.0, len(names) / float((1 / counts).sum()))
    expected = accuracy_with_one_more(float(torch.stack(by_class).mean()), len(names), shots)
    wrong = zip(rows[answered][~right].tolist(), given[~right].tolist(), strict=True)
    queries = int(embeddings.readable[torch.from_numpy(episode.query)].sum())
    worth = len(right) / (1 + _STRETCHED / (shots - 1))
    return Estimate(
        expected,
        predicted_interval(expected, worth, max(1, queries)),
        int(right.sum()),
        len(right),
        {row: names[label] for row, label in wrong},
    )


def leave_one_of_each_out(classifier: Classifier, support: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Log-probabilities (S, N) of pictures (S, D) with labels (S,) in [0, N), one of each class left out at a time.

    Fold k asks about the k-th picture of every class. The only picture of a class is never left out: its row is NaN.
    """
    counts = torch.bincount(labels, minlength=n_way)
    place = torch.stack([(labels[:i] == labels[i]).sum() for i in range(len(labels))])  # which picture of its class
    folds = int(counts.max())
    asked = (place == torch.arange(folds).unsqueeze(1)) & (counts[labels] > 1)  # (K, S)
    width = int(asked.sum(1).max())
    query = torch.zeros(folds, width, dtype=torch.int64)
    mask = torch.zeros(folds, width, dtype=torch.bool)
    for fold, chosen in enumerate(asked):
        mask[fold, : int(chosen.sum())] = True
        query[fold, mask[fold]] = chosen.nonzero().squeeze(1)
    batch = TaskBatch(
        support=support.expand(folds, -1, -1),
        support_labels=labels.masked_fill(asked, -1),
        query=support[query],
        query_mask=mask,
        n_way=n_way,
    )
    scores = classifier(batch)
    answers = torch.full((len(support), n_way), torch.nan)
    answers[query[mask]] = scores[mask]
    return answers
