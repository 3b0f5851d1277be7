"""Numbers in sentences."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """1, "task" -> "1 task"; 3, "task" -> "3 tasks".

    Args:
        number: how many.
        one: what one of them is called.
        many: what several are called; ``one`` with an s unless given.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def counted_kind(number: int, kind: str) -> str:
    """3, "folders without pictures" -> "3 folders without pictures"; of one the first word loses its plural, if it has one.

    Args:
        number: how many.
        kind: what they are, in the plural.
    """
    first, _, rest = kind.partition(" ")
    one = {"classes": "class"}.get(first, first.removesuffix("s"))
    return f"{number} {one if number == 1 else first} {rest}".rstrip()
