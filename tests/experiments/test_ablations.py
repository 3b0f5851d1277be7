"""Ablations: planned, run once, resumed, kept when they fail, measured on data that chose nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from episodes import EpisodeSampler, evaluate, read_class_folders
from episodes.errors import DataError, UsageError
from experiments.__main__ import main
from experiments.engine.ablation import Ablation, Measure, load, shipped
from experiments.engine.measure import TestPlan
from experiments.engine.plan import plan, with_settings
from experiments.engine.results import TIMINGS, read_findings
from experiments.engine.run import run_ablation
from fewshot import FeatureScorer, TrainConfig, build_classifier, embed_images, load_checkpoint, load_encoder
from fewshot.console import Console
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[2]
QUIET = Console(quiet=True)
OWN = '''"""Does a higher rate help?"""
import dataclasses
def configs(base):
    return {f"rate-{rate:g}": dataclasses.replace(base, visual_lr=rate) for rate in (1e-4, 1e-2)}
'''


@pytest.fixture(scope="session")
def test_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two sets of classes that are neither trained nor validated on."""
    root = tmp_path_factory.mktemp("tests")
    return [write_pictures(root / name, 6, 8, seed=seed, offset=40 + 10 * seed) for seed, name in enumerate("xy")]


@pytest.fixture
def base(small_run: TrainConfig) -> TrainConfig:
    return dataclasses.replace(small_run, output=None, epochs=1, val_episodes=20)


@pytest.fixture
def tests(test_folders: list[Path]) -> TestPlan:
    return TestPlan(tuple(test_folders), episodes=12, ways=3, shots=(1, 3), queries=4)


def rates(*values: float, **more: object) -> Ablation:
    def configs(base: TrainConfig) -> dict[str, TrainConfig]:
        return {f"rate-{rate:g}": dataclasses.replace(base, visual_lr=rate) for rate in values}

    return Ablation("rates", "Which rate?", configs, {"": Measure()}, **more)  # type: ignore[arg-type]


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    left, right = (t.drop(columns=[c for c in TIMINGS if c in t]) for t in (a, b))
    pd.testing.assert_frame_equal(left, right)


def test_every_shipped_ablation_asks_a_question_and_its_runs_differ(class_folders: Path, tmp_path: Path) -> None:
    known = shipped()
    assert len(known) >= 4
    for name, ablation in known.items():
        assert "?" in ablation.question, name
        runs = plan(ablation, TrainConfig(train_data=class_folders), tmp_path)
        conditions = [(run.name, measure) for run in runs for measure in ablation.measures]
        assert len(conditions) >= 2, name
        assert len({run.digest for run in runs}) == len(runs)


def test_measured_on_the_same_episodes_as_a_plain_evaluation(
    base: TrainConfig, tests: TestPlan, tmp_path: Path
) -> None:
    findings, folder = run_ablation(rates(1e-3, 1e-2), base, tmp_path, QUIET, seeds=2, tests=tests)
    table = read_findings(folder).results
    pd.testing.assert_frame_equal(table, findings.results)
    assert len(table) == (2 * 2 + 1) * 2 * 2  # (runs x seeds + untouched) x sets x shots
    run = table[(table["condition"] == "rate-0.01") & (table["seed"] == 1)].iloc[0]["run"]
    encoders = {"rate-0.01": load_checkpoint(tmp_path / "runs" / run).encoder, "untouched": load_encoder(base.backbone)}
    for name, encoder in encoders.items():
        for place in tests.folders:
            pictures = read_class_folders(place)
            embeddings = embed_images(encoder, pictures.items, precision="32")
            for shots in tests.shots:
                sampler = EpisodeSampler(pictures, ways=3, shots=shots, queries=4, seed=0, episodes=12, max_shots=3)
                expected = evaluate(sampler, FeatureScorer(embeddings, build_classifier("prototype"))).accuracy
                all_rows = findings.episodes
                of = (all_rows["condition"] == name) & (all_rows["set"] == place.name) & (all_rows["shots"] == shots)
                found = all_rows[of & all_rows["seed"].isin([1, -1])]
                np.testing.assert_array_equal(found["accuracy"], expected)
    of_epochs = findings.curves[findings.curves["epoch"] > 0]
    assert of_epochs["prototypical_share"].between(0, 1, inclusive="neither").all() and len(of_epochs) == 4
    assert set(findings.comparisons["family"]) == {
        f"{what}, {where}" for what in ("asked", "against untouched") for where in ("mean of the sets", "by set")
    }


def test_a_finished_run_is_never_repeated_and_ablations_share_runs(
    base: TrainConfig, tests: TestPlan, tmp_path: Path
) -> None:
    threads = threading.active_count()
    first, _ = run_ablation(rates(1e-3, 1e-2), base, tmp_path, QUIET, tests=tests)
    assert threading.active_count() == threads  # a run leaves none behind: a hundred would
    weights = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*") if path.is_file()}
    again, _ = run_ablation(rates(1e-3, 1e-2), base, tmp_path, QUIET, tests=tests)
    pd.testing.assert_frame_equal(first.results, again.results)
    run_ablation(rates(1e-2, 1e-4), base, tmp_path, QUIET, tests=tests)  # one is there already
    assert len(list(tmp_path.glob("runs/*/model.safetensors"))) == 3
    assert all(path.stat().st_mtime_ns == changed for path, changed in weights.items() if path.name != ".lock")


