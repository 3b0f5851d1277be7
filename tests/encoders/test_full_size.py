"""ViT-B/32 and RN50 at their real sizes, from random weights in OpenAI's format, against the `clip` package's model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder
from fewshot.encoders._clip_import import import_clip, import_clip_model
from tests.conftest import write_pictures

SHAPES = {
    "ViT-B/32": (512, 224, 12, 768, 32, 77, 49408, 512, 8, 12),
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_real_sizes_embed_as_the_clip_package_does(name: str, tmp_path: Path) -> None:
    model = import_clip_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = model.CLIP(*SHAPES[name]).eval()
    model.convert_weights(clip)
    weights = tmp_path / "weights.pt"
    torch.save(clip.state_dict(), weights)
    paths = sorted(write_pictures(tmp_path / "pictures", 2, 2, size=300).rglob("*.png"))
    preprocess = import_clip().clip._transform(224)
    with torch.no_grad():
        expected = clip.float().encode_image(torch.stack([preprocess(Image.open(path)) for path in paths]))
    expected = expected / expected.norm(dim=-1, keepdim=True)
    found = embed_images(load_encoder(str(weights)), paths, precision="32", batch_size=4).features
    assert torch.allclose(found, expected, atol=1e-5)
