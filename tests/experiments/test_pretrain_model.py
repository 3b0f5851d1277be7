"""The fast forward pass of the training against OpenAI's own, and the file it is exported to."""

from __future__ import annotations

from pathlib import Path

import clip
import pytest
import torch
import torch.nn.functional as F
from clip.model import CLIP, build_model
from safetensors.torch import load_file

from experiments.pretrain import export, vocabulary
from experiments.pretrain.model import Shape, encode_image, encode_text, make_clip, position_resize
from fewshot.encoders.tiny import expand_state_dict, weights_path

SMALL = Shape(image=32, width=128, layers=2, embed=32, text_width=64, text_layers=2)
NAMES = ("police_van", "African_elephant", "Korean_character14")


@pytest.fixture(scope="module")
def small() -> tuple[CLIP, torch.Tensor]:
    rows = vocabulary.used_tokens(vocabulary.tokenise(NAMES, vocabulary.PHOTO_PROMPTS))
    model = make_clip(SMALL, len(rows), seed=3)
    with torch.no_grad():  # values that float16 holds, and biases and norms that matter
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.05 * torch.randn_like(parameter)).half())
    return model, rows


def test_the_export_loads_in_clip_and_embeds_pictures_alike(small: tuple[CLIP, torch.Tensor], tmp_path: Path) -> None:
    model, rows = small
    export.write(model, rows, tmp_path / "tiny.safetensors")
    theirs = build_model(expand_state_dict(load_file(tmp_path / "tiny.safetensors"))).float()
    x = torch.randn(5, 3, 32, 32)
    ours = F.normalize(encode_image(model, x, torch.float32), dim=-1)
    torch.testing.assert_close(ours, F.normalize(theirs.encode_image(x), dim=-1), atol=1e-5, rtol=0)
    assert list(tmp_path.iterdir()) == [tmp_path / "tiny.safetensors"]


def test_the_export_embeds_texts_alike(small: tuple[CLIP, torch.Tensor], tmp_path: Path) -> None:
    model, rows = small
    export.write(model, rows, tmp_path / "tiny.safetensors")
    theirs = export.read(tmp_path / "tiny.safetensors")
    tokens = clip.tokenize(["a photo of a police van.", "African elephant"]).long()
    ours = F.normalize(encode_text(model, vocabulary.to_rows(tokens, rows), torch.float32), dim=-1)
    torch.testing.assert_close(ours, F.normalize(theirs.encode_text(tokens), dim=-1), atol=1e-5, rtol=0)


def test_the_shipped_weights_embed_alike_in_both() -> None:
    theirs = build_model(expand_state_dict(load_file(weights_path()))).float()
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = F.normalize(encode_image(theirs, x, torch.float32), dim=-1)
        torch.testing.assert_close(ours, F.normalize(theirs.encode_image(x), dim=-1), atol=1e-5, rtol=0)


def test_rows_that_do_not_fit_the_embedding_are_refused(small: tuple[CLIP, torch.Tensor]) -> None:
    model, rows = small
    with pytest.raises(ValueError, match="token ids"):
        export.compact(model, rows[1:])


def test_smaller_pictures_see_resized_positions(small: tuple[CLIP, torch.Tensor]) -> None:
    places = torch.randn(16, 8)
    grid = places.T.reshape(1, 8, 4, 4)
    expected = F.interpolate(grid, size=(3, 3), mode="bilinear", align_corners=False).flatten(2)[0].T
    torch.testing.assert_close(position_resize(4, 3) @ places, expected)
    assert encode_image(small[0], torch.randn(2, 3, 24, 24), torch.float32).shape == (2, 32)


def test_stochastic_depth_of_nothing_kept_leaves_the_blocks_out(small: tuple[CLIP, torch.Tensor]) -> None:
    model, _ = small
    x = torch.randn(2, 3, 32, 32)
    without = encode_image(model, x, torch.float32, torch.zeros(2, 2, 2))
    visual = model.visual
    h = visual.class_embedding + visual.positional_embedding[0]
    expected = visual.ln_post(visual.ln_pre(h)) @ visual.proj
    torch.testing.assert_close(without, expected.expand(2, -1))


def test_a_fresh_model_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two, other = (make_clip(SMALL, 10, seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["visual.conv1.weight"], other["visual.conv1.weight"])


def test_compact_tokens_keep_their_order_so_the_end_stays_highest() -> None:
    tokens = vocabulary.tokenise(NAMES, vocabulary.PHOTO_PROMPTS)
    rows = vocabulary.used_tokens(tokens)
    compact = vocabulary.to_rows(tokens, rows)
    assert torch.equal(rows[compact], tokens)
    assert torch.equal(compact.argmax(-1), tokens.argmax(-1))


def test_folder_names_become_words() -> None:
    assert vocabulary.words("Korean_character14") == "Korean character 14"
    assert vocabulary.words("police_van") == "police van"
