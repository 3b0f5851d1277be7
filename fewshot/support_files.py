"""The files of `FewShot.save`: a support set of embeddings, beside the checkpoint that its encoder is of."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from episodes.errors import DataError
from episodes.files import atomic_write, display_name
from fewshot.run_files import CONFIG, LEARNED, METRICS, MODEL
from fewshot.tensors import load_tensors, save_tensors

SUPPORT = "support.safetensors"


@dataclass(frozen=True)
class SupportNote:
    """What a support set is of.

    Attributes:
        classes: their names, in order.
        classifier: the few-shot method.
        precision: arithmetic of the encoder.
        embed_views: views a picture.
        backbone: the encoder's name.
        encoder: its fingerprint.
    """

    classes: list[str]
    classifier: str
    precision: str
    embed_views: int
    backbone: str
    encoder: str


def write_support(path: Path, support: Mapping[str, Tensor], note: SupportNote, checkpoint: Path | None) -> None:
    """Write a support set and a copy of its checkpoint into a folder.

    Args:
        path: the folder.
        support: class -> (k, D) embeddings.
        note: what they are of.
        checkpoint: the folder of the checkpoint that the encoder is of; None for an untouched encoder.

    Raises:
        DataError: the folder cannot be written, or holds another run of 'fewshot train', which is never overwritten.
    """
    elsewhere = checkpoint is None or checkpoint.resolve() != path.resolve()
    trained_there = (path / METRICS).is_file() or not (path / SUPPORT).is_file()
    if elsewhere and trained_there and (path / CONFIG).is_file():
        raise DataError(
            f"{display_name(str(path))}: holds another run, which is never overwritten; give another folder"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        if checkpoint is not None and elsewhere:
            for name in (MODEL, LEARNED, CONFIG):
                if (checkpoint / name).is_file():
                    with atomic_write(path / name, "wb") as copy, (checkpoint / name).open("rb") as original:
                        shutil.copyfileobj(original, copy)
        tensors = {f"class.{number}": rows for number, rows in enumerate(support.values())}
        save_tensors(tensors, path / SUPPORT, asdict(note))
    except OSError as error:
        raise DataError(f"{display_name(str(path))}: cannot be written ({error}); give another folder") from error


def read_support(path: Path) -> tuple[dict[str, Tensor], SupportNote]:
    """What `write_support` wrote into a folder.

    Raises:
        DataError: it is damaged, or something else.
    """
    file = path / SUPPORT
    tensors, found = load_tensors(file)
    try:
        note = SupportNote(**{key: found[key] for key in SupportNote.__dataclass_fields__})
        return {name: tensors[f"class.{number}"] for number, name in enumerate(note.classes)}, note
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: is no support set of FewShot.save ({error} is missing)") from error
