"""Which parameters of an encoder are tuned: its last blocks with all that follows, their norms, or the last matrix alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from episodes.errors import UsageError
from fewshot.encoders.base import VisionEncoder

Part = Literal["blocks", "norms", "projection"]
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def parameters_of(encoder: VisionEncoder, part: Part, n_frozen: int) -> Iterator[nn.Parameter]:
    """The parameters of one part.

    Args:
        encoder: Any.
        part: "blocks": everything from the last blocks on; "norms": their norms' scales and shifts, and the final norm's; "projection":
            the last matrix (or convolution), which makes the embedding.
        n_frozen: Blocks before the last ones; not looked at for the projection.

    Yields:
        Each of them once.
    """
    head = list(encoder.head_parameters())
    blocks = encoder.blocks[n_frozen:]
    if part == "projection":
        yield from [parameter for parameter in head if parameter.ndim >= 2][-1:]
    elif part == "blocks":
        yield from head
        for block in blocks:
            yield from block.parameters()
    else:
        ours = {id(parameter) for block in blocks for parameter in block.parameters()} | {id(each) for each in head}
        for module in encoder.modules():
            if isinstance(module, _NORMS):
                yield from (each for each in module.parameters(recurse=False) if id(each) in ours)


def unfreeze_part(encoder: VisionEncoder, part: Part, n_blocks: int | Literal["all"]) -> None:
    """Make one part trainable, in place of `VisionEncoder.unfreeze_last`, which is what "blocks" stands for.

    Args:
        encoder: Changed in place.
        part: As in `parameters_of`.
        n_blocks: The last so many; of "projection" 0 trains nothing, and any other number the same.

    Raises:
        UsageError: There are not so many blocks, or the encoder has no such part.
    """
    if part == "blocks" or n_blocks == 0:
        encoder.unfreeze_last(n_blocks)
        return
    encoder.unfreeze_last(len(encoder.blocks) if n_blocks == "all" else n_blocks)
    n_frozen = encoder.n_frozen
    encoder.requires_grad_(False)
    found = list(parameters_of(encoder, part, n_frozen))
    if not found:
        raise UsageError(f"{encoder.name} has no {part} to tune; choose another --tune")
    for parameter in found:
        parameter.requires_grad_(True)
    if part == "projection":
        encoder.n_frozen = len(encoder.blocks)
