"""Whole runs on encoders of open_clip and timm: a checkpoint that needs no download, resuming, predicting, names of classes."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from episodes.errors import DataError
from fewshot.checkpoint import load_checkpoint
from fewshot.commands.cli import main
from fewshot.console import Console
from fewshot.encoders import load_encoder
from fewshot.encoders.text import class_texts
from fewshot.tensors import load_tensors
from fewshot.training import TrainConfig, train

pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")


@pytest.fixture(params=["timm:test_resnet", "timm:test_vit", "open_clip:tiny-vit/random", "open_clip:tiny-timm/random"])
def config(
    request: pytest.FixtureRequest,
    timm_root: Callable[[str], Path],
    open_clip_models: Path,
    small_run: TrainConfig,
) -> TrainConfig:
    name: str = request.param
    return dataclasses.replace(
        small_run,
        backbone=name,
        download_root=timm_root(name[5:]) if name.startswith("timm:") else open_clip_models,
        epochs=1,
        visual_lr=1e-2,
        val_episodes=10,
        views=2,
        trunk_cache="on",
    )


class Killed(Exception):
    """Stands for a process that dies."""


class KillingConsole(Console):
    """Raises at the end of the last epoch, when the state of the one before is on disk."""

    def bar(self, label: str):  # type: ignore[no-untyped-def]
        if label == "epoch 2/2":
            raise Killed
        return super().bar(label)


def test_a_run_writes_a_checkpoint_that_needs_no_download(
    config: TrainConfig, tmp_path: Path, other_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(config)
    described = json.loads((result.path / "config.json").read_text())
    assert described["backbone"] == config.backbone and described["trunk_blocks"] is not None
    loaded = load_checkpoint(result.path)  # no download_root: there is nothing where weights would lie
    untouched = load_encoder(config.backbone, download_root=config.download_root)
    assert loaded.untouched_encoder().fingerprint == untouched.fingerprint
    tensors, _ = load_tensors(result.path / "model.safetensors")
    assert {f"encoder.{name}" for name in untouched.state_dict()} == {n for n in tensors if n.startswith("encoder.")}
    tasks, csv_file = tmp_path / "tasks", tmp_path / "result.csv"
    plain = ["--no_cache", "--quiet", "--precision", "32"]
    making = [str(other_folders), str(tasks), "--tasks", "2", "--ways", "3", "--shots", "1", "--queries", "2"]
    assert main(["make-tasks", *making]) == 0
    assert main(["predict", str(tasks), str(csv_file), "--checkpoint", str(result.path), *plain]) == 0
    with csv_file.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and all(row["label"] for row in rows)
    capsys.readouterr()
    assert main(["evaluate", str(tasks), "--checkpoint", str(result.path), "--json", *plain]) == 0
    assert json.loads(capsys.readouterr().out)[-1]["episodes"] == 2
    bare = ["--backbone", config.backbone, "--download_root", str(config.download_root)]
    assert main(["predict", str(tasks), str(csv_file), *bare, *plain]) == 0


def test_a_killed_run_resumes_as_if_nothing_had_happened(config: TrainConfig, tmp_path: Path) -> None:
    two = dataclasses.replace(config, epochs=2)
    whole = train(dataclasses.replace(two, output=tmp_path / "whole")).path
    with pytest.raises(Killed):
        train(two, KillingConsole(quiet=True))
    resumed = train(dataclasses.replace(two, resume=True)).path
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()


def test_class_names_become_embeddings_of_open_clip_s_text_side(open_clip_models: Path) -> None:
    names, templates = ["golden_retriever", "tabby"], ("a photo of a {}.", "art of a {}.")
    found = class_texts(names, "open_clip:tiny-vit/random", templates=templates, download_root=open_clip_models)
    clip = open_clip.create_model("tiny-vit", pretrained=str(open_clip_models / "tiny-vit.bin")).eval()
    tokenize = open_clip.get_tokenizer("tiny-vit")
    for name, words in zip(names, ("golden retriever", "tabby"), strict=True):
        with torch.no_grad():
            each = clip.encode_text(tokenize([template.format(words) for template in templates]), normalize=True)
        assert torch.allclose(found[name], F.normalize(each.mean(0), dim=-1), atol=1e-5)


def test_zero_shot_runs_on_open_clip_and_is_refused_on_timm(
    open_clip_models: Path, timm_root: Callable[[str], Path], other_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(other_folders), "--classifier", "zero-shot", "--ways", "3", "--shots", "1"]
    command += ["--queries", "2", "--episodes", "5", "--no_cache", "--backbone"]
    assert main([*command, "open_clip:tiny-vit/random", "--download_root", str(open_clip_models), "--json"]) == 0
    capsys.readouterr()
    root = timm_root("test_resnet")
    assert main([*command, "timm:test_resnet", "--download_root", str(root), "--json"]) == 1
    assert "have no text side" in capsys.readouterr().err


def test_a_text_side_that_needs_more_than_its_file_is_told(
    open_clip_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = open_clip.factory._MODEL_CONFIGS["tiny-vit"]["text_cfg"]
    monkeypatch.setitem(text, "hf_tokenizer_name", "somebody/tokenizer")
    with pytest.raises(DataError, match="tokenizer of the transformers library"):
        class_texts(["cat"], "open_clip:tiny-vit/random", download_root=open_clip_models)
    load_encoder("open_clip:tiny-vit/random", download_root=open_clip_models)  # pictures are fine
