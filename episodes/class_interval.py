"""How far a mean accuracy may lie from that on new classes: a jackknife over classes on every query's answer.

Episodes drawn from the same few classes repeat those classes: their spread says how well the mean over *this pool* is known, not how
other classes would fare (closed-pool intervals mislead: Basu, Massiceti and Hu, 2024, arXiv 2409.02850). There the classes are the
sample, and the mean over N-way episodes is a U-statistic of degree N of them: a class's influence is what changes when every
episode with it is left out (delete-one jackknife: Arvesen 1969, Ann. Math. Statist. 40). Where most episodes hold most classes, too
little is left. There the answers tell more: a wrong one names two classes, the true one and the one that was answered, so the mean
loss is a mean over pairs of classes too, and a class's pairs are left out.

M answers, T episodes of N classes, K classes of all episodes together.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from episodes.episode import UNKNOWN
from episodes.statistics import mean_variance, student_t_975

Array = np.ndarray[Any, np.dtype[Any]]
_FEWEST = 3  # classes: of two, leaving one out leaves no pair


@dataclass(frozen=True, eq=False)
class Losses:
    """What is lost in every query of T episodes, and to which classes it is owed.

    Attributes:
        episode: (M,) number of the episode.
        truth: (M,) id of the true class, -1 = unknown (left out), -2 = none of the episode's classes.
        parts: (sign, (M,) ids of the answers) of one method, or of two whose difference is asked for; -1 = no answer.
        classes: (T, N) ids of the episodes' classes, -1 = padding; None takes those that truths and answers name.
    """

    episode: Array
    truth: Array
    parts: tuple[tuple[int, Array], ...]
    classes: Array | None = None


def accuracy_for_new_classes(mean: float, half_width: float) -> tuple[float, float]:
    """The 95 % interval (low, high) of an accuracy, from that of the mean loss: of the log-odds, where it is symmetric.

    Near 100 % a few hard classes more or fewer move the mean, and its spread with it: there mean ± half_width misses too often above.
    """
    if not half_width > 0 or not 0 < mean < 1:
        return mean - half_width, mean + half_width  # NaN stays NaN
    odds, step = math.log(mean / (1 - mean)), half_width / (mean * (1 - mean))
    return _share(odds - step), _share(odds + step)


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))


def new_classes_ci95(losses: Losses) -> float:
    """Half-width of the 95 % interval of the mean loss over episodes of new classes and new pictures.

    NaN where fewer than three classes, or fewer than two episodes, are known.
    """
    known = losses.truth != UNKNOWN
    episodes, episode = np.unique(losses.episode[known], return_inverse=True)
    if len(episodes) < 2:
        return math.nan
    answers = _Answers(
        episode,
        losses.truth[known],
        tuple((sign, predicted[known]) for sign, predicted in losses.parts),
        1 / (np.bincount(episode)[episode] * len(episodes)),
        len(episodes),
    )
    members = _Members.of(answers, None if losses.classes is None else losses.classes[episodes])
    if members.n_classes < _FEWEST:
        return math.nan
    of_classes = _variance_over_classes(answers, members)
    of_episodes = mean_variance(answers.by_episode * answers.n_episodes)
    total = of_classes + of_episodes
    if not total > 0:
        return total
    # Welch and Satterthwaite: the classes are few, the episodes are many.
    freedom = total**2 / (of_classes**2 / (members.n_classes - 1) + of_episodes**2 / (len(episodes) - 1))
    return student_t_975(max(1, math.floor(freedom + 1e-9))) * math.sqrt(total)


@dataclass(frozen=True, eq=False)
class _Answers:
    """Those whose truth is known, episodes counted from 0 without gaps; episodes weigh the same, and so do the queries of one."""

    episode: Array
    truth: Array
    parts: tuple[tuple[int, Array], ...]
    weight: Array  # (M,) of the query in the mean loss
    n_episodes: int

    @property
    def by_episode(self) -> Array:
        """(T,) what each episode adds to the mean loss."""
        lost = sum(sign * self.weight * (predicted != self.truth) for sign, predicted in self.parts)
        return np.bincount(self.episode, lost, self.n_episodes)


@dataclass(frozen=True, eq=False)
class _Members:
    """Every class of every episode, in order: (K,) `code` = episode x `base` + class id; both counted without gaps, too."""

    code: Array
    base: int
    episode: Array
    owner: Array

    @property
    def n_classes(self) -> int:
        return int(self.owner.max(initial=-1)) + 1

    @classmethod
    def of(cls, answers: _Answers, classes: Array | None) -> "_Members":
        named = [(answers.episode, ids) for ids in (answers.truth, *(predicted for _, predicted in answers.parts))]
        if classes is not None:
            named.append((np.repeat(np.arange(len(classes)), classes.shape[1]), classes.reshape(-1)))
        base = 1 + max(int(ids.max(initial=0)) for _, ids in named)
        code = np.unique(np.concatenate([(of * base + ids)[ids >= 0] for of, ids in named]))
        episode, ids = np.divmod(code, base)
        return cls(code, base, episode, np.unique(ids, return_inverse=True)[1])

    def sums(self, episode: Array, ids: Array, values: Array) -> Array:
        """(K,) sums of (M,) values over the classes that are named with them; what names none is left out."""
        there = ids >= 0
        where = np.searchsorted(self.code, (episode * self.base + ids)[there])
        return np.bincount(where, values[there], len(self.code))


def _variance_over_classes(answers: _Answers, members: _Members) -> float:
    """The jackknife's, without what the episodes' own chance adds to it; never below 0."""
    count, n, owner = answers.n_episodes, members.n_classes, members.owner
    mean = float(answers.by_episode.sum())
    few = 2 * len(owner) > count * n  # most episodes hold most classes
    loss, weight = _of_pairs(answers, members) if few else _of_episodes(answers, members)
    left = 1 - np.bincount(owner, weight, n)
    if float(left.min()) <= 0:
        return math.nan
    # What each episode adds to each class's influence, T times; an episode without the class adds nothing.
    share = (loss - mean * weight) / left[owner] * count
    influence = np.bincount(owner, share, n) / count
    chance = (np.bincount(owner, share**2, n) / count - influence**2) / (count - 1)
    spread = (influence - influence.mean()) ** 2
    return max(0.0, (n - 1) / n * float((spread - chance).sum()))


def _of_episodes(answers: _Answers, members: _Members) -> tuple[Array, Array]:
    """(K,) loss and weight that go with a class: the whole episode's."""
    return answers.by_episode[members.episode], np.full(len(members.owner), 1 / answers.n_episodes)


