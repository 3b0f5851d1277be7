"""How accurate a task's answers probably are, told without labels: its support pictures named by each other.

S support pictures, N ways, D embedding width.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from episodes import Episode
from fewshot.classifiers.balance import ImbalanceWarning
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.leave_one_out import leave_one_out_log_probabilities
from fewshot.classifiers.tasks import TaskBatch
from fewshot.embedding.embed import Embeddings

_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """Leave-one-out accuracy of one task.

    Attributes:
        accuracy: share of support pictures that others name rightly, classes weighing the same.
        right, pictures: how many, out of how many that could be left out.
        misnamed: row of the table -> the class that the other pictures give it.
    """

    accuracy: float
    right: int
    pictures: int
    misnamed: Mapping[int, str]

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share (Wilson, 1927, JASA 22): wide, because supports are few."""
        return wilson_interval(self.right, self.pictures)


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """95 % score interval of a share.

    Raises:
        ValueError: there is nothing to take a share of.
    """
    if total < 1:
        raise ValueError(f"the interval of a share needs at least one trial, got {total}")
    share, z = right / total, _NORMAL_975
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def estimate_task(
    episode: Episode,
    embeddings: Embeddings,
    classifier: Classifier,
    class_text: Mapping[str, Tensor] | None = None,
) -> Estimate | None:
    """Name each support picture by others; None where no class has two readable ones.

    An inductive classifier is asked about one left-out picture at a time. A transductive one looks at its queries
    together, and some assume that all classes are among them: asked about a single picture such a one answers at
    random, so one picture of each class is left out at a time. Unreadable pictures, and classes that have no other,
    are left out just as they are when queries are named.
    """
    rows = torch.from_numpy(episode.support)
    labels = torch.from_numpy(episode.support_labels)
    kept = embeddings.readable[rows]
    rows, labels = rows[kept], labels[kept]
    if len(rows) == 0 or int(torch.bincount(labels).max()) < 2:
        return None
    classes, compact = torch.unique(labels, return_inverse=True)
    names = [episode.class_names[label] for label in classes.tolist()]
    text = None if class_text is None else torch.stack([class_text[name] for name in names])
    features = embeddings.features[rows]
    if classifier.transductive:
        answers = leave_one_of_each_out(classifier, features, compact, len(names), text)
    else:
        answers = leave_one_out_log_probabilities(classifier, features, compact, len(names), text)
    answered = ~answers.isnan().any(1)
    given, truth = answers[answered].argmax(1), compact[answered]
    right = given == truth
    by_class = [right[truth == label].double().mean() for label in torch.unique(truth)]
    wrong = zip(rows[answered][~right].tolist(), given[~right].tolist(), strict=True)
    return Estimate(
        float(torch.stack(by_class).mean()),
        int(right.sum()),
        len(right),
        {row: names[label] for row, label in wrong},
    )


def leave_one_of_each_out(
    classifier: Classifier, support: Tensor, labels: Tensor, n_way: int, class_text: Tensor | None = None
) -> Tensor:
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
    with warnings.catch_warnings():
        # It warns about the queries themselves; a handful of support pictures would only add noise to that.
        warnings.simplefilter("ignore", ImbalanceWarning)
        batch = TaskBatch(
            support=support.expand(folds, -1, -1),
            support_labels=labels.masked_fill(asked, -1),
            query=support[query],
            query_mask=mask,
            n_way=n_way,
            class_text=None if class_text is None else class_text.expand(folds, -1, -1),
        )
        scores = classifier(batch)
    answers = torch.full((len(support), n_way), torch.nan)
    answers[query[mask]] = scores[mask]
    return answers
