"""What `fewshot evaluate` tells before it measures: what was found, and what makes accuracy look better than it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from episodes.errors import DataError
from fewshot.commands.evaluate_options import Options

if TYPE_CHECKING:
    from episodes import ImageTable
    from fewshot.evaluation import EpisodeSet
    from fewshot.opening import LoadedEncoder


def tell_found(options: Options, table: ImageTable, sets: list[EpisodeSet]) -> None:
    """What was found, what was passed over, what had to shrink, and what support and query share."""
    from episodes import EpisodeSampler
    from episodes.leakage import shared_within_tasks

    console = options.console
    console.line(f"{options.data_dir}: {table.summary()}")
    if table.passed_over.summary():
        console.line(f"  {table.passed_over.summary()}")
    for fault in table.passed_over.faults:
        console.warn(fault)
    if table.passed_over.faults and options.strict:
        raise DataError(
            f"{options.data_dir}: tasks are broken (named above). Mend or remove them, or go without --strict"
        )
    for group in sets:
        if isinstance(group.episodes, EpisodeSampler):
            eligible, needed = len(group.episodes.eligible), group.episodes.max_shots + group.episodes.queries
            if group is sets[0] and eligible < len(table.class_names):
                console.line(
                    f"  {eligible} of {len(table.class_names)} classes have the {needed} pictures that an episode needs; the others "
                    "take no part"
                )
            shrunk = group.episodes.shrunk_queries() if group.episodes.query_balance is not None else None
            if shrunk is not None and shrunk.shrunk:
                console.line(f"  {group.ways}-way {group.shots}-shot: {shrunk.summary()}")
        else:
            shared = shared_within_tasks(table, group.episodes)
            if shared and options.strict:
                raise DataError(f"{options.data_dir}: {shared.summary()}. Remove them, or go without --strict")
            if shared:
                console.warn(f"{options.data_dir}: {shared.summary()}; accuracy will look better than it is")


def tell_seen_classes(options: Options, table: ImageTable, encoders: list[LoadedEncoder]) -> None:
    """Tell, or with `strict` refuse, classes that a checkpoint was trained or validated on; tell those of the pretraining.

    Raises:
        DataError: there are some of a checkpoint's, and `strict`.
    """
    from episodes.leakage import SharedClasses
    from fewshot.encoders.leakage import pretraining_warning

    for backbone in dict.fromkeys(loaded.backbone for loaded in encoders):
        seen = pretraining_warning(str(options.data_dir), backbone, table.class_names)
        if seen is not None:
            options.console.warn(seen)
    for loaded in encoders:
        if loaded.checkpoint is None:
            continue
        for what, known in (
            ("trained", loaded.checkpoint.class_names),
            ("validated", loaded.checkpoint.config.get("validation_classes", ())),
        ):
            shared = SharedClasses(tuple(name for name in table.class_names if name in set(known)))
            if not shared:
                continue
            text = f"{options.data_dir} and what {loaded.checkpoint_name} was {what} on: {shared.summary()}"
            if options.strict:
                raise DataError(f"{text}. Choose other classes, or go without --strict")
            options.console.warn(f"{text}; accuracy may look better than it is")
