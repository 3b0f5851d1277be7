"""Low-rank additions to an encoder's matrices, through the `peft` library (extra `[lora]`).

LoRA: Hu et al. 2021, arXiv 2106.09685. W + (alpha / r) B A, with A (r, in) and B (out, r), where B begins at 0. Training sees a copy of
the encoder with additions; what is validated, mixed and saved is the plain encoder with the sums as its weights, so that a checkpoint is
a whole visual encoder as ever and needs no peft.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from episodes.errors import UsageError
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.parts import parameters_of

_ADAPTER = "default"  # peft's name for the only adapter


def mark_lora(encoder: VisionEncoder, n_blocks: int | Literal["all"]) -> None:
    """Mark the matrices that get additions as those that are tuned: linear layers and 1 x 1 convolutions.

    Args:
        encoder: Changed in place: its trainable parameters are these weights.
        n_blocks: In the last so many blocks and behind them; 0 marks none.

    Raises:
        UsageError: There are not so many blocks, or no such layer in them.
    """
    encoder.unfreeze_last(len(encoder.blocks) if n_blocks == "all" else n_blocks)
    if n_blocks == 0:
        return
    wanted = {id(each) for each in parameters_of(encoder, "blocks", encoder.n_frozen)}
    encoder.requires_grad_(False)
    layers = _called(encoder, [layer for layer in encoder.modules() if _fits(layer) and id(layer.weight) in wanted])
    if not layers:
        raise UsageError(
            f"{encoder.name} has no linear layer in its last {n_blocks} blocks; choose another --tune, or more blocks"
        )
    for layer in layers:
        layer.weight.requires_grad_(True)


def _called(encoder: VisionEncoder, layers: list[nn.Module]) -> list[nn.Module]:
    """Those layers that a forward pass calls: of some, such as CLIP's attention pooling, it only reads the weights."""
    called: set[nn.Module] = set()
    hooks = [layer.register_forward_hook(lambda layer, *_: called.add(layer)) for layer in layers]
    with torch.no_grad():
        encoder(torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=encoder.device))
    for hook in hooks:
        hook.remove()
    return [layer for layer in layers if layer in called]


def _fits(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and tuple(layer.kernel_size) == (1, 1) and tuple(layer.stride) == (1, 1)
    return isinstance(layer, nn.Linear)


def with_lora(encoder: VisionEncoder, rank: int, seed: int) -> VisionEncoder:
    """A copy with additions to the marked matrices, which alone are trained.

    Args:
        encoder: As `mark_lora` left it; not changed.
        rank: Of the additions.
        seed: Of A.

    Raises:
        UsageError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise UsageError(
            "--tune lora needs the library peft: pip install 'fewshot-episodes[lora]', or pip install peft"
        ) from error
    marked = [name.removesuffix(".weight") for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    copied = copy.deepcopy(encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=marked)
        inject_adapter_in_model(settings, copied)
    return copied


def merged_weights(adapted: VisionEncoder) -> dict[str, Tensor]:
    """What `with_lora`'s copy amounts to.

    Args:
        adapted: The copy.

    Returns:
        Name in the plain encoder -> the weight with its addition, float32 on the CPU; nothing where there are no additions.
    """
    if not any(name.endswith(f".lora_A.{_ADAPTER}") for name, _ in adapted.named_modules()):
        return {}
    from peft.tuners.lora import LoraLayer

    sums: dict[str, Tensor] = {}
    for name, layer in adapted.named_modules():
        if isinstance(layer, LoraLayer):
            part: Any = layer
            addition = part.get_delta_weight(_ADAPTER)
            sums[f"{name}.weight"] = (part.base_layer.weight + addition).detach().float().cpu().clone()
    return sums
