"""Every row of bad input to the page, really sent; afterwards it still works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.conftest import Visitor
from tests.bad_input.browsing import ASKS, Ask


@pytest.mark.parametrize("ask", ASKS, ids=[ask.what for ask in ASKS])
def test_a_kind_gets_what_the_table_says(ask: Ask, visitor: Visitor, tmp_path: Path) -> None:
    visitor.edit("clear")
    visitor.edit("add-class", name="oak")
    status, answer, _ = ask.sends(visitor, tmp_path)
    assert (status, ask.says in answer.decode()) == (ask.status, True), answer
    assert str(visitor.folder).encode() not in answer
    assert [entry["name"] for entry in visitor.edit("remove", ids=[])["classes"]] == ["oak"]
    assert list(tmp_path.iterdir()) == []
