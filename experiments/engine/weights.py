"""The weights of a finished run, and mixes of them with the untouched ones, to be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from episodes.errors import UsageError
from experiments.engine.plan import PlannedRun
from fewshot.adaptation.meta import MetaLearner
from fewshot.checkpoint import Checkpoint, load_checkpoint
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.device import resolve_device
from fewshot.encoders import load_encoder
from fewshot.encoders.base import VisionEncoder


class Weights(Protocol):
    """An encoder to be measured, tuned or untouched. D is the embedding width."""

    tuned: bool
    folder: Path
    device: torch.device

    def encoder(self, alpha: float | None) -> VisionEncoder:
        """The encoder with a mix of old and tuned weights; None for the kept ones."""
        ...

    def untouched(self) -> VisionEncoder:
        """The encoder from before, with the part marked that was trained."""
        ...

    def residual(self, features: Tensor) -> Tensor:
        """(n, D) embeddings -> (n, D) what the residual classifier's first half makes of them."""
        ...

    def statistics(self, alpha: float | None) -> Statistics | None:
        """Of the training classes, where there are any."""
        ...

    def own_method(self) -> tuple[MetaLearner, float] | None:
        """The gradient-based method that the run trained and kept, and the learned scale; None for prototypes."""
        ...


class RunWeights:
    """Of a finished run; see `Weights`."""

    tuned = True

    def __init__(self, run: PlannedRun) -> None:
        self.folder, self.device = run.folder, resolve_device(run.config.device)
        self._config = run.config
        self._checkpoint: Checkpoint = load_checkpoint(run.folder, self.device)

    def encoder(self, alpha: float | None) -> VisionEncoder:
        """See `Weights`.

        Raises:
            UsageError: The run kept the untouched weights, so the tuned ones are gone.
        """
        kept = self._checkpoint.encoder
        share = float(self._checkpoint.config["selected"]["alpha"])
        if alpha is None or alpha == share:
            return kept
        if share == 0:
            raise UsageError(
                f"{self.folder}: kept the untouched weights, so there is no mix of alpha {alpha:g} to measure. Give --set mix=1: it "
                "keeps the tuned weights whatever validation says"
            )
        mixed = self._checkpoint.untouched_encoder()
        old, now = mixed.state_dict(), kept.state_dict()
        for name, value in old.items():
            if value.is_floating_point():  # the old tensors themselves: state_dict gives no copies
                value += (now[name] - value) * (alpha / share)
        return mixed

    def untouched(self) -> VisionEncoder:
        """See `Weights`."""
        encoder = self._checkpoint.untouched_encoder()
        encoder.unfreeze_last(self._config.unfreeze_blocks)
        return encoder

    def residual(self, features: Tensor) -> Tensor:
        """See `Weights`."""
        with torch.no_grad():
            return self._checkpoint.classifier.features(features.to(self.device)).cpu()

    def statistics(self, alpha: float | None) -> Statistics | None:
        """See `Weights`."""
        return self._checkpoint.statistics if alpha is None else None

    def own_method(self) -> tuple[MetaLearner, float] | None:
        """See `Weights`."""
        method = self._checkpoint.own_method
        return None if method is None else (method, self._checkpoint.scale)


class UntouchedWeights:
    """Of the backbone; see `Weights`."""

    tuned = False

    def __init__(self, run: PlannedRun) -> None:
        config = run.config
        self.folder, self.device, self._backbone = run.folder, resolve_device(config.device), config.backbone
        self._encoder = load_encoder(config.backbone, device=self.device, download_root=config.download_root)
        self._encoder.embed_views = config.embed_views

    def encoder(self, alpha: float | None) -> VisionEncoder:
        """See `Weights`."""
        return self._encoder

    def untouched(self) -> VisionEncoder:
        """See `Weights`."""
        return self._encoder

    def residual(self, features: Tensor) -> Tensor:
        """See `Weights`; there is no residual classifier yet."""
        raise NotImplementedError

    def statistics(self, alpha: float | None) -> Statistics | None:
        """See `Weights`."""
        return shipped_statistics(self._backbone)

    def own_method(self) -> tuple[MetaLearner, float] | None:
        """See `Weights`."""
        return None


def of_run(run: PlannedRun) -> Weights:
    """The weights of a finished run."""
    return RunWeights(run)


def of_untouched(run: PlannedRun) -> Weights:
    """Those that it began with."""
    return UntouchedWeights(run)
