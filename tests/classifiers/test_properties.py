"""What every classifier must satisfy, whatever its formula: one suite, run over all of them by their
command-line names.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from episodes.errors import DataError
from fewshot.classifiers import CLASSIFIER_NAMES, TRANSDUCTIVE, build_classifier
from fewshot.classifiers.balance import ImbalanceWarning
from fewshot.classifiers.gda import GaussianDiscriminant
from fewshot.classifiers.tasks import TaskBatch

INDUCTIVE_NAMES = tuple(name for name in CLASSIFIER_NAMES if name not in TRANSDUCTIVE)
# Averages over iterations of sums taken in another order: looser than one formula, far tighter than what
# moves an answer.
TOLERANCE = 2e-3


@pytest.fixture(autouse=True)
def _no_balance_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImbalanceWarning)
        yield


@pytest.fixture(params=CLASSIFIER_NAMES)
def classifier(request: pytest.FixtureRequest, statistics):
    return build_classifier(request.param, statistics=statistics)


@pytest.fixture(params=INDUCTIVE_NAMES)
def inductive(request: pytest.FixtureRequest, statistics):
    return build_classifier(request.param, statistics=statistics)


def _ask(classifier, t, **changes) -> Tensor:
    return classifier(t.batch(**changes))


def _same(a: Tensor, b: Tensor) -> None:
    """As probabilities, and as answers wherever they are not a toss-up."""
    torch.testing.assert_close(a.exp(), b.exp(), atol=TOLERANCE, rtol=0)
    ahead = (
        b.topk(2, -1).values.diff(dim=-1).abs().squeeze(-1) > 0.02
        if b.shape[-1] > 1
        else torch.ones_like(b[..., 0]) > 0
    )
    assert bool((a.argmax(-1) == b.argmax(-1))[ahead].all())


def test_tasks_without_queries_have_no_answers(classifier, tasks: Callable) -> None:
    t = tasks(2, 3, 2, 1)
    empty = {"query": t.query[:, :0], "query_mask": t.query_mask[:, :0]}
    assert _ask(classifier, t, **empty).shape == (2, 0, 3)


def test_features_of_any_size_have_finite_answers(classifier, tasks: Callable) -> None:
    t = tasks(2, 3, 2, 2)
    for factor in (1e-18, 1e18):
        assert bool(_ask(classifier, t, support=t.support * factor, query=t.query * factor).isfinite().all())


def test_returns_log_probabilities(classifier, tasks: Callable) -> None:
    t = tasks(3, 5, 5, 7)
    answer = _ask(classifier, t)
    assert answer.shape == (3, 35, 5)
    assert answer.dtype == torch.float32
    assert bool(answer.isfinite().all())
    torch.testing.assert_close(answer.exp().sum(-1), torch.ones(3, 35))


def test_is_right_where_classes_are_far_apart(classifier, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7, spread=0.02)
    assert float((_ask(classifier, t).argmax(-1) == t.truth).float().mean()) > 0.99


def test_order_of_support_does_not_matter(classifier, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    _same(
        _ask(classifier, t, support=t.support[:, order], support_labels=t.support_labels[:, order]), _ask(classifier, t)
    )


def test_order_of_queries_only_orders_the_answers(classifier, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7)
    order = torch.randperm(35, generator=torch.Generator().manual_seed(2))
    _same(_ask(classifier, t, query=t.query[:, order]), _ask(classifier, t)[:, order])


def test_order_of_classes_only_orders_the_columns(classifier, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7)
    renamed = torch.tensor([3, 0, 4, 1, 2])  # old label -> new label
    text = torch.empty_like(t.class_text)
    text[:, renamed] = t.class_text
    _same(
        _ask(classifier, t, support_labels=renamed[t.support_labels], class_text=text)[..., renamed],
        _ask(classifier, t),
    )


def test_a_batch_is_its_tasks_one_by_one(classifier, tasks: Callable) -> None:
    t = tasks(6, 5, 5, 7)
    together = _ask(classifier, t)
    for i in range(6):
        names = ("support", "support_labels", "query", "query_mask", "class_text")
        alone = _ask(classifier, t, **{name: getattr(t, name)[i : i + 1] for name in names})
        _same(alone[0], together[i])


def test_a_second_call_gives_the_same(classifier, tasks: Callable) -> None:
    t = tasks(3, 5, 5, 7)
    inputs = [x.clone() for x in (t.support, t.query)]
    first = _ask(classifier, t)
    _ask(classifier, tasks(3, 5, 1, 7, seed=5))
    assert torch.equal(first, _ask(classifier, t))
    assert torch.equal(inputs[0], t.support)
    assert torch.equal(inputs[1], t.query)


def test_padding_changes_nothing(classifier, tasks: Callable) -> None:
    """Rows that are labelled -1 or masked out hold garbage here, larger than any feature."""
    t = tasks(3, 5, 5, 7)
    garbage = 50 * torch.randn(3, 9, t.query.shape[-1], generator=torch.Generator().manual_seed(3))
    padded = _ask(
        classifier, t,
        support=torch.cat([garbage[:, :4], t.support], 1),
        support_labels=torch.cat([torch.full((3, 4), -1), t.support_labels], 1),
        query=torch.cat([garbage, t.query], 1),
        query_mask=torch.cat([torch.zeros(3, 9, dtype=torch.bool), t.query_mask], 1),
    )  # fmt: skip
    assert bool(padded.isfinite().all())
    _same(padded[:, 9:], _ask(classifier, t))


def test_a_subset_of_queries_gives_the_same(inductive, tasks: Callable) -> None:
    """Inductive: each query is scored alone, whatever its company."""
    t = tasks(4, 5, 5, 7)
    whole = _ask(inductive, t)
    assert not inductive.transductive
    for chosen in ([0], [3, 20, 34], list(range(10, 30))):
        part = _ask(inductive, t, query=t.query[:, chosen], query_mask=t.query_mask[:, chosen])
        torch.testing.assert_close(part, whole[:, chosen], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_transductive_ones_say_so_and_do_look_at_the_other_queries(name: str, tasks: Callable) -> None:
    t = tasks(4, 5, 1, 7)
    classifier = build_classifier(name)
    assert classifier.transductive
    part = _ask(classifier, t, query=t.query[:, :9], query_mask=t.query_mask[:, :9])
    assert not torch.allclose(part, _ask(classifier, t)[:, :9], atol=1e-3)


def test_one_shot(classifier, tasks: Callable) -> None:
    t = tasks(20, 5, 1, 7, spread=0.08)
    assert float((_ask(classifier, t).argmax(-1) == t.truth).float().mean()) > 0.85


def test_unequal_shots(classifier, tasks: Callable) -> None:
    """One class with a single picture, one with two, the rest with eight: none is drowned by the others."""
    t = tasks(20, 5, 8, 7, spread=0.08)
    keep = torch.ones(40, dtype=torch.bool)
    keep[1:8] = keep[10:16] = False
    answer = _ask(classifier, t, support=t.support[:, keep], support_labels=t.support_labels[:, keep])
    right = (answer.argmax(-1) == t.truth).float().view(20, 5, 7).mean((0, 2))
    assert bool((right > 0.7).all()), right


def test_unequal_shots_within_one_batch(classifier, tasks: Callable) -> None:
    """A 1-shot and a 5-shot task side by side, padded to the same shape, against each on its own."""
    five, one = tasks(1, 4, 5, 6, seed=1), tasks(1, 4, 1, 6, seed=2)
    support = torch.cat([five.support, torch.nn.functional.pad(one.support, (0, 0, 0, 16))])
    labels = torch.cat([five.support_labels, torch.nn.functional.pad(one.support_labels, (0, 16), value=-1)])
    query, mask = torch.cat([five.query, one.query]), torch.cat([five.query_mask, one.query_mask])
    text = torch.cat([five.class_text, one.class_text])
    both = classifier(TaskBatch(support, labels, query, mask, 4, text))
    _same(both[:1], _ask(classifier, five))
    _same(both[1:], _ask(classifier, one))


@pytest.mark.parametrize("shots", [1, 5])
def test_one_class(classifier, tasks: Callable, shots: int) -> None:
    answer = _ask(classifier, tasks(2, 1, shots, 7))
    torch.testing.assert_close(answer, torch.zeros(2, 7, 1), atol=1e-5, rtol=0)


def test_one_query(classifier, tasks: Callable) -> None:
    t = tasks(5, 5, 5, 1)
    answer = _ask(classifier, t, query=t.query[:, :1], query_mask=t.query_mask[:, :1])
    assert bool(answer.isfinite().all())


def test_one_task_without_queries(classifier, tasks: Callable) -> None:
    """All of a task's queries may be padding; its neighbour in the batch must not notice."""
    t = tasks(2, 5, 5, 7)
    mask = t.query_mask.clone()
    mask[0] = False
    answer = _ask(classifier, t, query_mask=mask)
    assert bool(answer.isfinite().all())
    _same(answer[1], _ask(classifier, t)[1])


