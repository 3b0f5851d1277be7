"""`FewShot` and `ImageEmbedder` against the command line and plain arithmetic."""

from __future__ import annotations

import csv
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from episodes.errors import DataError, UsageError
from fewshot import FewShot, FewShotClassifier, ImageEmbedder, embed_images, load_encoder
from fewshot.commands.cli import main
from tests.conftest import write_pictures


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task of three classes of four pictures and nine queries, one of which is broken."""
    root = tmp_path / "testB" / "task1"
    write_pictures(root / "support", 3, 4)
    query = root / "query"
    query.mkdir()
    for number, path in enumerate(sorted(write_pictures(tmp_path / "more", 3, 3, seed=5).rglob("*.png"))):
        path.rename(query / f"{number}.png")
    (query / "4.png").write_bytes(b"not a picture")
    return root


def rows_of(result: Path) -> list[tuple[str, str, str]]:
    with result.open() as file:
        return [(row["image"], row["label"], row["confidence"]) for row in csv.DictReader(file)]


def rows_from(model: FewShot, task: Path, **settings: float) -> list[tuple[str, str, str]]:
    queries = sorted((task / "query").iterdir())
    with pytest.warns(UserWarning, match=r"4\.png: cannot be read"):
        frame = model.predict_frame(queries, **settings)
    texts = [("" if np.isnan(confidence) else f"{confidence:.4f}") for confidence in frame["confidence"]]
    return [
        (Path(image).name, label, text)
        for image, label, text in zip(frame["image"], frame["label"], texts, strict=True)
    ]


@pytest.mark.parametrize("classifier", ["prototype", "gda", "auto", "soft-kmeans", "text-blend"])
def test_answers_are_those_of_the_command_line(classifier: str, task: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.csv"
    status = main(["predict", str(task.parents[1]), str(result), "--backbone", "tiny", "--classifier", classifier])
    assert status == 3  # one picture cannot be read
    model = FewShot("tiny", classifier=classifier).fit(task / "support")
    assert rows_from(model, task) == rows_of(result)


def test_a_checkpoint_brings_its_temperature_and_its_rejection(task: Path, tiny_run: Path, tmp_path: Path) -> None:
    plain, strict = tmp_path / "plain.csv", tmp_path / "strict.csv"
    for result, more in ((plain, []), (strict, ["--reject", "0.3"])):
        assert main(["predict", str(task.parents[1]), str(result), "--checkpoint", str(tiny_run), *more]) == 3
    model = FewShot.load(tiny_run).fit({path.name: sorted(path.iterdir()) for path in (task / "support").iterdir()})
    assert rows_from(model, task) == rows_of(plain)
    assert rows_from(model, task, reject=0.3) == rows_of(strict)
    assert rows_of(plain) != rows_of(strict)  # something was rejected
    with pytest.raises(UsageError, match="--reject needs to know"):
        FewShot("tiny", classifier="soft-kmeans").fit(task / "support").predict([task / "query" / "0.png"], reject=0.3)


def test_probabilities_and_margins_belong_together(task: Path) -> None:
    model = FewShot("tiny").fit(task / "support")
    queries = [task / "query" / f"{number}.png" for number in (0, 1, 2)]
    chances, frame = model.predict_proba(queries), model.predict_frame(queries)
    assert chances.shape == (3, 3) and np.allclose(chances.sum(1), 1, atol=1e-6)
    assert model.predict(queries) == [model.classes_[place] for place in chances.argmax(1)] == list(frame["label"])
    second = np.sort(chances, axis=1)[:, -2]
    assert np.allclose(frame["margin"], chances.max(1) - second, atol=1e-7)
    assert [chances[row, model.classes_.index(name)] for row, name in enumerate(frame["runner_up"])] == list(second)


def test_pictures_in_memory_are_those_of_their_files(task: Path) -> None:
    model = FewShot("tiny").fit(task / "support")
    paths = [task / "query" / f"{number}.png" for number in (0, 1, 2)]
    opened = [Image.open(path) for path in paths]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    expected = model.predict_proba(paths)
    assert np.array_equal(model.predict_proba(opened), expected)
    assert np.array_equal(model.predict_proba(arrays), expected)
    turned = Image.open(paths[0])
    turned.getexif()[0x0112] = 3  # upside down, says the camera
    upside_down = np.ascontiguousarray(arrays[0][::-1, ::-1])
    assert np.array_equal(model.predict_proba([turned]), model.predict_proba([upside_down]))
    for wrong in (arrays[0].astype(float), np.zeros((2, 2, 7), np.uint8), 5):
        with pytest.raises(UsageError, match="a picture"):
            model.predict([wrong])


def test_classes_come_and_go_without_their_pictures(task: Path, tmp_path: Path) -> None:
    """Pictures are deleted after they were given: whoever needs them again fails."""
    classes = sorted((task / "support").iterdir())
    queries = [task / "query" / f"{number}.png" for number in (0, 1, 2, 3)]
    whole = FewShot("tiny", cache=False).fit(task / "support").predict_proba(queries)
    model = FewShot("tiny", cache=False).fit({path.name: list(path.iterdir()) for path in classes[1:]})
    two = model.predict_proba(queries)
    shutil.rmtree(classes[1])
    first = sorted(classes[0].iterdir())
    model.add(classes[0].name, first[:1])
    first[0].unlink()
    model.add(classes[0].name, first[1:])
    shutil.rmtree(classes[0])
    assert model.classes_ == tuple(path.name for path in classes) and model.counts[classes[0].name] == 4
    assert np.allclose(model.predict_proba(queries), whole, atol=1e-6)
    model.remove(classes[0].name)
    assert np.array_equal(model.predict_proba(queries), two)
    with pytest.raises(UsageError, match="there is no class"):
        model.remove("another")


@pytest.mark.parametrize("of_checkpoint", [False, True])
def test_what_is_saved_answers_as_before(of_checkpoint: bool, task: Path, tiny_run: Path, tmp_path: Path) -> None:
    model = FewShot(tiny_run if of_checkpoint else "tiny", classifier="ridge", precision="32").fit(task / "support")
    queries = [task / "query" / "0.png", task / "query" / "1.png"]
    expected = model.predict_proba(queries)
    model.save(tmp_path / "saved")
    shutil.rmtree(tiny_run)
    shutil.rmtree(task / "support")
    loaded = FewShot.load(tmp_path / "saved")
    assert np.array_equal(loaded.predict_proba(queries), expected) and loaded.classes_ == model.classes_
    damaged = bytearray((tmp_path / "saved" / "support.safetensors").read_bytes())
    damaged[-3] ^= 1
    (tmp_path / "saved" / "support.safetensors").write_bytes(damaged)
    with pytest.raises(DataError, match="damaged"):
        FewShot.load(tmp_path / "saved")
    with pytest.raises(DataError, match="expected a folder"):
        FewShot.load(tmp_path)


def test_a_run_is_never_saved_over(task: Path, tiny_runs: Path, tiny_run: Path, tmp_path: Path) -> None:
    """Neither a finished one, nor one that has a support set beside it; what `save` itself wrote is replaced."""
    model = FewShot(tiny_runs / "b", precision="32").fit(task / "support")
    weights = (tiny_run / "model.safetensors").read_bytes()
    with pytest.raises(DataError, match="never overwritten"):
        model.save(tiny_run)
    FewShot(tiny_run, precision="32").fit(task / "support").save(tiny_run)  # its own run may hold it
    with pytest.raises(DataError, match="never overwritten"):
        model.save(tiny_run)
    assert (tiny_run / "model.safetensors").read_bytes() == weights
    FewShot(tiny_run, precision="32").fit(task / "support").save(tmp_path / "saved")
    model.save(tmp_path / "saved")
    queries = [task / "query" / "0.png"]
    assert np.array_equal(FewShot.load(tmp_path / "saved").predict_proba(queries), model.predict_proba(queries))


@pytest.mark.parametrize("of_checkpoint", [False, True])
def test_weights_are_read_where_a_picture_is_not_cached(
    of_checkpoint: bool, vit_file: Path, tiny_run: Path, task: Path, tmp_path: Path
) -> None:
    """What was answered before is answered without the file; what is new is refused until the file is back."""
    name = tiny_run if of_checkpoint else shutil.copy(vit_file, tmp_path / "weights.pt")
    queries = [task / "query" / "0.png", task / "query" / "1.png"]
    expected = FewShot(name).fit(task / "support").predict_proba(queries)
    features = ImageEmbedder(str(name)).transform(queries)
    model, embedder = FewShot(name), pickle.loads(pickle.dumps(ImageEmbedder(str(name)).fit(queries)))
    weights = tiny_run / "model.safetensors" if of_checkpoint else Path(name)
    weights.rename(tmp_path / "away")
    assert np.array_equal(model.fit(task / "support").predict_proba(queries), expected)
    assert np.array_equal(embedder.transform(queries), features)
    with pytest.raises((DataError, UsageError), match=r"not finished|neither a known name"):
        model.predict([np.zeros((9, 9, 3), np.uint8)])
    (tmp_path / "away").rename(weights)
    assert model.predict([np.zeros((9, 9, 3), np.uint8)]) == FewShot(name, cache=False).fit(task / "support").predict(
        [np.zeros((9, 9, 3), np.uint8)]
    )


def test_what_cannot_be_is_said(task: Path, tmp_path: Path) -> None:
    model = FewShot("tiny")
    with pytest.raises(DataError, match="nothing was fitted"):
        model.predict([task / "query" / "0.png"])
    for nothing in ({}, {"a": []}):
        with pytest.raises(DataError):
            model.fit(nothing)
    with pytest.warns(UserWarning, match="cannot be read"), pytest.raises(DataError, match="'b' has no picture"):
        model.fit({"a": [task / "query" / "0.png"], "b": [task / "query" / "4.png"]})
    model.fit(task / "support")
    with pytest.raises(DataError, match="no pictures"):
        model.predict([])
    assert repr(model).startswith("<FewShot of tiny (untouched), prototype: class00 (4)") and len(repr(model)) < 200


def test_the_embedder_is_the_first_step_of_a_pipeline(task: Path) -> None:
    paths = sorted((task / "support").rglob("*.png"))
    labels = [path.parent.name for path in paths]
    queries = [task / "query" / f"{number}.png" for number in (0, 1, 2, 3)]
    features = ImageEmbedder("tiny", precision="32").transform(paths)
    expected = embed_images(load_encoder("tiny"), paths, precision="32").features
    assert features.shape == (12, 256) and torch.equal(torch.from_numpy(features), expected)
    ours = make_pipeline(ImageEmbedder("tiny"), FewShotClassifier("prototype")).fit(paths, labels)
    assert list(ours.predict(queries)) == FewShot("tiny").fit(task / "support").predict(queries)
    theirs = make_pipeline(ImageEmbedder("tiny"), LogisticRegression()).fit(paths, labels)
    assert theirs.predict_proba(queries).shape == (4, 3)
    copied = clone(ImageEmbedder("tiny", embed_views=2))
    assert copied.embed_views == 2 and copied.fit(paths).get_feature_names_out()[1] == "tiny_1"
    with pytest.raises(DataError, match=r"1 of 1 pictures .*4\.png"):
        copied.transform([task / "query" / "4.png"])
