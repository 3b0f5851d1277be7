"""What one kind of pictures says of a classifier's confidence: its temperature, when to answer "unknown", and what that costs.

All three are functions of a task's ways and shots (`Surface`). Temperature scaling: Guo et al. 2017, arXiv 1706.04599.
`fewshot.classifiers.calibrate` measures them, `fewshot.classifiers.kinds` applies them to tasks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from episodes.errors import UsageError
from fewshot.classifiers.surface import Floats, Surface, evaluate_all

#: Shares of foreign pictures whose threshold is kept; others lie between.
RATES = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.98)


@dataclass(frozen=True)
class Confidence:
    """One classifier over one encoder.

    Attributes:
        log_temperature: Logarithm of what divides log-probabilities.
        rates: (R,) shares of foreign pictures that are taken for one of the task's classes, rising.
        thresholds: R of them: log-odds of the calibrated confidence that only that share reaches.
        costs: R of them: log-odds of the share of the task's own pictures that do not reach it.
        ece_before: Expected calibration error without the temperature, the mean over sizes of tasks.
        ece_after: With it.
        new_classes: Whether those errors were measured on other classes than the temperature was fitted on.
        outsiders: Queries of foreign classes behind the thresholds.
        source: Whose pictures it was measured on, in words.
    """

    log_temperature: Surface
    rates: tuple[float, ...]
    thresholds: tuple[Surface, ...]
    costs: tuple[Surface, ...]
    ece_before: float
    ece_after: float
    new_classes: bool
    outsiders: int
    source: str

    def check_rate(self, rate: float) -> None:
        """Raise `UsageError` where validation cannot tell a threshold for a share `rate` of foreign pictures."""
        if not self.rates[0] <= rate <= self.rates[-1]:
            raise UsageError(
                f"reject is {rate}: expected {self.rates[0]} to {self.rates[-1]}, the shares of foreign pictures that validation tells"
            )

    def threshold(self, rate: float, ways: npt.ArrayLike, shots: npt.ArrayLike) -> Floats:
        """Log-odds (T,) of the confidence that only a share `rate` of pictures of foreign classes reaches.

        Raises:
            UsageError: a share that validation cannot tell.
        """
        return self._between(self.thresholds, rate, ways, shots)

    def cost(self, rate: float, ways: npt.ArrayLike, shots: npt.ArrayLike) -> Floats:
        """Log-odds (T,) of the share of pictures of the task's own classes that do not reach it; NaN if an older version made this.

        Raises:
            UsageError: a share that validation cannot tell.
        """
        return self._between(self.costs, rate, ways, shots) if self.costs else np.full(np.shape(ways), np.nan)

    def _between(self, surfaces: tuple[Surface, ...], rate: float, ways: npt.ArrayLike, shots: npt.ArrayLike) -> Floats:
        """Surfaces at `rate`, between the two nearest of `rates`, over log-odds."""
        self.check_rate(rate)
        values = evaluate_all(surfaces, ways, shots)  # (R, T)
        # Fitted one by one, they may cross where sizes are far from any that were seen; their order is known.
        values = -np.sort(-values, axis=0)
        above = min(int(np.searchsorted(self.rates, rate)), len(self.rates) - 1)
        below = max(above - 1, 0)
        low, high = log_odds(self.rates[below]), log_odds(self.rates[above])
        part = 1.0 if above == below else (log_odds(rate) - low) / (high - low)
        mixed: Floats = (1 - part) * values[below] + part * values[above]
        return mixed

    def describe(self) -> str:
        """What is known of the calibration, in words."""
        classes = "on other classes of these" if self.new_classes else "on these same classes"
        return (
            f"calibrated on {self.source}: expected calibration error {100 * self.ece_before:.1f} % as it is, "
            f"{100 * self.ece_after:.1f} % with a temperature by ways and shots, {classes}"
        )

    def to_json(self) -> dict[str, Any]:
        """For config.json; `from_json` reads it."""
        return {
            "temperature": _rounded(self.log_temperature),
            "ways": list(self.log_temperature.ways),
            "shots": list(self.log_temperature.shots),
            "rates": list(self.rates),
            "thresholds": [_rounded(surface) for surface in self.thresholds],
            "costs": [_rounded(surface) for surface in self.costs],
            **{key: getattr(self, key) for key in _PLAIN},
        }

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Confidence:
        """Read what `to_json` gave, or what checkpoints of older versions hold: one temperature and quantiles for all sizes."""
        if "outsider_confidence" in known:
            return _of_one_temperature(known)

        def surface(coefficients: Any) -> Surface:
            return Surface(tuple(coefficients), tuple(known["ways"]), tuple(known["shots"]))

        return cls(
            surface(known["temperature"]),
            tuple(known["rates"]),
            tuple(map(surface, known["thresholds"])),
            tuple(map(surface, known["costs"])),
            **{key: known[key] for key in _PLAIN},
        )


_PLAIN = [field.name for field in dataclasses.fields(Confidence)][4:]


def _of_one_temperature(known: Mapping[str, Any]) -> Confidence:
    """What a checkpoint of an older version knows, the same for every size; what rejecting costs it does not."""

    def flat(value: float) -> Surface:
        return Surface((value, 0.0, 0.0, 0.0, 0.0, 0.0), (2.0, 2.0), (1.0, 1.0))

    quantiles = np.asarray(known["outsider_confidence"], dtype=np.float64)
    places = [math.ceil((1 - rate) * (len(quantiles) - 1)) for rate in RATES]
    thresholds = tuple(flat(float(log_odds(quantiles[place]))) for place in places)
    return Confidence(
        flat(math.log(known["temperature"])),
        RATES,
        thresholds,
        (),
        known["ece_before"],
        known["ece_after"],
        False,
        known.get("outsiders", 0),
        "validation episodes",
    )


def log_odds(share: npt.ArrayLike) -> Any:
    """log(p / (1 - p)) of shares, kept away from 0 and 1 by 1e-7."""
    share = np.clip(np.asarray(share, dtype=np.float64), 1e-7, 1 - 1e-7)
    return np.log(share) - np.log1p(-share)


def _rounded(surface: Surface) -> list[float]:
    return [float(f"{value:.6g}") for value in surface.coefficients]
