"""Checkpoints: a directory of tensors and JSON, from which nothing is ever executed.

config.json         settings, class names, the encoder's description, what was selected
metrics.csv         a row for the untouched encoder, each epoch, each mix, and the decision
model.safetensors   encoder.*    the whole visual encoder that was kept
                    original.*   the untouched values of the tensors that were tuned
                    classifier.* and log_scale
                    statistics.* and original_statistics.*   of the training classes
resume.safetensors  only while a run is unfinished
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.errors import DataError
from episodes.files import atomic_write
from fewshot.classifiers.base import Statistics
from fewshot.encoders import encoder_from_state
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.heads import ResidualClassifier
from fewshot.tensors import load_tensors, save_tensors

CONFIG, METRICS, MODEL, RESUME = "config.json", "metrics.csv", "model.safetensors", "resume.safetensors"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A finished run.

    Attributes:
        path: its directory.
        encoder: the visual encoder that was kept, frozen.
        backbone: what it was tuned from.
        class_names: (C,) the training classes.
        classifier: the residual classifier over them.
        scale: the learned factor on the cosine.
        statistics: of the training classes under the kept encoder; None where the run stored none.
        original_statistics: under the untouched one.
        config: all of config.json.
    """

    path: Path
    encoder: VisionEncoder
    backbone: str
    class_names: tuple[str, ...]
    classifier: ResidualClassifier
    scale: float
    statistics: Statistics | None
    original_statistics: Statistics | None
    config: dict[str, Any]
    _original: dict[str, Tensor]

    def untouched_encoder(self) -> VisionEncoder:
        """A new encoder with the weights from before tuning."""
        state = {**self.encoder.state_dict(), **self._original}
        return encoder_from_state(state, self.backbone).to(self.encoder.device)

    @property
    def calibration(self) -> dict[str, dict[str, Any]]:
        """Classifier -> temperature, calibration error before and after, quantiles of outsiders' confidence."""
        return dict(self.config.get("calibration", {}))

    @property
    def tuned(self) -> bool:
        """False where selection kept the untouched encoder."""
        return bool(self.config["selected"]["alpha"])


def is_finished(path: Path) -> bool:
    """Whether the directory holds a finished run."""
    return (path / MODEL).is_file()


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a run.

    Raises:
        DataError: there is none, or it is not one of ours.
    """
    file = path / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']}, this version reads {FORMAT}")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: not a checkpoint: {CONFIG} is missing. Expected a folder that 'fewshot train' made"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: cannot be read as a run's settings ({error})") from error
    return dict(config)


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write config.json, atomically."""
    with atomic_write(path / CONFIG) as file:
        json.dump({"format": FORMAT, **config}, file, indent=2, ensure_ascii=False)
        file.write("\n")


def save_checkpoint(
    path: Path,
    encoder: VisionEncoder,
    classifier: ResidualClassifier,
    log_scale: Tensor,
    original: dict[str, Tensor],
    statistics: Statistics,
    original_statistics: Statistics,
) -> None:
    """Write model.safetensors; it is what makes a run finished, so it is written last."""
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"original.{name}": value for name, value in original.items()}
    tensors |= {f"classifier.{name}": value for name, value in classifier.state_dict().items()}
    tensors |= statistics.to_tensors() | original_statistics.to_tensors("original_statistics.")
    save_tensors({**tensors, "log_scale": log_scale}, path / MODEL)


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a finished run; needs no download, and no code from the files is executed.

    Raises:
        DataError: it is not a finished run of this format; the message names what is missing.
    """
    path = Path(path)
    config = read_config(path)
    if not is_finished(path):
        raise DataError(
            f"{path}: the run is not finished ({MODEL} is missing). Continue it with: fewshot train --train_data "
            f"{config['settings']['train_data']} --output {path} --resume"
        )
    tensors, _ = load_tensors(path / MODEL)
    encoder = encoder_from_state(_part(tensors, "encoder."), config["backbone"]).to(device)
    weights = _part(tensors, "classifier.")
    try:
        classifier = ResidualClassifier(encoder.embed_dim, len(config["class_names"]), config["settings"]["dropout"])
        classifier.load_state_dict(weights)
        scale = float(tensors["log_scale"].exp())
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{path / MODEL}: does not fit {CONFIG}: {error}") from error
    return Checkpoint(
        path,
        encoder,
        config["backbone"],
        tuple(config["class_names"]),
        classifier.to(device).eval(),
        scale,
        Statistics.from_tensors(tensors),
        Statistics.from_tensors(tensors, "original_statistics."),
        config,
        _part(tensors, "original."),
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
