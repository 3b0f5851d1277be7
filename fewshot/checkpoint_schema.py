"""What a run's ``config.json`` must look like: keys, types and limits, so that an edit that makes no sense ends in one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fewshot.classifiers.surface import TERMS
from fewshot.config import TrainConfig
from fewshot.limits import Count, Within, problem_with

FORMAT = 1
Size = Annotated[float, Within(1)]
Coefficients = list[Annotated[float, Within(-1_000, 1_000)]]


@dataclass(frozen=True)
class Selected:
    """What of the tuning was kept.

    Attributes:
        epoch: The best one; 0 for none.
        alpha: Share of the tuned weights; 0 is the untouched encoder.
        difference: Validation accuracy gained, as a share, on classes that chose nothing.
        difference_ci95: Half-width of its 95 % interval over such classes; None where they are too few.
        about: What that is about; older versions did not say.
        classes: How many classes decided.
    """

    epoch: Annotated[int, Within(0)]
    alpha: Annotated[float, Within(0, 1)]
    difference: float
    difference_ci95: float | None
    about: str = ""
    classes: Annotated[int, Within(0)] = 0


@dataclass(frozen=True)
class Calibration:
    """What validation says of one classifier's confidence; see `fewshot.classifiers.confidence.Confidence`.

    Attributes:
        temperature: Coefficients of its logarithm by ways and shots.
        ways: Fewest and most that they hold for.
        shots: Fewest and most that they hold for.
        rates: (R,) shares of foreign pictures.
        thresholds: R lists of coefficients.
        costs: R lists of coefficients.
        ece_before: Expected calibration error without temperatures.
        ece_after: Expected calibration error with them.
        new_classes: Whether that was measured on other classes.
        outsiders: Queries of foreign classes behind the thresholds.
        source: Whose pictures these were.
    """

    temperature: Coefficients
    ways: tuple[Size, Size]
    shots: tuple[Size, Size]
    rates: list[Annotated[float, Within(0, 1)]]
    thresholds: list[Coefficients]
    costs: list[Coefficients]
    ece_before: float
    ece_after: float
    new_classes: bool
    outsiders: Annotated[int, Within(0)]
    source: str


@dataclass(frozen=True)
class OldCalibration:
    """The same as older versions wrote it: one temperature for tasks of every size.

    Attributes:
        temperature: Divides log-probabilities.
        ece_before: Expected calibration error without it.
        ece_after: Expected calibration error with it.
        outsiders: Queries of foreign classes behind the quantiles.
        outsider_confidence: Quantiles of their confidence, lowest first.
    """

    temperature: Annotated[float, Within(0, 1_000_000, above=True)]
    ece_before: float
    ece_after: float
    outsider_confidence: list[Annotated[float, Within(0, 1.001)]]  # rounding may take a sum of exponentials past 1
    outsiders: Annotated[int, Within(0)] = 0


@dataclass(frozen=True)
class EncoderDescription:
    """What sort of encoder the tensors make.

    Attributes:
        name: The backbone that it was tuned from, or that it came from a weights file.
        kind: Its class.
        blocks: How many.
    """

    name: str
    kind: str
    blocks: Annotated[int, Within(0)]


@dataclass(frozen=True)
class Pictures:
    """How many pictures a run began with.

    Attributes:
        train: In training.
        validation: In validation.
    """

    train: Annotated[int, Within(0)]
    validation: Annotated[int, Within(0)]


@dataclass(frozen=True)
class RunDescription:
    """``config.json``; other keys are for readers and may say anything.

    Attributes:
        format: Of the checkpoint.
        backbone: What was tuned.
        settings: Of the run.
        class_names: (C,) the training classes.
        embed_dim: D.
        image_size: Pictures are (3, image_size, image_size).
        encoder: What else describes it; missing in runs of older versions.
        validation_classes: Names.
        pictures: How many there were.
        selected: None while the run is unfinished.
        calibration: By classifier.
        trunk_blocks: Behind how many blocks training's hidden states came; None for pictures.
        files: File -> SHA-256; missing in runs of older versions.
    """

    format: int
    backbone: str
    settings: TrainConfig
    class_names: list[str]
    embed_dim: Count
    image_size: Count
    encoder: EncoderDescription | None = None
    validation_classes: list[str] = field(default_factory=list)
    pictures: Pictures | None = None
    selected: Selected | None = None
    calibration: dict[str, Any] = field(default_factory=dict)
    trunk_blocks: Annotated[int, Within(0)] | None = None
    files: dict[str, str] = field(default_factory=dict)


def problem_with_config(config: Any) -> str | None:
    """What is wrong with the content of a ``config.json``, in words.

    Args:
        config: What JSON makes of it.

    Returns:
        One sentence that names the key, or None where nothing is wrong.
    """
    if isinstance(config, dict) and config.get("format") != FORMAT and "format" in config:
        return f"format is {str(config['format'])[:60]}: this version reads {FORMAT}"
    problem = problem_with(config, RunDescription, "")
    if problem is not None:
        return problem
    names = config["class_names"]
    if not names or len(set(names)) < len(names):
        return "class_names is empty: expected the training classes" if not names else "class_names holds a name twice"
    for name, known in config.get("calibration", {}).items():
        problem = _problem_with_calibration(known, f"calibration.{name}")
        if problem is not None:
            return problem
    for name, digest in config.get("files", {}).items():
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            return f"files.{name} is {digest[:70]!r}: expected a SHA-256, 64 hexadecimal digits"
    return None


def _problem_with_calibration(known: Any, name: str) -> str | None:
    """What is wrong with one classifier's entry, in words; None where nothing is."""
    old = isinstance(known, dict) and "outsider_confidence" in known
    problem = problem_with(known, OldCalibration if old else Calibration, name)
    if problem is not None:
        return problem
    if old:
        empty = not known["outsider_confidence"]
        return f"{name}.outsider_confidence is empty: expected at least one number" if empty else None
    for key in ("ways", "shots"):
        if known[key][0] > known[key][1]:
            return f"{name}.{key} is {known[key]}: expected the smaller number first"
    rates = known["rates"]
    if not rates or sorted(set(rates)) != rates:
        return f"{name}.rates is {str(rates)[:60]}: expected rising numbers"
    for key in ("thresholds", "costs"):
        if len(known[key]) != len(rates):
            return f"{name}.{key} has {len(known[key])} entries: expected {len(rates)}, as many as rates"
    for key, surfaces in (
        ("temperature", [known["temperature"]]),
        ("thresholds", known["thresholds"]),
        ("costs", known["costs"]),
    ):
        sizes = {len(surfaces[0])} & set(TERMS.values())
        found = next((surface for surface in surfaces if len(surface) not in sizes), None)
        if found is not None:
            return f"{name}.{key} holds {str(found)[:60]}: expected {' or '.join(map(str, TERMS.values()))} coefficients, as many in each"
    return None
