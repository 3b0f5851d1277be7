"""OpenAI CLIP's visual encoders, in the `clip` package's own model code (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from episodes.errors import DataError
from fewshot.encoders._clip_import import import_clip_model
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.packed import PackedLinear, can_pack
from fewshot.encoders.undrawn import Undrawn

_QUICK_GELU = 1.702


class ClipViT(VisionEncoder):
    """A CLIP vision transformer; blocks are its residual attention blocks, hidden states are (B, tokens, width).

    The weights and their names are the `clip` package's; the arithmetic is written batch first, with fused attention, and
    leaves out what no embedding depends on: behind the last block a hidden state is the class token alone, (B, 1, width).
    """

    def __init__(self, visual: nn.Module, name: str) -> None:
        """Wrap CLIP's vision transformer and find its blocks.

        Args:
            visual: a `clip.model.VisionTransformer`; it is used as it is, in float32.
            name: for messages.
        """
        super().__init__()
        self.visual: Any
        self.visual = visual.float()
        self.name = name
        self.embed_dim = int(self.visual.output_dim)
        self.image_size = int(self.visual.input_resolution)
        self.blocks = list(self.visual.transformer.resblocks)
        self._folded = False
        self.unfreeze_last(0)
        self.eval()

    def _stem(self, images: Tensor) -> Tensor:
        visual = self.visual
        weight = visual.conv1.weight  # patches do not overlap, so the convolution is one matrix product
        images = images.to(weight.dtype)
        size = weight.shape[-1]
        grid = self.image_size // size
        tiles = images[..., : grid * size, : grid * size].reshape(len(images), 3, grid, size, grid, size)
        tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(len(images), grid * grid, 3 * size * size)
        patches = F.linear(tiles, weight.flatten(1))
        first = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        hidden = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        return self._norm(visual.ln_pre, hidden)

    def _run(self, hidden: Tensor, blocks: Sequence[nn.Module]) -> Tensor:
        for block in blocks:
            # Of the last block only the class token goes on, so nothing else is asked of it: (B, 1, width).
            hidden = self._block(block, hidden, 1 if block is self.blocks[-1] else hidden.shape[1])
        return hidden

    def _block(self, block: Any, hidden: Tensor, n_queries: int) -> Tensor:
        """(B, tokens, width) -> (B, n_queries, width): what the package's block gives for the first tokens, batch first."""
        attended = self._attend(block.attn, self._norm(block.ln_1, hidden), n_queries)
        hidden = hidden[:, :n_queries] + attended
        result: Tensor = hidden + block.mlp.c_proj(self._activate(block.mlp.c_fc(self._norm(block.ln_2, hidden))))
        return result

    @staticmethod
    def _attend(attention: Any, hidden: Tensor, n_queries: int) -> Tensor:
        """Multi-head self-attention of the first `n_queries` tokens to all: (B, tokens, width) -> (B, n_queries, width)."""
        n_pictures, n_tokens, width = hidden.shape
        heads = (attention.num_heads, attention.head_dim)
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        if n_queries == n_tokens:
            packed = getattr(attention, "packed", None)
            both = packed(hidden) if packed is not None else F.linear(hidden, weight, bias)
            query, key, value = both.view(n_pictures, n_tokens, 3, *heads).permute(2, 0, 3, 1, 4)
        else:
            weights, biases = weight.split([width, 2 * width]), bias.split([width, 2 * width])
            query = F.linear(hidden[:, :n_queries], weights[0], biases[0]).view(n_pictures, n_queries, *heads)
            query = query.transpose(1, 2)
            both = F.linear(hidden, weights[1], biases[1]).view(n_pictures, n_tokens, 2, *heads)
            key, value = both.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
        return result

    def _norm(self, layer: Any, hidden: Tensor) -> Tensor:
        """Layer norm, computed in float32; on a CPU it takes and gives bfloat16 without the package's copies to float32 and back."""
        if self._folded and hidden.device.type == "cpu":
            return F.layer_norm(hidden, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
        result: Tensor = layer(hidden)
        return result

    def _activate(self, hidden: Tensor) -> Tensor:
        """QuickGELU, x * sigmoid(1.702 x), by way of SiLU, which is one pass over memory."""
        if self._folded:
            return F.silu(hidden, inplace=True)
        return F.silu(_QUICK_GELU * hidden) / _QUICK_GELU

    def _head(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.visual.ln_post(hidden[:, 0, :]) @ self.visual.proj
        return result

    def inference_copy(self, dtype: torch.dtype) -> VisionEncoder:
        """See `VisionEncoder.inference_copy`; QuickGELU's factor moves into the matrices around it, which leaves SiLU."""
        copied = super().inference_copy(dtype)
        assert isinstance(copied, ClipViT)
        copied._folded = True
        if dtype == torch.bfloat16 and self.device.type == "cpu" and can_pack():
            copied._pack()
        return copied

    def _cast(self, dtype: torch.dtype) -> dict[nn.Parameter, Tensor]:
        """See `VisionEncoder._cast`."""
        cast = super()._cast(dtype)
        cast[self.visual.proj] = self.visual.proj.to(dtype, copy=True)
        for block in self.visual.transformer.resblocks:
            for parameter in (block.mlp.c_fc.weight, block.mlp.c_fc.bias):
                cast[parameter] = (parameter * _QUICK_GELU).to(dtype)
            cast[block.mlp.c_proj.weight] = (block.mlp.c_proj.weight / _QUICK_GELU).to(dtype)
        return cast

    def _pack(self) -> None:
        """Swap the linear layers of all blocks but the last, which is mostly one token, for packed ones."""
        rows = 32 * self.visual.positional_embedding.shape[0]
        for block in self.blocks[:-1]:
            part: Any = block
            part.attn.packed = PackedLinear(part.attn.in_proj_weight, part.attn.in_proj_bias, rows)
            part.attn.out_proj = PackedLinear(part.attn.out_proj.weight, part.attn.out_proj.bias, rows)
            part.mlp.c_fc = PackedLinear(part.mlp.c_fc.weight, part.mlp.c_fc.bias, rows)
            part.mlp.c_proj = PackedLinear(part.mlp.c_proj.weight, part.mlp.c_proj.bias, rows)
            part.attn.in_proj_weight = part.attn.in_proj_bias = None  # not twice in memory

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """See `VisionEncoder.head_parameters`."""
        yield from self.visual.ln_post.parameters()
        yield self.visual.proj


class ClipResNet(VisionEncoder):
    """A CLIP ResNet; blocks are its residual bottlenecks in order, hidden states are (B, channels, H, W)."""

    def __init__(self, visual: nn.Module, name: str) -> None:
        """Wrap CLIP's ResNet and find its blocks.

        Args:
            visual: a `clip.model.ModifiedResNet`; it is used as it is, in float32.
            name: for messages.
        """
        super().__init__()
        self.visual: Any
        self.visual = visual.float()
        self.name = name
        self.embed_dim = int(self.visual.output_dim)
        self.image_size = int(self.visual.input_resolution)
        layers = (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4)
        self.blocks = [block for layer in layers for block in layer]
        self.unfreeze_last(0)
        self.eval()

    def _stem(self, images: Tensor) -> Tensor:
        visual = self.visual
        hidden = visual.relu1(visual.bn1(visual.conv1(images)))
        hidden = visual.relu2(visual.bn2(visual.conv2(hidden)))
        hidden = visual.relu3(visual.bn3(visual.conv3(hidden)))
        result: Tensor = visual.avgpool(hidden)
        return result

    def _head(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.visual.attnpool(hidden)
        return result

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """See `VisionEncoder.head_parameters`."""
        yield from self.visual.attnpool.parameters()


def wrap_visual(visual: nn.Module, name: str) -> VisionEncoder:
    """The encoder around a `clip` model's `visual` part, transformer or ResNet."""
    model = import_clip_model()
    return (ClipViT if isinstance(visual, model.VisionTransformer) else ClipResNet)(visual, name)


def build_clip(state: Mapping[str, Tensor], source: str) -> Any:
    """OpenAI's CLIP model (image and text side, float32, eval mode) from a plain state dict.

    It is the package's `build_model`, which rounds matrix weights to float16 as OpenAI's releases are stored.

    Raises:
        DataError: the tensors are not those of a CLIP model in OpenAI's format; `source` is named.
    """
    model = import_clip_model()
    try:
        with Undrawn():
            return model.build_model(dict(state)).float().eval()
    except (KeyError, RuntimeError, IndexError, AssertionError, ZeroDivisionError) as error:
        raise not_openai(source, f"{type(error).__name__}: {str(error)[:300]}") from error


def not_openai(source: str, why: str) -> DataError:
    """The error for tensors that are not those of a CLIP model in OpenAI's format."""
    return DataError(
        f"{source}: not a CLIP model in OpenAI's format ({why}). Expected the tensors of openai/CLIP's state dict, such as "
        "visual.conv1.weight, transformer.resblocks.0.ln_1.weight and text_projection"
    )


def visual_from_state(state: Mapping[str, Tensor], name: str, *, rounded: bool = False) -> VisionEncoder:
    """An encoder from the tensors of its visual part alone (names as in `VisionEncoder.state_dict()`), kept in float32.

    This is how a checkpoint is loaded: no text side, no download, no rounding. The tensors are copied.

    Args:
        state: the tensors.
        name: for messages.
        rounded: round matrices to float16, as OpenAI's releases are stored and the package's `build_model` does.

    Raises:
        DataError: the tensors do not fit together.
    """
    model = import_clip_model()
    visual_state = {key.removeprefix("visual."): value for key, value in state.items()}
    try:
        # Neither memory nor random numbers for weights that are replaced at once. Made on "meta" they would be drawn there, for which
        # torch imports its compiler: a second.
        with Undrawn():
            visual = _empty_visual(model, visual_state).to("meta")
        if rounded:
            model.convert_weights(visual)
        kept = {key: value.dtype for key, value in visual.state_dict().items()}
        visual.load_state_dict(
            {key: _as_kept(value, kept.get(key, value.dtype)) for key, value in visual_state.items()}, assign=True
        )
    except (KeyError, RuntimeError, IndexError) as error:
        raise DataError(
            f"{name}: the tensors of the visual encoder do not fit together: {' '.join(str(error).split())[:300]}"
        ) from error
    return wrap_visual(visual, name)


def _as_kept(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in float32 of what a parameter of `dtype` would hold; whole numbers stay as they are."""
    return value.to(dtype).to(torch.float32, copy=True) if value.is_floating_point() else value.clone()


def _empty_visual(model: Any, state: Mapping[str, Tensor]) -> nn.Module:
    """A visual part of the shape that the tensors have: `build_model`'s arithmetic, for the visual side."""
    visual: nn.Module
    if "proj" in state:
        width, _, _, patch = state["conv1.weight"].shape
        layers = sum(key.endswith(".attn.in_proj_weight") for key in state)
        grid = round((state["positional_embedding"].shape[0] - 1) ** 0.5)
        visual = model.VisionTransformer(patch * grid, patch, width, layers, width // 64, state["proj"].shape[1])
    else:
        width = state["layer1.0.conv1.weight"].shape[0]
        counts = [len({key.split(".")[1] for key in state if key.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4)]
        grid = round((state["attnpool.positional_embedding"].shape[0] - 1) ** 0.5)
        output_dim = state["attnpool.c_proj.weight"].shape[0]
        visual = model.ModifiedResNet(counts, output_dim, width * 32 // 64, grid * 32, width)
    return visual
