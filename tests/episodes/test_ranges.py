"""Numbers and ranges as the command line and programs give them."""

from __future__ import annotations

import numpy as np
import pytest

from episodes.errors import UsageError
from episodes.ranges import parse_range, range_text, upper


@pytest.mark.parametrize(
    ("given", "expected"),
    [(5, 5), ("5", 5), ("5-20", (5, 20)), ((5, 20), (5, 20)), ([5, 20], (5, 20)), ("7-7", 7), (np.int64(3), 3)],
)
def test_numbers_and_ranges(given: object, expected: object) -> None:
    found = parse_range(given, "ways")  # type: ignore[arg-type]
    assert found == expected and type(upper(found)) is int
    assert parse_range(range_text(found), "ways") == expected


@pytest.mark.parametrize("given", ["", "few", "0", "5-2", "1-2-3", "-3", 0, 5.5, None, (), (1, 2, 3), "5.5"])
def test_what_is_neither_is_refused(given: object) -> None:
    with pytest.raises(UsageError, match="a range such as 5-20"):
        parse_range(given, "ways")  # type: ignore[arg-type]
