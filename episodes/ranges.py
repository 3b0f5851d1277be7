"""Numbers that may be ranges, as the command line and the samplers take them."""

import operator

from episodes.errors import UsageError

IntRange = int | str | tuple[int, int]


def parse_range(value: IntRange, name: str) -> int | tuple[int, int]:
    """5, "5", "5-20" or (5, 20) -> 5 or (5, 20), both ends included.

    Raises:
        UsageError: it is none of these, or the range is empty or below 1.
    """
    given = value.split("-") if isinstance(value, str) else [value] if not isinstance(value, (tuple, list)) else value
    try:
        parts = [int(part) if isinstance(part, str) else operator.index(part) for part in given]
    except (TypeError, ValueError):
        parts = []
    if len(parts) not in (1, 2) or parts[0] < 1 or parts[-1] < parts[0]:
        raise UsageError(f"{name} is {value!r}: expected a whole number such as 5, or a range such as 5-20")
    return parts[0] if len(parts) == 1 or parts[0] == parts[1] else (parts[0], parts[1])


def upper(value: int | tuple[int, int]) -> int:
    """The upper end of a number or range."""
    return value if isinstance(value, int) else value[1]


def range_text(value: int | tuple[int, int]) -> str:
    """What :func:`parse_range` reads back: "5" or "5-20"."""
    return str(value) if isinstance(value, int) else f"{value[0]}-{value[1]}"
