"""Adaptation: the encoder stays as it was, a task's answers depend on that task alone, and tuning does what it says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from episodes import Episode, EpisodeSampler, ImageTable, evaluate, read_class_folders, stack_episodes
from episodes.counter_random import random_bits
from episodes.decoding import read_bytes
from episodes.errors import DataError, UsageError
from fewshot.adaptation import ADAPTER_NAMES, AdaptedScorer, build_adapter
from fewshot.adaptation.base import SupportViews, Tuned
from fewshot.adaptation.fine_tune import FineTune
from fewshot.adaptation.scorer import AUGMENTATION
from fewshot.adaptation.tail import BATCH, Tail
from fewshot.classifiers import build_classifier
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.embedding.embed import Embeddings, embed_images
from fewshot.encoders import VisionEncoder, load_encoder
from fewshot.images.augmented_views import PictureSource
from fewshot.images.transform import clip_pixels, normalise

QUICK: Any = {"steps": 3, "views": 2, "folds": 2}
PROTOTYPE = partial(FeatureScorer, classifier=build_classifier("prototype"))


class Always:
    """An adapter that tunes at a fixed rate, with no choice: what the choice would hide becomes visible."""

    def __init__(self, fine_tune: FineTune, rate: float = 1e-2) -> None:
        self._fine_tune, self._rate = fine_tune, rate
        self.views = fine_tune.views

    def tail(self, encoder: VisionEncoder, precision: Any = "auto") -> Tail:
        return self._fine_tune.tail(encoder, precision)

    def __call__(self, tail: Tail, support: SupportViews, classify: Any) -> Tuned:
        self.last = Tuned(self._fine_tune.tune(tail, self._rate, support), self._rate)
        return self.last


@pytest.fixture
def encoder(vit_file: Path) -> VisionEncoder:
    return load_encoder(str(vit_file))


@pytest.fixture(scope="module")
def table(class_folders: Path) -> ImageTable:
    return read_class_folders(class_folders)


@pytest.fixture
def embeddings(encoder: VisionEncoder, table: ImageTable) -> Embeddings:
    return embed_images(encoder, table.items, precision="32")


def sampled(table: ImageTable, shots: int = 3, episodes: int = 2) -> EpisodeSampler:
    return EpisodeSampler(table, ways=3, shots=shots, queries=4, episodes=episodes, seed=1)


def adapted(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings, adapter: Any = None, **settings: Any
) -> AdaptedScorer:
    adapter = adapter or Always(FineTune("blocks", **QUICK))
    return AdaptedScorer(encoder, adapter, table, embeddings, PROTOTYPE, **{"precision": "32", **settings})


def test_names_can_be_listed_without_torch() -> None:
    code = "import sys; from fewshot.adaptation import ADAPTER_NAMES; print(*ADAPTER_NAMES, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["blocks", "norms", "projection", "False"]


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'nope'.*blocks, norms, projection"):
        build_adapter("nope")


@pytest.mark.parametrize("weights", ["vit_file", "resnet_file"])
@pytest.mark.parametrize("name", ADAPTER_NAMES)
def test_each_name_tunes_what_it_says(name: str, weights: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(str(request.getfixturevalue(weights)))
    tail = build_adapter(name).tail(encoder, "32")
    names = {key.removeprefix("encoder.") for key in tail.initial}
    behind = {id(each) for block in encoder.blocks[tail.n_frozen :] for each in block.parameters()}
    expected = {id(each) for each in encoder.head_parameters()} | behind
    found = {key: value for key, value in encoder.named_parameters() if key in names}
    assert len(found) == len(names) and all(id(value) in expected for value in found.values())
    if name == "blocks":
        assert len(found) == len(expected) and tail.n_frozen < len(encoder.blocks)
    elif name == "norms":
        norms = nn.LayerNorm if weights == "vit_file" else nn.BatchNorm2d
        owners = {key.rpartition(".")[0] for key in names}
        assert names and all(isinstance(encoder.get_submodule(owner), norms) for owner in owners)
        assert sum(isinstance(each, norms) for block in encoder.blocks[tail.n_frozen :] for each in block.modules()) + (
            weights == "vit_file"
        ) == len(owners)
    else:
        assert names == {"visual.proj" if weights == "vit_file" else "visual.attnpool.c_proj.weight"}
        assert tail.n_frozen == len(encoder.blocks)


def test_too_many_blocks_and_settings_without_sense_are_refused(encoder: VisionEncoder) -> None:
    with pytest.raises(UsageError, match="last 3 blocks.*has 2"):
        FineTune("blocks", last=3).tail(encoder)
    wrong: Any
    for wrong in ({"views": 1}, {"folds": 1}, {"steps": 0}, {"rates": ()}, {"rates": (0.0,)}):
        with pytest.raises(UsageError, match="at least 2 views"):
            FineTune("blocks", **wrong)


def views_of(tail: Tail, encoder: VisionEncoder, shots: int = 2, ways: int = 3, views: int = 2) -> SupportViews:
    """Random pictures behind the trunk, two classes of which look alike."""
    generator = torch.Generator().manual_seed(0)
    side = encoder.image_size
    pictures = torch.randn(views + 1, ways * shots, 3, side, side, generator=generator)
    with torch.no_grad():
        hidden = encoder.forward_trunk(pictures.flatten(0, 1), tail.n_frozen)
    hidden = hidden.reshape(views + 1, ways * shots, *hidden.shape[1:])
    return SupportViews(hidden[0], hidden[1:], torch.arange(ways).repeat(shots), ways)


@pytest.mark.parametrize("part", ADAPTER_NAMES)
def test_tuning_equals_plain_training_of_a_copy(part: Any, vit_file: Path) -> None:
    """The same steps written out, on an encoder whose parameters really change."""
    tuner = FineTune(part, last=1, steps=5, views=2)
    encoder, changed = load_encoder(str(vit_file)), load_encoder(str(vit_file))
    tail = tuner.tail(encoder, "32")
    support = views_of(tail, encoder)
    tensors = tuner.tune(tail, 1e-3, support)
    names = {key.removeprefix("encoder.") for key in tensors}
    trained = [value.requires_grad_() for key, value in changed.named_parameters() if key in names]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    for step in range(5):
        plain = changed.forward_tail(support.plain, tail.n_frozen)
        queries = changed.forward_tail(support.augmented[step % 2], tail.n_frozen)
        means = torch.stack([plain[support.labels == label].mean(0) for label in range(3)])
        logits = 10 * queries @ (means / means.norm(dim=1, keepdim=True)).T
        loss = nn.functional.cross_entropy(logits, support.labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for key, value in changed.named_parameters():
        if key in names:
            if "in_proj_bias" not in key:  # attention does not depend on the keys' bias: its gradient is rounding alone
                # A twentieth of one step: where a gradient is nearly rounding alone, Adam makes a step of it all the same.
                assert torch.allclose(value, tensors[f"encoder.{key}"], atol=5e-5), key
            assert not torch.equal(value, tail.initial[f"encoder.{key}"])
    expected = changed.forward_tail(support.plain, tail.n_frozen)
    assert torch.allclose(tail.embed(tensors, support.plain), expected, atol=1e-5)


def test_tuning_brings_views_to_their_class(encoder: VisionEncoder) -> None:
    tuner = FineTune("blocks", steps=20, views=2)
    tail = tuner.tail(encoder, "32")
    support = views_of(tail, encoder, shots=3)

    def margin(tensors: Any) -> float:
        views = tail.embed(tensors, support.augmented[0])
        same = support.labels.unsqueeze(1) == support.labels
        cosines = views @ tail.embed(tensors, support.plain).T
        return float(cosines[same].mean() - cosines[~same].mean())

    assert margin(tuner.tune(tail, 1e-3, support)) > margin(tail.initial) + 0.1


def test_an_embedding_does_not_depend_on_how_many_are_asked_for(encoder: VisionEncoder) -> None:
    tail = FineTune("blocks").tail(encoder, "bf16")
    hidden = encoder.forward_trunk(torch.randn(70, 3, 32, 32, generator=torch.Generator().manual_seed(0)), 1).detach()
    sizes: list[int] = []
    block: Any = encoder.blocks[-1]
    block.ln_1.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    whole = tail.embed(tail.initial, hidden)
    assert sizes == [BATCH] * 3  # one fixed shape: bits may differ between shapes
    assert whole.shape == (70, encoder.embed_dim)
    assert torch.equal(tail.embed(tail.initial, hidden[40:41]), whole[40:41])
    assert torch.equal(tail.embed(tail.initial, hidden[33:]), whole[33:])


class Recorder:
    """A `Classify` that answers rightly only where it is told to, and remembers what it was asked."""

    def __init__(self, answer: Callable[[int], int]) -> None:
        self.asked: list[tuple[list[int], int]] = []
        self._answer = answer

    def __call__(self, support: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        self.asked.append((labels.tolist(), len(pictures)))
        return nn.functional.one_hot(torch.full((len(pictures),), self._answer(len(self.asked))), 3).float()


def test_the_rate_is_chosen_on_held_out_pictures_and_zero_wins_a_tie(encoder: VisionEncoder) -> None:
    tuner = FineTune("projection", rates=(1e-3, 1e-2), **QUICK)
    tail = tuner.tail(encoder, "32")
    support = views_of(tail, encoder, shots=3)  # labels 0 1 2 0 1 2 0 1 2: each held out once in 2 folds
    same = Recorder(lambda call: 0)
    assert tuner(tail, support, same) is None
    kept_then_held = [([0, 1, 2], 6), ([0, 1, 2, 0, 1, 2], 3)]
    assert same.asked == kept_then_held * 3  # for 0 and both rates
    for calls, rate in (({3, 4}, 1e-3), ({5, 6}, 1e-2), ({3, 4, 5, 6}, 1e-3), ({3, 4, 5}, 1e-3), ({4, 5}, 1e-2)):
        tuned = tuner(tail, support, _right_on(calls))
        assert tuned is not None and tuned.rate == rate
        assert all(torch.equal(each, tuner.tune(tail, rate, support)[key]) for key, each in tuned.tensors.items())
    assert tuner(tail, support, _right_on({1, 2, 3, 4, 5, 6})) is None


def _right_on(calls: set[int]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A `Classify` that names all pictures rightly on these of its calls, and none on the others."""
    count = 0

    def classify(kept: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        nonlocal count
        count += 1
        truth = torch.arange(3).repeat(len(pictures) // 3)
        return nn.functional.one_hot(truth if count in calls else (truth + 1) % 3, 3).float()

    return classify


@pytest.mark.parametrize(("bolder", "better", "rate"), [(4.0, 0.0, None), (0.25, 0.2, 1e-3)])
def test_answers_that_are_only_bolder_gain_nothing(
    bolder: float, better: float, rate: float | None, encoder: VisionEncoder
) -> None:
    tuner = FineTune("projection", rates=(1e-3, 1e-2), **QUICK)
    tail = tuner.tail(encoder, "32")
    calls: list[Tensor] = []

    def classify(kept: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        calls.append(pictures)
        tuned = len(calls) in (3, 4)  # calls 1, 2: rate 0; 3, 4: the lower rate
        scores = torch.tensor([[0.7, 0.0, 0.1], [0.1, 0.5, 0.0], [0.3, 0.0, 0.2]])  # the third is wrong
        scores[2, 2] += better if tuned else 0
        return (scores * (bolder if tuned else 1)).log_softmax(1)

    found = tuner(tail, views_of(tail, encoder, shots=2), classify)
    assert (found.rate if found else None) == rate


def test_at_one_shot_views_are_held_out(encoder: VisionEncoder) -> None:
    tuner = FineTune("projection", rates=(1e-3,), steps=3, views=4)
    tail = tuner.tail(encoder, "32")
    support = views_of(tail, encoder, shots=1, views=4)
    asked: list[Tensor] = []

    def classify(kept: Tensor, labels: Tensor, pictures: Tensor) -> Tensor:
        asked.append(pictures)
        return nn.functional.one_hot(torch.zeros(len(pictures), dtype=torch.int64), 3).float()

    assert tuner(tail, support, classify) is None
    assert torch.allclose(asked[0], tail.embed(tail.initial, support.augmented[2:].flatten(0, 1)), atol=1e-6)
    unseen = replace(support, augmented=torch.cat([support.augmented[:2], torch.zeros_like(support.augmented[2:])]))
    tuner(tail, unseen, classify)
    assert len(asked) == 4
    seen = tuner.tune(tail, 1e-3, replace(support, augmented=support.augmented[:2]))
    assert torch.allclose(asked[1], tail.embed(seen, support.augmented[2:].flatten(0, 1)), atol=1e-6)


def test_a_class_of_one_picture_never_loses_it(encoder: VisionEncoder) -> None:
    tuner = FineTune("projection", rates=(1e-3,), **QUICK)
    tail = tuner.tail(encoder, "32")
    several = views_of(tail, encoder, shots=3)
    keep = torch.tensor([0, 1, 2, 3, 6])  # labels 0 1 2 0 0
    recorder = Recorder(lambda call: 0)
    tuner(tail, SupportViews(several.plain[keep], several.augmented[:, keep], several.labels[keep], 3), recorder)
    assert recorder.asked == [([1, 2, 0], 2), ([0, 1, 2, 0], 1)] * 2


def test_tuning_that_diverges_is_not_taken(encoder: VisionEncoder) -> None:
    tuner = FineTune("blocks", rates=(1e30,), **QUICK)
    tail = tuner.tail(encoder, "32")
    assert tuner(tail, views_of(tail, encoder), _right_on({3, 4})) is None


def test_answers_are_those_of_an_encoder_that_was_really_changed(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings, vit_file: Path
) -> None:
    adapter = Always(FineTune("blocks", **QUICK))
    for i, episode in enumerate(sampled(table)):
        scores = adapted(encoder, table, embeddings, adapter)(sampled(table).batch(i, i + 1))
        changed = load_encoder(str(vit_file))
        tensors = adapter.last.tensors
        changed.load_state_dict({**changed.state_dict(), **{k.removeprefix("encoder."): v for k, v in tensors.items()}})
        assert changed.fingerprint != encoder.fingerprint
        expected = PROTOTYPE(embed_images(changed, table.items, precision="32"))(stack_episodes([episode]))
        assert np.allclose(scores, expected, atol=1e-4)
        assert not np.allclose(scores, PROTOTYPE(embeddings)(stack_episodes([episode])), atol=1e-2)


def test_the_encoder_is_left_bit_for_bit(encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings) -> None:
    before, flags = encoder.fingerprint, [each.requires_grad for each in encoder.parameters()]
    for name in ADAPTER_NAMES:
        tuner: Any = build_adapter(name)
        scorer = adapted(encoder, table, embeddings, Always(replace(tuner, last=1, **QUICK)))
        scorer(sampled(table).batch(0, 2))
        assert [rate for _, rate in scorer.rates] == [1e-2, 1e-2]
    assert encoder.fingerprint == before
    assert [each.requires_grad for each in encoder.parameters()] == flags
    assert all(each.grad is None for each in encoder.parameters())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("private_copy", [True, False])
def test_the_encoder_is_left_bit_for_bit_when_stopped_in_the_middle(
    error: type[BaseException], private_copy: bool, encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    """The last block's norm raises while tuned tensors stand in for the encoder's own."""
    batch = sampled(table).batch(0, 2)
    expected = adapted(encoder, table, embeddings)(batch)
    before, calls = encoder.fingerprint, []

    def stop(module: nn.Module, args: Any) -> None:
        calls.append(module)
        if len(calls) == 4:  # a step after the first: the tensors are no longer the encoder's
            raise error

    norm: Any = encoder.blocks[-1].ln_2
    if private_copy:
        hook = norm.register_forward_pre_hook(stop)  # the copy has it too
        scorer = adapted(encoder, table, embeddings)
        hook.remove()
        with pytest.raises(error):
            scorer(batch)
        assert np.array_equal(scorer(batch), expected)
    else:
        tuner = FineTune("blocks", steps=9)
        tail = tuner.tail(encoder, "32")
        support = views_of(tail, encoder)
        hook = norm.register_forward_pre_hook(stop)
        with pytest.raises(error):
            tuner.tune(tail, 1e-2, support)
        hook.remove()
    assert len(calls) >= 4 and encoder.fingerprint == before
    assert np.array_equal(adapted(encoder, table, embeddings)(batch), expected)


def test_a_task_depends_on_seed_name_and_pictures_alone(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    batch = sampled(table).batch(0, 2)
    scores = adapted(encoder, table, embeddings)(batch)
    assert np.array_equal(scores, adapted(encoder, table, embeddings)(batch))
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    alone = adapted(encoder, table, embeddings)(stack_episodes([batch.episode(1)]))
    assert np.array_equal(alone[0], scores[1])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not np.array_equal(scores, adapted(encoder, table, embeddings, seed=1)(batch))
    renamed = stack_episodes([replace(batch.episode(1), name="another")])
    assert not np.array_equal(adapted(encoder, table, embeddings)(renamed)[0], scores[1])
    order = np.random.default_rng(0).permutation(len(table))
    place = np.argsort(order)
    mixed = ImageTable([table.items[row] for row in order], table.labels[order], table.class_names)
    moved = replace(embeddings, features=embeddings.features[order], readable=embeddings.readable[order])
    episode = batch.episode(1)
    episode = replace(episode, support=place[episode.support], query=place[episode.query])
    assert np.array_equal(adapted(encoder, mixed, moved)(stack_episodes([episode]))[0], scores[1])


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_query_is_answered_alone(
    precision: str, encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    episode = sampled(table)[0]
    scorer = adapted(encoder, table, embeddings, precision=precision)
    whole = scorer(stack_episodes([episode]))[0]
    part = [7, 2]
    few = replace(episode, query=episode.query[part], query_labels=None)
    assert np.allclose(scorer(stack_episodes([few]))[0], whole[part], atol=1e-6)


def test_an_adapter_gets_pictures_and_their_views_in_order(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    seen: list[SupportViews] = []

    class Looks(Always):
        def __call__(self, tail: Tail, support: SupportViews, classify: Any) -> Any:
            seen.append(support)
            answers = classify(torch.eye(3), torch.tensor([2, 0, 1]), torch.eye(3))
            assert answers.argmax(1).tolist() == [2, 0, 1]

    episode = sampled(table)[0]
    adapted(encoder, table, embeddings, Looks(FineTune("blocks", **QUICK)))(stack_episodes([episode]))
    assert seen[0].labels.tolist() == episode.support_labels.tolist() and seen[0].n_way == 3
    items = [table.items[row] for row in episode.support]
    views = PictureSource(items, 32, AUGMENTATION, views=2, seed=random_bits(0, episode.name))
    for place, item in enumerate(items):
        pictures = torch.cat([torch.from_numpy(clip_pixels(read_bytes(item), 32)).unsqueeze(0), views.views(place)])
        expected = encoder.forward_trunk(normalise(pictures, encoder), 1)
        assert torch.allclose(seen[0].plain[place], expected[0], atol=1e-5)
        assert torch.allclose(seen[0].augmented[:, place], expected[1:], atol=1e-5)
        assert not torch.allclose(expected[1], expected[2], atol=1e-2)


def test_where_nothing_is_tuned_answers_are_those_without_adaptation(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    class Never(Always):
        def __call__(self, tail: Tail, support: SupportViews, classify: Any) -> Any:
            return None

    batch = sampled(table).batch(0, 2)
    scorer = adapted(encoder, table, embeddings, Never(FineTune("blocks", **QUICK)))
    assert np.array_equal(scorer(batch), PROTOTYPE(embeddings)(batch))
    assert [rate for _, rate in scorer.rates] == [0, 0]


def test_unreadable_pictures_lost_classes_and_small_tasks_as_without_adaptation(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    usual = sampled(table)[0]
    readable = torch.ones(len(table), dtype=torch.bool)
    readable[usual.support[usual.support_labels == 1]] = False  # a whole class
    readable[usual.support[usual.support_labels == 0][0]] = False
    readable[usual.query[3]] = False
    embeddings = replace(embeddings, readable=readable, features=embeddings.features * readable[:, None])
    empty = Episode("empty", (), np.array([], dtype=int), np.array([], dtype=int), usual.query)
    single = Episode("single", ("only",), usual.query[8:9], np.array([0]), usual.query[:2])
    batch = stack_episodes([usual, empty, single])

    def read(item: Any) -> bytes:
        assert readable[list(table.items).index(item)], "an unreadable picture was asked for"
        return read_bytes(item)

    scorer = adapted(encoder, table, embeddings, read=read)
    scores, plain = scorer(batch), PROTOTYPE(embeddings)(batch)
    assert [rate > 0 for _, rate in scorer.rates] == [True, False, False]
    assert np.array_equal(np.isnan(scores), np.isnan(plain)) and np.array_equal(np.isinf(scores), np.isinf(plain))
    assert np.isnan(scores[0, 3]).all() and np.isneginf(scores[0, 0, 1])
    assert np.array_equal(scores[1:], plain[1:], equal_nan=True)
    kept, asked = readable[usual.support].numpy(), np.arange(len(usual.query)) != 3
    labels = usual.support_labels[kept] // 2  # classes 0 and 2 are left
    names = (usual.class_names[0], usual.class_names[2])
    rest = Episode(usual.name, names, usual.support[kept], labels, usual.query[asked])
    expected = adapted(encoder, table, embeddings)(stack_episodes([rest]))[0]
    assert np.allclose(scores[0][asked][:, [0, 2]], expected, atol=1e-6)
    assert evaluate([usual, empty, single], scorer).unanswered == 1 + len(usual.query)


def test_a_picture_that_vanishes_is_named(encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings) -> None:
    gone = table.items[sampled(table)[0].support[0]]

    def read(item: Any) -> bytes:
        return b"" if item == gone else read_bytes(item)

    with pytest.raises(DataError, match="could be read before"):
        adapted(encoder, table, embeddings, read=read)(sampled(table).batch(0, 1))


def test_embeddings_of_something_else_are_refused(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    with pytest.raises(DataError, match="120 pictures"):
        adapted(encoder, table, replace(embeddings, features=embeddings.features[1:]))


def test_every_task_is_told_and_gradients_work_in_inference_mode(
    encoder: VisionEncoder, table: ImageTable, embeddings: Embeddings
) -> None:
    told: list[tuple[str, float]] = []
    scorer = adapted(encoder, table, embeddings, on_task=lambda *task: told.append(task))
    with torch.inference_mode():
        results = evaluate(sampled(table), scorer)
    assert told == scorer.rates and [name for name, _ in told] == list(results.names)
    assert np.array_equal(results.accuracy, evaluate(sampled(table), adapted(encoder, table, embeddings)).accuracy)
