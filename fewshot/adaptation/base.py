"""What a task adapter is: support pictures behind the frozen trunk in, tuned tensors out.

It never sees a query and returns tensors instead of changing the encoder, so it is inductive, leaves the encoder as it was, and
goes with any few-shot classifier.

S support pictures, V augmented views of each, N ways, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from fewshot.adaptation.tail import Tail
    from fewshot.device import Precision
    from fewshot.encoders.base import VisionEncoder

Classify = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The task's few-shot classifier: support (S', D), its labels (S',), pictures (Q', D) -> log-probabilities (Q', N)."""


@dataclass(frozen=True, eq=False)
class SupportViews:
    """The support set of one task, as the frozen trunk leaves it.

    Attributes:
        plain: (S, ...) hidden states of the pictures as they are classified.
        augmented: (V, S, ...) hidden states of the augmented views; V may be 0.
        labels: (S,) int64 in [0, N), every class at least once.
        n_way: N, at least 2.
    """

    plain: Tensor
    augmented: Tensor
    labels: Tensor
    n_way: int


@dataclass(frozen=True, eq=False)
class Tuned:
    """The outcome of an adaptation.

    Attributes:
        tensors: the tuned tensors, by their names in `Tail.initial`.
        rate: the learning rate that was chosen.
        head: (N, D) class weights that name the queries; None where the few-shot classifier does.
    """

    tensors: Mapping[str, Tensor]
    rate: float
    head: Tensor | None = None


class TaskAdapter(Protocol):
    """One way to tune an encoder on a task's support pictures; holds settings, no task state."""

    @property
    def views(self) -> int:
        """V, how many augmented views of a support picture it wants."""
        ...

    def tail(self, encoder: VisionEncoder, precision: Precision = "auto") -> Tail:
        """The part of `encoder` that it tunes; raises `UsageError` where the encoder has no such part."""
        ...

    def __call__(self, tail: Tail, support: SupportViews, classify: Classify) -> Tuned | None:
        """Tune; None where the encoder is best left as it is. `tail` and its encoder are not changed."""
        ...
