"""Few-shot classifiers over features, by name.

The names can be read without importing torch, so that a command line can list them; a classifier's module is
imported only when that classifier is built.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewshot.classifiers.balance import ImbalanceWarning
    from fewshot.classifiers.base import Classifier, Statistics

INDUCTIVE: tuple[str, ...] = ("prototype", "simpleshot", "tip", "gda", "ridge", "logistic", "lp++", "nearest")
TRANSDUCTIVE: tuple[str, ...] = (
    "soft-kmeans", "bdcspn", "laplacianshot", "tim", "alpha-tim", "ptmap", "transclip",
)  # fmt: skip
TEXT: tuple[str, ...] = ("zero-shot", "text-blend")
"""Classifiers that need the class names' embeddings (``class_text``); inductive as well."""
NEEDS_STATISTICS: tuple[str, ...] = ("simpleshot", "gda")
"""Classifiers that need the training classes' mean or covariance."""
CLASSIFIER_NAMES: tuple[str, ...] = INDUCTIVE + TRANSDUCTIVE + TEXT

_PLACES = {
    "prototype": ("prototype", "Prototype"),
    "simpleshot": ("simpleshot", "SimpleShot"),
    "tip": ("tip", "TipCache"),
    "gda": ("gda", "GaussianDiscriminant"),
    "ridge": ("ridge", "Ridge"),
    "logistic": ("logistic", "Logistic"),
    "lp++": ("linear_probe", "LinearProbe"),
    "nearest": ("nearest", "Nearest"),
    "soft-kmeans": ("soft_kmeans", "SoftKMeans"),
    "bdcspn": ("bdcspn", "BDCSPN"),
    "laplacianshot": ("laplacianshot", "LaplacianShot"),
    "tim": ("tim", "TIM"),
    "alpha-tim": ("tim", "AlphaTIM"),
    "ptmap": ("ptmap", "PTMAP"),
    "transclip": ("transclip", "TransCLIP"),
    "zero-shot": ("text", "ZeroShot"),
    "text-blend": ("text", "TextBlend"),
}
_LAZY = {
    "Classifier": "fewshot.classifiers.base",
    "Statistics": "fewshot.classifiers.base",
    "ImbalanceWarning": "fewshot.classifiers.balance",
}

__all__ = [
    "CLASSIFIER_NAMES",
    "INDUCTIVE",
    "NEEDS_STATISTICS",
    "TEXT",
    "TRANSDUCTIVE",
    "Classifier",
    "ImbalanceWarning",
    "Statistics",
    "build_classifier",
]


def build_classifier(name: str, *, statistics: Statistics | None = None, scale: float | None = None) -> Classifier:
    """Make the classifier called ``name`` on the command line, with its default settings.

    ``statistics`` are those of the training classes (ignored where a classifier has no use for them);
    ``scale`` multiplies the classifier's scores before the softmax, None keeps the classifier's own default.

        Raises ``UsageError`` for an unknown name, and where statistics are needed and missing.
    """
    from episodes.errors import UsageError

    if name not in _PLACES:
        raise UsageError(f"unknown classifier {name!r}; expected one of {', '.join(CLASSIFIER_NAMES)}")
    settings: dict[str, Any] = {} if scale is None else {"scale": scale}
    if name in NEEDS_STATISTICS:
        if statistics is None:
            raise UsageError(
                f"classifier {name!r} needs the mean and covariance of training classes, and there are none for "
                "this encoder: train a checkpoint (fewshot train) or pass --statistics DIR"
            )
        settings["statistics"] = statistics
    module, attribute = _PLACES[name]
    made: Classifier = getattr(import_module(f"fewshot.classifiers.{module}"), attribute)(**settings)
    return made


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
