"""Several encoders by one name: each part's own embeddings and cache entries, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from episodes.errors import DataError, UsageError
from fewshot import FewShot, embed_images, load_encoder
from fewshot.commands.cli import main
from fewshot.embedding.cache import EmbeddingCache
from fewshot.encoders.leakage import classes_seen


@pytest.fixture
def pair(vit_file: Path, resnet_file: Path) -> str:
    """A transformer for 32 x 32 pictures (width 32) and a ResNet for 64 x 64 ones (width 32)."""
    return f"{vit_file}+{resnet_file}"


@pytest.mark.parametrize("views", [1, 2])
def test_each_part_embeds_as_it_does_alone(
    pair: str, vit_file: Path, resnet_file: Path, class_folders: Path, tmp_path: Path, views: int
) -> None:
    paths = [*sorted(class_folders.rglob("*.png"))[:9], tmp_path / "broken.png"]
    paths[-1].write_bytes(b"no picture")
    together, alone = load_encoder(pair), [load_encoder(str(path)) for path in (vit_file, resnet_file)]
    cache = EmbeddingCache(tmp_path / "cache.sqlite")
    first, second = (embed_images(each, paths, views=views, cache=cache) for each in alone)
    told: list[tuple[int, int]] = []
    found = embed_images(together, paths, views=views, cache=cache, progress=lambda *at: told.append(at))
    assert found.computed == 0 and first.computed == second.computed == 9 * views  # by either's own cache entries
    assert torch.equal(found.features, torch.cat([first.features, second.features], 1) / 2**0.5)
    assert torch.allclose(found.features[:9].norm(dim=1), torch.ones(9)) and not found.features[9].any()
    assert found.problems.keys() == {9} and found.readable.tolist() == [True] * 9 + [False]
    assert told[-1] == (20 * views, 20 * views) and told == sorted(told)
    assert together.embed_dim == found.features.shape[1] and together.parts[1].fingerprint == alone[1].fingerprint
    assert together.fingerprint != load_encoder(f"{resnet_file}+{vit_file}").fingerprint


def test_what_is_not_several_encoders_is_said(vit_file: Path, tmp_path: Path) -> None:
    for name in ("tiny+", "tiny+tiny", "tiny+a+b+c"):
        with pytest.raises(UsageError, match="two or 3 different backbones"):
            load_encoder(name)
    with pytest.raises(UsageError, match="neither a known name nor a weights file"):
        load_encoder("tiny+nothing")
    with pytest.raises(DataError, match="ViT-B/32 are not on this machine"):
        load_encoder("tiny+ViT-B/32", download_root=tmp_path)
    odd = tmp_path / "a+b.pt"
    odd.write_bytes(vit_file.read_bytes())
    assert len(load_encoder(str(odd)).parts) == 1  # a file whose name has a plus


def test_what_any_of_them_has_seen_is_told() -> None:
    pytest.importorskip("timm")
    seen, source = classes_seen("lite2+tiny", ["African_elephant", "Balinese_character01", "n02123045", "nothing"])
    assert seen.names == ("African_elephant", "Balinese_character01", "n02123045")
    assert source == "ImageNet-1k and tiny's training set"


def test_the_command_line_and_python_agree(pair: str, class_folders: Path, tmp_path: Path) -> None:
    tasks, result = tmp_path / "tasks", tmp_path / "result.csv"
    common = ["--shots", "2", "--queries", "3"]
    assert main(["make-tasks", str(class_folders), str(tasks), "--tasks", "1", *common]) == 0
    report = tmp_path / "page.html"
    assert main(["predict", str(tasks), str(result), "--backbone", pair, "--report", str(report)]) == 0
    task = tasks / "testB" / "task1"
    model = FewShot(pair).fit(task / "support")
    frame = model.predict_frame(sorted((task / "query").iterdir()))
    lines = [line.split(",") for line in result.read_text().splitlines()[1:]]
    assert {line[1]: (line[2], line[3]) for line in lines} == {
        Path(image).name: (label, f"{confidence:.4f}")
        for image, label, confidence in zip(frame["image"], frame["label"], frame["confidence"], strict=True)
    }
    model.save(tmp_path / "kept")
    assert FewShot.load(tmp_path / "kept").predict(sorted((task / "query").iterdir())) == list(frame["label"])
    assert "estimate" in report.read_text().lower()


def test_what_takes_one_encoder_refuses_several(
    pair: str, class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--train_data", str(class_folders), "--output", str(tmp_path / "run")]
    assert main(["train", *data, "--backbone", pair]) == 2
    assert "Train one of its parts" in capsys.readouterr().err and not (tmp_path / "run").exists()
    common = [str(class_folders), "--backbone", pair, "--shots", "1", "--queries", "2", "--episodes", "2"]
    assert main(["evaluate", *common, "--adapt", "norms"]) == 2
    assert "--adapt" in capsys.readouterr().err
    assert main(["evaluate", *common, "--classifier", "zero-shot"]) == 1
    assert "no text side" in capsys.readouterr().err
    assert main(["download", "--model_name", "RN50+tiny"]) == 2
    assert "download its parts one by one: RN50, tiny" in capsys.readouterr().err
