"""The scikit-learn estimator: scikit-learn's own checks for every classifier, and its use in a pipeline."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from episodes.errors import UsageError
from fewshot import FewShotClassifier
from fewshot.classifiers import INDUCTIVE, TRANSDUCTIVE
from fewshot.classifiers.balance import ImbalanceWarning
from fewshot.classifiers.prototype import Prototype

COMPANY = "transductive: a row's answer depends on the other rows of the call"
EXPECTED = {"check_methods_subset_invariance": COMPANY, "check_methods_sample_order_invariance": COMPANY}


@pytest.mark.parametrize("name", INDUCTIVE)
def test_inductive_classifiers_pass_all_of_scikit_learns_checks(name: str) -> None:
    results = check_estimator(FewShotClassifier(name), on_skip=None)
    assert len(results) > 40
    assert {r["status"] for r in results} <= {"passed", "skipped"}


@pytest.mark.parametrize("name", TRANSDUCTIVE)
def test_transductive_classifiers_pass_all_but_the_two_about_other_rows(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImbalanceWarning)
        results = check_estimator(FewShotClassifier(name), expected_failed_checks=EXPECTED, on_skip=None)
    assert {r["check_name"] for r in results if r["status"] == "xfail"} <= set(EXPECTED)
    assert {r["status"] for r in results} <= {"passed", "skipped", "xfail"}


def test_in_a_pipeline_with_cross_validation() -> None:
    x, y = load_iris(return_X_y=True)
    scores = cross_val_score(make_pipeline(StandardScaler(), FewShotClassifier("gda")), x, y, cv=5)
    assert scores.shape == (5,)
    assert scores.mean() > 0.85


def test_labels_may_be_names_and_clone_keeps_settings() -> None:
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    estimator = clone(FewShotClassifier(Prototype(metric="euclidean"))).fit(x[::5], names[::5])
    assert list(estimator.classes_) == ["setosa", "versicolor", "virginica"]
    assert (estimator.predict(x) == names).mean() > 0.85
    np.testing.assert_allclose(estimator.predict_proba(x).sum(1), 1, atol=1e-12)
    assert clone(FewShotClassifier("tip", scale=2.0)).get_params()["scale"] == 2.0


def test_scale_reaches_the_classifier() -> None:
    x, y = load_iris(return_X_y=True)
    blunt, sharp = (FewShotClassifier(scale=s).fit(x, y).predict_proba(x).max(1).mean() for s in (1.0, 100.0))
    assert sharp > blunt


def test_training_class_statistics_are_used_when_given() -> None:
    """At one shot the support set has no covariance of its own, so the answer must come from the one that was
    given.
    """
    import torch

    from fewshot.classifiers.base import Statistics

    support, query = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[0.9, 0.0]])
    for variances, expected in (((100.0, 0.01), 0), ((0.01, 100.0), 1)):
        statistics = Statistics(torch.zeros(2), torch.diag(torch.tensor(variances)), 10_000)
        estimator = FewShotClassifier("gda", statistics=statistics).fit(support, [0, 1])
        assert estimator.predict(query) == expected


def test_class_names_embeddings_for_the_text_classifiers() -> None:
    x, y = np.eye(3), np.arange(3)
    estimator = FewShotClassifier("zero-shot", class_text=np.eye(3)[[2, 0, 1]]).fit(x, y)
    assert list(estimator.predict(x)) == [1, 2, 0]
    with pytest.raises(UsageError, match="class names"):
        FewShotClassifier("zero-shot").fit(x, y).predict(x)


def test_an_unknown_classifier_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'nope'.*prototype.*transclip"):
        FewShotClassifier("nope").fit(np.eye(2), [0, 1])
