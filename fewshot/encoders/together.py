"""Several encoders at once, `lite2+tiny`: each sees the picture as it was made to, and their embeddings stand side by side.

Nothing here looks at a task: what each of them says about one is weighed by `fewshot.classifiers.together`. `embed_images` embeds
part by part, so that every part's embeddings are cached, and found again, under that part's own key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn

from episodes.errors import UsageError
from fewshot.encoders.base import Embedder, VisionEncoder
from fewshot.encoders.family import EncoderFamily, TrainingClasses

MOST_PARTS = 3


def parts_of(backbone: str) -> list[str]:
    """The backbones that a name joins by "+": itself alone, where it has none or is the path of a file.

    Raises:
        UsageError: an empty part, the same part twice, or more than three.
    """
    parts = backbone.split("+")
    if len(parts) == 1 or os.path.isfile(backbone):
        return [backbone]
    if "" in parts or len(set(parts)) < len(parts) or len(parts) > MOST_PARTS:
        raise UsageError(
            f"backbone {backbone!r}: expected two or {MOST_PARTS} different backbones joined by '+', such as lite2+tiny"
        )
    return parts


class TogetherEncoder(VisionEncoder):
    """Encoders whose unit-norm embeddings stand side by side, divided by the root of their number: (D1 + D2 + ...), of unit norm.

    It has no picture size or normalisation of its own, hence no forward pass and nothing to tune: `embed_images` embeds with its
    `parts`, each of which may wait with its weights until it must compute.
    """

    def __init__(self, name: str, parts: Sequence[Embedder]) -> None:
        """Put encoders side by side.

        Args:
            name: as it was asked for.
            parts: two or more, on one device.
        """
        super().__init__()
        self.name = name
        self._parts = tuple(parts)
        self._loaded = nn.ModuleList(part for part in parts if isinstance(part, nn.Module))  # `to` moves them
        self.embed_dim = sum(part.embed_dim for part in parts)
        self.image_size = max(part.image_size for part in parts)
        self.blocks = ()

    @property
    def parts(self) -> tuple[Embedder, ...]:
        """The encoders, in the order of the name."""
        return self._parts

    @property
    def device(self) -> torch.device:
        """Where they compute."""
        return self._parts[0].device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parts' own."""
        return hashlib.sha256("+".join(part.fingerprint for part in self.parts).encode()).hexdigest()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """None: there is nothing behind the parts."""
        return iter(())

    def forward(self, images: Tensor) -> Tensor:
        """Refuse: each part takes pictures of its own size and normalisation.

        Raises:
            UsageError: always.
        """
        self._refuse("has no forward pass of one batch of pictures; embed them with fewshot.embed_images")

    def forward_trunk(self, images: Tensor, n_frozen: int) -> Tensor:
        """Refuse, as `forward` does."""
        return self.forward(images)

    def inference_copy(self, dtype: torch.dtype) -> VisionEncoder:
        """Refuse, as `forward` does: the parts have one each."""
        self._refuse("is run part by part; embed pictures with fewshot.embed_images")

    def unfreeze_last(self, n_blocks: int | Literal["all"]) -> None:
        """Refuse: encoders are tuned one by one.

        Raises:
            UsageError: always.
        """
        names = " or ".join(f"--backbone {part.name}" for part in self.parts)
        self._refuse(f"cannot be fine-tuned as a whole. Train one of its parts: {names}")

    def _refuse(self, why: str) -> NoReturn:
        raise UsageError(f"{self.name} is {len(self.parts)} encoders together and {why}")


class TogetherFamily(EncoderFamily):
    """Backbones that are several others, joined by "+"."""

    pictures_only = "several encoders together have no text side"

    def __init__(self, family_of: Callable[[str], EncoderFamily]) -> None:
        """Store what finds the family of a part."""
        self._family_of = family_of

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """See `EncoderFamily.load`."""
        parts = [self._family_of(part).load(part, download_root) for part in parts_of(backbone)]
        return TogetherEncoder(backbone, parts)

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """Refuse: no checkpoint holds several encoders.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{backbone}: a checkpoint holds one encoder, not several together")

    def download(self, backbone: str, download_root: str | Path | None = None, **_: Any) -> Path:
        """Refuse: one at a time.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{backbone}: download its parts one by one: {', '.join(parts_of(backbone))}")

    def training_classes(self, backbone: str) -> TrainingClasses | None:
        """See `EncoderFamily.training_classes`: what any of them has seen."""
        known = [self._family_of(part).training_classes(part) for part in parts_of(backbone)]
        told = [each for each in known if each is not None]
        if not told:
            return None
        return TrainingClasses(
            " and ".join(dict.fromkeys(each.source for each in told)),
            frozenset().union(*(each.wordnet_ids for each in told)),
            frozenset().union(*(each.names for each in told)),
        )
