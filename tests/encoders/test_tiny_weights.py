"""The shipped tiny CLIP: its file, and its way into OpenAI's format and the ``clip`` package."""

from __future__ import annotations

from pathlib import Path

import clip
import pytest
import torch
from clip.model import CLIP, build_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from episodes.errors import DataError
from fewshot.encoders import load_clip, load_encoder
from fewshot.encoders.tiny import DEFAULT, ROWS, VALUES, VOCABULARY, expand_state_dict, weights_path


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(weights_path())


@pytest.fixture(scope="module")
def model(tensors: dict[str, Tensor]) -> CLIP:
    return build_model(expand_state_dict(tensors)).float().eval()


def forward_flops(model: CLIP, size: int) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encode_image(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops())


def test_the_file_is_small_and_half_precision(tensors: dict[str, Tensor]) -> None:
    assert weights_path().stat().st_size <= 16 * 2**20
    assert {tensor.dtype for name, tensor in tensors.items() if name != ROWS} == {torch.float16}
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values())


def test_clip_builds_it_with_the_expected_sizes(model: CLIP) -> None:
    assert model.visual.input_resolution == 64
    assert model.vocab_size == VOCABULARY
    assert model.context_length == 77
    assert model.encode_image(torch.zeros(2, 3, 64, 64)).shape == (2, model.text_projection.shape[1])
    assert model.encode_text(clip.tokenize(["a photo of a dog."])).shape == (
        1,
        model.text_projection.shape[1],
    )


def test_a_forward_pass_costs_a_tenth_of_vit_b_32(model: CLIP) -> None:
    base = CLIP(512, 224, 12, 768, 32, 77, 100, 64, 1, 1)
    assert 10 * forward_flops(model, 64) <= forward_flops(base, 224)


def test_expanding_gives_the_types_that_clip_itself_gives(tensors: dict[str, Tensor]) -> None:
    state = expand_state_dict(tensors)
    expected = build_model(expand_state_dict(tensors)).state_dict()  # build_model takes keys out of what it is given
    assert set(state) == set(expected)
    for name, tensor in state.items():
        assert tensor.dtype == expected[name].dtype, name
        assert torch.equal(tensor, expected[name]), name
        assert torch.equal(tensor, tensor.half().to(tensor.dtype)), name


def test_tokens_of_training_have_their_own_rows_and_all_others_share_one(tensors: dict[str, Tensor]) -> None:
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    table = expand_state_dict(tensors)["token_embedding.weight"]
    rows = tensors[ROWS].long()
    assert torch.equal(table[rows], tensors[VALUES].float())
    others = torch.ones(VOCABULARY, dtype=torch.bool)
    others[rows] = False
    assert torch.equal(table[others], tensors[DEFAULT].float().expand(int(others.sum()), -1))
    assert others.any() and not others[clip.tokenize(["a photo of a goldfish."])[0].max()]
    assert all(torch.equal(tensors[name], before[name]) for name in before)


def test_such_a_file_is_a_backbone_by_its_path(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    copied = tmp_path / "mine.safetensors"
    copied.write_bytes(weights_path().read_bytes())
    assert torch.equal(load_encoder(str(copied))(x), load_encoder("tiny")(x))
    tokens = clip.tokenize(["a photo of a lemon."])
    assert torch.equal(load_clip(str(copied)).encode_text(tokens), load_clip("tiny").encode_text(tokens))
    save_file({name: value for name, value in tensors.items() if name != DEFAULT}, copied)
    with pytest.raises(DataError, match=r"mine\.safetensors: .*token_embedding\.default missing"):
        load_encoder(str(copied))


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_file_that_is_something_else_is_refused(damage: str) -> None:
    broken = {ROWS: torch.arange(3), VALUES: torch.zeros(2, 4), DEFAULT: torch.zeros(4)}
    if damage == "missing":
        del broken[VALUES]
    with pytest.raises(ValueError, match="missing|damaged"):
        expand_state_dict(broken)
