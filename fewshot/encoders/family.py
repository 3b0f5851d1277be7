"""What a family of encoders offers: one way of finding, loading and downloading backbones.

`fewshot.encoders` calls it for every backbone whose name it answers to. A new family is one file with a subclass that registers
itself in `fewshot.registry.ENCODERS`, under the names that it answers to: "tiny", or "timm:<name>" for all that begin with "timm:".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from episodes.errors import DataError, UsageError
from fewshot.encoders.base import VisionEncoder

Progress = Callable[[int, int], None]  # bytes so far, bytes in all (0 where the server does not say)
EncodeSentences = Callable[[list[str]], Tensor]  # n sentences -> (n, D) float32 on the CPU


class Notes(Protocol):
    """Where a family keeps what is slow to find out; the cache of embeddings is one."""

    def get_note(self, key: bytes) -> bytes | None:
        """What was put under a key; None where nothing was, or it is damaged."""
        ...

    def put_note(self, key: bytes, value: bytes) -> None:
        """Keep a value under a key that holds everything that the value depends on."""
        ...


@dataclass(frozen=True)
class TrainingClasses:
    """What an encoder was trained to tell apart; few-shot accuracy on these is no measure of new classes.

    Attributes:
        source: the training set's name, for messages.
        wordnet_ids: such as "n02123045".
        names: of the classes, as their source writes them.
    """

    source: str
    wordnet_ids: frozenset[str]
    names: frozenset[str]


class EncoderFamily:
    """Backbones that are loaded in one way. Subclasses give `load` and `from_state`, and the rest where they have it.

    Attributes:
        pictures_only: what is said where someone asks for a text side that there is not.
    """

    pictures_only = "this encoder has no text side, it knows pictures only"

    def __init_subclass__(cls) -> None:
        """Whoever loads in another way than its base class reads files that the base class does not know."""
        if "load" in vars(cls) and "weights_files" not in vars(cls):
            cls.weights_files = EncoderFamily.weights_files  # type: ignore[method-assign]

    def load(self, backbone: str, download_root: str | Path | None = None) -> VisionEncoder:
        """Load an encoder in float32 and eval mode, everything frozen; nothing is ever downloaded here.

        Args:
            backbone: the whole name, with its prefix.
            download_root: where `fewshot download` put weights; None for the usual place.

        Raises:
            UsageError: there is no such model, or its library is not installed.
            DataError: the weights are not on this machine (the message gives the command that fetches them), or are broken.
        """
        raise NotImplementedError

    def weights_files(
        self, backbone: str, download_root: str | Path | None = None, notes: Notes | None = None
    ) -> list[Path] | None:
        """Name the files that `load` makes the encoder of.

        Together with this package's code and its libraries (`fewshot.encoders.code`) they are all that it depends on.

        Args:
            backbone: the whole name.
            download_root: see `load`.
            notes: keeps what takes long to find out.

        Returns:
            The files; None where they are not known: then the encoder is loaded before it is known which embeddings are its own.

        Raises:
            UsageError, DataError: as `load`, where a file is not there.
        """
        return None

    def from_state(self, state: Mapping[str, Tensor], backbone: str) -> VisionEncoder:
        """Rebuild an encoder from the tensors of its `state_dict()`: this is how a checkpoint is loaded.

        Args:
            state: of an encoder that `load` gave.
            backbone: the name that it was loaded by.

        Raises:
            UsageError: the library that it comes from is not installed, or does not know the model.
            DataError: the tensors do not fit together.
        """
        raise NotImplementedError

    def text_encoder(
        self, backbone: str, device: str | torch.device, download_root: str | Path | None = None
    ) -> EncodeSentences:
        """Load the text side of the model, for classifiers that use class names.

        Args:
            backbone: the whole name.
            device: where it computes.
            download_root: see `load`.

        Returns:
            A function from n sentences to (n, D) float32 embeddings on the CPU; what is too long for the model is cut.

        Raises:
            UsageError, DataError: as `load`; DataError where the model has no text side.
        """
        raise DataError(
            f"{backbone}: {self.pictures_only}. Leave zero-shot and text-blend out, or choose a CLIP "
            "model: one of OpenAI's names, open_clip:<model>/<tag>, or tiny"
        )

    def download(
        self,
        backbone: str,
        download_root: str | Path | None = None,
        *,
        mirror: str | None = None,
        quiet: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Fetch the weights and verify them; the only method that may use the network.

        Args:
            backbone: the whole name.
            download_root: where to put them; None for the usual place.
            mirror: address of a server to ask instead of the usual one.
            quiet: no progress bar of a library's own.
            progress: called with (bytes so far, bytes in all), where the family can tell.

        Returns:
            The path of the weights.

        Raises:
            UsageError: there is no such model, or nothing to download.
            DataError: the network, the server or the file failed.
        """
        raise UsageError(f"{backbone}: there is nothing to download")

    def present(self) -> list[str]:
        """Name the backbones whose weights are on this machine, where that can be told without a search."""
        return []

    def training_classes(self, backbone: str) -> TrainingClasses | None:
        """Name the classes that the weights were trained on; None where nobody knows, as for pictures of the web."""
        return None

    def usual_distance(self, backbone: str) -> float | None:
        """How far apart pictures of different classes lie where the encoder is as good as any other that it may work together with.

        Returns:
            A mean squared distance (1 - mean cosine); None where nobody has measured. See `fewshot.classifiers.together`.
        """
        return None

    def statistics(self, backbone: str) -> dict[str, Tensor] | None:
        """Read the training-class statistics that come with an encoder; None where none come.

        Raises:
            DataError: their file is broken.
        """
        return None


def sentence_encoder(
    model: Any, tokenize: Callable[[list[str]], Tensor], device: str | torch.device
) -> EncodeSentences:
    """Join a CLIP model's `encode_text` and its tokenizer into one function.

    Args:
        model: with the method `encode_text`.
        tokenize: n sentences -> (n, length) tokens.
        device: where the model computes.
    """
    model = model.to(device)

    def encode(sentences: list[str]) -> Tensor:
        with torch.inference_mode():
            encoded: Tensor = model.encode_text(tokenize(sentences).to(device))
        return encoded.float().cpu()

    return encode
