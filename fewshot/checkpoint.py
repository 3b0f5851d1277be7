"""Checkpoints: a directory of tensors and JSON, from which nothing is ever executed.

config.json         settings, class names, the encoder's description, what was selected, the SHA-256 of model.safetensors
metrics.csv         a row for the untouched encoder, each epoch, each mix, and the decision
model.safetensors   encoder.*    the whole visual encoder that was kept
                    original.*   the untouched values of the tensors that were tuned
                    classifier.* and log_scale
                    method.*     what a gradient-based method learned beside the encoder
                    statistics.* and original_statistics.*   of the training classes
learned.json        where 'fewshot learn' was run: the steps of the classifier 'learned'
resume.safetensors  only while a run is unfinished; carries its own digest
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from episodes.errors import DataError, UsageError
from episodes.notebook import table
from episodes.wording import counted
from fewshot.classifiers.base import Statistics
from fewshot.encoders import encoder_from_state
from fewshot.encoders.base import VisionEncoder
from fewshot.encoders.heads import ResidualClassifier
from fewshot.run_files import (
    CONFIG,
    MODEL,
    RunFacts,
    describe_encoder,
    encoder_name,
    is_finished,
    read_config,
    write_config,
)
from fewshot.tensors import load_tensors, tensors_beside

if TYPE_CHECKING:
    from fewshot.adaptation.meta import MetaLearner


@dataclass(frozen=True, eq=False)
class Checkpoint(RunFacts):
    """A finished run.

    Attributes:
        path: Its directory.
        encoder: The visual encoder that was kept, frozen.
        backbone: What it was tuned from.
        class_names: (C,) the training classes.
        classifier: The residual classifier over them.
        scale: The learned factor on the cosine.
        statistics: Of the training classes under the kept encoder; None where the run stored none.
        original_statistics: Under the untouched one.
        config: All of config.json.
        method: What a gradient-based method learned beside the encoder; None where prototypes were trained.
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
    method: MetaLearner | None = None

    @property
    def own_method(self) -> MetaLearner | None:
        """The method that names queries of new tasks; None for prototypes, and where selection kept the untouched encoder."""
        return self.method if self.method_name != "prototypical" else None

    def __repr__(self) -> str:
        kind = "tuned" if self.tuned else "untouched"
        return (
            f"<Checkpoint {self.path}: {kind} {self.backbone}, {self.encoder.embed_dim} wide, "
            f"{counted(len(self.class_names), 'training class', 'training classes')}>"
        )

    def _repr_html_(self) -> str:
        """What it was made of and with, in a few lines."""
        settings = self.config["settings"]
        names = ", ".join(self.class_names[:12]) + (" …" if len(self.class_names) > 12 else "")
        kept = ("epochs", "batch_size", "unfreeze_blocks", "visual_lr", "seed", "train_data")
        rows = [
            ("training classes", f"{len(self.class_names)}: {names}"),
            ("confidence known of", ", ".join(self.calibration)),
        ]
        return table((), [*rows, *((name, settings[name]) for name in kept if name in settings)], repr(self)[1:-1])

    def untouched_encoder(self) -> VisionEncoder:
        """Undo the tuning.

        Returns:
            A new encoder with the weights from before.
        """
        state = {**self.encoder.state_dict(), **self._original}
        untouched = encoder_from_state(state, self.backbone).to(self.encoder.device)
        untouched.embed_views = self.encoder.embed_views
        return untouched


