"""Class names as prototypes, and their blend with the pictures'.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021, arXiv
2103.00020 (zero-shot). The blend is used for a task only where the names demonstrably mean something there
(see ``names_help``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from episodes.errors import UsageError
from fewshot.classifiers import maths


def _require_text(name: str, class_text: Tensor | None, query: Tensor, n_way: int) -> Tensor:
    """``class_text`` in the queries' precision, unit norm; ``UsageError`` where it is missing or of another
    shape.
    """
    expected = (len(query), n_way, query.shape[-1])
    if class_text is None:
        raise UsageError(
            f"classifier {name!r} compares pictures with class names, and there are none: it needs class folders with "
            "names and an encoder with a text side"
        )
    if tuple(class_text.shape) != expected:
        raise UsageError(f"class_text must be (tasks, ways, width) = {expected}, found {tuple(class_text.shape)}")
    return maths.unit(class_text.to(query))


def binomial_tail(successes: Tensor, trials: Tensor, chance: float) -> Tensor:
    """P(X >= successes) for X ~ Binomial(trials, chance), elementwise over integer tensors; float64."""
    most = int(trials.max()) if trials.numel() else 0
    k = torch.arange(most + 1, device=trials.device, dtype=torch.float64)
    n = trials.to(torch.float64).unsqueeze(-1)
    if chance >= 1:
        return torch.ones_like(n[..., 0])
    log_odds = torch.log(torch.tensor(chance, dtype=torch.float64)) - torch.log1p(
        torch.tensor(-chance, dtype=torch.float64)
    )
    left = (n - k).clamp_min(0)
    log_term = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(left + 1)
    log_term = (
        log_term + k * log_odds.to(k.device) + n * torch.log1p(torch.tensor(-chance, dtype=torch.float64)).to(k.device)
    )
    counted = (k >= successes.unsqueeze(-1)) & (k <= n)
    return torch.where(counted, log_term.exp(), torch.zeros_like(log_term)).sum(-1).clamp_max(1)


def names_help(
    support: Tensor, support_labels: Tensor, class_text: Tensor, n_way: int, significance: float = 0.05
) -> Tensor:
    """(T,) bool: zero-shot accuracy on the support set is above chance, by its exact binomial lower bound.

    The Clopper-Pearson lower bound at level ``significance`` exceeds 1/N exactly where guessing would be
    right as often with a probability below ``significance``. ``class_text`` must have unit norm.
    """
    known = support_labels >= 0
    chosen = maths.first_best(maths.cosines(support, class_text)).to(torch.uint8).argmax(-1)
    right = ((chosen == support_labels) & known).sum(1)
    return binomial_tail(right, known.sum(1), 1 / n_way) < significance


@dataclass(frozen=True)
class ZeroShot:
    """Score = ``scale`` x cosine with the class name's embedding; 100 is where CLIP's own scale ends. Support
    is not used.
    """

    scale: float = 100.0
    transductive: ClassVar[bool] = False

    def __call__(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        query_mask: Tensor,
        n_way: int,
        class_text: Tensor | None = None,
    ) -> Tensor:
        """See ``Classifier``; raises ``UsageError`` without ``class_text``."""
        query = maths.working(query)
        text = _require_text("zero-shot", class_text, query, n_way)
        return maths.log_probabilities(self.scale * maths.cosines(query, text))


@dataclass(frozen=True)
class TextBlend:
    """Prototypes norm((1 - a) picture + a text) with a = ``text_share``; plain picture prototypes where names
    do not help.
    """

    text_share: float = 0.5
    scale: float = 10.0
    significance: float = 0.05
    transductive: ClassVar[bool] = False

    def __call__(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        query_mask: Tensor,
        n_way: int,
        class_text: Tensor | None = None,
    ) -> Tensor:
        """See ``Classifier``; raises ``UsageError`` without ``class_text``."""
        support, query = maths.working(support), maths.working(query)
        text = _require_text("text-blend", class_text, query, n_way)
        visual = maths.prototypes(support, maths.membership(support_labels, n_way, support))
        use = names_help(support, support_labels, text, n_way, self.significance)
        share = self.text_share * use.to(query.dtype).view(-1, 1, 1)
        return maths.log_probabilities(
            self.scale * maths.cosines(query, maths.unit((1 - share) * visual + share * text))
        )
