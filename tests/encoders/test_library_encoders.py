"""Encoders of open_clip and timm against the libraries' own forward pass from the same file, and cut at every block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from episodes.errors import DataError, UsageError
from fewshot.embedding.embed import embed_images
from fewshot.encoders import VisionEncoder, encoder_from_state, load_encoder
from fewshot.encoders.lite import weights_path
from fewshot.training import TrainConfig
from fewshot.training.model import EpisodicModel
from fewshot.training.optimiser import parameter_groups
from tests.encoders.conftest import OPEN_CLIP

timm = pytest.importorskip("timm")
open_clip = pytest.importorskip("open_clip")

TIMM = ("test_vit", "test_vit3", "test_resnet", "test_convnext", "test_efficientnet", "eva02_tiny_patch14_224")
LITE = [name for name in ("lite0", "lite2") if weights_path(name) is not None]
BACKBONES = [*LITE, *(f"timm:{name}" for name in TIMM), *(f"open_clip:{name}/random" for name in OPEN_CLIP)]
Root = Callable[[str], Path]


@pytest.fixture
def root_of(timm_root: Root, open_clip_models: Path) -> Root:
    """backbone -> the folder of downloads that holds it."""
    return lambda backbone: (
        timm_root(backbone[5:]) if backbone.startswith("timm:") else open_clip_models
    )  # lite needs none


@pytest.fixture
def load(root_of: Root) -> Callable[[str], VisionEncoder]:
    return lambda backbone: load_encoder(backbone, download_root=root_of(backbone))


def reference(backbone: str, root: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """The library's own forward pass, from the same file by its own reader, normalised."""
    family, _, name = backbone.partition(":")
    if backbone in LITE:
        model, path = timm.create_model(f"tf_efficientnet_{backbone}").eval(), weights_path(backbone)
        state = torch.load(path, weights_only=True)
        model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
        return lambda images: F.normalize(model.forward_head(model.forward_features(images), pre_logits=True), dim=-1)
    if family == "timm":
        overlay = {"file": str(root / name / "model.safetensors")}
        model = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay).eval()
        return lambda images: F.normalize(model(images), dim=-1)
    name = name.partition("/")[0]
    clip = open_clip.create_model(name, pretrained=str(root / f"{name}.bin")).eval()
    first = "output_tokens" in OPEN_CLIP.get(name, {})
    return lambda images: F.normalize(clip.visual(images)[0] if first else clip.encode_image(images), dim=-1)


def pictures(encoder: VisionEncoder, count: int = 2) -> torch.Tensor:
    """Coloured patches under noise: pure noise looks all the same to a network that averages."""
    generator = torch.Generator().manual_seed(1)
    patches = F.interpolate(torch.randn(count, 3, 2, 2, generator=generator), size=encoder.image_size)
    return 2 * patches + 0.3 * torch.randn(patches.shape, generator=generator)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_embedding_equals_the_library_s_own(backbone: str, load: Callable[[str], VisionEncoder], root_of: Root) -> None:
    encoder = load(backbone)
    images = pictures(encoder, 3)
    with torch.no_grad():
        expected, found = reference(backbone, root_of(backbone))(images), encoder(images)
    assert found.shape == (3, encoder.embed_dim) and found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)  # the comparison could fail


