"""Checkpoints that are damaged, mixed up or not ours: one message that names the file, and never an answer from wrong weights."""

from __future__ import annotations

import json
import resource
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from episodes.errors import DataError, UsageError
from fewshot.__main__ import main
from fewshot.checkpoint import load_checkpoint
from fewshot.run_files import CONFIG, MODEL, write_config
from fewshot.tensors import load_tensors, save_tensors, sha256_of
from fewshot.training import TrainConfig, train
from tests.conftest import write_pictures


def edit(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((run / CONFIG).read_text())
    change(config)
    (run / CONFIG).write_text(json.dumps(config))


def test_the_digest_is_that_of_the_file(tiny_run: Path) -> None:
    config = json.loads((tiny_run / CONFIG).read_text())
    assert config["files"] == {MODEL: sha256_of(tiny_run / MODEL)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_checkpoint(tiny_run).config == config


def test_no_flipped_bit_of_the_weights_goes_unnoticed(tiny_run: Path) -> None:
    whole = (tiny_run / MODEL).read_bytes()
    generator = np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little") + 8
    places = [*range(0, 16), *generator.integers(16, header, 12), *generator.integers(header, len(whole), 12)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        (tiny_run / MODEL).write_bytes(damaged)
        with pytest.raises(DataError, match=r"model\.safetensors: "):
            load_checkpoint(tiny_run)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_truncated_weights(tiny_run: Path, share: float) -> None:
    data = (tiny_run / MODEL).read_bytes()
    (tiny_run / MODEL).write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"model\.safetensors: cannot be read as a safetensors file"):
        load_checkpoint(tiny_run)


def test_weights_of_another_run_are_refused(tiny_run: Path, tiny_runs: Path) -> None:
    shutil.copy(tiny_runs / "b" / MODEL, tiny_run / MODEL)
    expected, found = sha256_of(tiny_runs / "a" / MODEL), sha256_of(tiny_runs / "b" / MODEL)
    assert expected != found
    with pytest.raises(
        DataError, match=f"SHA-256 {found}, expected {expected}: the file is damaged, or belongs to another"
    ):
        load_checkpoint(tiny_run)


def test_a_run_of_an_older_version_loads_with_a_warning(tiny_run: Path) -> None:
    expected = load_checkpoint(tiny_run)
    edit(tiny_run, lambda config: [config.pop(key) for key in ("files", "encoder")])
    with pytest.warns(UserWarning, match=r"config\.json: says no digest of model\.safetensors") as told:
        loaded = load_checkpoint(tiny_run)
    assert len(told) == 1 and loaded.encoder.fingerprint == expected.encoder.fingerprint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tiny_run: Path, value: float) -> None:
    tensors = load_file(tiny_run / MODEL)
    tensors["encoder.visual.proj"][3, 5] = value
    save_file(tensors, tiny_run / MODEL)
    edit(tiny_run, lambda config: config["files"].update({MODEL: sha256_of(tiny_run / MODEL)}))
    with pytest.raises(
        DataError, match=r"model\.safetensors: encoder\.visual\.proj holds 1 numbers of [\d,]+ that are not"
    ):
        load_checkpoint(tiny_run)


EDITS: dict[str, tuple[str, Any]] = {
    "class_names as text": ("class_names", "abc"), "class_names empty": ("class_names", []),
    "class_names of numbers": ("class_names", [1, 2, 3, 4]), "class_names twice": ("class_names", ["a", "a", "b", "c"]),
    "class_names null": ("class_names", None), "backbone a number": ("backbone", 5), "backbone null": ("backbone", None),
    "backbone of OpenAI": ("backbone", "ViT-B/32"), "backbone of timm": ("backbone", "timm:vit_base_patch16_clip_224"),
    "backbone unknown": ("backbone", "timm:there_is_no_such_model"), "settings a list": ("settings", []),
    "settings null": ("settings", None), "settings empty": ("settings", {}), "dropout as text": ("settings.dropout", "high"),
    "dropout 2": ("settings.dropout", 2), "dropout NaN": ("settings.dropout", float("nan")),
    "epochs below 0": ("settings.epochs", -1), "crop_scale short": ("settings.augmentation.crop_scale", [0.5]),
    "train_data a number": ("settings.train_data", 3), "selected null": ("selected", None), "selected a list": ("selected", [1]),
    "alpha as text": ("selected.alpha", "most"), "alpha 7": ("selected.alpha", 7), "alpha true": ("selected.alpha", True),
    "embed_dim": ("embed_dim", 512), "embed_dim below 0": ("embed_dim", -1), "image_size": ("image_size", 224),
    "image_size as text": ("image_size", "64"), "encoder a number": ("encoder", 1), "blocks": ("encoder.blocks", 99),
    "kind": ("encoder.kind", "ClipResNet"), "calibration a list": ("calibration", [1]),
    "calibration of a number": ("calibration.prototype", 3), "temperature as text": ("calibration.prototype.temperature", "hot"),
    "temperature short": ("calibration.prototype.temperature", [0.0]), "temperature huge": ("calibration.prototype.temperature", [1e9] * 6),
    "temperature NaN": ("calibration.prototype.temperature", [float("nan")] * 6), "rates empty": ("calibration.prototype.rates", []),
    "rates falling": ("calibration.prototype.rates", [0.5, 0.1]), "thresholds short": ("calibration.prototype.thresholds", []),
    "thresholds of 7": ("calibration.prototype.thresholds", [[0.0] * 7] * 2),
    "thresholds of 6 and of 10": ("calibration.prototype.thresholds", [[0.0] * 6, [0.0] * 10]),
    "costs as text": ("calibration.prototype.costs", ["a"]), "ways turned": ("calibration.prototype.ways", [9, 2]),
    "shots of 0": ("calibration.prototype.shots", [0, 5]), "source missing": ("calibration.prototype.source", None),
    "old temperature 0": ("calibration.ridge.temperature", 0), "old temperature below 0": ("calibration.ridge.temperature", -1.0),
    "old temperature NaN": ("calibration.ridge.temperature", float("nan")),
    "old temperature as text": ("calibration.ridge.temperature", "hot"),
    "quantiles empty": ("calibration.ridge.outsider_confidence", []),
    "quantiles as text": ("calibration.ridge.outsider_confidence", ["a"]),
    "quantiles of 5": ("calibration.ridge.outsider_confidence", [5.0]), "format 2": ("format", 2), "format text": ("format", "1"),
    "files a list": ("files", []), "digest a number": (f"files.{MODEL}", 4), "digest short": (f"files.{MODEL}", "abc"),
    "digest of another": (f"files.{MODEL}", "0" * 64), "pictures": ("pictures", {"train": "many", "validation": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_the_settings_that_makes_no_sense(
    tiny_run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, value = EDITS[name]

    def change(config: dict[str, Any]) -> None:
        zeros = [0.0] * 6
        config["calibration"]["prototype"] = {
            "temperature": zeros, "ways": [2, 9], "shots": [1, 5], "rates": [0.1, 0.5], "thresholds": [zeros] * 2, "costs": [zeros] * 2,
            "ece_before": 0.1, "ece_after": 0.1, "new_classes": True, "outsiders": 9, "source": "some",
        }  # fmt: skip
        older = {"temperature": 1.0, "ece_before": 0.1, "ece_after": 0.1, "outsider_confidence": [0.5]}
        config["calibration"]["ridge"] = older
        keys = [MODEL if key == "model" else key for key in path.split(".") if key != "safetensors"]
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    edit(tiny_run, change)
    write_pictures(tiny_run / "task" / "support", 2, 1)
    write_pictures(tiny_run / "task", 1, 1).joinpath("class00").rename(tiny_run / "task" / "query")
    assert main(
        ["predict", str(tiny_run / "task"), str(tiny_run / "x.csv"), "--checkpoint", str(tiny_run), "--quiet"]
    ) in (1, 2)
    said = capsys.readouterr().err
    key = "SHA-256" if name == "digest of another" else path.split(".")[-1].replace("safetensors", MODEL)
    key = "encoder" if path.startswith("encoder") else key
    place = MODEL if name == "digest of another" else CONFIG
    assert f"{tiny_run / place}: " in said and key in said and "Traceback" not in said, said
    assert not (tiny_run / "x.csv").exists()


@pytest.mark.parametrize("key", ["format", "backbone", "class_names", "settings", "embed_dim", "image_size"])
def test_a_missing_key_is_named(tiny_run: Path, key: str) -> None:
    edit(tiny_run, lambda config: config.pop(key))
    with pytest.raises(DataError, match=rf"config\.json: {key} is missing"):
        load_checkpoint(tiny_run)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"text"', "[" * 100_000, "\xff\xfe", '{"format": 1', "NaN"]
)
def test_settings_that_are_something_else(tiny_run: Path, text: str) -> None:
    (tiny_run / CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"config\.json: "):
        load_checkpoint(tiny_run)


def test_folders_that_are_no_checkpoint(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "empty")
    with pytest.raises(DataError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(DataError):
        load_checkpoint(tiny_run / MODEL)
    (tiny_run / CONFIG).unlink()
    (tiny_run / CONFIG).mkdir()
    with pytest.raises(DataError, match=r"config\.json: cannot be read"):
        load_checkpoint(tiny_run)


def test_a_backbone_file_may_move(tiny_run: Path, tiny_runs: Path, vit_file: Path) -> None:
    """The path says where the weights came from; the checkpoint does not need them."""
    data, output = tiny_runs / "train", tiny_run / "file"
    config = {
        "epochs": 1,
        "batch_size": 16,
        "queries": 1,
        "val_queries": 2,
        "val_episodes": 20,
        "workers": 0,
        "quiet": True,
    }
    train(
        TrainConfig(
            train_data=data,
            val_data=tiny_runs / "val",
            output=output,
            backbone=str(vit_file),
            unfreeze_blocks=1,
            **config,
        )
    )  # type: ignore[arg-type]
    edit(output, lambda config: config.update(backbone="/elsewhere/vit.pt"))
    assert load_checkpoint(output).backbone == "/elsewhere/vit.pt"
    edit(output, lambda config: config.update(backbone="tiny"))
    with pytest.raises(DataError, match=r"backbone is 'tiny', but the run tuned a weights file"):
        load_checkpoint(output)


def test_a_library_that_is_missing_is_still_a_matter_of_use(tiny_run: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["backbone"] = config["encoder"]["name"] = "timm:there_is_no_such_model"

    pytest.importorskip("timm")
    edit(tiny_run, change)
    with pytest.raises(UsageError, match=r"config\.json: the encoder of backbone 'timm:there"):
        load_checkpoint(tiny_run)


def test_a_tensor_file_with_a_note_checks_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"b": torch.arange(40.0).reshape(5, 8), "a": torch.ones(3, dtype=torch.int64), "none": torch.zeros(0)}
    note = {"epoch": 3, "rows": [{"loss": 0.1}], "names": {"ü": "x"}}
    save_tensors(tensors, path, note)
    whole = path.read_bytes()
    found, said = load_tensors(path)
    assert said == note and all(torch.equal(found[name], tensors[name]) for name in tensors)
    meaning = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            again, said = load_tensors(path)
        except DataError as error:
            assert str(path) in str(error)
            continue
        # The key "sha256" itself, or padding: what is read must be what was written.
        assert said == note and list(again) == list(found)
        assert all(torch.equal(again[name], tensors[name]) for name in tensors)
        meaning += 1
    assert meaning < 40


def test_write_config_and_read_back(tmp_path: Path) -> None:
    write_config(tmp_path, {"backbone": "tiny"})
    with pytest.raises(DataError, match=r"config\.json: settings is missing"):
        load_checkpoint(tmp_path)


def test_tensors_that_find_no_room_name_their_file(tmp_path: Path) -> None:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    try:
        with pytest.raises(DataError, match=rf"{tmp_path}/a.safetensors: cannot be written \(.*File too large"):
            save_tensors({"a": torch.zeros(1000)}, tmp_path / "a.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert list(tmp_path.iterdir()) == []
