"""Settings, folders and outputs that nothing can be measured with, and tasks that cannot be made."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.bad_input.case import Case, Change, Group, Place, Words, adding
from tests.bad_input.folders import all_classes, only_one_picture

FEW = ("--ways", 2, "--shots", 1, "--queries", 1)


def evaluate(place: Place) -> Words:
    return "evaluate", place.classes, "--backbone", "tiny", "--episodes", 5, *FEW


def make_tasks(place: Place) -> Words:
    return "make-tasks", place.classes, "--tasks", 2, *FEW


def learn(place: Place) -> Words:
    return "learn", place.classes, "--backbone", "tiny"


def full_disk(place: Place) -> Words:
    (place.root / "full.csv").symlink_to("/dev/full")
    return "--output", place.root / "full.csv"


def without_truth(place: Place) -> None:
    (place.tasks / "truth.csv").unlink()
    place.classes.rename(place.root / "aside")
    place.tasks.rename(place.classes)


def truth_as_output(place: Place) -> Words:
    place.classes.rename(place.root / "aside")
    place.tasks.rename(place.classes)
    return "--answers", place.classes / "truth.csv"


def file_at(path: Path) -> Path:
    path.write_bytes(b"something")
    return path


def endless(place: Place) -> Words:
    for path in place.classes.glob("*/01.png"):
        path.unlink()
        path.symlink_to("/dev/zero")
    return place.root / "new", "--shots", 4, "--ways", 6


def into_file(breaks: Change) -> Change:
    """And the steps go into a file."""

    def also(place: Place) -> Words:
        breaks(place)
        return "--output", place.root / "steps.json"

    return also


EVALUATING = Group("Measuring (`evaluate`)", evaluate, (
    Case("`--ways 1`", adding("--ways", 1), 2, "ways[0] is 1: expected at least 2"),
    Case("`--ways 1-3`", adding("--ways", "1-3"), 2, "ways[0] is 1-3: expected at least 2"),
    Case("`--ways 3-2`", adding("--ways", "3-2"), 2, "ways[0]"),
    Case("`--ways nan`", adding("--ways", "nan"), 2, "ways[0]"),
    Case("`--shots 0`", adding("--shots", 0), 2, "shots[0] is '0'"),
    Case("`--classifier` of nothing", adding("--classifier"), 2, "--classifier: expected at least one"),
    Case("`--shots` of nothing", adding("--shots"), 2, "--shots: expected at least one"),
    Case("`--queries 0`", adding("--queries", 0), 2, "queries is 0"),
    Case("`--episodes 0`", adding("--episodes", 0), 2, "episodes is 0"),
    Case("`--embed_views 5`", adding("--embed_views", 5), 2, "embed_views is 5"),
    Case("`--query_balance dirichlet:0`", adding("--query_balance", "dirichlet:0"), 2, "dirichlet:2"),
    Case("`--query_balance dirichlet:inf`", adding("--query_balance", "dirichlet:inf"), 2, "found inf"),
    Case("more ways than classes", adding("--ways", 7), 1, "Ask for fewer ways"),
    Case("tasks without a truth.csv", without_truth, 1, "truth.csv"),
    Case("two outputs in one file", adding("--output", "a.csv", "--answers", "./a.csv"), 2, "is --output itself"),
    Case("the answers into the truth", truth_as_output, 2, "is read, and would be overwritten"),
    Case("a confusion matrix as Parquet", adding("--confusion", "a.parquet"), 2, "ends in .csv"),
    Case("a table into a folder that does not exist", adding("--output", "nowhere/a.csv"), 1, "there is no folder"),
    Case("a table onto a full disk", full_disk, 1, "full.csv"),
))  # fmt: skip
MAKING = Group("Making tasks (`make-tasks`)", make_tasks, (
    Case("into a folder that holds something", lambda place: (place.tasks,), 1, "already holds something"),
    Case("into the folder of classes", lambda place: (place.classes,), 1, "already holds something"),
    Case("into a new folder among the classes", lambda place: (place.classes / "new",), 2, "among its classes"),
    Case("into a class folder", lambda place: (place.classes / "class00",), 2, "among its classes"),
    Case("into a file", lambda place: (file_at(place.root / "file"),), 1, "already holds something"),
    Case("a link to /dev/zero among the pictures", endless, 1, "01.png: a device, not a regular file"),
    Case("more shots than there are pictures", lambda place: (place.root / "new", "--shots", 99), 1, "Ask for fewer ways"),
    Case("`--tasks 0`", lambda place: (place.root / "new", "--tasks", 0), 2, "tasks is 0"),
    Case("`--shots 1-`", lambda place: (place.root / "new", "--shots", "1-"), 2, "shots"),
))  # fmt: skip
LEARNING = Group("Learning steps (`learn`)", learn, (
    Case("no such folder", into_file(lambda place: shutil.rmtree(place.classes)), 1, "there is no folder"),
    Case("one picture a class", into_file(only_one_picture), 1, "learning needs 2 classes of 3 pictures"),
    Case("every picture spoilt", into_file(all_classes(b"spoilt")), 1, "classes: no picture can be read"),
    Case("steps into a folder that does not exist", adding("--output", "nowhere/steps.json"), 1, "there is no folder"),
    Case("neither a checkpoint nor a file", lambda place: [], 2, "give --output"),
))  # fmt: skip
