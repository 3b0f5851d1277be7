"""Leakage of pretraining: which classes of a data set the encoder was already trained to tell apart.

`evaluate` and `train` warn of them. Few-shot accuracy on classes that the encoder has seen says little about new ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from episodes.leakage import SharedClasses
from fewshot.encoders import family_of

_WORDNET_ID = re.compile(r"n\d{8}")


def classes_seen(backbone: str, class_names: Sequence[str]) -> tuple[SharedClasses, str]:
    """Compare the names of classes, and the WordNet ids in them, with those that an encoder was trained on.

    Names are compared without case, without a number in front, and with spaces for underscores and hyphens. A class that the
    encoder knows under a name of other words is not found, so the number is a lower bound.

    Args:
        backbone: the encoder's name; for a file in OpenAI's format nothing is known.
        class_names: n names, such as those of folders.

    Returns:
        The classes that it has seen, and the name of the training set; both empty where it declares none.

    Raises:
        UsageError: there is no such backbone, or its library is not installed.
    """
    known = family_of(backbone).training_classes(backbone)
    if known is None:
        return SharedClasses(()), ""
    names = {_plain(name) for name in known.names}
    found = tuple(
        name
        for name in class_names
        if _plain(name) in names or not known.wordnet_ids.isdisjoint(_WORDNET_ID.findall(name))
    )
    return SharedClasses(found), known.source


def pretraining_warning(data: str, backbone: str, class_names: Sequence[str]) -> str | None:
    """Say that an encoder has seen classes of a data set; None where it has not, or nobody knows."""
    seen, source = classes_seen(backbone, class_names)
    if not seen:
        return None
    some = ", ".join(seen.names[:3]) + (", ..." if len(seen) > 3 else "")
    return (
        f"{data}: {len(seen)} of {len(class_names)} classes are {source}'s ({some}); {backbone} has seen them, so accuracy on them is "
        "not that on new classes"
    )


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", re.sub(r"^\d+[\s._-]+", "", name.casefold()))).strip()
