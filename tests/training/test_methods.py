"""Runs of gradient-based methods: exact resuming, and checkpoints that adapt on the support by themselves, as training measured."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from episodes import Episode, EpisodeSampler, ImageTable, read_class_folders, write_task_directory
from episodes.errors import DataError, UsageError
from fewshot import FewShot
from fewshot.adaptation.inner_loop import InnerLoop
from fewshot.adaptation.meta import method_of, naming
from fewshot.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fewshot.commands.app import Answerer, server_of
from fewshot.commands.app import Options as AppOptions
from fewshot.commands.cli import main
from fewshot.commands.common import load_chosen_encoder, own_naming
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.encoders import load_encoder
from fewshot.images.augmented_views import PictureSource
from fewshot.images.transform import normalise
from fewshot.predict import Prediction, predict
from fewshot.training import train

pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")


class KillingConsole(Console):
    """Raises at the line that announces the second epoch."""

    def line(self, text: str) -> None:
        if text.startswith("epoch   2"):
            raise RuntimeError("killed")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def by(config: TrainConfig, method: Any, **settings: Any) -> TrainConfig:
    output = config.output.with_name(f"run-{method}") if config.output else None
    return dataclasses.replace(config, **{"method": method, "output": output, "val_episodes": 12, **settings})


def kept(path: Path) -> Path:
    """The run's checkpoint as it were, had selection kept the tuned side."""
    loaded = load_checkpoint(path)
    config = json.loads((path / "config.json").read_text())
    config["selected"]["alpha"] = 1.0
    assert loaded.statistics is not None and loaded.original_statistics is not None
    target = path.with_name(f"{path.name}-kept")
    target.mkdir()
    original = {n: v.clone() for n, v in loaded.encoder.state_dict().items() if ".resblocks.1." in n}
    generator = torch.Generator().manual_seed(0)
    for name, value in loaded.encoder.state_dict().items():
        if name in original:
            value += 0.05 * value.abs().mean() * torch.randn(value.shape, generator=generator)
    save_checkpoint(
        target, config, loaded.encoder, loaded.classifier, torch.tensor(loaded.scale).log(), original, loaded.statistics,
        loaded.original_statistics, loaded.method,
    )  # fmt: skip
    return target


def plain_answers(checkpoint: Checkpoint, table: ImageTable, episode: Episode, rate: float, steps: int) -> Tensor:
    """(Q, N) probabilities of an episode: gradient descent written out, on pictures through the whole encoder."""
    encoder, method = checkpoint.encoder, checkpoint.method
    assert method is not None
    source = PictureSource(table.items, encoder.image_size, None, views=1)

    def pixels(part: Any) -> Tensor:
        return normalise(torch.stack([source.views(row)[0] for row in part.tolist()]), encoder)

    behind = {id(p) for p in (*encoder.blocks[-1].parameters(), *encoder.head_parameters())}
    names = [n for n, p in encoder.named_parameters() if id(p) in behind] if method.name != "anil" else []
    fast = {n: encoder.get_parameter(n).detach().clone() for n in names}
    given, labels = pixels(episode.support), torch.from_numpy(episode.support_labels)
    head = torch.zeros(len(episode.class_names), encoder.embed_dim)
    if method.name == "protomaml":
        with torch.no_grad():
            head = F.normalize(F.one_hot(labels).float().T @ encoder(given), dim=-1)
    rates = [rate * r for r in method.rates] if len(method.rates) else [rate] * (len(names) + 1)
    for _ in range(steps):
        fast = {n: v.detach().requires_grad_() for n, v in fast.items()}
        head = head.detach().requires_grad_()
        loss = F.cross_entropy(checkpoint.scale * functional_call(encoder, fast, (given,)) @ head.T, labels)
        slopes = torch.autograd.grad(loss, [*fast.values(), head])
        fast = {n: v - r * g for (n, v), r, g in zip(fast.items(), rates, slopes, strict=False)}
        head = head - rates[-1] * slopes[-1]
    with torch.no_grad():
        scores = checkpoint.scale * functional_call(encoder, fast, (pixels(episode.query),)) @ head.T
    return scores.softmax(-1)