def test_duplicated_pictures(classifier, tasks: Callable) -> None:
    """Pictures that occur several times, in support and query: finite, and twins get the same answer."""
    t = tasks(3, 5, 3, 5)
    support = torch.cat([t.support, t.support[:, :1], t.support[:, :1]], 1)
    labels = torch.cat([t.support_labels, t.support_labels[:, :1], t.support_labels[:, :1]], 1)
    query = torch.cat([t.query, t.query[:, :4], t.support[:, :2]], 1)
    mask = torch.ones(query.shape[:2], dtype=torch.bool)
    answer = _ask(classifier, t, support=support, support_labels=labels, query=query, query_mask=mask)
    assert bool(answer.isfinite().all())
    torch.testing.assert_close(answer[:, 25:29].exp(), answer[:, :4].exp(), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["prototype", "simpleshot", "tip", "gda", "nearest", "lp++", "text-blend"])
def test_every_support_picture_twice_is_as_if_once(name: str, tasks: Callable, statistics) -> None:
    """Of those that average over a class's pictures; a logistic regression takes twice the data for twice the
    evidence, and what ridge and gda's own scatter choose by leaving pictures out, copies do not allow
    (test_strength.py, test_own_scatter.py).
    """
    t = tasks(3, 5, 3, 5)
    classifier = build_classifier(name, statistics=statistics)
    if name == "gda":
        classifier = dataclasses.replace(classifier, own_share=0.0)
    if name == "text-blend":  # its gate counts pictures; open it for both
        t = tasks(3, 5, 5, 5, spread=0.05)
    doubled = _ask(classifier, t, support=t.support.repeat(1, 2, 1), support_labels=t.support_labels.repeat(1, 2))
    _same(doubled, _ask(classifier, t))


