"""The page of claims: what a figure's bar says of it, and that the page keeps what is not measured anew."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from episodes.errors import UsageError
from experiments.claims.base import Claim, Data, Row
from experiments.claims.confidence import Answered, own_rows
from experiments.claims.estimates import rows_of
from experiments.claims.intervals import simulation
from experiments.claims.page import page_of, section, sections_of
from experiments.claims.runner import claims, measure_claims


def claim(name: str, *rows: Row) -> Claim:
    made = types.SimpleNamespace(NAME=name, CLAIM=f"{name} is what is claimed.", measure=None, calls=0)

    def measure(data: Data) -> Iterable[Row]:
        made.calls += 1
        yield from rows

    made.measure = measure
    return made  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("measured", "low", "high", "missed"),
    [(95, 92, 98, 0), (92, 92, 98, 0), (91, 92, 98, 1), (99.5, 92, 98, 1.5), (-4, -3, 3, 1), (7, -math.inf, 5, 2)],
)
def test_a_row_says_itself_whether_it_passed(measured: float, low: float, high: float, missed: float) -> None:
    row = Row("coverage", "a simulation", measured, low=low, high=high)
    assert row.has_bar and row.missed_by == pytest.approx(missed) and row.passed == (missed == 0)


def test_what_could_not_be_measured_has_not_passed() -> None:
    assert not Row("x", "y", math.nan, low=0).passed
    assert not Row("x", "y", 3.0).has_bar


def test_the_page_tells_missed_bars_first(tmp_path: Path) -> None:
    good = claim("Good", Row("coverage", "tin novel", 95.04, ci95=1.2, nominal=95, low=92, high=98))
    bad = claim("Bad", Row("bias", "grocery", -4.26, low=-3, high=3, unit="points"), Row("told", "pacs", 3))
    page = tmp_path / "docs" / "claims.md"
    text = measure_claims(tmp_path, page=page, known={"a": good, "b": bad}, say=lambda line: None)
    assert page.read_text() == text
    head, _, rest = text.partition("## Good")
    assert "- Bad: bias, grocery: -4.3 (bar -3.0 to +3.0), **missed** by 1.3 points" in head and "Good" not in head
    assert "| on | coverage (nominal 95.0 %; bar 92.0 % to 98.0 %) |" in rest and "| tin novel | 95.0 % ± 1.2 |" in rest
    assert "| on | told |" in rest and "| pacs | 3.0 % |" in rest and "| grocery | **-4.3: missed** |" in rest


def test_figures_of_one_thing_are_a_row_and_equal_columns_one_table() -> None:
    def rows(on: str, first: float, note: str = "") -> list[Row]:
        return [Row("bias", on, first, high=3, unit="points", note=note), Row("cost", on, 1, ci95=0.5)]

    text = section("A claim.", [*rows("a", 1), Row("else", "b", 2), *rows("c", 9, "most on d")], 4000)
    lines = "| on | bias (bar ≤ +3.0) | cost |", "|---|---|---|", "| a | +1.0 | 1.0 % ± 0.5 |"
    assert "\n".join([*lines, "| c | **+9.0: missed** (most on d) | 1.0 % ± 0.5 |"]) in text
    assert "| on | else |\n|---|---|\n| b | 2.0 % |" in text
    assert "- bias, c: +9.0 (bar ≤ +3.0), **missed** by 6.0 points" in text
    page = page_of({"One": text, "Two": section("Another.", [], 2000)})
    assert "The whole page takes 100 minutes" in page and page.count("**missed** by 6.0") == 2


def test_a_claim_measured_anew_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "claims.md"
    first, second = claim("First", Row("x", "y", 1, high=0)), claim("Second", Row("x", "y", 2))
    known = {"one": first, "two": second}
    before = sections_of(measure_claims(tmp_path, page=page, known=known, say=lambda line: None))
    known["two"] = claim("Second", Row("x", "y", 5))
    after = sections_of(measure_claims(tmp_path, only=("two",), page=page, known=known, say=lambda line: None))
    assert list(after) == ["First", "Second"] and after["First"] == before["First"]
    assert "5.0 %" in after["Second"] and "- First: x, y" in page.read_text()
    with pytest.raises(UsageError, match="no claim is called three; there are one, two"):
        measure_claims(tmp_path, only=("three",), page=page, known=known)


def test_a_section_reads_back() -> None:
    text = section("A claim.", [Row("x", "y", 1)], 12)
    assert sections_of(f"# Head\n\n## Bars missed\n\nNone.\n\n## A\n\n{text}\n") == {"A": text}


def test_every_claim_of_the_package_can_be_told_apart() -> None:
    known = claims()
    assert len({each.NAME for each in known.values()}) == len(known)
    for each in known.values():
        assert each.CLAIM.strip() and callable(each.measure) and "\n" not in each.NAME


def test_the_simulation_of_intervals_tells_the_two_apart() -> None:
    rows = {(row.what, row.on): row for row in simulation(12, sizes=(8,))}
    new = rows["coverage, for new classes", "simulation, 24 benchmarks"]
    pool = rows["coverage of new classes by the interval over episodes", "simulation, 24 benchmarks"]
    assert new.measured > 75 and pool.measured < 50 and (new.low, new.high) == (92, 98)
    assert not pool.has_bar


def test_estimates_that_are_off_are_told() -> None:
    good = [(0.01, True), (-0.01, True), (0.0, True), (0.0, False)]
    bias, coverage = rows_of([[(0.1, True)] * 3 + [(0.11, False)]] * 2 + [good] * 5, 5, "x")
    assert bias.measured == pytest.approx(100 * 2 * 0.1025 / 7) and bias.passed
    assert bias.note.startswith("+10.2 ± ") and bias.note.endswith(" on tin/novel")
    assert coverage.measured == 75 and not coverage.passed


def test_halves_are_taken_together_and_told_alone() -> None:
    """Classes of one half are harder than those of the other: confidence is right on the whole, and on neither half."""

    def half(right: int, accepted: int) -> list[Answered]:
        known, foreign = np.arange(100), np.arange(100) < accepted
        return [Answered(np.full(100, 0.7), known < right, known < 20, foreign, 0.25)]

    error, _, alone, least, most, cost = own_rows([half(60, 2), half(80, 6)], "x")
    assert error.measured == pytest.approx(0) and (error.high, error.passed) == (4, True)
    assert alone.measured == pytest.approx(10) and not alone.has_bar
    assert least.measured == most.measured == pytest.approx(4) and (least.low, most.high) == (3, 7)
    assert cost.measured == pytest.approx(5)
    too_sure = list(own_rows([half(60, 9)], "x"))
    assert not too_sure[0].passed and not too_sure[4].passed
