"""Classifiers of easyfsl and scikit-learn that do what one of ours does, each with the settings of ours that make it the same method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt
import torch

from fewshot import build_classifier
from fewshot.classifiers import Classifier, Statistics

Array = npt.NDArray[Any]
Answer = Callable[[Array, Array, Array], Array]
"""(S, D) support, (S,) labels, (Q, D) queries -> (Q,) labels."""


@dataclass(frozen=True)
class Counterpart:
    """One of theirs.

    Attributes:
        ours: name of the classifier that does the same.
        name: of theirs.
        answer: theirs on one task.
        settings: of ours, by name, where they are not its defaults.
        fewest_shots: that it works with.
        part: one over the share of the episodes that it gets: slow ones get fewer.
    """

    ours: str
    name: str
    answer: Answer
    settings: Mapping[str, Any] = field(default_factory=dict)
    fewest_shots: int = 1
    part: int = 1

    @property
    def title(self) -> str:
        """Ours as tables name it: with its settings."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.ours} ({settings})" if settings else self.ours

    def build(self, statistics: Statistics | None) -> Classifier:
        """Ours with its settings: they are fields of its dataclass.

        Raises:
            UsageError: it needs the statistics of training classes, and there are none.
            TypeError: it has no such setting.
        """
        made: Any = build_classifier(self.ours, statistics=statistics)
        changed: Classifier = replace(made, **self.settings)
        return changed


def of_easyfsl(method: str, **settings: Any) -> Answer:
    """A method of easyfsl, made anew for each task: some change while they predict."""

    def answer(support: Array, labels: Array, query: Array) -> Array:
        from easyfsl import methods

        made = getattr(methods, method)(**settings)
        made.process_support_set(torch.from_numpy(support), torch.from_numpy(labels))
        found: Array = made(torch.from_numpy(query)).argmax(-1).numpy()
        return found

    return answer


def of_sklearn(make: Callable[[], Any]) -> Answer:
    """An estimator of scikit-learn."""

    def answer(support: Array, labels: Array, query: Array) -> Array:
        found: Array = make().fit(support, labels).predict(query)
        return found

    return answer


def counterparts() -> list[Counterpart]:
    """All of theirs that do what one of ours does."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

    def lda() -> Any:
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")

    centroid, networks = "scikit-learn NearestCentroid", "easyfsl PrototypicalNetworks"
    euclidean = {"metric": "euclidean"}  # theirs measure by it; our default is the cosine
    return [
        Counterpart("prototype", centroid, of_sklearn(NearestCentroid)),
        Counterpart("prototype", networks, of_easyfsl("PrototypicalNetworks")),
        Counterpart("prototype", centroid, of_sklearn(NearestCentroid), settings=euclidean),
        Counterpart("prototype", networks, of_easyfsl("PrototypicalNetworks"), settings=euclidean),
        Counterpart("prototype", "easyfsl SimpleShot, uncentred", of_easyfsl("SimpleShot")),
        Counterpart("nearest", "scikit-learn 1-nearest neighbour", of_sklearn(lambda: KNeighborsClassifier(1))),
        Counterpart("gda", "scikit-learn LDA, shrinkage auto", of_sklearn(lda), fewest_shots=2),
        Counterpart("ridge", "scikit-learn RidgeClassifier (alpha 1)", of_sklearn(RidgeClassifier)),
        Counterpart("logistic", "scikit-learn LogisticRegression (C 1)", of_sklearn(LogisticRegression)),
        Counterpart("logistic", "scikit-learn LogisticRegression (C 10)", of_sklearn(lambda: LogisticRegression(C=10))),
        Counterpart("lp++", "easyfsl Finetune", of_easyfsl("Finetune"), part=2),
        Counterpart("bdcspn", "easyfsl BDCSPN", of_easyfsl("BDCSPN")),
        Counterpart("laplacianshot", "easyfsl LaplacianShot", of_easyfsl("LaplacianShot", feature_normalization=2)),
        Counterpart("tim", "easyfsl TIM", of_easyfsl("TIM"), part=2),
        Counterpart("ptmap", "easyfsl PTMAP", of_easyfsl("PTMAP"), part=4),
    ]
