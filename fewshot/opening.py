"""Encoders by name or by checkpoint for the commands: the weights are read only where they must compute."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fewshot.checkpoint import CONFIG, MODEL, Checkpoint, RunFacts, load_checkpoint, read_config
from fewshot.classifiers.base import Statistics
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.deferred import defer
from fewshot.encoders import VisionEncoder, family_of, load_encoder
from fewshot.encoders.base import Embedder

if TYPE_CHECKING:
    from fewshot.adaptation.meta import MetaLearner


def open_backbone(
    name: str, device: torch.device, download_root: str | Path | None, cache: EmbeddingCache | None
) -> Embedder:
    """An untouched encoder; see `fewshot.encoders.load_encoder`, whose errors it raises.

    Args:
        name: of the backbone.
        device: where it is to compute.
        download_root: where models were downloaded to.
        cache: where it is noted what an encoder is like; None loads it at once.
    """
    files = family_of(name).weights_files(name, download_root)
    own = files is not None and [str(path) for path in files] == [name]  # a file by its path: it may move
    return defer(
        "a weights file" if own else name,
        files,
        device,
        lambda: load_encoder(name, device=device, download_root=download_root),
        cache,
    )


class DeferredCheckpoint(RunFacts):
    """A finished run: its settings, and the rest when it is asked for."""

    def __init__(self, path: Path, device: torch.device, cache: EmbeddingCache | None) -> None:
        """Read the settings.

        Args:
            path: the run's folder.
            device: where the encoder is to compute.
            cache: see `open_backbone`.

        Raises:
            DataError, UsageError: those of `fewshot.checkpoint.load_checkpoint`.
        """
        self.path, self.config, self._device = path, read_config(path), device
        # Without a digest of the weights each loading warns of it.
        files = [path / MODEL, path / CONFIG] if MODEL in self.config.get("files", {}) else None
        self.encoder: Embedder = defer("a checkpoint", files, device, self._load, cache)
        self.encoder.embed_views = self.config["settings"].get("embed_views", 1)

    def _load(self) -> VisionEncoder:
        return self.opened.encoder

    @cached_property
    def opened(self) -> Checkpoint:
        """All of it."""
        return load_checkpoint(self.path, self._device)

    @property
    def backbone(self) -> str:
        """See `Checkpoint`."""
        return str(self.config["backbone"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Checkpoint`."""
        return tuple(self.config["class_names"])

    @property
    def statistics(self) -> Statistics | None:
        """See `Checkpoint`."""
        return self.opened.statistics

    @property
    def original_statistics(self) -> Statistics | None:
        """See `Checkpoint`."""
        return self.opened.original_statistics

    @property
    def scale(self) -> float:
        """See `Checkpoint`."""
        return self.opened.scale

    @property
    def own_method(self) -> MetaLearner | None:
        """See `Checkpoint`; prototypes need no weights to be told."""
        return self.opened.own_method if self.method_name != "prototypical" else None

    def untouched_encoder(self) -> VisionEncoder:
        """See `Checkpoint.untouched_encoder`."""
        return self.opened.untouched_encoder()
