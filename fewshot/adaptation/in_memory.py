"""Naming by a method that steps the encoder, for who holds pictures in memory and no table of files.

n pictures, D embedding width, H numbers of a hidden state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes import ImageTable
from fewshot.adaptation.meta import MetaLearner, naming
from fewshot.adaptation.scorer import AdaptedScorer
from fewshot.adaptation.trunk import Trunk
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.device import Precision
from fewshot.embedding.deferred import opened
from fewshot.embedding.embed import Embeddings
from fewshot.embedding.hidden_states import hidden_like
from fewshot.encoders.base import Embedder
from fewshot.images.augmented_views import PictureSource


@dataclass(frozen=True, eq=False)
class _Held:
    """See `StoredStates`."""

    states: Tensor
    n_frozen: int

    def __call__(self, row: int, key: int) -> Tensor:
        return self.states[row]


class SteppedInMemory:
    """Answers of a method that steps the encoder, to the bit those of `fewshot predict`.

    A picture is a row of D + H float32 numbers: its embedding, and its hidden state before the encoder's last block (16-bit ones
    are widened, which loses nothing). Rows can be kept, joined and stored as embeddings are.
    """

    def __init__(
        self, method: MetaLearner, scale: float, encoder: Embedder, precision: Precision, read: Callable[[Any], bytes]
    ) -> None:
        """Store what it works with.

        Args:
            method: what was learned.
            scale: factor on the logits.
            encoder: whose last block is stepped.
            precision: arithmetic of the encoder.
            read: gives the bytes of a picture.
        """
        self._named, self._method, self._encoder = naming(method, scale), method, encoder
        self._precision, self._read = precision, read

    @cached_property
    def _trunk(self) -> Trunk:
        encoder = opened(self._encoder)
        return Trunk(encoder, self._method.tail(encoder).n_frozen, self._precision)

    @cached_property
    def _like(self) -> Tensor:
        """A hidden state, for its shape and type."""
        return hidden_like(opened(self._encoder), self._trunk.n_frozen, self._precision)

    def rows(self, pictures: Sequence[Any], found: Embeddings) -> Embeddings:
        """(n, D + H) rows of n pictures, of which `found` are the embeddings; zeros where a picture cannot be read."""
        behind = torch.zeros(len(pictures), self._like.numel())
        readable = found.readable.nonzero().flatten().tolist()
        if readable:
            source = PictureSource([pictures[row] for row in readable], self._trunk.image_size, None, read=self._read)
            pixels = torch.stack([source.views(place)[0] for place in range(len(readable))])
            behind[readable] = self._trunk(pixels).flatten(1).float().cpu()
        rows = torch.cat([found.features.float(), behind], dim=1)
        return Embeddings(rows, found.readable, found.problems, found.computed)

    def scorer(self, rows: Embeddings) -> AdaptedScorer:
        """What scores tasks over (n, D + H) rows."""
        encoder, width, count = opened(self._encoder), self._encoder.embed_dim, len(rows.features)
        alone = Embeddings(rows.features[:, :width], rows.readable, rows.problems, rows.computed)
        states = rows.features[:, width:].reshape(count, *self._like.shape).to(self._like.dtype)
        assert self._named.adapter is not None
        return AdaptedScorer(
            encoder,
            self._named.adapter,
            ImageTable(range(count), np.full(count, -1, dtype=np.int32), ()),
            alone,
            partial(FeatureScorer, classifier=self._named.classifier, device=encoder.device),
            precision=self._precision,
            hidden_states=_Held(states, self._trunk.n_frozen),
        )
