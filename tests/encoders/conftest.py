"""Small models of open_clip and timm with random weights, where `fewshot download` would have put them."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

COMMIT = "0" * 40
OPEN_CLIP: dict[str, dict[str, Any]] = {
    "tiny-vit": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8, "head_width": 32},
    "tiny-pool": {
        "image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32, "attentional_pool": True,
        "attn_pooler_heads": 2, "attn_pooler_queries": 4, "ls_init_value": 0.5, "no_ln_pre": True, "output_tokens": True,
    },
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 2, 1], "width": 8, "patch_size": None},
    "tiny-timm": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
}  # fmt: skip


def put(root: Path, repository: str, file: Path, name: str) -> None:
    """Lay a file down as the hub's client does after a download."""
    place = root / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "snapshots" / COMMIT).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place / "snapshots" / COMMIT / name)


def shake(model: torch.nn.Module) -> None:
    """Weights that no initialisation has: fresh norms, zero gates and zero biases would hide mistakes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)


@pytest.fixture(scope="session")
def timm_root(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """name -> a folder of downloads that holds this timm model, saved by timm itself."""
    timm = pytest.importorskip("timm")
    root = tmp_path_factory.mktemp("timm")

    def get(name: str) -> Path:
        config = timm.get_pretrained_cfg(name)
        saved = root / name
        if not saved.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = timm.create_model(name)
            shake(model)
            timm.models.save_for_hf(model, saved, safe_serialization=True)
            put(root, config.hf_hub_id, saved / "model.safetensors", "model.safetensors")
        return root

    return get


@pytest.fixture(scope="session")
def open_clip_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of downloads that holds the models of `OPEN_CLIP`, which open_clip knows by a tag while tests run."""
    open_clip = pytest.importorskip("open_clip")
    root = tmp_path_factory.mktemp("open_clip")
    published = open_clip.pretrained._PRETRAINED
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    quick = copy.deepcopy(OPEN_CLIP["tiny-vit"])
    for name, vision in (*OPEN_CLIP.items(), ("tiny-vit-quickgelu", quick)):
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "quick_gelu": name.endswith("quickgelu")}
        (root / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(root / f"{name}.json")
        published[name] = {"random": open_clip.pretrained._pcfg(hf_hub=f"tests/{name}/", mean=(0.4, 0.5, 0.6))}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = open_clip.create_model(name)
        shake(model)
        torch.save(model.state_dict(), root / f"{name}.bin")
        put(root, f"tests/{name}", root / f"{name}.bin", "open_clip_pytorch_model.bin")
    for name in ("tiny-vit", "tiny-vit-quickgelu"):
        published[name]["quick"] = open_clip.pretrained._pcfg(hf_hub=f"tests/{name}/", quick_gelu=True)
    yield root
    for name in (*OPEN_CLIP, "tiny-vit-quickgelu"):
        del published[name], open_clip.factory._MODEL_CONFIGS[name]
