"""Picture files opened once: what was decoded stays in memory, up to a number of bytes."""

import os
from collections.abc import Sequence
from typing import Any

from episodes.errors import DataError
from episodes.files import display_name
from episodes.paths import PathList

MOST_BYTES = 512 << 20


def open_picture(item: Any) -> Any:
    """An upright RGB Pillow image of the file at a path, read and decoded as everywhere (`episodes.decoding`).

    Raises:
        DataError: it cannot be read, or the item is no path.
    """
    from episodes.decoding import UnreadableImage, decode, read_bytes

    if not isinstance(item, str | os.PathLike):
        raise DataError(
            f"{item!r}: is not a path; to_taskset and to_meta_dataset take load= for pictures that are not files"
        )
    try:
        return decode(read_bytes(item))
    except UnreadableImage as error:
        shown = display_name(os.fspath(item))
        raise DataError(f"{shown}: cannot be read as a picture ({error}). Mend it, or remove it") from error


class KeptPictures:
    """The picture of a row, decoded when it is first asked for; the caller may change what it gets."""

    def __init__(self, items: Sequence[Any], most: int = MOST_BYTES) -> None:
        """Begin with none.

        Args:
            items: (n,) paths.
            most: bytes of decoded pictures that may stay; once they are full, others are decoded whenever they are asked for.
        """
        self._items, self._most, self._left = items, most, most
        self._kept: dict[int, Any] = {}

    def __call__(self, row: int) -> Any:
        """See `open_picture`."""
        kept = self._kept.get(row)
        if kept is None:
            kept = open_picture(self._items.string(row) if isinstance(self._items, PathList) else self._items[row])
            size = 3 * kept.width * kept.height
            if size > self._left:
                return kept
            self._left -= size
            self._kept[row] = kept
        return kept.copy()

    def __getstate__(self) -> dict[str, Any]:
        # What is kept is not worth sending to another process.
        return {**self.__dict__, "_kept": {}, "_left": self._most}