def _of_pairs(answers: _Answers, members: _Members) -> tuple[Array, Array]:
    """(K,) loss and weight that go with a class: of the pairs (true class, other class) that it is in.

    A wrong answer is one pair's. A query without an answer is shared by all pairs of its true class; where that is none of the
    episode's, there are no pairs, and the loss goes with the class that was answered.
    """
    episode, truth = answers.episode, answers.truth
    ways = np.maximum(np.bincount(members.episode, minlength=answers.n_episodes), 1)
    others = np.maximum(ways - 1, 1)[members.episode]

    def shared(own: Array) -> Array:
        """What a query of each other class of the episode has with this one, where all pairs count the same."""
        total = np.bincount(members.episode, own, answers.n_episodes)
        return np.asarray((total[members.episode] - own) / others)

    outside = np.bincount(episode, answers.weight * (truth < 0), answers.n_episodes) / ways
    own = members.sums(episode, truth, answers.weight)
    weight, loss = own + shared(own) + outside[members.episode], np.zeros(len(own))
    for sign, predicted in answers.parts:
        lost = sign * answers.weight * (predicted != truth)
        silent = members.sums(episode, truth, lost * (predicted < 0))
        loss += members.sums(episode, truth, lost) + members.sums(episode, predicted, lost) + shared(silent)
    return loss, weight
