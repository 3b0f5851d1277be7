"""Numbers in sentences."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """1, "task" -> "1 task"; 3, "task" -> "3 tasks".

    Args:
        number: how many.
        one: what one of them is called.
        many: what several are called; ``one`` with an s unless given.
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