@pytest.mark.parametrize("shots", [(1,) * 4, (3,) * 4, (1, 4, 2, 3)], ids=str)
@pytest.mark.parametrize("value", [1.0, -0.3, 0.0, 0.7, 1e-3])
def test_all_pictures_alike_is_a_tie_and_the_first_class_wins(
    classifier, shots: tuple[int, ...], value: float, statistics
) -> None:
    width = len(statistics.mean)
    labels = torch.arange(4).repeat_interleave(torch.tensor(shots)).unsqueeze(0)
    support = torch.full((1, labels.shape[1], width), value)
    query, mask = torch.full((1, 7, width), value), torch.ones(1, 7, dtype=torch.bool)
    text = torch.ones(1, 4, width)
    if isinstance(classifier, GaussianDiscriminant):
        # What it adds for few shots is by the training classes' spread, though these pictures have none.
        classifier = dataclasses.replace(classifier, shots_correction=0)
    answer = classifier(TaskBatch(support, labels, query, mask, 4, text))
    torch.testing.assert_close(answer, torch.full((1, 7, 4), 0.25).log(), atol=1e-5, rtol=0)
    assert bool((answer.argmax(-1) == 0).all())


def test_a_constant_feature_is_harmless(classifier, tasks: Callable) -> None:
    t = tasks(10, 5, 5, 7, spread=0.05)
    support, query = t.support.clone(), t.query.clone()
    support[..., 3] = query[..., 3] = 0.2
    support[..., 4] = query[..., 4] = 0.0
    answer = _ask(classifier, t, support=support, query=query)
    assert bool(answer.isfinite().all())
    assert float((answer.argmax(-1) == t.truth).float().mean()) > 0.95


def test_double_precision_agrees(classifier, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7)
    double = _ask(classifier, t.to(torch.float64))
    assert double.dtype == torch.float32
    _same(_ask(classifier, t), double)


def test_half_precision_features_are_taken(classifier, tasks: Callable) -> None:
    t = tasks(4, 5, 5, 7, spread=0.03)
    answer = _ask(classifier, t.to(torch.bfloat16))
    assert answer.dtype == torch.float32
    assert float((answer.argmax(-1) == t.truth).float().mean()) > 0.95


@pytest.mark.parametrize("name", [name for name in CLASSIFIER_NAMES if name != "zero-shot"])
def test_a_class_without_support_is_refused(name: str, tasks: Callable, statistics) -> None:
    t = tasks(2, 3, 2, 4)
    labels = t.support_labels.clone()
    labels[1][labels[1] == 2] = -1
    with pytest.raises(DataError, match="task 1 .* class 2"):
        _ask(build_classifier(name, statistics=statistics), t, support_labels=labels)


@pytest.mark.parametrize("name", CLASSIFIER_NAMES)
def test_scale_sharpens(name: str, tasks: Callable, statistics) -> None:
    """``scale`` of ``build_classifier`` reaches every one of them."""
    t = tasks(4, 5, 5, 7)
    blunt = _ask(build_classifier(name, statistics=statistics, scale=0.5), t)
    sharp = _ask(build_classifier(name, statistics=statistics, scale=5.0), t)
    assert float(sharp.exp().amax(-1).mean()) > float(blunt.exp().amax(-1).mean())
