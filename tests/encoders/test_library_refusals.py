"""What encoders of open_clip and timm refuse, and what they say: models, names, files, missing packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from episodes.errors import DataError, UsageError
from fewshot.encoders import load_encoder, timm_models, timm_parts
from tests.encoders.conftest import put

timm = pytest.importorskip("timm")
pytest.importorskip("open_clip")

Root = Callable[[str], Path]


@pytest.mark.parametrize("name", ["levit_128s", "xcit_nano_12_p16_224", "densenet121"])
def test_a_model_that_cannot_be_cut_is_refused(name: str) -> None:
    with torch.random.fork_rng(devices=[]), pytest.raises(UsageError, match="Supported are vision transformers"):
        encoder = timm_models._wrap(timm.create_model(name, num_classes=0), f"timm:{name}")
        timm_parts.check(encoder, encoder.trunk)


def test_a_chain_that_runs_otherwise_is_refused(timm_root: Root) -> None:
    encoder = load_encoder("timm:test_resnet", download_root=timm_root("test_resnet"))
    trunk: Any = encoder.trunk
    timm_parts.check(encoder, trunk)
    with pytest.raises(UsageError, match="do not give what its own forward pass gives"):
        timm_parts.check(encoder, lambda images: trunk(images.flip(-1)))


def test_weights_that_do_not_fit_are_refused(timm_root: Root, tmp_path: Path, open_clip_models: Path) -> None:
    wrong = timm_root("test_resnet") / "test_resnet" / "model.safetensors"
    put(tmp_path, "timm/test_vit.r160_in1k", wrong, "model.safetensors")
    with pytest.raises(DataError, match=r"model\.safetensors: the tensors do not fit timm:test_vit"):
        load_encoder("timm:test_vit", download_root=tmp_path)
    put(tmp_path, "tests/tiny-vit", open_clip_models / "tiny-resnet.bin", "open_clip_pytorch_model.bin")
    with pytest.raises(DataError, match=r"open_clip_pytorch_model\.bin: the tensors do not fit"):
        load_encoder("open_clip:tiny-vit/random", download_root=tmp_path)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('pwned', 'w')",))


@pytest.mark.parametrize("backbone", ["timm:test_vit", "open_clip:tiny-vit/random"])
def test_a_file_that_would_run_code_is_refused(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_clip_models: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": _Evil()}, tmp_path / "evil.bin")
    put(tmp_path, "timm/test_vit.r160_in1k", tmp_path / "evil.bin", "pytorch_model.bin")
    put(tmp_path, "tests/tiny-vit", tmp_path / "evil.bin", "open_clip_pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_encoder(backbone, download_root=tmp_path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("backbone", ["timm:test_vit.r160_in1k", "open_clip:ViT-B-32/laion2b_s34b_b79k"])
def test_weights_that_are_not_there_name_the_command(backbone: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"fewshot download --model_name {backbone} --download_root {tmp_path}"):
        load_encoder(backbone, download_root=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("timm:vit_tiny_patch16_225", "did you mean vit_tiny_patch16_224"),
        ("timm:test_vit.no_such_tag", "no pretrained model 'test_vit.no_such_tag'"),
        ("timm:", "no pretrained model ''"),
        ("open_clip:ViT-B-33/openai", "did you mean ViT-B-32"),
        ("open_clip:ViT-B-32/no_such_tag", "laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", "laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32/openai", "use open_clip:ViT-B-32-quickgelu/openai"),
    ],
)
def test_unknown_names_say_what_there_is(backbone: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        load_encoder(backbone, download_root=tmp_path)


@pytest.mark.parametrize(
    ("backbone", "module", "package"),
    [("timm:test_vit", "timm", "timm"), ("open_clip:ViT-B-32/openai", "open_clip", "open_clip_torch")],
)
def test_a_missing_package_names_the_command(
    backbone: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"pip install {package}"):
        load_encoder(backbone)


def test_neither_library_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, fewshot.encoders, fewshot.encoders.text; print({'timm', 'open_clip', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
