"""What is tuned: parts of the blocks, and low-rank additions that end up in a plain encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from episodes.errors import UsageError
from fewshot import load_checkpoint, load_encoder, normalise, train
from fewshot.config import TrainConfig
from fewshot.encoders.parts import unfreeze_part
from fewshot.losses import nca_loss, squared_distance
from fewshot.run_files import MODEL
from fewshot.tensors import load_tensors
from fewshot.training.lora import mark_lora, merged_weights, with_lora
from fewshot.training.model import EpisodicModel


def tuned_names(run: Path) -> set[str]:
    """The tensors of the encoder that a run changed."""
    tensors, _ = load_tensors(run / MODEL)
    before = {name.removeprefix("original."): value for name, value in tensors.items() if name.startswith("original.")}
    changed = {name for name, value in before.items() if not torch.equal(tensors[f"encoder.{name}"], value)}
    assert changed == set(before)
    return changed


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ("norms", ("ln_1", "ln_2", "ln_post")),
        ("projection", ("proj",)),
        ("lora", ("out_proj.weight", "c_fc.weight", "c_proj.weight")),
    ],
)
def test_only_the_part_is_tuned(small_run: TrainConfig, tune: str, words: tuple[str, ...]) -> None:
    if tune == "lora":
        pytest.importorskip("peft")
    config = dataclasses.replace(small_run, tune=tune, epochs=1, mix=1.0, visual_lr=1e-2)
    result = train(config)
    changed = tuned_names(result.path)
    assert all(any(word in name for word in words) for name in changed)
    assert {word for word in words if any(word in name for name in changed)} == set(words)
    assert not any("resblocks.0." in name for name in changed)
    loaded = load_checkpoint(result.path)
    untouched, original = loaded.untouched_encoder().state_dict(), load_encoder(config.backbone).state_dict()
    assert all(torch.equal(untouched[name], value) for name, value in original.items())
    assert list(loaded.encoder.state_dict()) == list(original)  # a plain encoder, which needs no peft


def test_lora_resumes_to_the_same_bytes(
    small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    config = dataclasses.replace(small_run, tune="lora", visual_lr=1e-2, epochs=2)
    expected = train(config)
    stopped = dataclasses.replace(config, output=tmp_path / "stopped")
    import fewshot.training.state as state

    real = state.save_state

    def save(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(state, "save_state", save)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    found = train(dataclasses.replace(stopped, resume=True))
    assert (found.path / MODEL).read_bytes() == (expected.path / MODEL).read_bytes()


def test_lora_is_its_formula(vit_file: Path) -> None:
    """W + B A of the factors that were trained, and the same embeddings by the copy and by the plain encoder with the sums."""
    pytest.importorskip("peft")
    encoder = load_encoder(str(vit_file))
    mark_lora(encoder, 1)
    marked = {name for name, each in encoder.named_parameters() if each.requires_grad}
    adapted = with_lora(encoder, 3, seed=5)
    pictures = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(adapted(pictures), encoder(pictures))  # B begins at 0
        for name, factor in adapted.named_parameters():
            if factor.requires_grad:
                assert "lora_" in name
                factor.copy_(torch.randn(factor.shape, generator=torch.Generator().manual_seed(len(name))) / 10)
    factors = dict(adapted.named_parameters())
    sums = merged_weights(adapted)
    assert set(sums) == marked and len(marked) == 3
    for name, merged in sums.items():
        base = name.removesuffix(".weight")
        a, b = factors[f"{base}.lora_A.default.weight"], factors[f"{base}.lora_B.default.weight"]
        assert a.shape[0] == 3
        torch.testing.assert_close(merged, dict(encoder.named_parameters())[name] + b @ a)
    changed = adapted(pictures)
    encoder.load_state_dict({**encoder.state_dict(), **sums})
    torch.testing.assert_close(encoder(pictures), changed, atol=1e-6, rtol=1e-5)
    assert merged_weights(encoder) == {}


def test_lora_of_convolutions(resnet_file: Path) -> None:
    pytest.importorskip("peft")
    encoder = load_encoder(str(resnet_file))
    mark_lora(encoder, 1)
    names = [name for name, each in encoder.named_parameters() if each.requires_grad]
    assert all(each.shape[2:] in ((), (1, 1)) for each in encoder.parameters() if each.requires_grad)
    adapted = with_lora(encoder, 2, seed=0)
    with torch.no_grad():
        for name, factor in adapted.named_parameters():
            if "lora_B" in name:
                factor.fill_(0.05)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = adapted(pictures)
    encoder.load_state_dict({**encoder.state_dict(), **merged_weights(adapted)})
    assert set(merged_weights(adapted)) == set(names)
    torch.testing.assert_close(encoder(pictures), expected, atol=1e-5, rtol=1e-4)


def test_parts_that_are_not_there(vit_file: Path) -> None:
    encoder = load_encoder(str(vit_file))
    with pytest.raises(UsageError, match="has 2 blocks"):
        unfreeze_part(encoder, "norms", 3)
    unfreeze_part(encoder, "norms", "all")
    assert encoder.n_frozen == 0 and encoder.stem_frozen
    assert not any("ln_pre" in name for name, each in encoder.named_parameters() if each.requires_grad)  # the stem's
    unfreeze_part(encoder, "projection", 1)
    assert [name for name, each in encoder.named_parameters() if each.requires_grad] == ["visual.proj"]
    assert encoder.n_frozen == 2


def test_the_share_of_the_gradient_against_two_backward_passes(vit_file: Path) -> None:
    encoder = load_encoder(str(vit_file))
    encoder.unfreeze_last(1)
    images = torch.randint(0, 255, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    support, query, classes = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2] * 3]), torch.tensor([0, 1, 2] * 4)
    norms = []
    for weights in ((2.0, 0.0), (0.0, 0.5), (2.0, 0.5)):
        model = EpisodicModel(encoder, 3, dropout=0, prototypical_weight=weights[0], class_weight=weights[1])
        kept: list[torch.Tensor] = []
        hook = model.classifier.register_forward_pre_hook(lambda _, given, to=kept: to.append(given[0]))
        losses = model(images, support, query, classes, 3, 0, measure_share=True)
        hook.remove()
        norms.append(float(torch.autograd.grad(losses.total, kept[0])[0].norm()))
    assert float(losses.share) == pytest.approx(norms[0] / (norms[0] + norms[1]), rel=1e-4)
    frozen = model(images, support, query, classes, 3, 0, encoder_frozen=True, measure_share=True)
    assert bool(torch.isnan(frozen.share))


def test_settings_of_the_objective(small_run: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(small_run, epochs=1, mix=1.0)
    changes = {
        "plain": {},
        "nca": {"episode_loss": "nca"},
        "pulled": {"anchor": 1e4, "scale": "fixed", "residual": False},
    }
    rows, scales, moved = {}, {}, {}
    for name, change in changes.items():
        run = train(dataclasses.replace(config, output=tmp_path / name, **change)).path
        rows[name] = pd.read_csv(run / "metrics.csv").query("kind == 'epoch'").iloc[0]
        loaded = load_checkpoint(run)
        scales[name] = loaded.scale
        now, before = loaded.encoder.state_dict(), loaded.untouched_encoder().state_dict()
        moved[name] = float(sum((now[key] - value).square().sum() for key, value in before.items()))
        assert loaded.classifier.residual == (name != "pulled")
        assert 0 < rows[name]["prototypical_share"] < 1
    assert scales["pulled"] == pytest.approx(10) and scales["plain"] != pytest.approx(10, abs=1e-6)
    assert rows["nca"]["prototypical_loss"] != rows["plain"]["prototypical_loss"]
    assert moved["pulled"] < 0.5 * moved["plain"]


def test_the_pull_and_nca_in_the_model(vit_file: Path) -> None:
    encoder = load_encoder(str(vit_file))
    encoder.unfreeze_last(1)
    model = EpisodicModel(encoder, 3, dropout=0, class_weight=0.0, episode_loss="nca", anchor=0.5)
    images = torch.randint(0, 255, (12, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    support, query, classes = (
        torch.tensor([[0, 1, 2]]),
        torch.tensor([[0, 1, 2] * 3]),
        torch.tensor([0, 1, 2] * 3 + [0, 1, -1]),
    )
    with torch.no_grad():
        trained = [each for each in encoder.parameters() if each.requires_grad]
        for each in trained:
            each += 0.01
        expected = nca_loss(encoder(normalise(images, encoder))[:11], classes[:11], 10.0) + 0.25 * sum(
            1e-4 * each.numel() for each in trained
        )
        found = model(images, support, query, classes, 3, 0).total
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(ValueError, match="at least one tensor"):
        squared_distance({}, {})


def test_a_mix_that_is_given_is_kept_whatever_validation_says(small_run: TrainConfig) -> None:
    result = train(dataclasses.replace(small_run, epochs=1, mix=0.5, visual_lr=0.5))  # ruins the encoder
    assert result.alpha == 0.5 and load_checkpoint(result.path).tuned
    mixes = pd.read_csv(result.path / "metrics.csv").query("kind == 'wise-ft'")
    assert list(mixes["alpha"]) == [0.5] and np.isfinite(result.difference.mean)


def test_a_pull_without_weights_to_pull_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="anchor"):
        TrainConfig(train_data=tmp_path, tune="lora", anchor=0.1)
