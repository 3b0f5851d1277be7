"""The families whose weights are in OpenAI's format: the embedded `tiny`, OpenAI's models by name, and weights files by path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.errors import DataError, UsageError
from fewshot.encoders import tiny
from fewshot.encoders._clip_import import import_clip
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.download import download, model_urls, weights_file
from fewshot.encoders.family import (
    EncoderFamily,
    EncodeSentences,
    Notes,
    Progress,
    TrainingClasses,
    sentence_encoder,
)
from fewshot.encoders.offline import strongest_offline
from fewshot.encoders.openai_clip import build_clip, not_openai, visual_from_state
from fewshot.encoders.weights import read_weights
from fewshot.registry import ENCODERS
from fewshot.tensors import load_tensors

TINY = "tiny"


def clip_state(name: str, download_root: str | Path | None = None) -> tuple[dict[str, Tensor], str]:
    """Read the state dict of a backbone in OpenAI's names.

    Args:
        name: "tiny", one of OpenAI's model names, or the path of a weights file (also of one like tiny's).
        download_root: where OpenAI's models were downloaded to.

    Returns:
        The tensors, and where they came from, for messages.

    Raises:
        UsageError: it is neither a known name nor a file.
        DataError: the model is known but was not downloaded, or the file is broken.
    """
    path = _path_of(name, download_root)
    source = TINY if name == TINY else str(path)
    state = read_weights(path, tiny.WEIGHTS_SHA256 if name == TINY else None)
    if tiny.ROWS not in state:
        return state, source
    try:
        return tiny.expand_state_dict(state), source
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _path_of(name: str, download_root: str | Path | None) -> Path:
    if name == TINY:
        return tiny.weights_path()
    urls = model_urls()
    if name in urls:
        path = weights_file(name, download_root)
        if not path.is_file():
            raise DataError(
                f"the weights of {name} are not on this machine: expected them at {path}. Fetch them with: fewshot download --model_name "
                f"{name}   (nothing is downloaded unasked; the strongest encoder on this machine needs no download: "
                f"--backbone {strongest_offline()})"
            )
        return path
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"backbone {name!r} is neither a known name nor a weights file. Known: {known_backbones()}")
    return path


def known_backbones() -> str:
    """List every name that a backbone can have, for messages."""
    named = [entry for entry in ENCODERS.entries if not entry.startswith("<")]
    return (
        f"{', '.join([*model_urls(), *named])}; or the path of a file in OpenAI's format; or several of "
        "these joined by +"
    )


def load_clip(name: str, *, device: str | torch.device = "cpu", download_root: str | Path | None = None) -> Any:
    """Load the whole CLIP model (image and text side) in float32 and eval mode.

    Args:
        name: see `clip_state`.
        device: where it computes.
        download_root: where OpenAI's models were downloaded to.

    Raises:
        UsageError, DataError: as `clip_state`.
    """
    state, source = clip_state(name, download_root)
    return build_clip(state, source).to(device)


@ENCODERS.register(
    "<CLIP name or weights file>", "OpenAI's CLIP, such as ViT-B/32 or RN50, or a file in its format", position=1
)
class OpenAIFamily(EncoderFamily):
    """OpenAI's models by name, and files in their format by path."""

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """See `EncoderFamily.load`."""
        state, source = clip_state(backbone, download_root)
        visual = {key: value for key, value in state.items() if key.startswith("visual.")}
        if not visual:
            raise not_openai(source, "no tensor's name begins with visual.")
        # Some people keep the image side alone, which is no release and is not rounded.
        released = any(key.startswith("transformer.") for key in state)
        return visual_from_state(visual, backbone, rounded=released)

    def weights_files(
        self, backbone: str, download_root: str | Path | None = None, notes: Notes | None = None
    ) -> list[Path] | None:
        """See `EncoderFamily.weights_files`."""
        return [_path_of(backbone, download_root)]

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """See `EncoderFamily.from_state`; the shapes of the tensors tell the architecture."""
        return visual_from_state(state, backbone)

    def text_encoder(
        self, backbone: str, device: str | torch.device, download_root: str | Path | None = None
    ) -> EncodeSentences:
        """See `EncoderFamily.text_encoder`."""
        model = load_clip(backbone, download_root=download_root)
        return sentence_encoder(model, partial(import_clip().tokenize, truncate=True), device)

    def download(
        self,
        backbone: str,
        download_root: str | Path | None = None,
        *,
        mirror: str | None = None,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """See `EncoderFamily.download`; `mirror` is a folder that holds the files by name, such as ViT-B-32.pt."""
        return download(backbone, download_root, mirror=mirror, progress=progress)

    def present(self) -> list[str]:
        """See `EncoderFamily.present`."""
        return [name for name in model_urls() if weights_file(name).is_file()]


@ENCODERS.register("tiny", "a small CLIP that is part of the package", position=2, strength=0)
class TinyFamily(OpenAIFamily):
    """The encoder that ships with the package."""

    def download(
        self,
        backbone: str,
        download_root: str | Path | None = None,
        *,
        mirror: str | None = None,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Refuse: it is part of the package.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{TINY} is part of the package: there is nothing to download")

    def present(self) -> list[str]:
        """See `EncoderFamily.present`."""
        return [TINY]

    def usual_distance(self, backbone: str) -> float | None:
        """See `EncoderFamily.usual_distance`."""
        return tiny.USUAL_DISTANCE

    def statistics(self, backbone: str) -> dict[str, Tensor] | None:
        """See `EncoderFamily.statistics`; of its own training photographs."""
        path = tiny.weights_path().with_name(tiny.STATISTICS)
        return load_tensors(path, tiny.STATISTICS_SHA256)[0] if path.is_file() else None

    def training_classes(self, backbone: str) -> TrainingClasses | None:
        """See `EncoderFamily.training_classes`: Tiny-ImageNet's and Omniglot's, as its model card says."""
        return TrainingClasses("tiny's training set", frozenset(), frozenset(tiny.training_classes()))
