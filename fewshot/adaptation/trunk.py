"""What comes before a tail: pictures to hidden states, in batches of one shape, whoever asks for them.

n pictures.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fewshot.adaptation.tail import BATCH, padded
from fewshot.device import Precision, autocast, resolve_precision
from fewshot.embedding.batches import DTYPES
from fewshot.encoders.base import VisionEncoder
from fewshot.images.transform import normalise


class StoredStates(Protocol):
    """Hidden states of a table's rows, such as `HiddenStates`."""

    @property
    def n_frozen(self) -> int:
        """Blocks behind which they were taken."""
        ...

    def __call__(self, row: int, key: int) -> Tensor:
        """That of a row; of several views the one that the key draws."""
        ...


class Trunk:
    """The blocks that no task changes; later changes of the encoder do not reach it."""

    def __init__(
        self,
        encoder: VisionEncoder,
        n_frozen: int,
        precision: Precision = "auto",
        *,
        pictures: bool = True,
        stored_behind: int | None = None,
    ) -> None:
        """Copy the blocks, where they will have to compute.

        Args:
            encoder: on the device that computes.
            n_frozen: how many.
            precision: see `fewshot.device.resolve_precision`.
            pictures: it is given pictures.
            stored_behind: it is given hidden states too, behind so many blocks.
        """
        self.n_frozen, self.image_size, self._device = n_frozen, encoder.image_size, encoder.device
        self._stored = stored_behind
        self._precision = resolve_precision(precision, self._device)
        computes = pictures or stored_behind != n_frozen
        self._encoder = encoder.inference_copy(DTYPES[self._precision]) if computes else None

    def __call__(self, given: Tensor) -> Tensor:
        """(n, 3, H, W) uint8, or stored hidden states -> (n, ...) what the blocks make of them."""
        stored = given.is_floating_point()
        if stored and self._stored == self.n_frozen:
            return given.to(self._device)
        parts, encoder = [], self._encoder
        assert encoder is not None
        with torch.no_grad(), autocast(self._precision, self._device):
            for part in torch.split(given, BATCH):
                whole = padded(part).to(self._device)
                if stored:
                    assert self._stored is not None
                    made = encoder.forward_blocks(whole, self._stored, self.n_frozen)
                else:
                    made = encoder.forward_trunk(normalise(whole, encoder), self.n_frozen)
                parts.append(made[: len(part)])
        return torch.cat(parts)
