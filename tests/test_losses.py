"""Losses and the residual classifier against plain loops, scikit-learn's log_loss and torch's own pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from torch import Tensor

from fewshot.encoders.heads import ResidualClassifier
from fewshot.losses import (
    class_loss,
    nca_loss,
    prototypes,
    prototypical_logits,
    prototypical_loss,
    squared_distance,
)


def episode(tasks: int = 3, ways: int = 4, shots: int = 2, queries: int = 3, width: int = 8) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    support = F.normalize(torch.randn(tasks, ways * shots, width, generator=generator), dim=-1)
    query = F.normalize(torch.randn(tasks, ways * queries, width, generator=generator), dim=-1)
    labels = torch.arange(ways)
    return support, labels.repeat(tasks, shots), query, labels.repeat(tasks, queries)


def plain_loss(support: Tensor, labels: Tensor, query: Tensor, query_labels: Tensor, ways: int, scale: float) -> float:
    """One query at a time, in numpy, with scikit-learn's log_loss at the end."""
    probabilities, truth = [], []
    for s, sl, q, ql in zip(support.numpy(), labels.numpy(), query.numpy(), query_labels.numpy(), strict=True):
        centres = []
        for way in range(ways):
            mean = s[sl == way].astype(np.float64).mean(0)
            centres.append(mean / np.linalg.norm(mean))
        for x, label in zip(q, ql, strict=True):
            if label >= 0:
                e = np.exp([scale * float(x @ c) for c in centres])
                probabilities.append(e / e.sum())
                truth.append(label)
    return float(log_loss(truth, np.stack(probabilities), labels=list(range(ways))))


def test_prototypical_loss_is_that_of_a_plain_loop() -> None:
    support, labels, query, query_labels = episode()
    for scale in (1.0, 5.0, 10.0):
        expected = plain_loss(support, labels, query, query_labels, 4, scale)
        assert float(prototypical_loss(support, labels, query, query_labels, 4, scale)) == pytest.approx(
            expected, rel=1e-5
        )


def test_padding_changes_nothing() -> None:
    support, labels, query, query_labels = episode()
    loss = prototypical_loss(support, labels, query, query_labels, 4)
    padded = [F.pad(support, (0, 0, 0, 5), value=9.0), F.pad(labels, (0, 5), value=-1)]
    padded += [F.pad(query, (0, 0, 0, 2), value=9.0), F.pad(query_labels, (0, 2), value=-1)]
    assert torch.allclose(prototypical_loss(*padded, 4), loss)


def test_a_class_that_an_episode_lacks_takes_no_probability() -> None:
    support, labels, query, query_labels = episode(tasks=1)
    logits = prototypical_logits(support, labels, query, 6, 10.0)
    assert torch.isinf(logits[..., 4:]).all() and (logits[..., 4:] < 0).all()
    assert torch.allclose(
        prototypical_loss(support, labels, query, query_labels, 6),
        prototypical_loss(support, labels, query, query_labels, 4),
    )


def test_prototypes_have_unit_norm_and_ignore_shot_imbalance() -> None:
    support, _, _, _ = episode(tasks=1, ways=2, shots=3)
    labels = torch.tensor([[0, 0, 0, 0, 1, -1]])
    found = prototypes(support, labels, 2)[0]
    assert torch.allclose(found[0], F.normalize(support[0, :4].mean(0), dim=0))
    assert torch.allclose(found[1], support[0, 4])


def test_the_scale_and_the_features_get_gradients_and_autocast_stays_out() -> None:
    support, labels, query, query_labels = episode()
    scale = torch.tensor(10.0, requires_grad=True)
    support.requires_grad_()
    exact = prototypical_loss(support, labels, query, query_labels, 4, scale)
    exact.backward()
    assert scale.grad is not None and float(scale.grad) != 0 and support.grad is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prototypical_loss(support, labels, query, query_labels, 4, scale), exact)


def test_a_loss_over_nothing_is_an_error() -> None:
    support, labels, query, query_labels = episode()
    with pytest.raises(ValueError, match="no labelled query"):
        prototypical_loss(support, labels, query, torch.full_like(query_labels, -1), 4)
    with pytest.raises(ValueError, match="two pictures of one class"):
        nca_loss(support[0, :2], torch.tensor([0, 1]))


def test_nca_is_that_of_a_plain_loop() -> None:
    x = F.normalize(torch.randn(9, 5, generator=torch.Generator().manual_seed(1)), dim=-1)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3])  # class 2 stands alone and is left out
    terms = []
    for i in range(9):
        others = [j for j in range(9) if j != i]
        e = {j: np.exp(10 * float(x[i] @ x[j])) for j in others}
        same = sum(e[j] for j in others if labels[j] == labels[i])
        if same:
            terms.append(-np.log(same / sum(e.values())))
    assert float(nca_loss(x, labels)) == pytest.approx(float(np.mean(terms)), rel=1e-5)


def test_class_loss_ignores_padding() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, -1, 0, -1])
    expected = log_loss([2, 0], logits[[0, 2]].softmax(-1).numpy(), labels=[0, 1, 2])
    assert float(class_loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_residual_classifier_is_its_formula() -> None:
    head = ResidualClassifier(6, 4, dropout=0.5).eval()
    z = torch.randn(5, 6)
    hidden = torch.clamp(z @ head.fc1.weight.T + head.fc1.bias, min=0)
    assert torch.allclose(head(z), (z + hidden) @ head.fc2.weight.T + head.fc2.bias, atol=1e-6)


def test_dropout_is_keyed_and_keeps_the_mean() -> None:
    head = ResidualClassifier(50, 3, dropout=0.3).train()
    z = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0))
    one, two, other = (head(z, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.allclose(one.mean(0), head.eval()(z).mean(0), atol=0.05)


@pytest.mark.parametrize("sizes", [(0, 3, 0.1), (3, 0, 0.1), (3, 3, 1.0)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="ResidualClassifier needs"):
        ResidualClassifier(*sizes)


def test_the_squared_distance_is_summed_over_the_tensors_that_were_there_before() -> None:
    before = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([[3.0]], dtype=torch.float64)}
    now = {"a": torch.tensor([4.0, 0.0]), "b": torch.tensor([[1.0]]), "other": torch.tensor([9.0])}
    assert squared_distance(now, before).item() == 9 + 4 + 4
    with pytest.raises(ValueError, match="squared_distance needs at least one tensor"):
        squared_distance(now, {})
