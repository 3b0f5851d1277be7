"""Few-shot classifiers over features, by name.

A classifier registers itself where it is defined (see `fewshot.registry`). Its name is known without importing torch, so that a
command line can list it; its module is imported only when somebody asks what it is like, or builds it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from episodes.errors import UsageError
from fewshot.registry import CLASSIFIERS

if TYPE_CHECKING:
    from fewshot.classifiers.balance import ImbalanceWarning
    from fewshot.classifiers.base import Classifier, Statistics
    from fewshot.classifiers.learned import Steps
    from fewshot.encoders.base import Embedder

    CLASSIFIER_NAMES: tuple[str, ...]
    """Every classifier, those of other packages included."""
    INDUCTIVE: tuple[str, ...]
    """Classifiers that score each query alone, and need no class names."""
    TRANSDUCTIVE: tuple[str, ...]
    """Classifiers whose answer for a query may depend on the other queries."""
    TEXT: tuple[str, ...]
    """Classifiers that need the class names' embeddings (`class_text`); inductive as well."""
    NEEDS_STATISTICS: tuple[str, ...]
    """Classifiers that need the training classes' mean or covariance."""

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
    "needs",
]


def build_classifier(
    name: str,
    *,
    statistics: Statistics | None = None,
    scale: float | None = None,
    encoder: Embedder | None = None,
    steps: Steps | None = None,
) -> Classifier:
    """Make the classifier called `name` on the command line, with its default settings.

    Args:
        name: one of `CLASSIFIER_NAMES`.
        statistics: of the training classes; not looked at where a classifier has no use for them.
        scale: multiplies the classifier's scores before the softmax; None keeps the classifier's own default.
        encoder: that the features are of; several together are weighed task by task. None for features of one encoder.
        steps: of the classifier `learned`, in place of those that come with the package; the others do not look at them.

    Raises:
        UsageError: the name is unknown, statistics are needed and missing, or the classifier does not go with several encoders.
    """
    known = CLASSIFIERS.entries
    if name not in known:
        raise UsageError(f"unknown classifier {name!r}; expected one of {', '.join(known)}")
    kind = known[name].load()
    settings: dict[str, Any] = {} if scale is None else {"scale": scale}
    if "statistics" in _needs(kind):
        if encoder is not None and len(encoder.parts) > 1:
            raise UsageError(
                f"classifier {name!r} needs the mean and covariance of one encoder's features, and {encoder.name} is "
                f"{len(encoder.parts)}, weighed anew in each task: choose another classifier, such as auto"
            )
        if statistics is None:
            raise UsageError(
                f"classifier {name!r} needs the mean and covariance of training classes, and there are none for "
                "this encoder: train a checkpoint (fewshot train) or pass --statistics DIR"
            )
        settings["statistics"] = statistics
    if steps is not None and "steps" in getattr(kind, "takes", ()):
        settings["steps"] = steps
    made: Classifier = kind(**settings)
    if encoder is None or len(encoder.parts) == 1:
        return made
    from fewshot.classifiers.together import Together, segments_of

    return Together(made, segments_of(encoder))


def needs(name: str, what: str) -> bool:
    """Whether the classifier called `name` takes "statistics" or "text" besides pictures; False where there is no such one."""
    entry = CLASSIFIERS.entries.get(name)
    return entry is not None and what in _needs(entry.load())


def _needs(kind: Any) -> tuple[str, ...]:
    """What a classifier's class says it needs besides pictures: "statistics", "text"."""
    return tuple(getattr(kind, "needs", ()))


def _names(trait: str) -> tuple[str, ...]:
    kinds = {}
    for name, entry in CLASSIFIERS.entries.items():
        try:
            kinds[name] = entry.load()
        except (
            UsageError
        ):  # another package's that is broken: said where somebody asks for it, and no reason to stop otherwise
            continue
    if trait == "TRANSDUCTIVE":
        return tuple(name for name, kind in kinds.items() if kind.transductive)
    if trait == "INDUCTIVE":
        return tuple(name for name, kind in kinds.items() if not kind.transductive and "text" not in _needs(kind))
    needed = {"TEXT": "text", "NEEDS_STATISTICS": "statistics"}[trait]
    return tuple(name for name, kind in kinds.items() if needed in _needs(kind))


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "CLASSIFIER_NAMES":
        return tuple(CLASSIFIERS.entries)
    if name in __all__:
        return _names(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
