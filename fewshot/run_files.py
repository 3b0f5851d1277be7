"""A run's folder without its weights: the names of its files, its settings, and what they tell.

The format is in `fewshot.checkpoint`, which reads the weights too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from episodes.errors import DataError
from episodes.files import atomic_write, read_text
from fewshot.checkpoint_schema import FORMAT, problem_with_config
from fewshot.classifiers.confidence import Confidence
from fewshot.classifiers.kinds import Calibration
from fewshot.classifiers.learned import Steps
from fewshot.encoders.base import VisionEncoder

CONFIG, METRICS, MODEL, RESUME = "config.json", "metrics.csv", "model.safetensors", "resume.safetensors"
LEARNED = "learned.json"
_WEIGHTS_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


class RunFacts:
    """What a finished run's settings tell, without its weights.

    Attributes:
        path: Its directory.
        config: All of config.json.
    """

    path: Path
    config: dict[str, Any]

    @property
    def calibration(self) -> dict[str, Calibration]:
        """Classifier -> what validation says of its confidence."""
        stored = self.config.get("calibration", {})
        return {name: Calibration((Confidence.from_json(known),)) for name, known in stored.items()}

    @property
    def steps(self) -> Steps | None:
        """Of the classifier `learned`, where 'fewshot learn' has put some here.

        Raises:
            DataError: The file is damaged.
        """
        file = self.path / LEARNED
        return Steps.read(file) if file.is_file() else None

    @property
    def method_name(self) -> str:
        """What names queries of new tasks: a gradient-based method where that was trained and kept, else prototypes."""
        return str(self.config["settings"].get("method", "prototypical")) if self.tuned else "prototypical"

    @property
    def tuned(self) -> bool:
        """False where selection kept the untouched encoder."""
        return bool(self.config["selected"]["alpha"])


def is_finished(path: Path) -> bool:
    """Whether a directory holds a finished run.

    Args:
        path: The directory.

    Returns:
        True where the weights are there: they are written last.
    """
    return (path / MODEL).is_file()


def read_config(path: Path) -> dict[str, Any]:
    """config.json of a run, checked against its schema.

    Args:
        path: The run's directory.

    Returns:
        Its keys, as JSON gives them.

    Raises:
        DataError: There is none, or it is not one of ours; names the file and the key.
    """
    file = path / CONFIG
    try:
        config = json.loads(read_text(file))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{path}: not a checkpoint: {CONFIG} is missing. Expected a folder that 'fewshot train' made"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as a run's settings ({error}). Copy the file anew") from error
    problem = problem_with_config(config)
    if problem is not None:
        raise DataError(f"{file}: {problem}. Put it back as 'fewshot train' wrote it, or copy the file anew")
    return dict(config)


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write config.json, atomically.

    Args:
        path: The run's directory.
        config: Its keys.
    """
    with atomic_write(path / CONFIG) as file:
        json.dump({"format": FORMAT, **config}, file, indent=2, ensure_ascii=False)
        file.write("\n")


def describe_encoder(encoder: VisionEncoder, backbone: str) -> dict[str, Any]:
    """What config.json says of an encoder, so that other weights under its name, or its weights under another name, are refused.

    Args:
        encoder: The encoder, tuned or not.
        backbone: The name that it was loaded by. Of a weights file the path is left out: files move.

    Returns:
        The keys embed_dim, image_size and encoder.
    """
    known = {"name": encoder_name(backbone), "kind": type(encoder).__name__, "blocks": len(encoder.blocks)}
    return {"embed_dim": encoder.embed_dim, "image_size": encoder.image_size, "encoder": known}


def encoder_name(backbone: str) -> str:
    """What a run's settings call an encoder: files move, so the path of one is left out."""
    return "a weights file" if Path(backbone).suffix in _WEIGHTS_SUFFIXES else backbone
