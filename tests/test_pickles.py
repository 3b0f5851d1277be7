"""No pickle is ever run: a real malicious one in every container, given as a backbone, as a run's weights and as its state."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from episodes.errors import DataError
from fewshot.__main__ import main
from fewshot.checkpoint import load_checkpoint
from fewshot.encoders import load_encoder
from fewshot.run_files import CONFIG, MODEL
from fewshot.tensors import sha256_of


class Evil:
    """Writes a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.canary),)


def evil_file(container: str, path: Path, canary: Path) -> None:
    """A pickle that runs code, in each of the containers in which weights travel."""
    payload = {"visual.proj": Evil(canary)}
    if container in ("pickle 0", "pickle 2", "pickle 5"):
        path.write_bytes(pickle.dumps(payload, protocol=int(container[-1])))
    elif container == "torch zip":
        torch.save(payload, path)
    elif container == "torch legacy":
        torch.save(payload, path, _use_new_zipfile_serialization=False)
    elif container == "torch tar":
        write_tar(path, payload)
    elif container in ("TorchScript", "TorchScript, constants"):
        with zipfile.ZipFile(path, "w") as file:
            evil = pickle.dumps(payload)
            file.writestr("m/data.pkl", evil if container == "TorchScript" else pickle.dumps({}))
            file.writestr("m/constants.pkl", evil)
            file.writestr("m/version", "3\n")
            file.writestr("m/code/__torch__.py", f"import os\nos.mkdir({str(canary)!r})\n")
    elif container == "numpy":
        np.savez(path, weights=np.array([Evil(canary)], dtype=object), allow_pickle=True)  # type: ignore[arg-type]
        path.with_name(f"{path.name}.npz").rename(path)


def write_tar(path: Path, payload: Any) -> None:
    """The container of torch before 0.1.10."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(payload)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


CONTAINERS = ("pickle 0", "pickle 2", "pickle 5", "torch zip", "torch legacy", "torch tar", "TorchScript")
CONTAINERS += ("TorchScript, constants", "numpy")


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_canary_sings_where_pickles_are_believed(container: str, tmp_path: Path) -> None:
    """The other tests prove nothing if the payload does not work."""
    canary = tmp_path / "canary"
    evil_file(container, tmp_path / "evil", canary)
    if container.startswith("pickle"):
        pickle.loads((tmp_path / "evil").read_bytes())
    elif container == "numpy":
        np.load(tmp_path / "evil", allow_pickle=True)["weights"]
    elif container.startswith("TorchScript"):
        with zipfile.ZipFile(tmp_path / "evil") as file:
            pickle.loads(file.read("m/constants.pkl"))
    elif container == "torch tar":
        with tarfile.open(tmp_path / "evil") as archive:
            member = archive.extractfile("pickle")
            assert member is not None
            pickle.loads(member.read())
    else:
        torch.load(tmp_path / "evil", weights_only=False)
    assert canary.is_dir()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ""])
@pytest.mark.parametrize("container", CONTAINERS)
def test_no_pickle_is_run_as_a_backbone(container: str, suffix: str, tmp_path: Path) -> None:
    path, canary = tmp_path / f"evil{suffix}", tmp_path / "canary"
    evil_file(container, path, canary)
    with pytest.raises(DataError, match=f"evil{suffix}: "):
        load_encoder(str(path))
    assert not canary.exists()


@pytest.mark.parametrize("container", CONTAINERS)
def test_no_pickle_is_run_as_part_of_a_run(container: str, tiny_run: Path, tiny_runs: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil_file(container, tiny_run / MODEL, canary)
    for named in (True, False):
        config = json.loads((tiny_run / CONFIG).read_text())
        config["files"] = {MODEL: sha256_of(tiny_run / MODEL)} if named else {}
        (tiny_run / CONFIG).write_text(json.dumps(config))
        with warnings.catch_warnings(), pytest.raises(DataError, match=r"model\.safetensors: cannot be read"):
            warnings.simplefilter("ignore")
            load_checkpoint(tiny_run)
    (tiny_run / MODEL).rename(tiny_run / "resume.safetensors")
    settings = json.loads((tiny_runs / "a" / CONFIG).read_text())["settings"]
    again = ["train", "--resume", "--output", str(tiny_run), "--quiet"]
    for key in ("train_data", "val_data", "backbone", "unfreeze_blocks", "epochs", "batch_size", "queries"):
        again += [f"--{key}", str(settings[key])]
    for key in ("val_queries", "val_episodes", "workers", "precision", "visual_lr"):
        again += [f"--{key}", str(settings[key])]
    assert main(again) == 1
    assert not canary.exists()
