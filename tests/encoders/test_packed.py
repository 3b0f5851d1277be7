"""Packed linear layers against `F.linear`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fewshot.encoders import openai_clip
from fewshot.encoders.packed import PackedLinear, can_pack

pytestmark = pytest.mark.skipif(not can_pack(), reason="this torch or CPU has no packed products")


@pytest.mark.parametrize("shape", [(3, 64), (2, 17, 64), (1, 1, 64)])
def test_packed_equals_linear_for_any_number_of_rows(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(*shape, generator=generator).bfloat16()
    weight = torch.randn(96, 64, generator=generator).bfloat16()
    bias = torch.randn(96, generator=generator).bfloat16()
    found = PackedLinear(weight, bias, 34)(hidden)
    exact = F.linear(hidden.double(), weight.double(), bias.double())
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape
    assert torch.allclose(found.double(), exact, rtol=2**-8, atol=1e-2)  # one rounding to bfloat16


def test_an_encoder_gives_the_same_packed_or_not(vit_file: object, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = openai_clip.visual_from_state(
        {k: v for k, v in torch.load(str(vit_file), weights_only=True).items() if k.startswith("visual.")}, "vit"
    )
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    packed = encoder.inference_copy(torch.bfloat16)
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    monkeypatch.setattr(openai_clip, "can_pack", lambda: False)
    plain = encoder.inference_copy(torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(packed(images), plain(images), atol=1e-2)
    with torch.inference_mode():
        assert ((packed(images.bfloat16()) * encoder(images)).sum(-1) > 1 - 1e-3).all()
