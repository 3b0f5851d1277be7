"""When to answer "unknown": the confidence that an answer needs, task by task, and what demanding it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from episodes import Episode
from episodes.episode import stack_episodes
from episodes.errors import UsageError
from fewshot.classifiers.kinds import Calibration, TaskTraits
from fewshot.classifiers.surface import Floats
from fewshot.embedding.embed import Embeddings

_AT_A_TIME = 256  # tasks


@dataclass(frozen=True, eq=False)
class Rejection:
    """Thresholds under which only a share of pictures of foreign classes is taken for one of their task's classes.

    Attributes:
        rate: the share.
        thresholds: (T,) the confidence that an answer must have.
        costs: (T,) the share of pictures of a task's own classes that do not reach it on validation; NaN where that is not known.
    """

    rate: float
    thresholds: Floats
    costs: Floats

    @classmethod
    def of(
        cls, rate: float, calibration: Calibration, episodes: Sequence[Episode], embeddings: Embeddings
    ) -> Rejection:
        """Look the thresholds of T tasks up.

        Args:
            rate: the share.
            calibration: of the classifier that named them.
            episodes: the tasks.
            embeddings: of their table's rows.

        Raises:
            UsageError: a share that validation cannot tell.
        """
        traits = traits_of(calibration, episodes, embeddings)
        return cls(rate, calibration.threshold(rate, traits), calibration.cost(rate, traits))

    def describe(self, episode: npt.NDArray[np.int64]) -> str:
        """Thresholds and cost in words, for queries (M,) of these tasks."""
        low, high = self.thresholds.min(), self.thresholds.max()
        between = f"{low:.4f}" if high - low < 5e-5 else f"{low:.4f} to {high:.4f}"
        text = f"below a confidence of {between}; {100 * self.rate:g} % of pictures of classes that a task has not got reach it"
        cost = float(self.costs[episode].mean())
        return text if math.isnan(cost) else f"{text}, and {100 * cost:.0f} % of pictures of its own classes do not"


def known_confidence(calibration: Calibration | None, classifier: str) -> Calibration:
    """The calibration that rejecting cannot do without.

    Raises:
        UsageError: there is none.
    """
    if calibration is None:
        raise UsageError(
            f"--reject needs to know how sure {classifier} is of foreign pictures: give a --checkpoint, whose training measured that, or "
            "one of the backbones tiny, lite0 and lite2, and an inductive classifier"
        )
    return calibration


def traits_of(calibration: Calibration, episodes: Sequence[Episode], embeddings: Embeddings) -> TaskTraits:
    """What the calibration of T tasks depends on."""
    likeness, readable = calibration.likeness(embeddings.features).numpy(), embeddings.readable.numpy()
    parts = [
        calibration.traits(stack_episodes(episodes[start : start + _AT_A_TIME]), likeness, readable)
        for start in range(0, len(episodes), _AT_A_TIME)
    ]
    return TaskTraits(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("ways", "shots", "kinds")))
