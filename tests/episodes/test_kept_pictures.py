"""Pictures for learn2learn's task sets: read with the same care, and decoded to the same pixels, as everywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes import DataError
from episodes.kept_pictures import open_picture
from tests.bad_input.pictures import DAMAGE, PLACES, Kind

REFUSED = [kind for kind in (*DAMAGE, *PLACES) if kind.has_row and not kind.readable]


@pytest.mark.parametrize("kind", REFUSED, ids=[kind.what for kind in REFUSED])
def test_what_is_no_picture_is_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    """Nothing hangs, fills the memory or runs another program."""
    path = tmp_path / os.fsdecode(kind.name)
    kind.make(path)
    with pytest.raises(DataError) as raised:
        open_picture(path)
    assert str(raised.value).startswith(f"{path}: cannot be read as a picture (") and kind.gets in str(raised.value)


def test_transparency_lies_over_white_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    pixels = np.full((4, 6, 4), 100, dtype=np.uint8)
    pixels[:, 3:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    Image.fromarray(np.full((4, 6), 257 * 100, dtype=np.uint16)).save(tmp_path / "deep.png")
    clear, deep = (np.asarray(open_picture(tmp_path / name)) for name in ("clear.png", "deep.png"))
    assert (clear[:, 3:] == 255).all() and (deep == 100).all() and clear.shape == deep.shape == (4, 6, 3)