def test_the_hash_is_of_settings_and_content_and_not_of_places(base: TrainConfig, tmp_path: Path) -> None:
    def digest(config: TrainConfig) -> str:
        return plan(Ablation("one", "?", lambda b: {"run": b}, {"": Measure()}), config, tmp_path)[0].digest

    known = digest(base)
    assert digest(dataclasses.replace(base, workers=3, quiet=False, test_data=(tmp_path,))) == known
    assert digest(dataclasses.replace(base, epochs=2)) != known
    copied = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", base.train_data, copied], check=True)
    assert digest(dataclasses.replace(base, train_data=copied)) == known
    picture = next(copied.rglob("*.png"))
    changed = tmp_path / "changed"
    subprocess.run(["cp", "-r", copied, changed], check=True)
    (changed / picture.relative_to(copied)).write_bytes(picture.read_bytes() + b" ")
    assert digest(dataclasses.replace(base, train_data=changed)) != known


def test_a_failed_run_is_kept_and_does_not_stop_the_others(base: TrainConfig, tests: TestPlan, tmp_path: Path) -> None:
    def configs(b: TrainConfig) -> dict[str, TrainConfig]:
        return {f"unfreeze-{n}": dataclasses.replace(b, unfreeze_blocks=n) for n in (1, 99, 2)}

    ablation = Ablation("depth", "How many?", configs, {"": Measure()})
    findings, _ = run_ablation(ablation, base, tmp_path, QUIET, tests=tests)
    assert findings.note["conditions"] == ["unfreeze-1", "unfreeze-2"]
    (failed,) = findings.note["failed"]
    assert failed["run"] == "unfreeze-99" and "has 2 blocks" in failed["error"]
    assert "UsageError" in (Path(failed["folder"]) / "error.txt").read_text()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(
    base: TrainConfig, tests: TestPlan, tmp_path: Path
) -> None:
    base = dataclasses.replace(base, epochs=3)
    expected, _ = run_ablation(rates(1e-3, 1e-2), base, tmp_path / "quiet", QUIET, tests=tests)
    (tmp_path / "runner.py").write_text(
        "import sys, signal, os, dataclasses; from pathlib import Path\n"
        "import fewshot.training.state as state\n"
        "real = state.save_state\n"
        "def save(folder, now, *rest):\n"
        "    real(folder, now, *rest)\n"
        "    if now.epoch == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "state.save_state = save\n"
        "from experiments.__main__ import main; sys.exit(main(sys.argv[1:]))\n"
    )
    (tmp_path / "rates.py").write_text(OWN.replace("1e-4, 1e-2", "1e-3, 1e-2"))
    flags = [
        "run",
        tmp_path / "rates.py",
        "--train_data",
        base.train_data,
        "--val_data",
        base.val_data,
        "--backbone",
        base.backbone,
    ]
    flags += [
        "--unfreeze_blocks",
        1,
        "--epochs",
        3,
        "--batch_size",
        24,
        "--queries",
        2,
        "--visual_lr",
        1e-3,
        "--val_queries",
        4,
    ]
    flags += ["--val_episodes", 20, "--workers", 0, "--precision", 32, "--runs", tmp_path / "killed", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, tmp_path / "runner.py", *map(str, flags)],
        cwd=ROOT,
        env=environment,
    )
    assert killed.returncode == -9
    (left,) = (tmp_path / "killed" / "runs").glob("*/resume.safetensors")
    assert not (left.parent / "model.safetensors").exists()
    found, _ = run_ablation(rates(1e-3, 1e-2), base, tmp_path / "killed", QUIET, tests=tests)
    same(found.results, expected.results)
    same(found.episodes, expected.episodes)


def test_without_test_data_the_numbers_are_said_to_be_of_what_selected(base: TrainConfig, tmp_path: Path) -> None:
    from experiments.engine.text import summary

    findings, _ = run_ablation(rates(1e-3, 1e-2), base, tmp_path, QUIET)
    assert set(findings.results["set"]) == {"validation"}
    assert "selected the runs" in summary(findings).splitlines()[2]


