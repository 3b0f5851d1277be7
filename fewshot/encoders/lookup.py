"""Which family of encoders answers to a backbone's name: of one encoder, or of several that are joined by "+"."""

from __future__ import annotations

from episodes.errors import UsageError
from fewshot.encoders.clip_files import known_backbones
from fewshot.encoders.family import EncoderFamily
from fewshot.encoders.together import TogetherFamily, parts_of
from fewshot.registry import ENCODERS


def family_of(backbone: str) -> EncoderFamily:
    """The family that answers to a backbone's name.

    Raises:
        UsageError: none does, or another package brings it and cannot be imported.
    """
    if len(parts_of(backbone)) > 1:
        return TogetherFamily(family_of)
    entry = ENCODERS.find(backbone)
    if entry is None:
        raise UsageError(f"backbone {backbone!r} is not known. Known: {known_backbones()}")
    family: EncoderFamily = entry.load()()
    return family


def present_backbones() -> list[str]:
    """Name the backbones whose weights are on this machine, as far as their families can tell; for `fewshot doctor`."""
    families = [family() for family in dict.fromkeys(entry.load() for entry in ENCODERS.entries.values())]
    return [name for family in families for name in family.present()]