@pytest.mark.parametrize("backbone", BACKBONES)
def test_trunk_and_tail_make_the_whole(backbone: str, load: Callable[[str], VisionEncoder]) -> None:
    encoder = load(backbone)
    images = pictures(encoder)
    with torch.no_grad():
        whole = encoder(images)
        for n in range(len(encoder.blocks) + 1):
            hidden = encoder.forward_trunk(images, n)
            assert len(hidden) == 2  # batch first
            assert torch.allclose(encoder.forward_tail(hidden, n), whole, atol=1e-6)
            rest = encoder.forward_blocks(hidden, n, len(encoder.blocks))
            assert torch.allclose(encoder.forward_tail(rest, len(encoder.blocks)), whole, atol=1e-6)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_inference_copy_gives_the_same_and_stays_as_it_was(backbone: str, load: Callable[[str], VisionEncoder]) -> None:
    encoder = load(backbone)
    images = pictures(encoder)
    with torch.no_grad():
        whole = encoder(images)
        exact, half = encoder.inference_copy(torch.float32), encoder.inference_copy(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            # Folded batch norms round in other places; on photographs both are as near to float32 (cosine 0.999).
            assert torch.allclose(half(images), encoder(images), atol=6e-2 if backbone in LITE else 3e-2)
        for parameter in encoder.parameters():
            parameter.zero_()
        assert torch.allclose(exact(images), whole, atol=1e-6)
    assert any(parameter.dtype == torch.bfloat16 for parameter in half.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_unfreezing_trains_just_the_last_blocks_and_the_head(
    backbone: str, load: Callable[[str], VisionEncoder]
) -> None:
    encoder = load(backbone)
    total = len(encoder.blocks)
    head = {id(p) for p in encoder.head_parameters()}
    in_blocks = {id(p) for block in encoder.blocks for p in block.parameters()}
    assert not head & in_blocks
    for n in (0, 1, total):
        encoder.unfreeze_last(n)
        trainable = {id(p) for p in encoder.parameters() if p.requires_grad}
        expected = {id(p) for block in encoder.blocks[total - n :] for p in block.parameters()}
        assert trainable == (expected | head if n else set())
    encoder.unfreeze_last(1)
    encoder(pictures(encoder)).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad or parameter.grad is None, name
    encoder.unfreeze_last("all")
    encoder.zero_grad()
    with torch.no_grad():
        hidden = encoder.forward_trunk(pictures(encoder), total)
    if head:
        encoder.forward_tail(hidden, total)[:, 0].sum().backward()
    assert head == {id(p) for p in encoder.parameters() if p.grad is not None}  # what is used behind the blocks
    stem = {id(p) for p in encoder.parameters()} - head - in_blocks
    assert stem and all(p.requires_grad for p in encoder.parameters())
    assert not encoder.train().training  # batch norms keep the pretrained statistics
    with pytest.raises(UsageError, match=f"has {total} blocks"):
        encoder.unfreeze_last(total + 1)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_encoder_is_rebuilt_from_its_tensors_without_a_download(
    backbone: str, load: Callable[[str], VisionEncoder]
) -> None:
    encoder = load(backbone)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1e-5)  # would be lost in float16
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    rebuilt = encoder_from_state(encoder.state_dict(), backbone)
    assert torch.equal(torch.rand(1), expected)  # the global generator is left alone
    assert rebuilt.fingerprint == encoder.fingerprint
    assert (rebuilt.mean, rebuilt.std, rebuilt.image_size) == (encoder.mean, encoder.std, encoder.image_size)
    with torch.no_grad():
        assert torch.equal(rebuilt(pictures(encoder)), encoder(pictures(encoder)))
    with pytest.raises(DataError, match="do not fit the model"):
        encoder_from_state({"trunk.nothing": torch.zeros(1)}, backbone)


def test_pictures_are_prepared_as_open_clip_does(open_clip_models: Path, class_folders: Path) -> None:
    name = "tiny-vit"
    _, _, prepare = open_clip.create_model_and_transforms(
        name, pretrained=str(open_clip_models / f"{name}.bin"), image_mean=(0.4, 0.5, 0.6)
    )
    encoder = load_encoder(f"open_clip:{name}/random", download_root=open_clip_models)
    paths = sorted(class_folders.rglob("*.png"))[:5]
    with torch.no_grad():
        expected = reference("open_clip:tiny-vit/random", open_clip_models)(
            torch.stack([prepare(Image.open(path)) for path in paths])
        )
    assert torch.allclose(embed_images(encoder, paths, precision="32").features, expected, atol=1e-5)


def test_a_fingerprint_knows_the_architecture(timm_root: Root) -> None:
    encoder = load_encoder("timm:test_vit", download_root=timm_root("test_vit"))
    before = encoder.fingerprint
    encoder.name = "timm:another"  # whose parts have the same names and shapes
    assert encoder.fingerprint != before


def test_size_and_colours_are_those_of_the_timm_model(timm_root: Root) -> None:
    for name in ("test_vit", "test_efficientnet", "eva02_tiny_patch14_224"):
        encoder, config = load_encoder(f"timm:{name}", download_root=timm_root(name)), timm.get_pretrained_cfg(name)
        assert (encoder.mean, encoder.std, encoder.image_size) == (config.mean, config.std, config.input_size[1])


def test_the_same_weights_under_another_activation_are_another_encoder(open_clip_models: Path) -> None:
    plain = load_encoder("open_clip:tiny-vit/random", download_root=open_clip_models)
    quick = encoder_from_state(plain.state_dict(), "open_clip:tiny-vit-quickgelu/random")
    with torch.no_grad():
        assert not torch.allclose(quick(pictures(plain)), plain(pictures(plain)), atol=1e-4)
    assert quick.fingerprint != plain.fingerprint
    with pytest.raises(UsageError, match="use open_clip:tiny-vit-quickgelu/quick"):
        load_encoder("open_clip:tiny-vit/quick", download_root=open_clip_models)


def test_position_and_class_embeddings_do_not_decay(timm_root: Root, tmp_path: Path) -> None:
    encoder = load_encoder("timm:test_vit", download_root=timm_root("test_vit"))
    encoder.unfreeze_last("all")
    model = EpisodicModel(encoder, 3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, TrainConfig(train_data=tmp_path))
    still = {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}
    assert {"encoder.trunk.pos_embed", "encoder.trunk.cls_token", "encoder.trunk.norm.weight"} <= still
    assert "encoder.trunk.patch_embed.proj.weight" not in still
