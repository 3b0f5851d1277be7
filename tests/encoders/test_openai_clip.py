"""Encoders against the `clip` package's own model, and against the file formats that it writes."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from episodes.errors import DataError, UsageError
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_clip, load_encoder, visual_from_state
from fewshot.encoders._clip_import import import_clip, import_clip_model
from fewshot.encoders.weights import read_weights
from tests.conftest import make_clip


def reference(path: Path) -> torch.nn.Module:
    """The `clip` package's model from the same file."""
    return import_clip_model().build_model(torch.load(path, weights_only=True)).float()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_embedding_equals_the_clip_package_on_the_same_pictures(
    kind: str, request: pytest.FixtureRequest, class_folders: Path
) -> None:
    path: Path = request.getfixturevalue(f"{kind}_file")
    encoder = load_encoder(str(path))
    paths = sorted(class_folders.rglob("*.png"))[:7]
    preprocess = import_clip().clip._transform(encoder.image_size)
    with torch.no_grad():
        expected = reference(path).encode_image(torch.stack([preprocess(Image.open(p)) for p in paths]))
    expected = expected / expected.norm(dim=-1, keepdim=True)
    found = embed_images(encoder, paths, precision="32").features
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_trunk_and_tail_make_the_whole(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(str(request.getfixturevalue(f"{kind}_file")))
    images = torch.randn(2, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        whole = encoder(images)
        for n in range(len(encoder.blocks) + 1):
            hidden = encoder.forward_trunk(images, n)
            assert len(hidden) == 2  # batch first
            assert torch.equal(encoder.forward_tail(hidden, n), whole)
    assert torch.allclose(whole.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_inference_copy_gives_the_same_and_stays_as_it_was(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(str(request.getfixturevalue(f"{kind}_file")))
    images = torch.randn(3, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        whole = encoder(images)
        exact, half = encoder.inference_copy(torch.float32), encoder.inference_copy(torch.bfloat16)
        assert torch.allclose(exact(images), whole, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(half(images), encoder(images), atol=2e-2)
        for parameter in encoder.parameters():
            parameter.zero_()
        assert torch.allclose(exact(images), whole, atol=1e-6)
    matrices = [p for name, p in half.named_parameters() if name.endswith(("conv1.weight", "c_proj.weight"))]
    assert matrices and all(p.dtype == torch.bfloat16 for p in matrices)
    assert not any(p.requires_grad for p in half.parameters())


def test_one_block_forwards_and_backwards_as_the_package_s(vit_file: Path) -> None:
    """Gradients too, of every parameter, against autograd through the package's own forward."""
    encoder = load_encoder(str(vit_file))
    encoder.unfreeze_last("all")
    images = torch.randn(4, 3, 32, 32)
    weights = torch.randn(4, encoder.embed_dim)
    found = torch.autograd.grad((encoder(images) * weights).sum(), list(encoder.visual.parameters()))
    features = encoder.visual(images)
    features = features / features.norm(dim=-1, keepdim=True)
    expected = torch.autograd.grad((features * weights).sum(), list(encoder.visual.parameters()))
    for (name, _), a, b in zip(encoder.visual.named_parameters(), found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-5 * max(1, float(b.abs().max()))), name


@pytest.mark.parametrize(("kind", "blocks"), [("vit", 2), ("resnet", 5)])
def test_unfreeze_last_trains_just_the_last_blocks_and_the_head(
    kind: str, blocks: int, request: pytest.FixtureRequest
) -> None:
    encoder = load_encoder(str(request.getfixturevalue(f"{kind}_file")))
    head = {id(p) for p in encoder.head_parameters()}
    assert head
    for n in range(blocks + 1):
        encoder.unfreeze_last(n)
        trainable = {id(p) for p in encoder.parameters() if p.requires_grad}
        expected = {id(p) for block in encoder.blocks[blocks - n :] for p in block.parameters()}
        assert trainable == (expected | head if n else set())
    encoder.unfreeze_last("all")
    assert all(p.requires_grad for p in encoder.parameters())
    assert not encoder.train().training  # batch norms keep the pretrained statistics
    with pytest.raises(UsageError, match=f"has {blocks} blocks"):
        encoder.unfreeze_last(blocks + 1)


def test_no_gradient_reaches_the_frozen_part(vit_file: Path) -> None:
    encoder = load_encoder(str(vit_file))
    encoder.unfreeze_last(1)
    encoder(torch.randn(2, 3, 32, 32)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archive_is_read_without_running_its_code(tmp_path: Path, vit_file: Path) -> None:
    clip = make_clip().float()
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 100)):
        clip.register_buffer(name, torch.tensor(value)) if not hasattr(clip, name) else None
    images, tokens = torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long)
    archive = tmp_path / "scripted.pt"
    torch.jit.trace(clip, (images, tokens), check_trace=False).save(str(archive))
    found = read_weights(archive)
    for name, value in torch.jit.load(str(archive)).state_dict().items():
        assert torch.equal(found[name], value), name
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_encoder(str(archive))(pictures), load_encoder(str(vit_file))(pictures), atol=1e-6)


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('pwned', 'w')",))


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, archive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("evil/data.pkl", pickle.dumps(_Evil()))
            file.writestr("evil/constants.pkl", b"")
    else:
        torch.save({"weight": _Evil()}, path)
    with pytest.raises(DataError, match=r"evil\.pt: cannot be read as weights"):
        read_weights(path)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.pt"):
        load_encoder(str(path))


def test_a_state_dict_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "linear.pt"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(DataError, match="not a CLIP model in OpenAI's format"):
        load_encoder(str(path))


def test_a_wrapped_state_dict_is_found(tmp_path: Path, vit_file: Path) -> None:
    state = {f"module.{k}": v for k, v in torch.load(vit_file, weights_only=True).items()}
    path = tmp_path / "wrapped.pt"
    torch.save({"epoch": 3, "state_dict": state}, path)
    assert load_encoder(str(path)).fingerprint == load_encoder(str(vit_file)).fingerprint


def test_unknown_and_missing_backbones_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a known name nor a weights file"):
        load_encoder("ViT-B/31")
    with pytest.raises(DataError, match="fewshot download --model_name ViT-B/32"):
        load_encoder("ViT-B/32", download_root=tmp_path)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_visual_from_state_keeps_float32(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(str(request.getfixturevalue(f"{kind}_file")))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1e-5)  # would be lost in float16
    rebuilt = visual_from_state(encoder.state_dict(), "copy")
    assert rebuilt.fingerprint == encoder.fingerprint
    images = torch.randn(1, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        assert torch.equal(rebuilt(images), encoder(images))


def test_fingerprint_changes_with_one_weight(vit_file: Path) -> None:
    encoder = load_encoder(str(vit_file))
    before = encoder.fingerprint
    with torch.no_grad():
        encoder.visual.proj[0, 0] += 1e-3
    assert encoder.fingerprint != before


def test_loading_leaves_the_global_generator_alone(vit_file: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load_encoder(str(vit_file))
    assert torch.equal(torch.rand(1), expected)


def test_text_side_answers_to_tokens(vit_file: Path) -> None:
    tokens = torch.zeros(2, 77, dtype=torch.long)
    tokens[:, :3] = torch.tensor([[1, 5, 99], [1, 7, 99]])
    with torch.no_grad():
        assert torch.equal(load_clip(str(vit_file)).encode_text(tokens), reference(vit_file).encode_text(tokens))
