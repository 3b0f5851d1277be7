"""OpenAI CLIP's visual encoders, in the `clip` package's own model code (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from episodes.errors import DataError
from fewshot.encoders._clip_import import import_clip_model
from fewshot.encoders.base import VisionEncoder


class ClipViT(VisionEncoder):
    """A CLIP vision transformer; blocks are its residual attention blocks, hidden states are (B, tokens, width)."""

    def __init__(self, visual: nn.Module, name: str) -> None:
        """Args: visual: a `clip.model.VisionTransformer`; it is used as it is, in float32. name: for messages."""
        super().__init__()
        self.visual: Any = visual.float()
        self.name = name
        self.embed_dim = int(self.visual.output_dim)
        self.image_size = int(self.visual.input_resolution)
        self.blocks = list(self.visual.transformer.resblocks)
        self.unfreeze_last(0)
        self.eval()

    def _stem(self, images: Tensor) -> Tensor:
        visual = self.visual
        patches = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, grid ** 2, width)
        first = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        hidden = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        result: Tensor = visual.ln_pre(hidden)
        return result

    def _run(self, hidden: Tensor, blocks: Sequence[nn.Module]) -> Tensor:
        hidden = hidden.transpose(0, 1)  # the package's blocks are (length, batch, width)
        for block in blocks:
            hidden = block(hidden)
        return hidden.transpose(0, 1)

    def _head(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.visual.ln_post(hidden[:, 0, :]) @ self.visual.proj
        return result

    def head_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.visual.ln_post.parameters()
        yield self.visual.proj


class ClipResNet(VisionEncoder):
    """A CLIP ResNet; blocks are its residual bottlenecks in order, hidden states are (B, channels, H, W)."""

    def __init__(self, visual: nn.Module, name: str) -> None:
        """Args: visual: a `clip.model.ModifiedResNet`; it is used as it is, in float32. name: for messages."""
        super().__init__()
        self.visual: Any = visual.float()
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

    def _run(self, hidden: Tensor, blocks: Sequence[nn.Module]) -> Tensor:
        for block in blocks:
            hidden = block(hidden)
        return hidden

    def _head(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.visual.attnpool(hidden)
        return result

    def head_parameters(self) -> Iterator[nn.Parameter]:
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
        with torch.random.fork_rng(devices=[]):  # its constructor draws initial weights from the global generator
            return model.build_model(dict(state)).float().eval()
    except (KeyError, RuntimeError, IndexError, AssertionError, ZeroDivisionError) as error:
        raise DataError(
            f"{source}: not a CLIP model in OpenAI's format ({type(error).__name__}: {str(error)[:300]}). Expected the tensors of "
            "openai/CLIP's state dict, such as visual.conv1.weight, transformer.resblocks.0.ln_1.weight and text_projection"
        ) from error


def visual_from_state(state: Mapping[str, Tensor], name: str) -> VisionEncoder:
    """An encoder from the tensors of its visual part alone (names as in `VisionEncoder.state_dict()`), kept in float32.

    This is how a checkpoint is loaded: no text side, no download, no rounding.

    Raises:
        DataError: the tensors do not fit together.
    """
    model = import_clip_model()
    visual_state = {key.removeprefix("visual."): value for key, value in state.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            visual = _empty_visual(model, visual_state)
        visual.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in visual_state.items()}
        )
    except (KeyError, RuntimeError, IndexError) as error:
        raise DataError(f"{name}: the tensors of the visual encoder do not fit together: {str(error)[:300]}") from error
    return wrap_visual(visual, name)


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
