"""Text prototypes, the gate that decides whether names are used, and prompts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import binomtest
from torch.nn.functional import normalize

from episodes.errors import UsageError
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.text import TextBlend, ZeroShot, binomial_tail, names_help
from fewshot.encoders.prompts import CLIP_TEMPLATES, class_prompts, readable_name, text_prototypes


def _ask(classifier, t, text) -> torch.Tensor:
    return classifier(t.batch(class_text=text))


def _noise(like: torch.Tensor, seed: int = 77) -> torch.Tensor:
    return normalize(torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_the_tail_is_the_binomial_lower_bound() -> None:
    """Below 5 % exactly where the one-sided 95 % Clopper-Pearson bound is above chance."""
    for ways in (2, 5, 20):
        for trials in (1, 5, 25, 60):
            right = torch.arange(trials + 1)
            tail = binomial_tail(right, torch.full_like(right, trials), 1 / ways)
            for k in range(trials + 1):
                test = binomtest(k, trials, 1 / ways, alternative="greater")
                assert float(tail[k]) == pytest.approx(test.pvalue, abs=1e-10)
                bound = test.proportion_ci(0.95, "exact").low
                if abs(test.pvalue - 0.05) > 1e-9:
                    assert (float(tail[k]) < 0.05) == (bound > 1 / ways)


def test_zero_shot_goes_to_the_closest_name(tasks: Callable) -> None:
    t = tasks(10, 5, 1, 10)
    answer = _ask(ZeroShot(), t, 3 * t.class_text)
    cosine = torch.einsum("tqd,tnd->tqn", normalize(t.query, dim=-1), t.class_text)
    torch.testing.assert_close(answer, (100 * cosine).log_softmax(-1), atol=2e-4, rtol=1e-4)
    assert float((answer.argmax(-1) == t.truth).float().mean()) > 0.6


def test_good_names_help_at_one_shot(tasks: Callable) -> None:
    t = tasks(60, 5, 1, 15)
    visual = (_ask(Prototype(), t, None).argmax(-1) == t.truth).float().mean()
    blend = (_ask(TextBlend(), t, t.class_text).argmax(-1) == t.truth).float().mean()
    assert blend > visual + 0.03


def test_meaningless_names_do_no_harm(tasks: Callable) -> None:
    """Numbered folders: the gate stays shut but for the one task in twenty that its level allows.

    Classes are tight here, so that all pictures of one agree on the name they like best.
    """
    t = tasks(400, 5, 5, 15, spread=0.1)
    text = _noise(t.class_text)
    opened = names_help(t.batch(), text)
    assert float(opened.float().mean()) <= 0.07
    shut = ~opened
    assert torch.equal(_ask(TextBlend(), t, text)[shut], _ask(Prototype(), t, None)[shut])
    visual = (_ask(Prototype(), t, None).argmax(-1) == t.truth).float().mean()
    blend = (_ask(TextBlend(), t, text).argmax(-1) == t.truth).float().mean()
    assert blend > visual - 0.005


def test_the_gate_counts_classes(tasks: Callable) -> None:
    """Names shuffled among the classes: open with all or four of five in place, shut with three and fewer."""
    t = tasks(1, 5, 4, 1, spread=0.02)
    for order, expected in (([0, 1, 2, 3, 4], True), ([0, 1, 2, 4, 3], False), ([1, 0, 2, 4, 3], False)):
        assert names_help(t.batch(), t.class_text[:, order]).tolist() == [expected]
    # One class's pictures are split between two names: 4 + 1/4 of 5 classes
    support = t.support.clone()
    support[0, :3] = t.support[0, 4:7]
    assert names_help(t.batch(support=support), t.class_text).tolist() == [True]
    two = tasks(1, 2, 10, 1, spread=0.02)
    assert names_help(two.batch(), two.class_text).tolist() == [False]


def test_the_gate_opens_for_each_task_by_itself(tasks: Callable) -> None:
    t = tasks(6, 5, 5, 3, spread=0.05)
    text = torch.cat([t.class_text[:3], _noise(t.class_text[3:], seed=78)])
    assert names_help(t.batch(), text).tolist() == [True] * 3 + [False] * 3


def test_missing_or_misshapen_names_are_refused(tasks: Callable) -> None:
    t = tasks(2, 5, 1, 3)
    for classifier in (ZeroShot(), TextBlend()):
        with pytest.raises(UsageError, match="class names"):
            _ask(classifier, t, None)
        with pytest.raises(UsageError, match=r"\(2, 5, 48\), found \(2, 4, 48\)"):
            _ask(classifier, t, t.class_text[:, :4])


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("golden_retriever", "golden retriever"),
        ("American_alligator", "American alligator"),
        ("n02099601-golden_retriever", "golden retriever"),
        ("goldenRetriever", "golden Retriever"),
        ("CD_player", "CD player"),
        ("n02099601", "n02099601"),
        ("0007", "0007"),
        ("___", "___"),
        ("猫", "猫"),
    ],
)
def test_folder_names_become_words(folder: str, words: str) -> None:
    assert readable_name(folder) == words


def test_prompts_fill_every_template_for_every_name() -> None:
    made = class_prompts(["tabby_cat", "dog"], ["a {}.", "the {}!"])
    assert made == [["a tabby cat.", "the tabby cat!"], ["a dog.", "the dog!"]]
    assert len(class_prompts(["x"])[0]) == len(CLIP_TEMPLATES) == 7
    for bad in (["no place"], ["{} and {}"], []):
        with pytest.raises(UsageError, match="prompt"):
            class_prompts(["x"], bad)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_text_prototypes_average_unit_sentences(batch: int) -> None:
    """Against an encoder that knows sentences by their length and first letter."""

    def encode(sentences: list[str]) -> torch.Tensor:
        assert len(sentences) <= batch
        return torch.tensor([[float(len(s)), float(ord(s[0])), 3.0] for s in sentences])

    names, templates = ["cat", "albatross"], ["a {}.", "the {}!", "some {} here"]
    made = text_prototypes(names, encode, templates, batch=batch)
    for i, name in enumerate(names):
        vectors = [encode([template.replace("{}", name)])[0] for template in templates]
        expected = torch.stack([v / v.norm() for v in vectors]).mean(0)
        torch.testing.assert_close(made[i], expected / expected.norm())


def test_the_level_decides_whether_names_are_used(tasks: Callable) -> None:
    t = tasks(20, 5, 5, 4)
    plain = _ask(Prototype(), t, None)
    never = _ask(TextBlend(significance=0.0), t, t.class_text)
    torch.testing.assert_close(never, plain)
    always = _ask(TextBlend(significance=2.0), t, t.class_text)
    assert bool(((always - plain).abs().amax((1, 2)) > 1e-3).all())


def test_missing_names_are_told_with_the_classifier(tasks: Callable) -> None:
    for name, classifier in (("zero-shot", ZeroShot()), ("text-blend", TextBlend())):
        with pytest.raises(UsageError, match=f"classifier '{name}' compares"):
            _ask(classifier, tasks(1, 3, 1, 1), None)