def test_several_measures_and_pairs(base: TrainConfig, tests: TestPlan, tmp_path: Path) -> None:
    measures = {
        "prototype": Measure(),
        "half": Measure(alpha=0.5),
        "old": Measure(alpha=0.0),
        "logits": Measure(features="residual"),
    }
    ablation = rates(1e-2, compare=(("rate-0.01, half", "rate-0.01, prototype"),))
    ablation = dataclasses.replace(ablation, measures=measures)
    findings, _ = run_ablation(ablation, dataclasses.replace(base, mix=1.0), tmp_path, QUIET, tests=tests)
    means = findings.results.groupby("condition")["accuracy"].mean()
    by_episode = {name: part["accuracy"].to_numpy() for name, part in findings.episodes.groupby("condition")}
    np.testing.assert_array_equal(
        by_episode["rate-0.01, old"], by_episode["untouched"]
    )  # alpha 0 is the untouched encoder
    assert len(means) == 5 and not np.array_equal(by_episode["rate-0.01, half"], by_episode["rate-0.01, prototype"])
    asked = findings.comparisons[findings.comparisons["family"].str.startswith("asked")]
    assert set(zip(asked["a"], asked["b"], strict=True)) == {("rate-0.01, half", "rate-0.01, prototype")}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=7", "epochs", 7),
        ("ways=5-20", "ways", "5-20"),
        ("unfreeze_blocks=all", "unfreeze_blocks", "all"),
        ("precision=32", "precision", "32"),
        ("views=none", "views", None),
        ("visual-lr=1e-4", "visual_lr", 1e-4),
        ("no_cache=true", "no_cache", True),
        ("val_data=x", "val_data", Path("x")),
    ],
)
def test_set(text: str, name: str, value: object, tmp_path: Path) -> None:
    changed = with_settings(TrainConfig(train_data=tmp_path), [text])
    assert getattr(changed, name) == value and type(getattr(changed, name)) is type(value)


def test_set_reaches_into_settings_and_names_nonsense(tmp_path: Path) -> None:
    base = TrainConfig(train_data=tmp_path)
    assert with_settings(base, ["augmentation.flip=0", "augmentation.crop_scale=[0.2,1]"]).augmentation.crop_scale == (
        0.2,
        1,
    )
    for text in ("epochs", "epoch=1", "epochs=many", "epochs=0", "augmentation.flap=1", "seed.x=1"):
        with pytest.raises(UsageError, match="--set"):
            with_settings(base, [text])


def test_two_conditions_that_are_one_run_are_refused(base: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="are the same run"):
        plan(rates(1e-3, 1e-2), base, tmp_path, settings=["visual_lr=1"])


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    assert load(str(tmp_path / "mine.py")).question == "Does a higher rate help?"
    (tmp_path / "empty.py").write_text("x = 1")
    (tmp_path / "broken.py").write_text("x = ")
    for name, told in (
        ("empty.py", "expected a docstring"),
        ("broken.py", "SyntaxError"),
        ("none.py", "there is no such file"),
    ):
        with pytest.raises(UsageError, match=told):
            load(str(tmp_path / name))


def test_from_the_command_line(
    base: TrainConfig, test_folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN.rstrip() + " | {'none': dataclasses.replace(base, min_images=999)}\n")
    flags = ["--train_data", base.train_data, "--val_data", base.val_data, "--backbone", base.backbone, "--epochs", 1]
    flags += ["--batch_size", 24, "--queries", 2, "--workers", 0, "--val_queries", 4, "--val_episodes", 20, "--quiet"]
    flags += ["--test_data", test_folders[0], "--runs", tmp_path / "runs", "--set", "unfreeze_blocks=1"]
    command = ["run", str(tmp_path / "mine.py"), *map(str, flags), "--test_episodes", "5"]
    assert main(command) == 1  # 20 pictures a class are needed
    assert "all 3 runs failed" in capsys.readouterr().err
    command[command.index(str(test_folders[0]))] = str(write_pictures(tmp_path / "wide", 5, 20, seed=3, offset=70))
    assert main(command) == 3  # two were trained above and are measured now; of the third the error is kept
    told = capsys.readouterr().out
    assert "wide, 5 shots" in told and "rate-0.0001" in told
    assert "failed: none, seed 0: " in told and "999" in told.partition("failed: none")[2]
    assert main(["report", str(tmp_path / "runs")]) == 0
    page = (tmp_path / "runs/mine/report.html").read_text()
    assert "Does a higher rate help?" in page and "://" not in page and page.count("data:image/png") == 3
    assert r"\toprule" in (tmp_path / "runs/mine/table.tex").read_text()
    finished = next((tmp_path / "runs/runs").glob("*/model.safetensors")).parent
    record = json.loads((finished / "run.json").read_text())
    assert record["results_version"] >= 1 and record["peak_memory_mb"] > 0
    command[command.index("unfreeze_blocks=1")] = "unfreeze_blocks=3"
    assert main([*command, "--set", "visual_lr=1"]) == 2  # two runs that are one


def test_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nothing", "--train_data", "x"]) == 2
    assert "no ablation is called 'nothing'" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "holds no ablation" in capsys.readouterr().err
    with pytest.raises(DataError, match="holds no ablation"):
        read_findings(tmp_path)


def test_list_names_the_questions_in_any_folder(tmp_path: Path) -> None:
    listed = [sys.executable, "-m", "experiments", "list"]
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(listed, cwd=tmp_path, env=where, check=True, capture_output=True, text=True).stdout
    assert all(name in told and ablation.question in told for name, ablation in shipped().items())
