"""Encoders by name or by checkpoint, for the commands and `FewShot`: the weights are read only where they must compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fewshot.checkpoint import Checkpoint, load_checkpoint
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.kinds import Calibration
from fewshot.classifiers.learned import Steps
from fewshot.classifiers.shipped import shipped_calibration
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.deferred import defer
from fewshot.encoders import VisionEncoder, family_of, load_encoder
from fewshot.encoders.base import Embedder
from fewshot.encoders.together import TogetherEncoder, parts_of
from fewshot.run_files import CONFIG, MODEL, RunFacts, read_config

if TYPE_CHECKING:
    from fewshot.adaptation.meta import MetaLearner


def open_backbone(
    name: str, device: torch.device, download_root: str | Path | None, cache: EmbeddingCache | None
) -> Embedder:
    """An untouched encoder, or several together, each of which waits by itself; see `fewshot.encoders.load_encoder` for the errors.

    Args:
        name: of the backbone.
        device: where it is to compute.
        download_root: where models were downloaded to.
        cache: where it is noted what an encoder is like; None loads it at once.
    """
    parts = parts_of(name)
    if len(parts) > 1:
        return TogetherEncoder(name, [open_backbone(part, device, download_root, cache) for part in parts])
    load = partial(load_encoder, name, device=device, download_root=download_root)
    files = family_of(name).weights_files(name, download_root, cache) if cache is not None else None
    own = files is not None and [str(path) for path in files] == [name]  # a file by its path: it may move
    return defer("a weights file" if own else name, files, device, load, cache)


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


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """An encoder, what it is called, and the checkpoint it came from, if any."""

    encoder: Embedder
    backbone: str
    checkpoint: DeferredCheckpoint | None

    @property
    def checkpoint_name(self) -> str | None:
        """The checkpoint's path, for reports."""
        return str(self.checkpoint.path) if self.checkpoint else None

    @property
    def calibration(self) -> Mapping[str, Calibration]:
        """Classifier -> what is known of its confidence over this encoder; missing where nothing is."""
        return shipped_calibration(self.backbone) if self.checkpoint is None else self.checkpoint.calibration

    @property
    def statistics(self) -> Statistics | None:
        """Of the training classes under this encoder; None where nobody took them."""
        return shipped_statistics(self.backbone) if self.checkpoint is None else self.checkpoint.statistics

    @property
    def steps(self) -> Steps | None:
        """Of the classifier `learned`, where a checkpoint brings its own; None for those of the package."""
        return None if self.checkpoint is None else self.checkpoint.steps


def open_either(
    name: str | Path,
    device: torch.device,
    *,
    embed_views: int | None,
    download_root: str | Path | None,
    cache: EmbeddingCache | None,
) -> LoadedEncoder:
    """Take a folder with a config.json for a checkpoint, anything else for a backbone.

    Args:
        name: of the backbone, or the folder.
        device: where it is to compute.
        embed_views: views a picture; None for the checkpoint's number, or one.
        download_root: see `open_backbone`.
        cache: see `open_backbone`.

    Raises:
        DataError, UsageError: those of `fewshot.encoders.load_encoder` and `fewshot.checkpoint.load_checkpoint`.
    """
    if (Path(name) / CONFIG).is_file():
        checkpoint = DeferredCheckpoint(Path(name), device, cache)
        checkpoint.encoder.embed_views = embed_views or checkpoint.encoder.embed_views
        return LoadedEncoder(checkpoint.encoder, checkpoint.backbone, checkpoint)
    encoder = open_backbone(str(name), device, download_root, cache)
    encoder.embed_views = embed_views or 1
    return LoadedEncoder(encoder, str(name), None)
