"""Checkpoints, weights files, caches and states that are damaged, or somebody else's."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fewshot.run_files import CONFIG, MODEL
from fewshot.tensors import sha256_of
from tests.bad_input.case import Case, Change, Group, Place, Words, predict


def with_run(place: Place) -> Words:
    return "predict", place.tasks, place.result, "--checkpoint", place.run


def config(change: Callable[[dict[str, Any]], object]) -> Change:
    """Another config.json."""

    def breaks(place: Place) -> None:
        found = json.loads((place.run / CONFIG).read_text())
        change(found)
        (place.run / CONFIG).write_text(json.dumps(found))

    return breaks


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """Other weights, with a digest that is right."""

    def breaks(place: Place) -> None:
        found = load_file(place.run / MODEL)
        change(found)
        save_file(found, place.run / MODEL)
        config(lambda text: text["files"].update({MODEL: sha256_of(place.run / MODEL)}))(place)

    return breaks


def instead(name: str, make: Callable[[Path], object]) -> Change:
    """Something else than a file of a run."""
    return lambda place: [(place.run / name).unlink(), make(place.run / name)]


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def text(data: bytes) -> Change:
    return lambda place: (place.run / CONFIG).write_bytes(data)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("mark-of-a-pickle-that-ran",)


def evil(path: Path) -> None:
    torch.save({"visual.proj": Evil()}, path)


def weights(make: Callable[[Path], object]) -> Change:
    """A file as the backbone."""

    def breaks(place: Place) -> Words:
        make(place.root / "weights.pt")
        return "--backbone", place.root / "weights.pt"

    return breaks


def bomb(path: Path) -> None:
    """4 MB that inflate to 4 GB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        with archive.open("m/data/0", "w", force_zip64=True) as stream:
            for _ in range(64):
                stream.write(bytes(1 << 20))
        archive.writestr("m/version", "3\n")


def cached(statement: str) -> Change:
    def breaks(place: Place) -> None:
        with closing(sqlite3.connect(place.embeddings, isolation_level=None)) as connection:
            connection.execute(statement)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    return breaks


def cache_bits(place: Place) -> None:
    """200 flipped bits all over the file."""
    cached("VACUUM")(place)
    data = bytearray(place.embeddings.read_bytes())
    for where in np.random.default_rng(0).integers(4096, len(data), 200).tolist():
        data[where] ^= 4
    place.embeddings.write_bytes(data)


def cache_file(data: Callable[[bytes], bytes]) -> Change:
    def breaks(place: Place) -> None:
        whole = place.embeddings.read_bytes()
        shutil.rmtree(place.cache)
        place.cache.mkdir()
        place.embeddings.write_bytes(data(whole))

    return breaks


ANOTHER = "UPDATE embeddings SET value = (SELECT value FROM embeddings LIMIT 1)"


def cache_full(path: Path) -> None:
    path.mkdir()
    (path / "embeddings.sqlite").symlink_to("/dev/full")


def cache_instead(make: Callable[[Path], object]) -> Change:
    return lambda place: [shutil.rmtree(place.cache), make(place.cache)]


