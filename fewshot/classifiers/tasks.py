"""A batch of few-shot tasks: what every few-shot classifier is called with, and what several of them derive from it.

`FeatureScorer` makes one of an `EpisodeBatch` and stored embeddings; a classifier's formula reads it.
Shapes: T tasks, S support pictures, Q query pictures, N ways, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fewshot.classifiers import maths


@dataclass(frozen=True, eq=False)
class TaskBatch:
    """Features of T tasks, padded to one shape. Padded rows may hold any finite value: they must not change any answer.

    Features are held in the precision that is computed in: float64 stays, everything else becomes float32.

    Attributes:
        support: (T, S, D) features of the support pictures.
        support_labels: (T, S) in [0, N), -1 for padding.
        query: (T, Q, D) features of the query pictures.
        query_mask: (T, Q) bool, False for padding.
        n_way: N. Every class needs at least one support picture.
        class_text: (T, N, D) embedded class names, or None.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_mask: Tensor
    n_way: int
    class_text: Tensor | None = None

    def __post_init__(self) -> None:
        """Take the features in the working precision.

        Raises:
            ValueError: the shapes do not fit each other.
        """
        fitting = (
            self.support.ndim == self.query.ndim == 3
            and self.support.shape[:2] == self.support_labels.shape
            and self.query.shape[:2] == self.query_mask.shape
            and self.support.shape[::2] == self.query.shape[::2]
        )
        if not fitting:
            found = [tuple(x.shape) for x in (self.support, self.support_labels, self.query, self.query_mask)]
            raise ValueError(f"a batch of tasks takes (T, S, D), (T, S), (T, Q, D) and (T, Q), found {found}")
        object.__setattr__(self, "support", maths.working(self.support))
        object.__setattr__(self, "query", maths.working(self.query))

    @property
    def known(self) -> Tensor:
        """(T, S) bool: which support rows are pictures, not padding."""
        return self.support_labels >= 0

    @property
    def asked(self) -> Tensor:
        """(T, Q, 1) the query mask as numbers, to multiply query features or assignments with."""
        return self.query_mask.unsqueeze(-1).to(self.query.dtype)

    @cached_property
    def _members(self) -> tuple[Tensor, Tensor]:
        """Membership and shots, which are counted but once."""
        return maths.membership(self.support_labels, self.n_way, self.support)

    @property
    def membership(self) -> Tensor:
        """(T, S, N) one-hot labels in the features' type; a padded row is all zero.

        Raises:
            DataError: a class has no support picture.
        """
        return self._members[0]

    @property
    def shots(self) -> Tensor:
        """(T, N) support pictures of each class."""
        return self._members[1]

    @property
    def unequal_shots(self) -> bool:
        """Whether classes of some task have different numbers of support pictures."""
        shots = self.shots
        return bool((shots != shots[:, :1]).any())

    @property
    def class_means(self) -> Tensor:
        """(T, N, D) plain mean of each class's support features."""
        return maths.weighted_means(self.membership, self.support)

    @property
    def class_sums(self) -> Tensor:
        """(T, N, D) sum of each class's support features."""
        return self.membership.transpose(1, 2).bmm(self.support)

    @property
    def prototypes(self) -> Tensor:
        """(T, N, D) unit-norm mean of each class's unit-norm support features."""
        return maths.prototypes(self.support, self.membership)

    def replaced(self, support: Tensor, query: Tensor) -> TaskBatch:
        """The same tasks with other features of the same shapes and type."""
        made = TaskBatch(support, self.support_labels, query, self.query_mask, self.n_way, self.class_text)
        if "_members" in self.__dict__:
            made.__dict__["_members"] = self._members
        return made

    def no_answers(self) -> Tensor:
        """Empty (T, 0, N) scores, for formulas that fail on tasks without queries."""
        return self.query.new_zeros((len(self.query), 0, self.n_way), dtype=torch.float32)

    def with_queries(self, query: Tensor) -> TaskBatch:
        """The same support with other queries (T, Q', D), none of which is padding."""
        everyone = query.new_ones(query.shape[:2], dtype=torch.bool)
        made = TaskBatch(self.support, self.support_labels, query, everyone, self.n_way, self.class_text)
        if "_members" in self.__dict__:
            made.__dict__["_members"] = self._members
        return made

    def unit(self) -> TaskBatch:
        """The same tasks with features of unit norm."""
        return self.replaced(maths.unit(self.support), maths.unit(self.query))

    def centred(self) -> TaskBatch:
        """The same tasks with unit-norm features after subtracting the mean over all of a task's pictures."""
        unit = self.unit()
        return unit.replaced(*maths.centre_on_task(unit.support, unit.query, self.known, self.query_mask))
