"""timm's image models as encoders: `timm:<name>` (Wightman 2019, the library pytorch-image-models).

The embedding is what timm gives without a classifier (`num_classes=0`): its global pooling, here of unit norm. Picture size,
mean and standard deviation are the model's own. The pictures go through this project's one test transform: the shorter side
to the model's size, bicubic. timm's evaluation of a model differs from that: it cuts a border off (`crop_pct`), and resizes some
models bilinearly. One transform for all encoders keeps them comparable and cuts off nothing that a class may be known by.
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
from fewshot.encoders.base import VisionEncoder, cast_matrices
from fewshot.encoders.family import TrainingClasses
from fewshot.encoders.folding import fold_batch_norms
from fewshot.encoders.weights import read_weights
from fewshot.registry import ENCODERS

PREFIX = "timm:"
_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder(VisionEncoder):
    """A timm model without its classifier, and what a CLIP model may put behind it."""

    def __init__(
        self,
        trunk: nn.Module,
        name: str,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        embed_dim: int,
        after: nn.Module | None = None,
    ) -> None:
        """Wrap a timm model and find its blocks.

        Args:
            trunk: the timm model, used as it is, in float32.
            name: the backbone, for messages and the fingerprint.
            image_size: pictures are (3, image_size, image_size).
            mean: of the colour channels.
            std: their standard deviation.
            embed_dim: D.
            after: applied to the trunk's output (B, D'), such as a projection; nothing by default.

        Raises:
            UsageError: no blocks are found in it.
        """
        super().__init__()
        self.trunk: Any
        self.after: Any
        self.trunk, self.after = trunk.float(), (nn.Identity() if after is None else after).float()
        self.name, self.image_size, self.embed_dim = name, image_size, embed_dim
        self.mean = (float(mean[0]), float(mean[1]), float(mean[2]))
        self.std = (float(std[0]), float(std[1]), float(std[2]))
        self.blocks = timm_parts.blocks_of(trunk, name)
        self._kind = timm_parts.kind_of(trunk)
        self.unfreeze_last(0)
        self.eval()

    @property
    def fingerprint(self) -> str:
        """See `VisionEncoder.fingerprint`; of the name too, because it says how the weights are used."""
        folded = " folded" if timm_parts.can_fold(self.trunk) else ""  # other last digits than before it was done
        return hashlib.sha256(f"{self.name}{folded} {super().fingerprint}".encode()).hexdigest()

    @property
    def needs_check(self) -> bool:
        """Whether the forward pass must be compared with timm's own, because this kind of model is not known."""
        return self._kind == "chain"

    def inference_copy(self, dtype: torch.dtype) -> VisionEncoder:
        """See `VisionEncoder.inference_copy`; an EfficientNet's batch norms are folded, and its channels lie last in memory."""
        if not timm_parts.can_fold(self.trunk):
            return super().inference_copy(dtype)
        copied = super().inference_copy(torch.float32)
        assert isinstance(copied, TimmEncoder)
        fold_batch_norms(copied.trunk)
        cast_matrices(copied, dtype)
        return copied.to(memory_format=torch.channels_last)

    def _stem(self, images: Tensor) -> Tensor:
        hidden: Tensor = images
        if self._kind == "chain":
            for part in timm_parts.before(self.trunk):
                hidden = part(hidden)
            return hidden
        hidden = self.trunk._pos_embed(self.trunk.patch_embed(images))
        hidden = hidden[0] if self._kind == "eva" else self.trunk.patch_drop(hidden)
        hidden = self.trunk.norm_pre(hidden)
        return hidden

    def _run(self, hidden: Tensor, blocks: Sequence[nn.Module]) -> Tensor:
        if self._kind != "eva":
            return super()._run(hidden, blocks)
        rope: Any = timm_parts.rotation(self.trunk) if blocks else None
        mixed = rope is not None and getattr(self.trunk, "rope_mixed", False)  # every depth has a rotation of its own
        for block in blocks:
            depth = next(place for place, each in enumerate(self.blocks) if each is block) if mixed else 0
            hidden = block(hidden, rope=rope[depth] if mixed else rope)
        return hidden

    def _head(self, hidden: Tensor) -> Tensor:
        between = timm_parts.behind(self.trunk, with_head=False) if self._kind == "chain" else [self.trunk.norm]
        for part in between:
            hidden = part(hidden)
        result: Tensor = self.after(self.trunk.forward_head(hidden))
        return result

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """See `VisionEncoder.head_parameters`."""
        for part in timm_parts.behind(self.trunk, with_head=True):
            yield from part.parameters()
        yield from self.after.parameters()


def load(backbone: str, download_root: str | Path | None = None) -> TimmEncoder:
    """An encoder with the weights that `fewshot download` fetched.

    Raises:
        UsageError: no such model, one that cannot be cut into blocks, or timm is not installed.
        DataError: the weights are not on this machine, or do not fit.
    """
    path = hub.find(_weights(backbone), download_root)
    encoder = _wrap(_build(backbone, read_weights(path), str(path)), backbone)
    if encoder.needs_check:
        timm_parts.check(encoder, encoder.trunk)
    return encoder


