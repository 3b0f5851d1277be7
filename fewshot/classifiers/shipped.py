"""Calibrations that come with encoders: measured once, on pictures that the encoders never saw, by `python -m experiments.calibration`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from fewshot.classifiers.confidence import Confidence
from fewshot.classifiers.kinds import Calibration

FILE = Path(__file__).with_name("shipped_calibration.json")


def shipped_calibration(backbone: str) -> dict[str, Calibration]:
    """Those of a backbone's classifiers; empty where none come with it.

    Args:
        backbone: its name.

    Returns:
        Classifier -> calibration, measured with one view a picture.
    """
    known = _read().get(backbone)
    if known is None:
        return {}
    centres = torch.tensor(known["centres"])
    return {
        name: Calibration(tuple(map(Confidence.from_json, parts)), centres)
        for name, parts in known["classifiers"].items()
    }


@lru_cache(maxsize=1)
def _read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return found
