"""Classes of few and of many pictures in one task: what takes back the advantage that many pictures give a class's scores.

T tasks, N ways.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewshot.classifiers import maths
from fewshot.classifiers.tasks import TaskBatch


def shots_weight(tasks: TaskBatch, exponent: float) -> Tensor:
    """(T, N) factors, at most 1, that make classes of unequal shots comparable; exactly 1 in a task of equal shots.

    The mean of k unit vectors whose cosine with each other is r has the norm sqrt(r + (1 - r) / k): the fewer there are, the longer it
    is, and the lower the cosine of a new picture of the class with it, r over that norm. So a class of few shots loses to one of many.
    The factor is that norm squared over r, to the power ``exponent`` (0.5 would take back all of it), over the task's largest; r is the
    task's mean cosine of support pictures of one class. 0.4 was chosen on tin val and omniglot base with ``tiny``, lite0 and lite2.
    """
    shots = tasks.shots
    sums = maths.unit(tasks.support).mul(tasks.known.unsqueeze(-1)).transpose(1, 2).bmm(tasks.membership)  # (T, D, N)
    pairs = (shots * (shots - 1)).sum(1, keepdim=True)
    within = (sums.square().sum(1) - shots).sum(1, keepdim=True) / pairs.clamp_min(1)
    nothing = (sums == 0).all(1).all(1, keepdim=True)  # features of zero tell nothing: no class is at a disadvantage
    within = torch.where(nothing, torch.ones_like(within), within.clamp(1e-3, 1))
    factor = ((within + (1 - within) / shots) / within) ** exponent
    return factor / factor.amax(1, keepdim=True)


def fair(scores: Tensor, tasks: TaskBatch, strength: float) -> Tensor:
    """Scores (T, Q, N) plus ``strength`` times the logarithm of ``shots_weight``; the very same where all shots are equal.

    For scores that are no cosines with a mean, the shortfall of a class of few shots is taken to grow in proportion to that of the
    prototype's cosine. Each classifier's strength was chosen on tin val and omniglot base with ``tiny`` and lite2.
    """
    if not strength or not tasks.unequal_shots:
        return scores
    return scores + strength * shots_weight(tasks, 1.0).log().to(scores).unsqueeze(1)
