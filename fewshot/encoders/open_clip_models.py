"""open_clip's models as encoders: `open_clip:<model>/<tag>` (Cherti et al. 2022, arXiv 2212.07143).

Picture size, mean and standard deviation are the model's own. The pictures go through this project's one test transform (the
shorter side to the model's size, bicubic, centre crop), which is open_clip's too for most tags; some (SigLIP, PE) were evaluated
with pictures squashed to a square, or resized bilinearly, and are not so here: one transform for all encoders keeps them comparable.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from episodes.errors import DataError, UsageError
from fewshot.encoders import hub, timm_parts
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.family import EncodeSentences, sentence_encoder
from fewshot.encoders.timm_models import TimmEncoder, load_tensors
from fewshot.encoders.weights import read_weights
from fewshot.registry import ENCODERS

PREFIX = "open_clip:"
_FILE, _SAFE_FILE = "open_clip_pytorch_model.bin", "open_clip_model.safetensors"


class OpenClipEncoder(VisionEncoder):
    """The visual tower of an open_clip model, a `VisionTransformer` or `ModifiedResNet` of that library, run by its own modules."""

    def __init__(self, visual: nn.Module, name: str, *, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap the visual side of an open_clip model and find its blocks.

        Args:
            visual: used as it is, in float32.
            name: the backbone.
            mean: of the colour channels.
            std: their standard deviation.
        """
        super().__init__()
        self.visual: Any
        self.visual = visual.float()
        self.name = name
        self.embed_dim = int(self.visual.output_dim)
        self.image_size = square(self.visual.image_size, name)
        self.mean = (float(mean[0]), float(mean[1]), float(mean[2]))
        self.std = (float(std[0]), float(std[1]), float(std[2]))
        self._transformer = hasattr(visual, "transformer")
        if self._transformer:
            self.blocks = list(self.visual.transformer.resblocks)
        else:
            layers = (self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4)
            self.blocks = [block for layer in layers for block in layer]
        self.unfreeze_last(0)
        self.eval()

    @property
    def fingerprint(self) -> str:
        """See `VisionEncoder.fingerprint`; of the name too: the same weights under another activation are another encoder."""
        return hashlib.sha256(f"{self.name} {super().fingerprint}".encode()).hexdigest()

    def _stem(self, images: Tensor) -> Tensor:
        result: Tensor = self.visual._embeds(images) if self._transformer else self.visual.stem(images)
        return result

    def _head(self, hidden: Tensor) -> Tensor:
        result: Tensor
        if self._transformer:
            result, _ = self.visual._pool(hidden)
            return result if self.visual.proj is None else result @ self.visual.proj
        result = self.visual.attnpool(hidden)
        return result

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """See `VisionEncoder.head_parameters`."""
        if not self._transformer:
            yield from self.visual.attnpool.parameters()
            return
        for name in ("attn_pool", "attn_pool_contrastive", "ln_post"):
            part = getattr(self.visual, name, None)
            if part is not None:
                yield from part.parameters()
        if self.visual.proj is not None:
            yield self.visual.proj


