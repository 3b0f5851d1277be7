"""What training refuses, and when: before work starts where that can be known, else with the step and the likely cause."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from episodes.errors import DataError, UsageError
from fewshot.__main__ import main
from fewshot.console import Console
from fewshot.run_files import CONFIG, RESUME
from fewshot.training import TrainConfig, train
from fewshot.training.data import refuse_beyond_memory
from tests.conftest import write_pictures


class Listening(Console):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def line(self, text: str) -> None:
        self.said.append(text)


def refused(config: TrainConfig, message: str, kind: type[Exception] = DataError) -> None:
    """Refused with these words, before anything was measured or written."""
    console = Listening()
    with pytest.raises(kind, match=message):
        train(config, console)
    assert not any(line.startswith("untouched") for line in console.said)
    assert config.output is not None and not config.output.exists()


def test_more_validation_ways_than_classes(small_run: TrainConfig) -> None:
    refused(dataclasses.replace(small_run, val_ways=99), "val_ways is 99, but only 8 .* give at most 8", UsageError)
    refused(
        dataclasses.replace(small_run, val_ways=99, val_data=None),
        "val_ways is 99, but only 10 .* at most 10",
        UsageError,
    )


def test_the_default_of_validation_ways_follows_small_data(small_run: TrainConfig, tmp_path: Path) -> None:
    console = Listening()
    few = write_pictures(tmp_path / "few", 3, 6, offset=40)
    train(dataclasses.replace(small_run, val_data=few, epochs=1), console)
    assert any("(3-way 1-shot" in line for line in console.said)


def test_a_batch_of_more_pictures_than_there_are(small_run: TrainConfig) -> None:
    words = "batch_size is 121, but there are 120 training pictures: give at most 120"
    refused(dataclasses.replace(small_run, batch_size=121), words, UsageError)
    assert train(dataclasses.replace(small_run, batch_size=120, epochs=1)).path.exists()


def test_the_default_batch_may_be_larger_than_small_data(small_run: TrainConfig, tmp_path: Path) -> None:
    few = write_pictures(tmp_path / "few", 4, 4)
    config = dataclasses.replace(small_run, train_data=few, batch_size=TrainConfig.batch_size, epochs=1)
    assert train(config).path.exists()


def test_a_batch_beyond_memory(tmp_path: Path) -> None:
    device = torch.device("cpu")
    refuse_beyond_memory(1000, 224, device)
    with pytest.raises(
        UsageError, match=r"batch_size: 1000000 pictures of 10000 x 10000 take 1,117,587\.1 GiB a step, and cpu has"
    ):
        refuse_beyond_memory(1_000_000, 10_000, device)


@pytest.mark.parametrize("which", ["train", "val"])
def test_folders_without_a_readable_picture(small_run: TrainConfig, tmp_path: Path, which: str) -> None:
    broken = write_pictures(tmp_path / "broken", 6, 4, offset=60)
    for path in broken.rglob("*.png"):
        path.write_bytes(b"not a picture")
    what = {"train": "training", "val": "validation"}[which]
    words = rf"none of the 24 {what} pictures can be read \(.*broken/class65/03\.png: .*nothing was written"
    refused(dataclasses.replace(small_run, **{f"{which}_data": broken}), words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("classes", "images", "change", "message"),
    [
        (1, 10, {}, "2 classes|at least 2|too few"),
        (6, 1, {}, "at least 2 classes with 3 pictures each; found 0"),
        (6, 6, {"ways": 7, "batch_size": 30}, "7 classes|7 ways"),
        (6, 6, {"ways": 3, "batch_size": 8}, "batch_size 8 is too small .* the smallest that works is 9"),
        (6, 6, {"batch_size": 5}, "batch_size 5 holds no episode .* the smallest that works is 6"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_data_that_make_no_episode(
    small_run: TrainConfig, tmp_path: Path, classes: int, images: int, change: dict[str, int], message: str, own: bool
) -> None:
    few = write_pictures(tmp_path / "few", classes, images)
    config = dataclasses.replace(small_run, train_data=few, **change)  # type: ignore[arg-type]
    config = config if own else dataclasses.replace(config, val_data=None)
    console = Listening()
    with pytest.raises((DataError, UsageError), match=message):
        train(config, console)
    assert not any(line.startswith("untouched") for line in console.said)
    assert config.output is not None and not config.output.exists()


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_loss_that_is_not_finite_says_where_and_why(
    small_run: TrainConfig, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """The weights of the classifier are spoilt, as an overflow would spoil them; all else is the real thing."""
    from fewshot.encoders.heads import ResidualClassifier

    forward = ResidualClassifier.forward
    calls = iter(range(1000))

    def failing(self: ResidualClassifier, embeddings: torch.Tensor, generator: object = None) -> torch.Tensor:
        if next(calls) == 5 * epoch + 2:
            self.fc1.weight.data[0, 0] = float("nan")
        return forward(self, embeddings, generator)  # type: ignore[arg-type]

    monkeypatch.setattr(ResidualClassifier, "forward", failing)
    with pytest.raises(DataError) as error:
        train(small_run)
    said = str(error.value)
    assert f"the loss is nan at step {5 * epoch + 2} (epoch {epoch + 1}; precision 32, visual_lr 0.001" in said
    assert "--visual_lr" in said and "--precision 32" in said and "--resume" not in said
    assert ("no epoch was finished" in said) == (epoch == 0)
    assert small_run.output is not None and (small_run.output / RESUME).exists() == (epoch == 1)


def test_a_learning_rate_that_is_too_high_ends_in_that_message(small_run: TrainConfig) -> None:
    wild = dataclasses.replace(
        small_run, classifier_lr=100.0, visual_lr=100.0, clip_norm=0.0, unfreeze_blocks="all", epochs=20
    )
    words = r"(the loss is (nan|inf) at step \d+|the encoder gives no finite embedding .* after step \d+) .*learning rates are too high"
    with pytest.raises(DataError, match=words):
        train(wild)


def arguments(config: TrainConfig, *more: str) -> list[str]:
    names = ("train_data", "val_data", "backbone", "unfreeze_blocks", "epochs", "batch_size", "queries", "visual_lr")
    names += ("val_queries", "val_episodes", "workers", "precision")
    return ["train", *(text for name in names for text in (f"--{name}", str(getattr(config, name)))), *more]


def test_a_finished_run_that_is_resumed_is_done(
    small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_run = dataclasses.replace(small_run, epochs=1)
    again = arguments(small_run, "--output", "runs/one", "--resume")
    assert main([*again[:-1], "--quiet"]) == 0
    before = {path: path.read_bytes() for path in Path("runs/one").iterdir() if path.is_file()}
    capsys.readouterr()
    for command in (again, [*again[:-3], "--resume"]):  # with its folder, and as the newest of all
        assert main(command) == 0
        said = capsys.readouterr()
        assert said.err == "runs/one: this run is finished; there is nothing left to do\n" and said.out == ""
    assert main([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == "runs/one"
    assert {path: path.read_bytes() for path in Path("runs/one").iterdir() if path.is_file()} == before
    assert main([*again, "--seed", "5"]) == 2
    assert "seed was 0, is 5" in capsys.readouterr().err
    assert main([*again[:-3], "--resume", "--seed", "5"]) == 1  # no folder was named, and none is of these settings
    assert "no unfinished run" in capsys.readouterr().err
    (Path("runs/one") / CONFIG).write_text("{}")
    assert main(again) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "another run", "not ours"])
def test_a_damaged_state_is_not_resumed_from(small_run: TrainConfig, tmp_path: Path, damage: str) -> None:
    class Killed(Exception):
        pass

    class Killing(Console):
        def line(self, text: str) -> None:
            if text.startswith("epoch   1"):
                raise Killed

    with pytest.raises(Killed):
        train(small_run, Killing(quiet=True))
    assert small_run.output is not None
    state = small_run.output / RESUME
    data = bytearray(state.read_bytes())
    if damage == "flip":
        data[-1000] ^= 8
    elif damage == "cut":
        data = data[:-100]
    elif damage == "not ours":
        data = bytearray(b"PK\x03\x04 something else")
    else:
        other = dataclasses.replace(small_run, unfreeze_blocks=0, output=tmp_path / "other")
        with pytest.raises(Killed):
            train(other, Killing(quiet=True))
        data = bytearray((tmp_path / "other" / RESUME).read_bytes())
    state.write_bytes(data)
    with pytest.raises(DataError, match=r"resume\.safetensors: (differs|cannot be read|is not of this run)"):
        train(dataclasses.replace(small_run, resume=True))


class Stopped(Console):
    """Is stopped as soon as the run begins to compute what it keeps; notes what is warned of."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warned: list[str] = []

    def line(self, text: str) -> None:
        if text.startswith("trunk cache"):
            raise KeyboardInterrupt

    def warn(self, text: str) -> None:
        self.warned.append(text)


def test_a_run_that_is_stopped_before_it_learns_says_what_goes_on(small_run: TrainConfig) -> None:
    config, console = dataclasses.replace(small_run, views=2, trunk_cache="on"), Stopped()
    with pytest.raises(KeyboardInterrupt):
        train(config, console)
    assert console.warned == [
        f"stopped after epoch 0 of {config.epochs}; the same command with --output {config.output} --resume continues"
    ]
    assert train(dataclasses.replace(config, resume=True), Console(quiet=True)).path == config.output