DIGEST = "the file is damaged, or belongs to another"
CHECKPOINTS = Group("Checkpoints (`predict --checkpoint`)", with_run, (
    Case("no such folder", lambda place: shutil.rmtree(place.run), 1, "not a checkpoint"),
    Case("an empty folder", lambda place: [shutil.rmtree(place.run), place.run.mkdir()], 1, "not a checkpoint"),
    Case("no weights", lambda place: (place.run / MODEL).unlink(), 1, MODEL),
    Case("no config.json", lambda place: (place.run / CONFIG).unlink(), 1, "not a checkpoint"),
    Case("one flipped bit of a weight", lambda place: flip(place.run / MODEL, -5), 1, DIGEST),
    Case("one flipped bit of the header", lambda place: flip(place.run / MODEL, 20), 1, MODEL),
    Case("weights cut in their middle", lambda place: cut(place.run / MODEL, 0.5), 1, "cannot be read as a safetensors file"),
    Case("empty weights", lambda place: cut(place.run / MODEL, 0), 1, "cannot be read as a safetensors file"),
    Case("a pickle that runs code as weights", lambda place: evil(place.run / MODEL), 1, "cannot be read as a safetensors file"),
    Case("a NaN among the weights", tensors(lambda all_: all_["encoder.visual.proj"][0].fill_(float("nan"))), 1, "that are not finite"),
    Case("a weight is missing", tensors(lambda all_: all_.pop("encoder.visual.proj")), 1, "model.safetensors beside it"),
    Case("a weight of another shape", tensors(lambda all_: all_.update({"encoder.visual.proj": torch.zeros(3, 3)})), 1,
         "model.safetensors beside it"),
    Case("config.json is cut", text(b'{"format": 1,'), 1, CONFIG),
    Case("config.json is no JSON", text(b"\xff\xfe"), 1, CONFIG),
    Case("config.json is a list", text(b"[]"), 1, CONFIG),
    Case("100,000 brackets in config.json", text(b"[" * 100_000), 1, CONFIG),
    Case("config.json is a FIFO", instead(CONFIG, os.mkfifo), 1, "a FIFO, not a regular file"),
    Case("config.json is a link to /dev/zero", instead(CONFIG, zeros), 1, "a device, not a regular file"),
    Case("the weights are a link to /dev/zero", instead(MODEL, zeros), 1, MODEL),
    Case("a later format", config(lambda found: found.update(format=99)), 1, "format"),
    Case("another backbone's name", config(lambda found: found.update(backbone="ViT-B/32")), 1, "backbone"),
    Case("a class name twice", config(lambda found: found.update(class_names=["a", "a", "b", "c"])), 1, "class_names"),
    Case("another width", config(lambda found: found.update(embed_dim=512)), 1, "embed_dim"),
    Case("a temperature below 0", config(lambda found: found["calibration"]["prototype"].update(temperature=-1)), 1, "temperature"),
    Case("without digests (as older versions wrote it)", config(lambda found: found.pop("files")), 0, "says no digest"),
))  # fmt: skip
WEIGHTS = Group("Weights files (`predict --backbone FILE`)", predict, (
    Case("text", weights(lambda path: path.write_text("weights")), 1, "weights.pt: "),
    Case("empty", weights(lambda path: path.write_bytes(b"")), 1, "weights.pt: "),
    Case("a folder", weights(lambda path: path.mkdir()), 2, "neither a known name nor a weights file"),
    Case("a pickle that runs code", weights(lambda path: path.write_bytes(pickle.dumps({"visual.proj": Evil()}))), 1, "weights.pt: "),
    Case("a pickle that runs code, in torch's archive", weights(evil), 1, "weights.pt: "),
    Case("an archive that inflates 1,000 times", weights(bomb), 1, "weights.pt: "),
    Case("a state dict of another model", weights(lambda path: torch.save({"fc.weight": torch.zeros(2, 2)}, path)), 1, "weights.pt: "),
))  # fmt: skip
CACHE = Group("Cache of embeddings (`predict`: the CSV is the same to the byte)", predict, (
    Case("200 flipped bits", cache_bits, 0, "cache"),
    Case("every value is another one's", cached(ANOTHER), 0, "holds damaged entries"),
    Case("every value is text", cached("UPDATE embeddings SET value = 'text'"), 0, "holds damaged entries"),
    Case("cut in its middle", cache_file(lambda data: data[: len(data) // 2]), 0, ""),
    Case("empty", cache_file(lambda data: b""), 0, ""),
    Case("noise", cache_file(lambda data: bytes(range(256)) * 64), 0, "cannot be used"),
    Case("another program's tables", cached("ALTER TABLE embeddings RENAME COLUMN value TO worth"), 0, "cannot be used"),
    Case("a folder in the file's place", cache_instead(lambda path: (path / "embeddings.sqlite").mkdir(parents=True)), 0, "cannot be used"),
    Case("a file in the folder's place", cache_instead(lambda path: path.write_bytes(b"")), 0, "cannot be used"),
    Case("a link to nowhere in the folder's place", cache_instead(lambda path: path.symlink_to("/nowhere/cache")), 0, "cannot be used"),
    Case("a full disk", cache_instead(cache_full), 0, "cannot be used"),
), same_result=True)  # fmt: skip
