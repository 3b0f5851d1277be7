"""Weights files that are bombs, that claim more than they hold, or hold numbers that are none: refused by name, before memory is taken."""

from __future__ import annotations

import multiprocessing
import pickle
import resource
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from episodes.errors import DataError
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.encoders import load_encoder, tiny
from fewshot.encoders.weights import read_weights
from fewshot.tensors import sha256_of
from tests.conftest import make_clip


@pytest.mark.parametrize("inside", ["m/data.pkl", "m/data/0", "other"])
def test_an_archive_that_inflates_to_gigabytes_is_refused_by_its_directory(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name in {"m/constants.pkl", "m/data.pkl"} - {inside}:
            file.writestr(name, pickle.dumps({}))
        with file.open(inside, "w", force_zip64=True) as stream:
            for _ in range(1024):
                stream.write(bytes(1 << 20))
    assert path.stat().st_size < 6e6
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb\.pt: would inflate from [\d,]+ to 1,07\d,\d+,\d+ bytes"):
        read_weights(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_spread_over_more_than_the_file_holds_is_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "spread.pt"
    state: dict[str, Any] = make_clip().state_dict()  # type: ignore[attr-defined]
    state["visual.proj"] = torch.zeros(1).expand(100_000, 100_000)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match=r"spread\.pt: visual\.proj claims the shape \(100000, 100000\)"):
        read_weights(path)


def test_tensors_that_share_storage_are_fine(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    torch.save({"a": base[:4], "b": base.view(3, 4).T, "c": base}, tmp_path / "shared.pt")
    assert read_weights(tmp_path / "shared.pt")["b"].shape == (4, 3)


def read_with_little_memory(path: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
    with pytest.raises(DataError) as refused:
        read_weights(path)
    assert "MemoryError" not in str(refused.value)


@pytest.mark.parametrize("instruction", [b"]r\xff\xff\xff\x7f", b"\x96\x00\x00\x00\x00\x19\x00\x00\x00"])
def test_a_pickle_that_asks_for_much_memory_gets_none(tmp_path: Path, instruction: bytes) -> None:
    """A memo of two thousand million places, and a hundred gigabytes of bytes, each asked for by less than ten."""
    path = tmp_path / "greedy.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", b"\x80\x02" + instruction + b".")
        file.writestr("m/constants.pkl", b"")
    process = multiprocessing.get_context("spawn").Process(target=read_with_little_memory, args=(str(path),))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("kind", ["pt", "safetensors"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, kind: str, value: float) -> None:
    path = tmp_path / f"broken.{kind}"
    state = {name: tensor.clone() for name, tensor in make_clip().state_dict().items()}  # type: ignore[attr-defined]
    state["visual.proj"][1, 2] = value
    torch.save(state, path) if kind == "pt" else save_file(state, path)
    with pytest.raises(DataError, match=rf"broken\.{kind}: visual\.proj holds 1 numbers of 2,048 that are not finite"):
        load_encoder(str(path))


def test_an_attention_mask_is_infinite_by_design(tmp_path: Path) -> None:
    mask = torch.full((4, 4), float("-inf")).triu(1)
    torch.save({"attn_mask": mask, "text.attn_mask": mask, "w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "m.pt")
    assert len(read_weights(tmp_path / "m.pt")) == 3


def test_the_shipped_files_are_those_that_the_source_names() -> None:
    folder = tiny.weights_path().parent
    assert sha256_of(tiny.weights_path()) == tiny.WEIGHTS_SHA256
    assert sha256_of(folder / "statistics.safetensors") == tiny.STATISTICS_SHA256


@pytest.mark.parametrize("name", ["tiny.safetensors", "statistics.safetensors"])
def test_a_flipped_bit_in_a_shipped_file_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(tiny.weights_path().with_name(name).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(tiny, "weights_path", lambda: tmp_path / "tiny.safetensors")
    with pytest.raises(DataError, match=rf"{name}: has SHA-256 .* the file is damaged"):
        load_encoder("tiny") if name.startswith("tiny") else shipped_statistics("tiny")
