"""What changes over a run, as pure functions of the share of the budget that is spent.

The budget is epochs or minutes. A run in minutes shares its machine and may be paused: it re-plans at every
step, so that the last step still falls on the deadline and the learning rate on zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Progressive resolution (share of the budget before which a size applies, size): small pictures have few
# tokens, and most of what is learned there holds at the final size.
STAGES = ((0.48, 32), (0.75, 40), (0.92, 48), (1.0, 64))
WARM_UP = 0.03
MIX_UNTIL = 0.88


def picture_size(share: float) -> int:
    """Side in pixels at which a run trains after ``share`` of its budget."""
    return next((size for until, size in STAGES if share < until), STAGES[-1][1])


def rate(share: float) -> float:
    """Learning rate as a factor of its peak: linear warm-up, then half a cosine to a hundredth."""
    if share < WARM_UP:
        return max(share, 1e-4) / WARM_UP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def mix_probability(share: float, usual: float) -> float:
    """How often mixup or cutmix is applied: rarely at the end, where pictures look as they will in use."""
    return usual if share < MIX_UNTIL else 0.2 * usual


@dataclass
class Budget:
    """Share of the budget spent so far; advanced once a step."""

    share: float = 0.0
    recent: list[float] = field(default_factory=list)  # seconds of the last steps

    def by_steps(self, total: int) -> None:
        """Go on by one of `total` steps."""
        self.share = min(1.0, self.share + 1 / total)

    def by_clock(self, seconds: float, left: float) -> None:
        """One step took ``seconds``; ``left`` seconds remain until the deadline.

        A step counts as the median of the last ones, so that neither a compilation nor a pause spends the
        budget.
        """
        self.recent = [*self.recent[-20:], seconds]
        if len(self.recent) < 4:
            return
        typical = sorted(self.recent)[len(self.recent) // 2]
        self.share = 1.0 if left <= 0 else min(1.0, self.share + (1 - self.share) * typical / (left + typical))
