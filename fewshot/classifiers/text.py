"""Class names as prototypes, and their blend with the pictures'.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021, arXiv
2103.00020 (zero-shot). The blend is used for a task only where the names demonstrably mean something there
(see ``names_help``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from episodes.errors import UsageError
from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS


def _require_text(name: str, tasks: TaskBatch) -> Tensor:
    """``class_text`` as unit vectors like the queries; ``UsageError`` where missing or misshapen."""
    class_text, expected = tasks.class_text, (len(tasks.query), tasks.n_way, tasks.query.shape[-1])
    if class_text is None:
        raise UsageError(
            f"classifier {name!r} compares pictures with class names, and there are none: it needs class folders with "
            "names and an encoder with a text side"
        )
    if tuple(class_text.shape) != expected:
        raise UsageError(f"class_text must be (tasks, ways, width) = {expected}, found {tuple(class_text.shape)}")
    return maths.unit(class_text.to(tasks.query))


def binomial_tail(successes: Tensor, trials: Tensor, chance: float) -> Tensor:
    """P(X >= successes) for X ~ Binomial(trials, chance), elementwise over tensors of whole numbers; float64."""
    n = trials.to(torch.float64).unsqueeze(-1)
    if chance >= 1:
        return torch.ones_like(n[..., 0])
    k = torch.arange(int(trials.max()) + 1, device=trials.device, dtype=torch.float64)
    left = (n - k).clamp_min(0)
    log_ways = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(left + 1)
    terms = (log_ways + k * math.log(chance) + left * math.log1p(-chance)).exp()
    counted = (k >= successes.unsqueeze(-1)) & (k <= n)
    return (terms * counted).sum(-1).clamp_max(1)


def names_help(tasks: TaskBatch, class_text: Tensor, significance: float = 0.05) -> Tensor:
    """(T,) bool: zero-shot accuracy on the support set is above chance, by its exact binomial lower bound.

    The Clopper-Pearson lower bound at level ``significance`` exceeds 1/N exactly where guessing would be
    right as often with a probability below ``significance``. Trials are classes, not pictures: pictures of
    one class are alike, so a meaningless name that happens to lie near one of them lies near all, and counted
    by pictures every fourth 5-way 5-shot task with meaningless names would pass. With two classes no outcome
    is telling enough, and names are not used.

    ``class_text`` must have unit norm.
    """
    chosen = maths.first_best(maths.cosines(tasks.support, class_text)).to(tasks.support.dtype)
    hot, n_way = tasks.membership, tasks.n_way
    right = ((chosen * hot).sum(1) / hot.sum(1)).sum(-1).double()  # (T,) classes' accuracies summed: of N, not whole
    trials = torch.full_like(right, n_way, dtype=torch.int64)
    whole = (right + 1e-6).floor()
    part = (right - whole).clamp_min(0)
    tail = (1 - part) * binomial_tail(whole, trials, 1 / n_way) + part * binomial_tail(whole + 1, trials, 1 / n_way)
    return tail < significance


@CLASSIFIERS.register("zero-shot", "class names alone, no support picture", position=16)
@dataclass(frozen=True)
class ZeroShot:
    """Score = ``scale`` x cosine with the class name's embedding; the support set is not used.

    CLIP's own scale ends at 100, hence the default.
    """

    scale: float = 100.0
    transductive: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; raises ``UsageError`` without ``class_text``."""
        return maths.log_probabilities(self.scale * maths.cosines(tasks.query, _require_text("zero-shot", tasks)))


@CLASSIFIERS.register("text-blend", "prototypes blended with class names", position=17)
@dataclass(frozen=True)
class TextBlend:
    """Prototypes norm((1 - a) picture + a text) with a = ``text_share``; a = 0 where names do not help."""

    text_share: float = 0.5
    scale: float = 10.0
    significance: float = 0.05
    transductive: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("text",)

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``; raises ``UsageError`` without ``class_text``."""
        text, visual = _require_text("text-blend", tasks), tasks.prototypes
        use = names_help(tasks, text, self.significance).view(-1, 1, 1)
        blend = maths.unit((1 - self.text_share) * visual + self.text_share * text)
        anchors = torch.where(use, blend, visual)
        return maths.log_probabilities(self.scale * maths.cosines(tasks.query, anchors))
