"""How well a classifier does on a task, told from its support set alone: each support picture is classified by the others.

A task's queries have no labels, so this is the only accuracy that can be shown for it. It needs two pictures
of a class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.classifiers.base import Classifier
from fewshot.classifiers.tasks import TaskBatch


def leave_one_out_log_probabilities(
    classifier: Classifier,
    support: Tensor,
    support_labels: Tensor,
    n_way: int,
    class_text: Tensor | None = None,
    chunk: int = 64,
) -> Tensor:
    """Log-probabilities (S, N) of each picture of one task's support (S, D) with labels (S,), left out in turn.

    ``class_text`` (N, D) where the classifier needs it. The S tasks this makes go through in batches of
    ``chunk``. Rows of a class's only picture, and of padding (label -1), are NaN: without it the class would
    have no support. A transductive classifier sees one query at a time here, so for it the estimate is rough.
    """
    counts = torch.bincount(support_labels[support_labels >= 0], minlength=n_way)
    spare = (support_labels >= 0) & (counts[support_labels.clamp_min(0)] > 1)
    answers = torch.full((len(support), n_way), torch.nan, dtype=torch.float32, device=support.device)
    left_out = spare.nonzero().squeeze(1)
    for start in range(0, len(left_out), chunk):
        rows = left_out[start : start + chunk]
        tasks = len(rows)
        labels = support_labels.expand(tasks, -1).clone()
        labels[torch.arange(tasks, device=labels.device), rows] = -1
        batch = TaskBatch(
            support=support.expand(tasks, -1, -1),
            support_labels=labels,
            query=support[rows].unsqueeze(1),
            query_mask=torch.ones(tasks, 1, dtype=torch.bool, device=support.device),
            n_way=n_way,
            class_text=None if class_text is None else class_text.expand(tasks, -1, -1),
        )
        answers[rows] = classifier(batch)[:, 0]
    return answers


def leave_one_out_accuracy(
    classifier: Classifier,
    support: Tensor,
    support_labels: Tensor,
    n_way: int,
    class_text: Tensor | None = None,
) -> float | None:
    """Share of support pictures named rightly by the others, classes weighing the same; None at one shot.

    With S pictures this is an estimate with one picture fewer a class than the queries get, so a little low.
    """
    answers = leave_one_out_log_probabilities(classifier, support, support_labels, n_way, class_text)
    answered = ~answers.isnan().any(1)
    if not bool(answered.any()):
        return None
    labels = support_labels[answered]
    right = (answers[answered].argmax(1) == labels).double()
    counts = torch.bincount(labels, minlength=n_way)
    by_class = torch.zeros(n_way, dtype=torch.float64, device=right.device).index_add_(0, labels, right)
    return float((by_class[counts > 0] / counts[counts > 0]).mean())
