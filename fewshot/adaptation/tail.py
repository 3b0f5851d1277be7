"""The last part of an encoder as a pure function of the tensors that are tuned: nothing in the encoder is written to.

B pictures a batch, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from episodes.errors import UsageError
from fewshot.device import Precision, autocast, resolve_precision
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.parts import Part, parameters_of

BATCH = 32  # fixed, the last batch padded: an embedding must not depend on how many others are asked for


class Tail:
    """From the hidden state behind `n_frozen` blocks to embeddings, with chosen parameters given as arguments.

    Attributes:
        n_frozen: blocks before the tail.
        parameters: name -> the encoder's own parameter, of every one that can be tuned.
        initial: their values, detached; not to be written to.
    """

    def __init__(self, encoder: VisionEncoder, part: Part, last: int, precision: Precision = "auto") -> None:
        """Find the parameters that a task tunes.

        Args:
            encoder: on the device that computes.
            part: "blocks": everything from the last blocks on; "norms": their norms' scales and shifts, and the final norm's;
                "projection": the last matrix, which makes the embedding.
            last: how many blocks; not looked at for the projection.
            precision: see `fewshot.device.resolve_precision`.

        Raises:
            UsageError: the encoder has no such part, or not so many blocks.
        """
        total = len(encoder.blocks)
        if part != "projection" and not 1 <= last <= total:
            raise UsageError(
                f"adaptation of the last {last} blocks, but {encoder.name} has {total}: give a number from 1 to {total}"
            )
        self.n_frozen = total if part == "projection" else total - last
        self._module = _Functional(encoder, self.n_frozen)
        resolved = resolve_precision(precision, encoder.device)
        self._precision = "32" if resolved == "16" else resolved  # float16's gradients vanish without a loss scale
        self._device = encoder.device
        wanted = {id(parameter) for parameter in parameters_of(encoder, part, self.n_frozen)}
        named = self._module.named_parameters()
        self.parameters = {name: parameter for name, parameter in named if id(parameter) in wanted}
        self.initial = {name: parameter.detach() for name, parameter in self.parameters.items()}
        if not self.initial:
            raise UsageError(f"{encoder.name} has no {part} to adapt; choose another part")

    def __call__(self, tensors: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """(B, ...) hidden states -> (B, D) float32 embeddings of unit norm, with `tensors` in place of the encoder's own."""
        hidden = hidden.float() if self._precision == "32" else hidden
        with autocast(self._precision, self._device):
            embeddings: Tensor = functional_call(self._module, dict(tensors), (hidden,))
        return embeddings

    def embed(self, tensors: Mapping[str, Tensor], hidden: Tensor) -> Tensor:
        """The same for any number n of hidden states, without gradients, in batches of one fixed shape."""
        with torch.no_grad():
            parts = [self(tensors, padded(part))[: len(part)] for part in torch.split(hidden, BATCH)]
        return torch.cat(parts)


def padded(part: Tensor) -> Tensor:
    """Pad (n, ...) with zeros to (BATCH, ...); n is at most BATCH."""
    return torch.cat([part, part.new_zeros(BATCH - len(part), *part.shape[1:])])


class _Functional(nn.Module):
    """Gives the encoder's tail a `forward`, which is what `functional_call` calls."""

    def __init__(self, encoder: VisionEncoder, n_frozen: int) -> None:
        super().__init__()
        self.encoder = encoder
        self._n_frozen = n_frozen

    def forward(self, hidden: Tensor) -> Tensor:
        return self.encoder.forward_tail(hidden, self._n_frozen)
