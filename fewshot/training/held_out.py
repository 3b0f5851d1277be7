"""Which classes a run learns from and which it is validated on, and what a verdict on the latter is about."""

from __future__ import annotations

import math
from dataclasses import dataclass

from episodes import ImageTable
from episodes.counter_random import random_bits
from episodes.errors import DataError
from episodes.wording import counted

NEW_CLASSES, THESE_CLASSES = "new classes of this kind", "these classes"
FEWEST = 4  # training classes of which some are held out
MOST = 20  # held out of a folder of fewer than 200: enough to see a gain of a point
_DECIDING = 3  # classes below which nothing is known of new ones


@dataclass(frozen=True, eq=False)
class Split:
    """Training and validation tables.

    Attributes:
        train: What is learned from.
        validation: What it is measured on.
        note: A sentence for the user on how they came about.
        about: What validation can say something of: `NEW_CLASSES` or `THESE_CLASSES`.
    """

    train: ImageTable
    validation: ImageTable
    note: str
    about: str = NEW_CLASSES


def split_validation(table: ImageTable, seed: int, shots: int = 1, *, at_least: int = 0, leave: int = 2) -> Split:
    """Hold seeded classes out: a third, at most 20 or a tenth, at least three as far as enough are left; where none can be, pictures.

    Args:
        table: the training folder.
        seed: of the choice.
        shots: support pictures a class in validation.
        at_least: classes that validation was asked to have.
        leave: classes that an episode of the training needs.

    Raises:
        DataError: there is nothing to hold out.
    """
    classes = len(table.class_names)
    held = min(max(_DECIDING, min(MOST, classes // 3), math.ceil(classes / 10), at_least), classes - leave)
    if classes < FEWEST or held < 2:
        return _hold_pictures_out(table, seed, shots)
    order = keyed_order(classes, seed, "validation classes")
    note = f"{held} of {classes} classes held out for validation (give --val_data to choose them yourself)"
    if held < _DECIDING:
        note += f"; that is too few to tell what tuning does to new classes, so the untouched encoder will be kept: it takes {_DECIDING}"
    return Split(table.select_classes(sorted(order[held:])), table.select_classes(sorted(order[:held])), note)


def split_of(train: ImageTable, validation: ImageTable, where: object) -> Split:
    """Training classes and the validation classes of a folder `where`, which may be the same ones."""
    same = set(validation.class_names) <= set(train.class_names)
    note = f"validation on {len(validation.class_names)} classes of {where}"
    return Split(train, validation, note, THESE_CLASSES if same else NEW_CLASSES)


def _hold_pictures_out(table: ImageTable, seed: int, shots: int) -> Split:
    """A fifth of each class's pictures."""
    classes = len(table.class_names)
    rows_train: list[int] = []
    rows_held: list[int] = []
    for label in range(classes):
        rows = table.rows_of(label)
        order = keyed_order(len(rows), seed, "validation pictures", label)
        # a query beside the support, and half to learn from
        n_held = max(len(rows) // 5, min(shots + 1, len(rows) // 2))
        rows_held += [int(rows[i]) for i in sorted(order[:n_held])]
        rows_train += [int(rows[i]) for i in sorted(order[n_held:])]
    if not rows_held:
        raise DataError(
            f"{counted(classes, 'class is', 'classes are')} too few to hold some out for validation, and their pictures too: "
            "give --val_data"
        )
    note = (
        f"{counted(classes, 'class is', 'classes are')} too few to hold some out: a fifth of each class's pictures is held out "
        "instead, so validation measures these classes, not new ones (give --val_data for those)"
    )
    return Split(table.select_rows(rows_train), table.select_rows(rows_held), note, THESE_CLASSES)


def keyed_order(n: int, *keys: int | str) -> list[int]:
    """The numbers below n in an order that follows from keys."""
    return sorted(range(n), key=lambda i: random_bits(*keys, i))
