"""The inner loop of gradient-based meta-learning, by learn2learn's algorithms: a few steps of plain gradient descent on a support set.

S support pictures, N ways, D embedding width, P tensors of the encoder that the loop steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from episodes.interop import import_learn2learn
from fewshot.adaptation.tail import Tail


class Learner(nn.Module):
    """The last part of an encoder and a linear head over its embeddings, as a module that learn2learn can clone and step.

    The head has no bias: on unit-norm embeddings and with as many shots of each class its gradient begins at 0, and with unequal
    shots it would favour the large classes.
    """

    def __init__(self, tail: Tail | None, tensors: Mapping[str, Tensor], head: Tensor, scale: Tensor | float) -> None:
        """Join them; what the tensors and the head are computed from gets the gradients of the outer loss.

        Args:
            tail: from hidden states to embeddings; None where the learner is given embeddings.
            tensors: (P) values in place of the encoder's own, by their names in the tail.
            head: (N, D) class weights.
            scale: factor on the logits.
        """
        super().__init__()
        self._tail, self._names, self._scale = tail, tuple(tensors), scale
        for number, tensor in enumerate((*tensors.values(), head)):
            self._parameters[str(number)] = tensor  # type: ignore[assignment]  # not only leaves: a head may be made of prototypes

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> value of the encoder's tensors."""
        return dict(zip(self._names, self._values()[:-1], strict=True))

    @property
    def head(self) -> Tensor:
        """(N, D) class weights."""
        return self._values()[-1]

    def embed(self, hidden: Tensor) -> Tensor:
        """(B, ...) hidden states, or (B, D) embeddings -> (B, D) embeddings."""
        return hidden if self._tail is None else self._tail(self.tensors, hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, ...) hidden states, or (B, D) embeddings -> (B, N) logits, float32."""
        with torch.autocast(hidden.device.type, enabled=False):
            embeddings = self.embed(hidden)
            return self._scale * (embeddings.float() @ self.head.T)

    def _values(self) -> list[Tensor]:
        return [value for value in self._parameters.values() if value is not None]


@dataclass(frozen=True)
class InnerLoop:
    """How a learner is stepped.

    Attributes:
        rate: learning rate of every step.
        steps: how many.
        first_order: leave the second derivatives out of the outer gradient.
    """

    rate: float
    steps: int
    first_order: bool = False

    def __call__(
        self, learner: Learner, hidden: Tensor, labels: Tensor, rates: Sequence[Tensor] | None = None
    ) -> Learner:
        """Step a copy of the learner on a support set; the learner stays as it is.

        MAML: Finn et al. 2017, arXiv 1703.03400. With `rates` Meta-SGD: Li et al. 2017, arXiv 1707.09835.

        Args:
            learner: where the steps begin.
            hidden: (S, ...) what it is given of the support pictures.
            labels: (S,) in [0, N).
            rates: a learning rate for every number that is stepped, in the learner's order, in place of one for all.

        Returns:
            The stepped copy, differentiable in all that the learner and the rates were made of.

        Raises:
            UsageError: learn2learn is not installed.
        """
        algorithms = import_learn2learn().algorithms
        if rates is None:
            wrapped = algorithms.MAML(learner, self.rate, first_order=self.first_order, allow_unused=True)
        else:
            wrapped = algorithms.MetaSGD(learner, first_order=self.first_order, lrs=list(rates))
        with torch.enable_grad(), _twice_differentiable(), _no_warning_of_stored_gradients():
            copy = wrapped.clone()
            for _ in range(self.steps):
                copy.adapt(F.cross_entropy(copy(hidden), labels))
        stepped: Learner = copy.module
        return stepped


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """The fused kernels of attention have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def _no_warning_of_stored_gradients() -> Iterator[None]:
    """learn2learn's Meta-SGD keeps a gradient in the `.grad` of a tensor that is no leaf, where it also reads it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        yield
