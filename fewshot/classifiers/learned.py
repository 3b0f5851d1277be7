"""A few steps of expectation maximisation whose temperatures and balance weights were learned on episodes of training classes.

After Zhou et al., UNEM: UNrolled Generalized EM for Transductive Few-Shot Learning, 2024, arXiv 2412.16739: each step has settings of
its own, learned by gradient descent through all of them. One of a step's settings weighs how common each class seems to be, so what is
learned on query sets of every balance assumes none. `fewshot.classifiers.learning` learns them.

Shapes: T tasks, S support pictures, Q query pictures, N ways, D embedding width, L steps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from episodes.errors import DataError
from episodes.files import atomic_write, read_text
from fewshot.classifiers import maths
from fewshot.classifiers.auto import Auto
from fewshot.classifiers.tasks import TaskBatch
from fewshot.registry import CLASSIFIERS

SHIPPED = Path(__file__).with_suffix(".json")
SETTINGS = ("temperature", "balance", "trust", "scatter", "evidence")
_RAREST = 1e-3  # added to shares of classes: a class that no query seems to belong to may still get some
_CONTRAST = 0.25  # about what tasks of 5 ways have
_LEAST_CONTRAST = 0.02
_MOST = 20.0  # no learned number comes near; a file that says more is damaged


@dataclass(frozen=True, eq=False)
class Steps:
    """The settings of every step: each is a + b log K + c z for K support pictures a class and a task of contrast z.

    The contrast is how much closer a query's closest class is than the average one: tasks where classes are hard to tell apart take
    other steps than those where they are not.

    temperature: logarithm of the factor on squared distances, features having a mean square of 1 around the task's mean.
    balance: factor on the logarithm of each class's share of the queries; 0 takes no notice, 1 is the full prior of a mixture.
    trust: logarithm of what a query counts beside a support picture in a class's mean.
    scatter: share of the distance that a class's mean keeps from its own queries by being the mean of few that is taken back.
    evidence: factor on what `auto` says of each query alone, which keeps what five pictures a class tell.

    Attributes:
        values: (L, 5, 3) numbers a, b and c of the five settings.
        learned_on: what they were learned on, for people.
    """

    values: Tensor
    learned_on: str

    def write(self, path: Path) -> None:
        """Write them as JSON, into place whole."""
        steps = [dict(zip(SETTINGS, step, strict=True)) for step in self.values.double().round(decimals=4).tolist()]
        with atomic_write(path) as file:
            json.dump({"learned_on": self.learned_on, "steps": steps}, file, indent=1)
            file.write("\n")

    @classmethod
    def read(cls, path: Path) -> Steps:
        """Read what `write` wrote.

        Raises:
            DataError: there is no such file, or it says something else.
        """
        try:
            document: Any = json.loads(read_text(path))
            values = torch.tensor(
                [[step[name] for name in SETTINGS] for step in document["steps"]], dtype=torch.float32
            )
            if values.shape[1:] == (len(SETTINGS), 2):  # learned before steps depended on the contrast
                values = torch.nn.functional.pad(values, (0, 1))
            sound = values.ndim == 3 and values.shape[1:] == (len(SETTINGS), 3) and bool(values.abs().max() < _MOST)
            learned_on = str(document["learned_on"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read as steps of 'fewshot learn' ({error}); learn them anew") from error
        if not sound:
            raise DataError(f"{path}: holds numbers that no learning gives; learn them anew with 'fewshot learn'")
        return cls(values, learned_on)


@cache
def shipped_steps() -> Steps:
    """Those that come with the package, for encoders that none were learned for."""
    return Steps.read(SHIPPED)


@CLASSIFIERS.register("learned", "transductive: EM with learned steps, any balance", position=15)
@dataclass(frozen=True, eq=False)
class Learned:
    """Assigns queries to classes and moves the classes, L times; score = ``scale`` x the last step's log-probability."""

    steps: Steps = field(default_factory=shipped_steps)
    scale: float = 1.0
    transductive: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...]] = ("steps",)

    def __call__(self, tasks: TaskBatch) -> Tensor:
        """See ``Classifier``."""
        if tasks.query.shape[1] == 0:
            return tasks.no_answers()
        return maths.log_probabilities(self.scale * assign(tasks, self.steps.values))


def assign(tasks: TaskBatch, values: Tensor) -> Tensor:
    """The last step's scores (T, Q, N), under the settings (L, 5, 3) of `Steps.values`; differentiable by them."""
    alone = Auto()(tasks).to(tasks.query)
    tasks = whitened(tasks)
    hot, asked, query = tasks.membership, tasks.asked, tasks.query
    shots = hot.sum(1)  # (T, N)
    settings = values.to(query)
    log_shots = (shots.sum(1, keepdim=True) / tasks.n_way).log()  # (T, 1)
    sums, weight, means = tasks.class_sums, shots, tasks.class_means
    traits = torch.stack([torch.ones_like(log_shots), log_shots, contrast(query, means, asked)], -1)  # (T, 1, 3)
    scores, share = query.new_zeros(()), None
    for step in settings.unbind(0):
        of_task = (step * traits).sum(-1, keepdim=True).unbind(1)  # five (T, 1)
        temperature, balance, trust, scatter, evidence = (each.unsqueeze(-1) for each in of_task)
        distances = maths.squared_distances(query, means)
        scores = -0.5 * temperature.exp() * (distances - scatter * _noise(distances, asked) / weight.unsqueeze(1))
        scores = scores + evidence * alone
        if share is not None:
            scores = scores + balance * (share + _RAREST).log()
        assigned = maths.soft_assignments(scores) * asked
        share = assigned.sum(1, keepdim=True) / asked.sum(1, keepdim=True).clamp_min(1)
        trusted = assigned * trust.exp()
        weight = shots + trusted.sum(1)
        means = (sums + trusted.transpose(1, 2).bmm(query)) / weight.unsqueeze(-1)
    return scores


def contrast(query: Tensor, means: Tensor, asked: Tensor) -> Tensor:
    """(T, 1) logarithm of the share by which queries (T, Q, D) are closer to the closest class's mean (T, N, D) than to the average one.

    In squared distances, summed over the queries that are `asked` (T, Q, 1); 0 where the share is a quarter.
    """
    distances = maths.squared_distances(query, means)
    average, closest = distances.mean(-1, keepdim=True) * asked, distances.amin(-1, keepdim=True) * asked
    share = (average - closest).sum(1) / average.sum(1).clamp_min(maths.EPSILON)
    return (share.clamp_min(_LEAST_CONTRAST) / _CONTRAST).log()


def whitened(tasks: TaskBatch) -> TaskBatch:
    """Unit-norm features, moved and scaled so that a task's pictures have mean 0 and mean square 1: one temperature serves all encoders."""
    tasks = tasks.unit()
    known = tasks.known.unsqueeze(-1).to(tasks.query)
    weight, features = torch.cat([known, tasks.asked], 1), torch.cat([tasks.support, tasks.query], 1)
    mean = maths.weighted_means(weight, features)
    spread = maths.weighted_means(weight, (features - mean).square().sum(-1, keepdim=True))  # (T, 1, 1)
    factor = spread.clamp_min(maths.EPSILON).rsqrt()
    return tasks.replaced((tasks.support - mean) * factor, (tasks.query - mean) * factor)


def _noise(distances: Tensor, asked: Tensor) -> Tensor:
    """(T, 1, 1) mean squared distance of the queries from their closest class: what a class of one picture lies off by chance, about."""
    closest = distances.amin(-1, keepdim=True) * asked
    return closest.sum(1, keepdim=True) / asked.sum(1, keepdim=True).clamp_min(1)
