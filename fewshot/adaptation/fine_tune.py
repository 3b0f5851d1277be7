"""Fine-tuning on a task's support set, with pseudo-queries made by augmentation.

Hu, Li, Stühmer, Kim and Hospedales, Pushing the Limits of Simple Pipelines for Few-Shot Learning, 2022, arXiv 2204.07305:
prototypes from the support pictures, the loss on their augmented views, some tens of steps of Adam, and the learning rate
chosen with 0 among the choices. There it is chosen on labelled queries; here on support pictures that are held out.

S support pictures, V views, N ways, D embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from episodes.errors import UsageError
from fewshot.adaptation.base import Classify, SupportViews, Tuned
from fewshot.adaptation.tail import Tail
from fewshot.device import Precision
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.parts import Part
from fewshot.losses import prototypical_loss

_SHARPNESS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # inverse temperatures


@dataclass(frozen=True)
class FineTune:
    """Tunes one part of the encoder on every task anew.

    Attributes:
        part: which parameters; see `Tail`.
        last: the blocks that they are in.
        rates: learning rates to choose from, beside 0, which is always a choice.
        steps: of Adam, for every rate tried and for the final tuning.
        views: V, augmented views of each support picture; step t takes view t mod V as pseudo-queries.
        folds: each support picture is held out in one of so many, to choose the rate.
        scale: factor on the cosine in the loss.
    """

    part: Part
    last: int = 1
    rates: tuple[float, ...] = (3e-4, 1e-3)
    steps: int = 30
    views: int = 4
    folds: int = 5
    scale: float = 10.0

    def __post_init__(self) -> None:
        if self.views < 2 or self.folds < 2 or self.steps < 1 or not self.rates or min(self.rates) <= 0:
            raise UsageError(
                "adaptation takes at least 2 views, 2 folds, 1 step and one learning rate above 0 (0 is always tried); found "
                f"views {self.views}, folds {self.folds}, steps {self.steps}, rates {self.rates}"
            )

    def tail(self, encoder: VisionEncoder, precision: Precision = "auto") -> Tail:
        """See `TaskAdapter`."""
        return Tail(encoder, self.part, self.last, precision)

    def __call__(self, tail: Tail, support: SupportViews, classify: Classify) -> Tuned | None:
        """See `TaskAdapter`. The rate with the lowest loss on what is held out is taken, of equal ones the lowest."""
        trials = list(_trials(support, self.folds))
        rates = (0.0, *sorted(self.rates))
        losses = [self._loss(tail, rate, trials, classify) for rate in rates]
        rate = rates[losses.index(min(losses))]
        return Tuned(self.tune(tail, rate, support), rate) if rate else None

    def _loss(self, tail: Tail, rate: float, trials: Sequence[_Trial], classify: Classify) -> float:
        """Mean log-loss of what is held out, after tuning on the rest; infinite where that diverges."""
        answers = []
        for trial in trials:
            features = tail.embed(
                self.tune(tail, rate, trial.support), torch.cat([trial.support.plain, trial.held_out])
            )
            if not bool(features.isfinite().all()):
                return math.inf
            kept = len(trial.support.plain)
            answers.append(classify(features[:kept], trial.support.labels, features[kept:]))
        labels = torch.cat([trial.labels for trial in trials])
        return _calibrated_loss(torch.cat(answers), labels.to(answers[0].device))

    def tune(self, tail: Tail, rate: float, support: SupportViews) -> Mapping[str, Tensor]:
        """The tuned tensors; the encoder's own at rate 0."""
        if rate == 0:
            return tail.initial
        tensors = {name: value.clone().requires_grad_() for name, value in tail.initial.items()}
        optimiser = torch.optim.Adam(tensors.values(), lr=rate)
        labels = support.labels.unsqueeze(0)
        for step in range(self.steps):
            queries = support.augmented[step % len(support.augmented)]
            features = tail(tensors, torch.cat([support.plain, queries]))
            prototypes_from, pseudo = features.unsqueeze(0).chunk(2, dim=1)
            loss = prototypical_loss(prototypes_from, labels, pseudo, labels, support.n_way, self.scale)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return {name: tensor.detach() for name, tensor in tensors.items()}


def _calibrated_loss(log_probabilities: Tensor, labels: Tensor) -> float:
    """(H, N), (H,) -> mean log-loss at the best temperature: tuning that makes answers only bolder gains nothing."""
    losses = [float(cross_entropy(sharpness * log_probabilities, labels)) for sharpness in _SHARPNESS]
    return min(losses) if losses[0] == losses[0] else math.inf


@dataclass(frozen=True, eq=False)
class _Trial:
    """One split of the support set: hidden states and labels to tune on, and (H, ...) and (H,) held out."""

    support: SupportViews
    held_out: Tensor
    labels: Tensor


def _trials(support: SupportViews, folds: int) -> Iterator[_Trial]:
    """Splits of the support set: pictures are held out where their class has others; where no class has two, half of the views."""
    rank = (support.labels.unsqueeze(1) == support.labels).tril(-1).sum(1)  # earlier pictures of the same class
    counts = torch.bincount(support.labels, minlength=support.n_way)[support.labels]
    if int(counts.max()) == 1:
        half = len(support.augmented) // 2
        rest = support.augmented[half:]
        labels = support.labels.repeat(len(rest))
        yield _Trial(_subset(support, support.augmented[:half]), rest.flatten(0, 1), labels)
        return
    for fold in range(min(folds, int(counts.max()))):
        held = (rank % folds == fold) & (counts > 1)
        kept = ~held
        part = SupportViews(support.plain[kept], support.augmented[:, kept], support.labels[kept], support.n_way)
        yield _Trial(part, support.plain[held], support.labels[held])


def _subset(support: SupportViews, augmented: Tensor) -> SupportViews:
    return SupportViews(support.plain, augmented, support.labels, support.n_way)


DEFAULTS = {  # found on tin val, pacs cartoon and the demo's characters with `tiny`
    "blocks": FineTune("blocks", rates=(3e-4, 1e-3), steps=20, folds=3),
    "norms": FineTune("norms", rates=(3e-3, 1e-2), steps=20, folds=3),
    "projection": FineTune("projection", rates=(3e-3, 1e-2)),
}
