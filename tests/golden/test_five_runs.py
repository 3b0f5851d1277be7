"""The bytes of five runs: the same as before the code was moved, to the bit where the machine is the same.

On another machine, or with another torch, arithmetic rounds otherwise: there names, shapes and columns must be the same, and
numbers close.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden.five_runs import GOLDEN, environment, make


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(make(tmp_path_factory.mktemp("runs"))))
    return found


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def test_every_byte(runs: dict[str, Any], golden: dict[str, Any]) -> None:
    if golden["environment"] != environment():
        pytest.skip(f"bytes are pinned for {golden['environment']}, this is {environment()}")
    assert runs == golden["runs"]


@pytest.mark.parametrize("name", ["tiny.csv", "gda.csv", "reject.csv"])
def test_result_files_name_the_same_pictures(name: str, runs: dict[str, Any], golden: dict[str, Any]) -> None:
    found, expected = runs[name]["rows"], golden["runs"][name]["rows"]
    assert found[0] == ["task", "image", "label", "confidence"]
    assert [row[:2] for row in found] == [row[:2] for row in expected]
    confidences = [float(row[3]) for row in found[1:]]
    assert confidences == pytest.approx([float(row[3]) for row in expected[1:]], abs=0.05)


@pytest.mark.parametrize("name", ["pictures", "hidden"])
def test_checkpoints_hold_the_same_things(name: str, runs: dict[str, Any], golden: dict[str, Any]) -> None:
    found, expected = runs[name], golden["runs"][name]
    for key in ("files", "config keys", "metrics columns"):
        assert found[key] == expected[key], key
    assert list(found["tensors"]) == list(expected["tensors"])
    for tensor, (shape, norm) in expected["tensors"].items():
        assert found["tensors"][tensor][0] == shape, tensor
        assert found["tensors"][tensor][1] == pytest.approx(norm, rel=0.05, abs=1e-3), tensor


def test_an_evaluation_has_the_same_rows(runs: dict[str, Any], golden: dict[str, Any]) -> None:
    found, expected = runs["evaluate"], golden["runs"]["evaluate"]
    for row, other in zip(found, expected, strict=True):
        assert list(row) == list(other)
        assert row == pytest.approx(other, abs=0.05)
