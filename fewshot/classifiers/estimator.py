"""A scikit-learn estimator around any few-shot classifier, for one task.

``fit`` keeps the support set, ``predict`` classifies queries with it. Transductive classifiers look at all
rows of one ``predict`` call together, so there a row's answer depends on the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fewshot.classifiers.base import Classifier, Statistics


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Few-shot classifier with scikit-learn's interface; computes in float64.

    Args:
        classifier: a name of ``fewshot.classifiers.CLASSIFIER_NAMES``, or a ``Classifier``.
        statistics: training-class statistics for "simpleshot" and "gda". None takes them from what ``fit`` is given, which suits
            tasks with many pictures; with few, pass the encoder's.
        scale: multiplies the scores before the softmax; None keeps the classifier's default.
        class_text: embedded class names (N, D) in the order of the sorted classes, for "zero-shot" and "text-blend".

    Attributes:
        classes_: (N,) sorted labels seen in ``fit``.
        n_features_in_: D.
        support_, support_labels_: what ``fit`` was given, labels as positions in ``classes_``.
    """

    def __init__(
        self,
        classifier: str | Classifier = "prototype",
        *,
        statistics: Statistics | None = None,
        scale: float | None = None,
        class_text: ArrayLike | None = None,
    ) -> None:
        self.classifier = classifier
        self.statistics = statistics
        self.scale = scale
        self.class_text = class_text

    def fit(self, X: ArrayLike, y: ArrayLike) -> FewShotClassifier:
        """Keep the support features ``X`` (S, D) and labels ``y`` (S,).

        Raises:
            UsageError: for an unknown classifier name.
            ValueError: for data that scikit-learn refuses.
        """
        features, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        self.classes_, self.support_labels_ = np.unique(labels, return_inverse=True)
        self.support_ = features
        self._method = self._build()
        return self

    def _build(self) -> Classifier:
        """The classifier itself, with statistics of the support set where it needs some and got none."""
        if not isinstance(self.classifier, str):
            return self.classifier
        import torch

        from fewshot.classifiers import NEEDS_STATISTICS, build_classifier
        from fewshot.classifiers.base import class_statistics

        statistics = self.statistics
        if statistics is None and self.classifier in NEEDS_STATISTICS:
            labels = torch.as_tensor(self.support_labels_)
            statistics = class_statistics(torch.as_tensor(self.support_), labels)
        return build_classifier(self.classifier, statistics=statistics, scale=self.scale)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Log-probabilities (Q, N) of the queries ``X`` (Q, D), columns in the order of ``classes_``."""
        check_is_fitted(self)
        import torch

        from fewshot.classifiers.tasks import TaskBatch

        query = torch.as_tensor(validate_data(self, X, dtype=np.float64, reset=False)).unsqueeze(0)
        support = torch.as_tensor(self.support_).unsqueeze(0)
        labels = torch.as_tensor(self.support_labels_).unsqueeze(0)
        text = None if self.class_text is None else torch.as_tensor(np.asarray(self.class_text)).unsqueeze(0)
        mask = torch.ones(query.shape[:2], dtype=torch.bool)
        with torch.no_grad():
            answer = self._method(TaskBatch(support, labels, query, mask, len(self.classes_), text))
        made: NDArray[np.float64] = answer[0].double().log_softmax(-1).numpy()
        return made

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (Q, N) of the queries ``X`` (Q, D)."""
        made: NDArray[np.float64] = np.exp(self.predict_log_proba(X))
        return made

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class (Q,) of each query; the first of those that tie."""
        best = self.predict_log_proba(X).argmax(1)
        made: NDArray[Any] = self.classes_[best]
        return made