def save_checkpoint(
    path: Path,
    config: dict[str, Any],
    encoder: VisionEncoder,
    classifier: ResidualClassifier,
    log_scale: Tensor,
    original: dict[str, Tensor],
    statistics: Statistics,
    original_statistics: Statistics,
    method: MetaLearner | None = None,
) -> None:
    """Write config.json, with the digest of the weights, and then model.safetensors: it is what makes a run finished.

    Args:
        path: The run's directory.
        config: The keys of config.json.
        encoder: The encoder that is kept.
        classifier: The residual classifier.
        log_scale: () logarithm of the learned scale.
        original: The values from before tuning, of the encoder's tensors that were tuned.
        statistics: Of the training classes under the kept encoder.
        original_statistics: Under the untouched one.
        method: What a gradient-based method learned.
    """
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors |= {f"original.{name}": value for name, value in original.items()}
    tensors |= {f"classifier.{name}": value for name, value in classifier.state_dict().items()}
    tensors |= {f"method.{name}": value for name, value in method.state_dict().items()} if method is not None else {}
    tensors |= statistics.to_tensors() | original_statistics.to_tensors("original_statistics.")
    with tensors_beside({**tensors, "log_scale": log_scale}, path / MODEL) as digest:
        write_config(path, {**config, "files": {MODEL: digest}})


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Checkpoint:
    """Load a finished run; needs no download, and no code from the files is executed.

    Args:
        path: The run's directory.
        device: Where encoder and classifier go.

    Returns:
        The run.

    Raises:
        DataError: It is not a finished run of this format, or its weights are damaged or those of another run; the message
            names the file, and what is wrong with it.
        UsageError: The library that the backbone comes from is not installed.
    """
    path = Path(path)
    config = read_config(path)
    if not is_finished(path):
        raise DataError(
            f"{path}: the run is not finished ({MODEL} is missing). Continue it with: fewshot train --train_data "
            f"{config['settings']['train_data']} --output {path} --resume"
        )
    if config.get("selected") is None:
        raise DataError(f"{path / CONFIG}: selected is null, though the run is finished. Copy the file anew")
    tensors = _checked_tensors(path, config)
    encoder = _encoder(path, config, tensors).to(device)
    encoder.embed_views = config["settings"].get("embed_views", 1)
    try:
        settings = config["settings"]
        classifier = ResidualClassifier(
            encoder.embed_dim, len(config["class_names"]), settings.get("dropout", 0), settings.get("residual", True)
        )
        classifier.load_state_dict(_part(tensors, "classifier."))
        scale = float(tensors["log_scale"].exp())
        statistics = Statistics.from_tensors(tensors)
        original_statistics = Statistics.from_tensors(tensors, "original_statistics.")
        method = _method(config["settings"], encoder, _part(tensors, "method."))
    except (KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"{path / MODEL}: does not fit {CONFIG}: {error}") from error
    return Checkpoint(
        path,
        encoder,
        config["backbone"],
        tuple(config["class_names"]),
        classifier.to(device).eval(),
        scale,
        statistics,
        original_statistics,
        config,
        _part(tensors, "original."),
        method,
    )


def _checked_tensors(path: Path, config: dict[str, Any]) -> dict[str, Tensor]:
    digest = config.get("files", {}).get(MODEL)
    if digest is None:
        warnings.warn(
            f"{path / CONFIG}: says no digest of {MODEL} (an older version wrote none), so damage to the weights would go unnoticed",
            stacklevel=3,
        )
    return load_tensors(path / MODEL, digest)[0]


def _encoder(path: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> VisionEncoder:
    """The encoder that the tensors make, if it is the one that config.json describes."""
    backbone = config["backbone"]
    described = config.get("encoder")
    if described is not None and described["name"] != encoder_name(backbone):
        raise DataError(
            f"{path / CONFIG}: backbone is {backbone!r}, but the run tuned {described['name']}. Put the key back, or copy the file anew"
        )
    try:
        encoder = encoder_from_state(_part(tensors, "encoder."), backbone)
    except (DataError, UsageError) as error:
        raise type(error)(
            f"{path / CONFIG}: the encoder of backbone {backbone!r} cannot be made of {MODEL} beside it: {error}"
        ) from error
    for key, found in describe_encoder(encoder, backbone).items():
        if config.get(key) not in (found, None):
            raise DataError(
                f"{path / CONFIG}: {key} is {config[key]}, but the weights beside it make {found}. The files belong to different runs, or "
                "one was edited: copy both anew"
            )
    return encoder


def _method(settings: dict[str, Any], encoder: VisionEncoder, tensors: dict[str, Tensor]) -> MetaLearner | None:
    """What a gradient-based method learned; None in runs of prototypes, as those of older versions are."""
    name = settings.get("method", "prototypical")
    if name == "prototypical":
        return None
    from fewshot.adaptation.inner_loop import InnerLoop
    from fewshot.adaptation.meta import MetaLearner

    method = MetaLearner(
        name, encoder, InnerLoop(settings["inner_lr"], settings["inner_steps"], settings["first_order"])
    )
    method.load_state_dict(tensors)
    return method.to(encoder.device).requires_grad_(False)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