@pytest.mark.parametrize(
    "method",
    [
        "anil",
        pytest.param("meta-sgd", marks=pytest.mark.slow),
        pytest.param("maml", marks=pytest.mark.slow),
        pytest.param("protomaml", marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_adapts_on_the_support_by_itself(
    method: str, small_run: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """predict and evaluate, against gradient descent written out."""
    config = by(small_run, method, epochs=1, inner_lr=0.05, inner_steps=3)
    path = kept(train(config).path)
    loaded = load_checkpoint(path)
    assert config.val_data is not None
    table = read_class_folders(config.val_data)
    sampler = EpisodeSampler(table, ways=4, shots=2, queries=2, episodes=3, max_shots=2)
    expected = [plain_answers(loaded, table, episode, 0.05, 3) for episode in sampler]
    truths = [torch.from_numpy(episode.query_labels) for episode in sampler if episode.query_labels is not None]

    ask = ["evaluate", str(config.val_data), "--checkpoint", str(path), "--ways", "4", "--shots", "2", "--queries", "2"]
    assert main([*ask, "--episodes", "3", "--precision", "32", "--json"]) == 0
    found = {
        (row["classifier"], bool(row["checkpoint"])): row["accuracy"] for row in json.loads(capsys.readouterr().out)
    }
    assert set(found) == {("prototype", False), ("prototype", True), (method, True)}
    right = [float((e.argmax(-1) == t).float().mean()) for e, t in zip(expected, truths, strict=True)]
    assert found[method, True] == pytest.approx(np.mean(right))

    write_task_directory(table, list(sampler), tmp_path / "tasks")
    target = tmp_path / "answers.csv"
    assert main(["predict", str(tmp_path / "tasks"), str(target), "--checkpoint", str(path), "--precision", "32"]) == 0
    with target.open() as file:
        answers = list(csv.DictReader(file))
    confidences = torch.cat([e.max(-1).values for e in expected])
    assert sorted(float(a["confidence"]) for a in answers) == pytest.approx(sorted(confidences.tolist()), abs=2e-4)
    best = [e.class_names[n] for e, p in zip(sampler, expected, strict=True) for n in p.argmax(-1).tolist()]
    assert sorted(a["label"] for a in answers) == sorted(best)

    proto = tmp_path / "proto.csv"
    again = ["predict", str(tmp_path / "tasks"), str(proto), "--checkpoint", str(path), "--classifier", "prototype"]
    assert main([*again, "--precision", "32"]) == 0 and proto.read_bytes() != target.read_bytes()


@pytest.mark.slow
def test_what_validation_measured_is_what_evaluate_measures(small_run: TrainConfig) -> None:
    """The best epoch again, by the mix of 1; with stored hidden states and through pictures; and nobody is left worse off."""
    first = train(by(small_run, "maml", unfreeze_blocks=2)).path
    second = train(by(small_run, "maml", unfreeze_blocks=2, trunk_cache="off", output=first.with_name("pictures"))).path
    measured = [(row["kind"], row["epoch"], row["alpha"], row["val_accuracy"]) for row in rows(first)]
    assert measured == [(row["kind"], row["epoch"], row["alpha"], row["val_accuracy"]) for row in rows(second)]
    epochs = {row["epoch"]: row["val_accuracy"] for row in rows(first) if row["kind"] == "epoch"}
    mixes = {float(row["alpha"]): row for row in rows(first) if row["kind"] == "wise-ft"}
    assert mixes[1.0]["val_accuracy"] == epochs[mixes[1.0]["epoch"]]
    decision = rows(first)[-1]
    better = float(decision["difference"]) - float(decision["difference_ci95"]) > 0
    loaded = load_checkpoint(first)
    assert (loaded.own_method is not None) == better and loaded.method is not None and loaded.method.name == "maml"


def test_what_makes_validation_worse_is_not_kept(small_run: TrainConfig) -> None:
    """The guard holds for methods: wild rates spoil the encoder, so the untouched one is kept, and named by prototypes as before."""
    run = train(by(small_run, "anil", epochs=1, visual_lr=5.0, head_warmup=0.0, warmup=0.0))
    epoch = next(row for row in rows(run.path) if row["kind"] == "epoch")
    mixes = [float(row["alpha"]) for row in rows(run.path) if row["kind"] == "wise-ft"]
    assert float(epoch["val_accuracy"]) < run.untouched_accuracy and mixes == [0.25, 0.5, 0.75, 1.0]
    assert run.alpha == 0 and run.accuracy == run.untouched_accuracy
    kept, before = load_checkpoint(run.path), load_encoder(small_run.backbone)
    assert kept.own_method is None and kept.encoder.fingerprint == before.fingerprint


def test_a_killed_run_goes_on_exactly(small_run: TrainConfig) -> None:
    config = by(small_run, "meta-sgd", inner_lr=0.05)
    whole = train(config).path
    other = dataclasses.replace(config, output=whole.with_name("killed"))
    with pytest.raises(RuntimeError, match="killed"):
        train(other, KillingConsole(quiet=True))
    resumed = train(dataclasses.replace(other, resume=True)).path
    assert (resumed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    method = load_checkpoint(whole).method
    assert method is not None and any(bool((rate != 1).any()) for rate in method.rates)  # Meta-SGD's rates are learned


def test_settings_reach_the_inner_loop(small_run: TrainConfig) -> None:
    config = by(small_run, "anil", inner_lr=0.3, inner_steps=7, first_order=True)
    method = method_of(config, load_encoder(config.backbone))
    assert method is not None and method.loop == InnerLoop(0.3, 7, True)
    assert method_of(small_run, load_encoder(config.backbone)) is None


def test_the_same_in_python(small_run: TrainConfig) -> None:
    path = kept(train(by(small_run, "anil", epochs=1)).path)
    table = read_class_folders(small_run.val_data or small_run.train_data)
    (episode,) = EpisodeSampler(table, ways=3, shots=2, queries=2, episodes=1)
    pictures = {
        name: [table.items[row] for row in episode.support[episode.support_labels == label]]
        for label, name in enumerate(episode.class_names)
    }
    model = FewShot(path, precision="32").fit(pictures)
    expected = plain_answers(load_checkpoint(path), table, episode, 0.1, 5)
    found = model.predict_proba([table.items[row] for row in episode.query])
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    model.save(path.with_name("saved"))
    assert np.array_equal(
        FewShot.load(path.with_name("saved")).predict_proba([table.items[episode.query[0]]]), found[:1]
    )


def check_app(path: Path, tasks: Path, expected: Prediction) -> None:
    """The page offers the method first, names by it, and says that its confidence is not calibrated; prototypes are there to choose."""
    options = AppOptions(checkpoint=path, precision="32", quiet=True)
    document = server_of(options, path)._offer
    assert document["classifier"] == "protomaml" and document["classifiers"][:2] == ["protomaml", "prototype"]
    assert "not calibrated" in document["heading"]
    loaded = load_chosen_encoder(options)
    answerer = Answerer(options, loaded, own_naming(options, loaded))
    found = answerer.predict(tasks, "protomaml", lambda done, total: None)
    assert found.columns["confidence"].tolist() == pytest.approx(
        expected.columns["confidence"].tolist(), abs=0, nan_ok=True
    )
    other = answerer.predict(tasks, "prototype", lambda done, total: None)
    assert other.columns["confidence"].tolist() != pytest.approx(expected.columns["confidence"].tolist(), nan_ok=True)
    answerer.write(found, "protomaml", tasks / "result.csv", tasks / "report.html")
    assert (tasks / "result.csv").is_file() and "protomaml" in (tasks / "report.html").read_text(encoding="utf-8")


def test_a_method_that_steps_the_encoder_in_python(small_run: TrainConfig, tmp_path: Path) -> None:
    """The answers of predict to the bit, an unreadable picture included; kept, added to and opened again; and prototypes if asked for."""
    path = kept(train(by(small_run, "anil", epochs=1)).path)
    told = (path / "config.json").read_text().replace('"method": "anil"', '"method": "protomaml"')
    (path / "config.json").write_text(told)  # protomaml keeps the same tensors as anil: none
    table = read_class_folders(small_run.val_data or small_run.train_data)
    (episode,) = EpisodeSampler(table, ways=3, shots=2, queries=2, episodes=1)
    write_task_directory(table, [episode], tmp_path / "tasks")
    (task,) = (tmp_path / "tasks").rglob("query")
    sorted(task.iterdir())[1].write_bytes(b"broken")
    loaded = load_checkpoint(path)
    named = naming(loaded.own_method or pytest.fail(), loaded.scale)
    expected = predict(
        tmp_path / "tasks", loaded.encoder, named.classifier, adapter=named.adapter, precision="32", find_truth=False
    )
    assert named.adapter is not None and expected.columns["label"][1] == ""

    model = FewShot(path, precision="32").fit(task.parent / "support")
    with pytest.warns(UserWarning, match="cannot be read"):
        found = model.predict_frame([*map(Path, expected.table.paths(expected.results.row))])
    for column in ("label", "confidence", "runner_up", "margin"):
        assert found[column].tolist() == pytest.approx(expected.columns[column].tolist(), abs=0, nan_ok=True), column
    answers = plain_answers(loaded, table, episode, 0.1, 5).max(-1).values.tolist()
    assert sorted(found["confidence"].dropna())[-1] == pytest.approx(max(answers), abs=1e-4)

    check_app(path, tmp_path / "tasks", expected)
    query = table.items[episode.query[0]]
    first, *others = model.classes_
    pictures = sorted((task.parent / "support" / first).iterdir())
    model.save(tmp_path / "saved")
    again = FewShot.load(tmp_path / "saved")
    again.remove(first).add(first, pictures[:1]).add(first, pictures[1:])
    assert np.array_equal(again.predict_proba([query]), model.predict_proba([query])) and others
    by_prototypes = FewShot(path, classifier="prototype", precision="32").fit(task.parent / "support")
    opened = FewShot.load(tmp_path / "saved", classifier="prototype")
    assert np.array_equal(opened.predict_proba([query]), by_prototypes.predict_proba([query]))
    by_prototypes.save(tmp_path / "plain")
    with pytest.raises(DataError, match="fit its pictures again"):
        FewShot.load(tmp_path / "plain", classifier=None).predict([query])
    with pytest.raises(UsageError, match="one view a picture"):
        FewShot(path, embed_views=2)


def test_settings_without_sense_and_a_missing_library_are_refused(small_run: TrainConfig) -> None:
    with pytest.raises(UsageError, match="maml steps the encoder's last block.*unfrozen block"):
        by(small_run, "maml", unfreeze_blocks=0)
    with pytest.raises(UsageError, match="one view a picture"):
        by(small_run, "protomaml", embed_views=2)
    with pytest.raises(UsageError, match="needs --tune blocks"):
        by(small_run, "meta-sgd", tune="norms")
    with pytest.raises(UsageError, match="episode_loss nca"):
        by(small_run, "anil", episode_loss="nca")
    with pytest.raises(UsageError, match="inner_lr is 0"):
        by(small_run, "anil", inner_lr=0)
    code = (
        "import sys; sys.modules['learn2learn'] = None\nfrom fewshot.commands.cli import main\n"
        f"sys.exit(main(['train', '--train_data', {str(small_run.train_data)!r}, '--backbone', {small_run.backbone!r}, "
        f"'--method', 'anil', '--unfreeze_blocks', '1', '--output', {str(small_run.output)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "python -m episodes.install_learn2learn" in done.stderr, done.stderr
    assert small_run.output is not None and not small_run.output.exists()
