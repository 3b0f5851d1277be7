"""Sentences around class names, for a text encoder trained on captions.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021, arXiv
2103.00020, section 3.1.4: a class name alone is unlike the captions that the text encoder has seen, and
averaging several sentences helps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from episodes.errors import UsageError

DEFAULT_TEMPLATES: tuple[str, ...] = ("a photo of a {}.",)
CLIP_TEMPLATES: tuple[str, ...] = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven that CLIP's authors found to do nearly as well as all eighty on ImageNet."""


def readable_name(folder_name: str) -> str:
    """A class folder's name as words: ``golden_retriever`` and ``goldenRetriever`` become ``golden retriever``.

    A WordNet id in front (``n02099601-golden_retriever``) is dropped where words follow it.
    """
    words = re.sub(r"^n\d{8}[\W_]+(?=\w)", "", folder_name)
    words = re.sub(r"[_\-.+\s]+", " ", words)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words).strip()
    return words or folder_name


def class_prompts(class_names: Sequence[str], templates: Sequence[str] = CLIP_TEMPLATES) -> list[list[str]]:
    """Every template filled in for every class name: C lists of P sentences.

    Raises:
        UsageError: there is no template, or one without exactly one `{}`.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(f"a prompt needs {{}} once, where the class name goes; got {template!r}")
    if not templates:
        raise UsageError("no prompt to put the class names into; expected at least one, such as 'a photo of a {}.'")
    return [[template.replace("{}", readable_name(name)) for template in templates] for name in class_names]


def text_prototypes(
    class_names: Sequence[str],
    encode_text: Callable[[list[str]], Tensor],
    templates: Sequence[str] = CLIP_TEMPLATES,
    batch: int = 256,
) -> Tensor:
    """Unit-norm mean of each class's unit-norm sentence embeddings: (C, D) float32.

    ``encode_text`` turns a list of n sentences into (n, D) embeddings; it is called with at most ``batch`` at
    a time.
    """
    sentences = [sentence for group in class_prompts(class_names, templates) for sentence in group]
    parts = [encode_text(sentences[start : start + batch]).float() for start in range(0, len(sentences), batch)]
    embedded = F.normalize(torch.cat(parts), dim=-1).view(len(class_names), len(templates), -1)
    return F.normalize(embedded.mean(1), dim=-1)
