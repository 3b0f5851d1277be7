"""The inductive classifiers that scikit-learn also has, task by task on the same features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from fewshot.classifiers.auto import Auto
from fewshot.classifiers.base import class_statistics
from fewshot.classifiers.gda import GaussianDiscriminant, shrunk_precision
from fewshot.classifiers.logistic import Logistic
from fewshot.classifiers.nearest import Nearest
from fewshot.classifiers.prototype import Prototype
from fewshot.classifiers.ridge import Ridge
from fewshot.classifiers.tasks import TaskBatch


def _arrays(t, i):
    return t.support[i].numpy(), t.support_labels[i].numpy(), t.query[i].numpy()


def _unequal(t):
    """The same tasks with one class of 1 shot and the others of 5."""
    keep = torch.ones(t.support.shape[1], dtype=torch.bool)
    keep[1:5] = False
    return t.support[:, keep], t.support_labels[:, keep]


@pytest.mark.parametrize("shots", [1, 5])
def test_euclidean_prototype_is_nearest_centroid(tasks: Callable, shots: int) -> None:
    t = tasks(30, 5, shots, 15, spread=0.3)
    ours = Prototype(metric="euclidean")(t.batch()).argmax(-1)
    for i in range(30):
        x, y, q = _arrays(t, i)
        assert (NearestCentroid().fit(x, y).predict(q) == ours[i].numpy()).all()
        centres = np.stack([x[y == label].mean(0) for label in range(5)])
        logits = -0.5 * 8 * euclidean_distances(q, centres, squared=True)
        found = Prototype(metric="euclidean", scale=8)(t.batch())[i]
        np.testing.assert_allclose(found, logits - logsumexp(logits, 1, keepdims=True), atol=1e-4)


def test_cosine_prototype_is_nearest_centroid_of_unit_vectors(tasks: Callable) -> None:
    """On the sphere the closest unit-norm centroid is the one with the largest cosine."""
    t = tasks(30, 5, 5, 15, spread=0.3)
    ours = Prototype()(t.batch(support=t.support * 3, query=t.query * 0.1)).argmax(-1)
    for i in range(30):
        x, y, q = _arrays(t, i)
        reference = NearestCentroid().fit(x, y)
        reference.centroids_ /= np.linalg.norm(reference.centroids_, axis=1, keepdims=True)
        assert (reference.predict(q) == ours[i].numpy()).all()


@pytest.mark.parametrize("shrinkage", [0.05, 0.5, 1.0])
def test_gda_is_linear_discriminant_analysis(tasks: Callable, shrinkage: float) -> None:
    """Fitted on its own support set, so that scikit-learn, which knows no training classes, can follow."""
    t = tasks(12, 4, 6, 15, spread=0.3)
    for i in range(12):
        x, y, q = _arrays(t, i)
        statistics = class_statistics(t.support[i].double(), t.support_labels[i])
        ours = GaussianDiscriminant(statistics, shrinkage=shrinkage, scale=1.0, own_share=0)(
            TaskBatch(t.support[i : i + 1], t.support_labels[i : i + 1], t.query[i : i + 1], t.query_mask[i : i + 1], 4)
        )[0]
        reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=np.full(4, 0.25)).fit(x, y)
        np.testing.assert_allclose(ours.exp().numpy(), reference.predict_proba(q), atol=2e-3)
        assert (ours.argmax(-1).numpy() == reference.predict(q)).mean() >= 0.99


def test_gda_shrinks_as_the_paper_says() -> None:
    """((n - 1) C + tr(C) I)^-1 D of arXiv 2402.04087, up to a factor that all classes share."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 12, generator=generator) * torch.linspace(0.1, 2, 12)
    statistics = class_statistics(features, torch.arange(200) % 10)
    covariance, n, width = statistics.covariance.double(), 200, 12
    paper = width * torch.linalg.inv((n - 1) * covariance + covariance.trace() * torch.eye(width, dtype=torch.float64))
    ours = GaussianDiscriminant(statistics, shrinkage=None).precision
    ratio = ours / paper
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-9, atol=0)


def test_gda_tells_classes_apart_at_one_shot(tasks: Callable, statistics) -> None:
    """The paper's own covariance is zero there, and every class ties."""
    t = tasks(200, 5, 1, 15, spread=0.2)
    arguments = (t.batch(),)
    accuracy = (GaussianDiscriminant(statistics)(*arguments).argmax(-1) == t.truth).float().mean()
    baseline = (Prototype(metric="euclidean")(*arguments).argmax(-1) == t.truth).float().mean()
    assert accuracy > baseline > 0.3