def load(backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
    """An encoder with the weights that `fewshot download` fetched.

    Raises:
        UsageError: no such model or tag, one that cannot be cut into blocks, or open_clip is not installed.
        DataError: the weights are not on this machine, or do not fit.
    """
    path = hub.find(_weights(backbone), download_root)
    visual = _visual(backbone)
    state = read_weights(path)
    load_tensors(visual, {key[7:]: value for key, value in state.items() if key.startswith("visual.")}, str(path))
    encoder = _wrap(visual, backbone)
    if isinstance(encoder, TimmEncoder) and encoder.needs_check:
        timm_parts.check(encoder, visual.eval())
    return encoder


def from_state(state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
    """An encoder from a checkpoint's tensors; the architecture comes from the name, and nothing is downloaded.

    Raises:
        UsageError: this open_clip does not know the name, or it is not installed.
        DataError: the tensors do not fit.
    """
    encoder = _wrap(_visual(backbone), backbone)
    load_tensors(encoder, state, backbone)
    return encoder


def load_text(backbone: str, download_root: str | Path | None = None) -> tuple[Any, Any]:
    """The whole model (float32, eval mode) and its tokenizer, for text embeddings.

    Raises:
        UsageError: no such model or tag, or open_clip is not installed.
        DataError: the weights are not on this machine or do not fit, or the text side takes more than this file: a tokenizer or a
            language model that would have to be downloaded.
    """
    model_name, _, config, _ = _resolve(backbone)
    path = hub.find(_weights(backbone), download_root)
    text = config["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("hf_model_name") or "siglip" in model_name.lower():
        raise DataError(
            f"{backbone}: its text side uses a tokenizer of the transformers library, which is not supported, so it has no text "
            "embeddings here. Leave zero-shot and text-blend out, or choose a model with CLIP's own tokenizer, such as ViT-B-32"
        )
    open_clip = _library()
    try:
        with torch.random.fork_rng(devices=[]):
            model = open_clip.create_model(model_name, pretrained=str(path), weights_only=True)
    except Exception as error:  # everything that a file can be beside what it should
        raise DataError(f"{path}: does not fit {backbone}: {' '.join(str(error).split())[:300]}") from error
    return model.float().eval(), open_clip.get_tokenizer(model_name)


def square(size: int | Sequence[int], name: str) -> int:
    """The side of a model's pictures.

    Raises:
        UsageError: they are not square.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise UsageError(f"{name}: takes pictures of {height} x {width}; only square ones are supported")
    return int(height)


def _library() -> Any:
    return hub.import_extra("open_clip", "open_clip_torch")


def _resolve(backbone: str) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Model, tag, the model's configuration, and the tag's.

    Raises:
        UsageError: no such model or tag; what there is instead.
    """
    open_clip = _library()
    model, _, tag = backbone.removeprefix(PREFIX).partition("/")
    config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        close = difflib.get_close_matches(model, open_clip.list_models(), 5, 0.4)
        raise UsageError(
            f"{backbone}: open_clip has no model {model!r}{': did you mean ' + ', '.join(close) if close else ''}. A backbone is "
            f"{PREFIX}<model>/<tag>, such as {PREFIX}ViT-B-32/laion2b_s34b_b79k"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise UsageError(f"{backbone}: open_clip's {model} has these tags: {', '.join(tags) or 'none'}")
    found = open_clip.get_pretrained_cfg(model, tag)
    quick = f"{model}-quickgelu"
    if (
        found.get("quick_gelu")
        and not config.get("quick_gelu")
        and tag in open_clip.list_pretrained_tags_by_model(quick)
    ):
        raise UsageError(f"{backbone}: these weights were trained with another activation; use {PREFIX}{quick}/{tag}")
    return model, tag, config, dict(found)


def _weights(backbone: str) -> hub.HubWeights:
    """Where the weights are published.

    Raises:
        UsageError: no such model or tag, or it is not on the hub.
    """
    *_, found = _resolve(backbone)
    repository, _, file = str(found.get("hf_hub") or "").rpartition("/")
    if not repository or file.endswith((".npz", ".npy")):
        raise UsageError(f"{backbone}: its weights are not on the Hugging Face hub as tensors; choose another tag")
    if not file:
        return hub.HubWeights(backbone, repository, (_SAFE_FILE, _FILE))
    safe = str(Path(file).with_suffix(".safetensors"))
    return hub.HubWeights(backbone, repository, (file,) if safe == file else (safe, file))


def _visual(backbone: str) -> Any:
    """The visual tower alone, with random weights: a text side may need more than is on this machine."""
    _, _, config, _ = _resolve(backbone)
    from open_clip.model import _build_vision_tower  # the library builds a tower alone only here

    with torch.random.fork_rng(devices=[]):  # constructors draw initial weights from the global generator
        return _build_vision_tower(
            config["embed_dim"],
            config["vision_cfg"] | {"timm_model_pretrained": False},
            config.get("quick_gelu", False),
        )


def _wrap(visual: Any, backbone: str) -> VisionEncoder:
    _, _, config, found = _resolve(backbone)
    colours = {"mean": found["mean"], "std": found["std"]}
    if hasattr(visual, "trunk"):
        size = square(visual.image_size, backbone)
        return TimmEncoder(
            visual.trunk, backbone, after=visual.head, image_size=size, embed_dim=config["embed_dim"], **colours
        )
    return OpenClipEncoder(visual, backbone, **colours)


@ENCODERS.register("open_clip:<model>/<tag>", "a model of open_clip", position=3)
class OpenClipFamily(hub.HubFamily):
    """Every model of open_clip that can be cut into blocks."""

    weights_files = hub.HubFamily.weights_files  # the published file is all that `load` reads

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """See `EncoderFamily.load`."""
        return load(backbone, download_root)

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """See `EncoderFamily.from_state`; the name tells the architecture."""
        return from_state(state, backbone)

    def text_encoder(
        self, backbone: str, device: str | torch.device, download_root: str | Path | None = None
    ) -> EncodeSentences:
        """See `EncoderFamily.text_encoder`."""
        model, tokenize = load_text(backbone, download_root)
        return sentence_encoder(model, tokenize, device)

    def published(self, backbone: str) -> hub.HubWeights:
        """See `HubFamily.published`."""
        return _weights(backbone)
