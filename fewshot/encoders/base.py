"""What every image encoder here offers: unit-norm embeddings, a frozen trunk and a trainable tail.

An encoder is a stem, a list of blocks, and a head (final norm or pooling, and projection). "The last n blocks" are trained
together with the head; everything before them is the trunk, whose output for a fixed picture never changes.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from episodes.errors import UsageError
from fewshot.tensors import tensor_digest

Self = TypeVar("Self", bound="VisionEncoder")

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_MATRICES = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


class Embedder(Protocol):
    """What embedding pictures asks of an encoder: a `VisionEncoder` has it, and so has one that is loaded only when it must compute."""

    embed_views: int

    @property
    def name(self) -> str:
        """What it was loaded as."""
        ...

    @property
    def embed_dim(self) -> int:
        """D."""
        ...

    @property
    def image_size(self) -> int:
        """Pictures are (3, image_size, image_size)."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Stands for its weights in cache keys."""
        ...

    @property
    def parts(self) -> tuple[Embedder, ...]:
        """See `VisionEncoder.parts`."""
        ...

    def inference_copy(self, dtype: torch.dtype) -> VisionEncoder:
        """See `VisionEncoder.inference_copy`."""
        ...


class VisionEncoder(nn.Module):
    """Pictures to unit-norm embeddings. It always stays in eval mode: CLIP's ResNets hold batch-norm statistics.

    Subclasses provide `blocks`, `_stem` and `_head`, and `_run` where a block needs more than the hidden state. Hidden states
    are batch-first, so that rows can be stored.

    Attributes:
        name: what it was loaded as, for messages and reports.
        embed_dim: D, the width of an embedding.
        image_size: pictures are (3, image_size, image_size).
        mean, std: of the colour channels, in [0, 1].
        embed_views: how many views of a picture its embedding is the mean of (see `fewshot.images.views`).
        n_frozen: how many blocks come before the first trainable one.
        stem_frozen: False only after `unfreeze_last("all")`.
    """

    name: str
    embed_dim: int
    image_size: int
    blocks: Sequence[nn.Module]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __init__(self) -> None:
        super().__init__()
        self.embed_views = 1
        self.n_frozen = 0
        self.stem_frozen = True

    def _stem(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def _run(self, hidden: Tensor, blocks: Sequence[nn.Module]) -> Tensor:
        for block in blocks:
            hidden = block(hidden)
        return hidden

    def _head(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters behind the last block: final norm or pooling, and projection."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pictures -> (B, D) float32 embeddings of unit norm."""
        return self.forward_tail(self.forward_trunk(images, 0), 0)

    def forward_trunk(self, images: Tensor, n_frozen: int) -> Tensor:
        """(B, 3, H, W) -> the hidden state behind the first `n_frozen` blocks, batch first."""
        return self._run(self._stem(images), self.blocks[:n_frozen])

    def forward_blocks(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """The hidden state behind the first `start` blocks -> that behind the first `stop`."""
        return self._run(hidden, self.blocks[start:stop])

    def forward_tail(self, hidden: Tensor, n_frozen: int) -> Tensor:
        """The hidden state behind the first `n_frozen` blocks -> (B, D) float32 embeddings of unit norm."""
        return F.normalize(self._head(self._run(hidden, self.blocks[n_frozen:])).float(), dim=-1)

    def inference_copy(self, dtype: torch.dtype) -> VisionEncoder:
        """A frozen copy whose matrices are held in `dtype`, to run under that autocast; later changes of this one do not reach it.

        Autocast would cast the weights anew in every call. Here they are cast once, to the same values; norms stay float32.
        """
        with torch.no_grad():
            cast = self._cast(dtype)
        # What is cast is not copied in float32 first: half of the time that a copy took.
        memo: dict[int, Any] = {id(parameter): nn.Parameter(value, False) for parameter, value in cast.items()}
        copied = copy.deepcopy(self, memo).requires_grad_(False)
        if self.device.type == "cuda":
            copied.to(memory_format=torch.channels_last)
        return copied

    def _cast(self, dtype: torch.dtype) -> dict[nn.Parameter, Tensor]:
        """The weights that an inference copy holds in another way: parameter -> its value there."""
        return {each: each.to(dtype, copy=True) for each in matrices(self)} if dtype != torch.float32 else {}

    def unfreeze_last(self, n_blocks: int | Literal["all"]) -> None:
        """Make the last `n_blocks` blocks and the head trainable; 0 freezes everything, "all" trains the stem too.

        Raises:
            UsageError: there are fewer blocks than that, or the number is negative.
        """
        total = len(self.blocks)
        count = total if n_blocks == "all" else n_blocks
        if not 0 <= count <= total:
            raise UsageError(
                f"unfreeze_blocks is {count}, but {self.name} has {total} blocks: give a number from 0 to {total}, or 'all'"
            )
        self.requires_grad_(n_blocks == "all")
        self.n_frozen = total - count
        self.stem_frozen = n_blocks != "all"
        if count:
            for block in self.blocks[self.n_frozen :]:
                block.requires_grad_(True)
            for parameter in self.head_parameters():
                parameter.requires_grad_(True)

    def train(self: Self, mode: bool = True) -> Self:
        """Stays in eval mode whatever is asked: batch-norm statistics belong to the pretrained weights."""
        return super().train(False)

    @property
    def parts(self) -> tuple[Embedder, ...]:
        """The encoders whose embeddings stand side by side in this one's: itself alone, unless several work together."""
        return (self,)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of every weight with its name, shape and type: two encoders that differ anywhere differ here."""
        digest = hashlib.sha256(f"{type(self).__name__} {self.image_size} {self.mean} {self.std}".encode())
        with ThreadPoolExecutor(
            4
        ) as pool:  # hashing lets other threads run: hundreds of megabytes in a tenth of a second
            for part in pool.map(lambda entry: tensor_digest(*entry), sorted(self.state_dict().items())):
                digest.update(part)
        return digest.hexdigest()


def cast_matrices(module: nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights of linear, convolution and attention layers in `dtype`; norms and everything else stay as they are."""
    for parameter in matrices(module):
        parameter.data = parameter.data.to(dtype)


def matrices(module: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of linear, convolution and attention layers, and their biases."""
    for part in module.modules():
        # What computes its weights anew, such as a standardised convolution, would compute with rounded ones.
        if any(isinstance(part, kind) and type(part).forward is kind.forward for kind in _MATRICES):
            yield from part.parameters(recurse=False)
