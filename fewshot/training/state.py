"""What a killed run needs to continue exactly: one file, replaced after each epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from episodes.errors import DataError
from fewshot.encoders.base import VisionEncoder
from fewshot.run_files import RESUME
from fewshot.tensors import load_tensors, save_tensors
from fewshot.training.lora import merged_weights
from fewshot.training.metrics import Row
from fewshot.training.model import EpisodicModel
from fewshot.training.optimiser import trained_parameters


@dataclass
class RunState:
    """How far a run has come.

    Attributes:
        epoch: epochs done.
        best_epoch: the one with the highest validation accuracy; 0 before the first.
        best_accuracy: its accuracy.
        best: its tuned encoder weights.
        best_head: its classifier and scale.
        rows: metrics so far.
        seconds: of training so far.
        named: unreadable pictures that were named already.
        scaler: of float16 training.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_head: dict[str, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    named: dict[str, str] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


def trainable_weights(encoder: VisionEncoder) -> dict[str, Tensor]:
    """Copies of an encoder's trainable tensors, by name."""
    return {n: p.detach().cpu().clone() for n, p in encoder.named_parameters() if p.requires_grad}


def tuned_weights(model: EpisodicModel) -> dict[str, Tensor]:
    """Copies of what training has made of the encoder's tuned tensors, by their name in the plain encoder."""
    return merged_weights(model.encoder) or trainable_weights(model.encoder)


def head_weights(model: EpisodicModel) -> dict[str, Tensor]:
    """Copies of what is trained beside the encoder: the classifier's tensors, the method's and the scale."""
    parts = {"classifier": model.classifier, **({"method": model.method} if model.method is not None else {})}
    copies = {f"{p}.{n}": v.detach().cpu().clone() for p, part in parts.items() for n, v in part.state_dict().items()}
    return {**copies, "log_scale": model.log_scale.detach().cpu().clone()}


def load_head(model: EpisodicModel, values: dict[str, Tensor]) -> None:
    """Put `head_weights` back."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}

    model.classifier.load_state_dict(part("classifier."))
    if model.method is not None:
        model.method.load_state_dict(part("method."))
    model.log_scale.data.copy_(values["log_scale"])


def save_state(folder: Path, state: RunState, model: EpisodicModel, optimiser: torch.optim.Optimizer) -> None:
    """Write resume.safetensors."""
    tensors = {f"model.{name}": value.detach() for name, value in trained_parameters(model).items()}
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in trained_parameters(model).items()}
    for parameter, moments in optimiser.state.items():
        for key, value in moments.items():
            tensors[f"optimiser.{key}.{names[parameter]}"] = torch.as_tensor(value)
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    tensors |= {f"best_head.{name}": value for name, value in state.best_head.items()}
    note = {
        key: getattr(state, key)
        for key in ("epoch", "best_epoch", "best_accuracy", "rows", "seconds", "named", "scaler")
    }
    save_tensors(tensors, folder / RESUME, note)


def load_state(folder: Path, model: EpisodicModel, optimiser: torch.optim.Optimizer) -> RunState:
    """Read resume.safetensors into the model and the optimiser; a run killed before its first epoch starts over.

    Raises:
        DataError: the file is broken, or that of another run.
    """
    if not (folder / RESUME).is_file():
        return RunState()
    tensors, note = load_tensors(folder / RESUME)
    try:
        return _put_back(RunState(**note), tensors, model, optimiser)
    except (KeyError, RuntimeError, TypeError) as error:
        raise DataError(
            f"{folder / RESUME}: is not of this run: {type(error).__name__}: {str(error)[:200]}. Copy the run's folder anew, or delete "
            "the file to start the run over"
        ) from error


def _put_back(
    state: RunState, tensors: dict[str, Tensor], model: EpisodicModel, optimiser: torch.optim.Optimizer
) -> RunState:
    """Copy weights and moments into the model and the optimiser; return the remaining tensors, which belong to the state."""
    for name, parameter in trained_parameters(model).items():
        parameter.data.copy_(tensors.pop(f"model.{name}"))
        moments = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            stored = tensors.pop(f"optimiser.{key}.{name}", None)
            if stored is not None:
                moments[key] = stored if key == "step" else stored.to(parameter.device)
        if moments:
            optimiser.state[parameter] = moments
    state.best = {n.removeprefix("best."): v for n, v in tensors.items() if n.startswith("best.")}
    state.best_head = {n.removeprefix("best_head."): v for n, v in tensors.items() if n.startswith("best_head.")}
    return state