def from_state(state: Mapping[str, Tensor], backbone: str) -> TimmEncoder:
    """An encoder from a checkpoint's tensors; the architecture comes from the name, and nothing is downloaded.

    Raises:
        UsageError: this timm does not know the name, or timm is not installed.
        DataError: the tensors do not fit.
    """
    encoder = _wrap(_build(backbone, None, backbone), backbone)
    load_tensors(encoder, state, backbone)
    return encoder


def load_tensors(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """`load_state_dict`, strictly, in float32.

    Raises:
        DataError: names or shapes differ; `source` is named.
    """
    try:
        module.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except RuntimeError as error:
        raise DataError(
            f"{source}: the tensors do not fit the model: {' '.join(str(error).split())[:300]}. Another version of the library may name "
            "them differently; otherwise fetch the file again"
        ) from error


def _weights(backbone: str) -> hub.HubWeights:
    """Where the weights are published.

    Raises:
        UsageError: no such model, or none of its weights are on the hub.
    """
    timm = hub.import_extra("timm", "timm")
    name = backbone.removeprefix(PREFIX)
    config = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
    if config is None:
        known = [*filter(timm.is_model_pretrained, timm.list_models()), *timm.list_pretrained()]
        close = difflib.get_close_matches(name, known, 5, 0.5)
        raise UsageError(
            f"timm has no pretrained model {name!r}{': did you mean ' + ', '.join(close) if close else ''}. "
            "timm.list_pretrained() gives them all"
        )
    if not config.hf_hub_id:
        raise UsageError(f"{backbone}: its weights are not on the Hugging Face hub; choose another model or tag")
    return hub.HubWeights(backbone, config.hf_hub_id, (config.hf_hub_filename,) if config.hf_hub_filename else _FILES)


def _build(backbone: str, state: Mapping[str, Tensor] | None, source: str) -> Any:
    """The timm model without its classifier; random without a state.

    The classifier goes after loading, so that every tensor of the file has to fit.
    """
    timm = hub.import_extra("timm", "timm")
    overlay = {"pretrained_cfg_overlay": {"state_dict": dict(state)}} if state is not None else {}
    name = backbone.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise UsageError(f"timm {timm.__version__} has no model {name!r}")
    try:
        with torch.random.fork_rng(devices=[]):  # constructors draw initial weights from the global generator
            model = timm.create_model(name, pretrained=state is not None, **overlay)
    except (RuntimeError, KeyError) as error:
        raise DataError(
            f"{source}: the tensors do not fit {backbone}: {' '.join(str(error).split())[:300]}. Fetch the file again with: fewshot "
            f"download --model_name {backbone}"
        ) from error
    model.pretrained_cfg.pop("state_dict", None)  # it would be kept, and copied with the model
    model.reset_classifier(0)
    return model


def _wrap(model: Any, backbone: str) -> TimmEncoder:
    config = hub.import_extra("timm.data", "timm").resolve_model_data_config(model)
    _, height, width = config["input_size"]
    if height != width:
        raise UsageError(f"{backbone}: takes pictures of {height} x {width}; only square ones are supported")
    return TimmEncoder(
        model, backbone, image_size=height, mean=config["mean"], std=config["std"], embed_dim=_width(model)
    )


def _width(model: Any) -> int:
    """D, the width of the features that the removed classifier took."""
    return int(getattr(model, "head_hidden_size", None) or model.num_features)


def imagenet_classes() -> TrainingClasses:
    """ImageNet-1k's 1,000 classes (Russakovsky et al. 2015, arXiv 1409.0575), by timm's table of WordNet's ids and names."""
    info = hub.import_extra("timm.data", "timm").ImageNetInfo("imagenet-1k")
    described = [str(info.index_to_description(index)) for index in range(info.num_classes())]
    names = frozenset(name.strip() for each in described for name in each.split(","))
    return TrainingClasses("ImageNet-1k", frozenset(info.label_names()), names)


@ENCODERS.register("timm:<name>", "a model of timm, pictures only", position=4)
class TimmFamily(hub.HubFamily):
    """Every model of timm that can be cut into blocks."""

    pictures_only = "timm's models have no text side, they know pictures only"
    weights_files = hub.HubFamily.weights_files  # the published file is all that `load` reads

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """See `EncoderFamily.load`."""
        return load(backbone, download_root)

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """See `EncoderFamily.from_state`; the name tells the architecture."""
        return from_state(state, backbone)

    def published(self, backbone: str) -> hub.HubWeights:
        """See `HubFamily.published`."""
        return _weights(backbone)

    def training_classes(self, backbone: str) -> TrainingClasses | None:
        """See `EncoderFamily.training_classes`: ImageNet-1k's where the weights were given that many classes."""
        config = hub.import_extra("timm", "timm").get_pretrained_cfg(backbone.removeprefix(PREFIX))
        return imagenet_classes() if config is not None and config.num_classes == 1000 else None
