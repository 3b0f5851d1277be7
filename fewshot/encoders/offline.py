"""The strongest encoder that this machine has without any download; what messages and the app offer where CLIP's weights are missing."""

from __future__ import annotations

from fewshot.encoders.family import EncoderFamily
from fewshot.registry import ENCODERS


def strongest_offline() -> str:
    """The installed encoder of the greatest `strength` among those that say one where they register; `tiny` is always there.

    Returns:
        The name of a backbone, to be offered: nothing ever chooses it silently.
    """
    offered = sorted(
        (entry for entry in ENCODERS.entries.values() if "strength" in entry.traits),
        key=lambda entry: -int(entry.traits["strength"]),
    )
    for entry in offered:
        family: EncoderFamily = entry.load()()
        if entry.name in family.present():
            return entry.name
    raise AssertionError("tiny is part of the package")
