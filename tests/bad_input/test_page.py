"""The page says what the tests prove."""

from tests.bad_input.page import PAGE, page


def test_the_page_is_made_of_the_tables() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.bad_input.page"