def test_precision_of_nothing_is_the_identity() -> None:
    torch.testing.assert_close(shrunk_precision(torch.zeros(3, 3), 0.1), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("shots", [1, 5])
def test_logistic_is_logistic_regression(tasks: Callable, strength: float, shots: int) -> None:
    t = tasks(10, 5, shots, 15, spread=0.3)
    support, labels = (t.support, t.support_labels) if shots == 1 else _unequal(t)
    ours = Logistic(C=strength, shots_strength=0)(TaskBatch(support, labels, t.query, t.query_mask, 5))
    for i in range(10):
        reference = LogisticRegression(C=strength, class_weight="balanced", tol=1e-8, max_iter=5000)
        reference.fit(support[i].double().numpy(), labels[i].numpy())
        expected = reference.predict_proba(t.query[i].double().numpy())
        np.testing.assert_allclose(ours[i].exp().numpy(), expected, atol=2e-3)
        assert (ours[i].argmax(-1).numpy() == expected.argmax(-1)).mean() >= 0.99


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_ridge_is_weighted_ridge_regression(tasks: Callable, penalty: float) -> None:
    t = tasks(10, 5, 5, 15, spread=0.3)
    support, labels = _unequal(t)
    ours = Ridge(penalty=penalty, scale=1.0, shots_strength=0)(TaskBatch(support, labels, t.query, t.query_mask, 5))
    for i in range(10):
        y = labels[i].numpy()
        weights = 1 / (5 * np.bincount(y)[y])
        reference = SklearnRidge(alpha=penalty, solver="cholesky")
        reference.fit(support[i].double().numpy(), np.eye(5)[y], sample_weight=weights)
        scores = torch.from_numpy(reference.predict(t.query[i].double().numpy()))
        torch.testing.assert_close(ours[i].double(), scores.log_softmax(-1), atol=2e-5, rtol=0)


def test_nearest_is_one_nearest_neighbour(tasks: Callable) -> None:
    t = tasks(20, 5, 5, 15, spread=0.3)
    ours = Nearest()(t.batch()).argmax(-1)
    for i in range(20):
        x, y, q = _arrays(t, i)
        assert (KNeighborsClassifier(1, metric="cosine").fit(x, y).predict(q) == ours[i].numpy()).all()


def test_statistics_are_those_of_linear_discriminant_analysis() -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(90, 7, generator=generator), torch.arange(90) % 4
    reference = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(x.numpy(), y.numpy())
    ours = class_statistics(torch.cat([x, x[:3]]), torch.cat([y, torch.full((3,), -1)]))
    assert ours.count == 90
    np.testing.assert_allclose(ours.covariance.numpy(), reference.covariance_, atol=1e-6)
    np.testing.assert_allclose(ours.mean.numpy(), x.mean(0).numpy(), atol=1e-6)


@pytest.mark.parametrize("shots", [1, 5])
def test_auto_mixes_the_prototype_with_logistic_regression(tasks: Callable, shots: int) -> None:
    """Each one's scores over the gap that they leave between a class's centre and the others', half and half."""
    t = tasks(3, 4, shots, 6)
    answers = Auto(C=30.0, scale=2.0)(t.batch(class_text=None))
    for task in range(3):
        support, query = (
            x[task].numpy() / np.linalg.norm(x[task].numpy(), axis=1, keepdims=True) for x in (t.support, t.query)
        )
        labels = t.support_labels[task].numpy()
        centres = np.stack([support[labels == label].mean(0) for label in range(4)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        reference = LogisticRegression(C=30.0, class_weight="balanced", tol=1e-8, max_iter=5000).fit(support, labels)
        mixed = 0.0
        for score in (lambda features, to=centres: features @ to.T, reference.decision_function):
            own = score(centres)
            gap = own.diagonal().mean() - own[~np.eye(4, dtype=bool)].mean()
            mixed = mixed + score(query) / gap
        expected = torch.from_numpy(mixed).log_softmax(-1)  # scale 2, half of each
        torch.testing.assert_close(answers[task].exp(), expected.float().exp(), atol=2e-3, rtol=0)
