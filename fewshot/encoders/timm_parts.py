"""Where a timm model can be cut: its stem, its blocks in order, and what comes behind them.

Two families of transformers are known by their forward pass. Any other model is taken for a chain, whose children run in the
order in which they were made, and `check` compares the chain with the model's own forward pass before anyone uses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from episodes.errors import UsageError
from fewshot.encoders.base import VisionEncoder

Kind = Literal["vit", "eva", "chain"]
_CONTAINERS = re.compile(r"layer\d|s\d|stages|layers|blocks")  # of resnets, regnets, convnexts, swins, efficientnets
_HEADS = ("global_pool", "head", "head_drop", "fc", "fc_norm", "classifier")  # what `forward_head` runs by itself
_STAGES = (["blocks"], ["downsample", "blocks"])  # children of a stage that runs them one after the other
_TOLERANCE = 1e-4
SUPPORTED = (
    "vision transformers (vit_*, deit_*, eva02_*, and those of DINO, SigLIP and CLIP) and networks that run a stem, stages and a head in "
    "order (resnet*, resnext*, resnetv2_*, regnet*, convnext*, efficientnet*, swin_*, ...)"
)


def kind_of(trunk: nn.Module) -> Kind:
    """Which of the known forward passes a timm model has."""
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer

    forward = getattr(type(trunk), "forward_features", None)
    if forward is VisionTransformer.forward_features:
        return "vit"
    return "eva" if forward is Eva.forward_features else "chain"


def can_fold(trunk: nn.Module) -> bool:
    """Whether every batch norm behind a convolution may be folded into it: neighbours run one after the other there."""
    from timm.models.efficientnet import EfficientNet

    return isinstance(trunk, EfficientNet)


def blocks_of(trunk: nn.Module, name: str) -> list[nn.Module]:
    """The blocks in order, out of the containers that hold them.

    Raises:
        UsageError: there are none, or the model has no head of its own to make an embedding.
    """
    blocks = [
        block for child, module in trunk.named_children() if _CONTAINERS.fullmatch(child) for block in _units(module)
    ]
    if not blocks or not hasattr(trunk, "forward_head"):
        raise UsageError(f"{name}: no blocks are found in a {type(trunk).__name__}. Supported are {SUPPORTED}")
    return blocks


def _units(module: nn.Module) -> list[nn.Module]:
    """The modules that a container runs in turn; a stage is taken apart into its blocks, and its downsampling is one more."""
    if isinstance(module, nn.ModuleList):
        return list(module)
    names = [child for child, _ in module.named_children()]
    if (
        type(module) is nn.Sequential
        or names in _STAGES
        or (names and all(re.fullmatch(r"b\d+", each) for each in names))
    ):
        return [unit for child in module.children() for unit in _units(child)]
    return [] if isinstance(module, nn.Identity) else [module]


def before(trunk: nn.Module) -> list[nn.Module]:
    """The children that come before the blocks."""
    children = list(trunk.named_children())
    first = next(place for place, (child, _) in enumerate(children) if _CONTAINERS.fullmatch(child))
    return [module for _, module in children[:first]]


def behind(trunk: nn.Module, *, with_head: bool) -> list[nn.Module]:
    """The children that come behind the last block, with those that `forward_head` runs or without."""
    children = list(trunk.named_children())
    last = max(place for place, (child, _) in enumerate(children) if _CONTAINERS.fullmatch(child))
    rest = children[last + 1 :]
    if not with_head:
        stop = next((place for place, (child, _) in enumerate(rest) if child in _HEADS), len(rest))
        rest = rest[:stop]
    return [module for _, module in rest]


def rotation(trunk: Any) -> Any:
    """The rotary position embedding that every block of an Eva is given; None where it has none."""
    if trunk.rope is None:
        return None
    if trunk.dynamic_img_size or not hasattr(trunk.rope, "feat_shape"):
        return trunk.rope.get_embed(shape=trunk.patch_embed.grid_size)
    return trunk.rope.get_embed()


def check(encoder: VisionEncoder, forward: Callable[[Tensor], Any]) -> None:
    """Compare an encoder, whole and cut in the middle, with the library's own forward pass on one random picture.

    Raises:
        UsageError: they differ: the model does not run its parts in order, and cannot be used here.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, encoder.image_size, encoder.image_size, generator=generator)
    middle = len(encoder.blocks) // 2
    try:
        with torch.no_grad():
            expected = F.normalize(forward(images.clone()), dim=-1)
            hidden = encoder.forward_trunk(images, middle)
            # Twice: a tail must not write to its input.
            found = [encoder.forward_tail(hidden, middle) for _ in range(2)]
        same = all(
            each.shape == (1, encoder.embed_dim) == expected.shape and torch.allclose(each, expected, atol=_TOLERANCE)
            for each in found
        )
        why = "its parts in order do not give what its own forward pass gives"
    except Exception as error:  # whatever a foreign model does when its parts are called one by one
        same, why = False, f"its parts cannot be called one by one ({type(error).__name__}: {str(error)[:150]})"
    if not same:
        raise UsageError(f"{encoder.name}: cannot be cut into blocks: {why}. Supported are {SUPPORTED}")
