"""Broken tasks, and folders that hold something else than tasks or classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.bad_input.case import Case, Change, Group, Place, Words, adding, predict, train
from tests.bad_input.pictures import picture

PARTS = ("support", "query")


def task2(change: Callable[[Path], object]) -> Change:
    """Breaks the second task by its path."""

    def breaks(place: Place) -> None:
        change(place.tasks / "testB" / "task2")

    return breaks


def gone(*names: str) -> Change:
    return task2(lambda task: [shutil.rmtree(task / name) for name in names])


def emptied(part: str, *put: str) -> Change:
    """A part of the second task without what it held, but with some files (or folders, which end in a slash)."""

    def change(task: Path) -> None:
        shutil.rmtree(task / part)
        (task / part).mkdir()
        for name in put:
            path = task / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if name.endswith("/") else picture().save(path, "PNG")

    return task2(change)


def file_as(part: str) -> Change:
    def change(task: Path) -> None:
        shutil.rmtree(task / part)
        (task / part).write_bytes(b"")

    return task2(change)


def spoilt(pattern: str) -> Change:
    return task2(lambda task: [path.write_bytes(b"spoilt") for path in task.glob(pattern)])


def linked(name: str, target: str) -> Change:
    return lambda place: (place.tasks / "testB" / name).symlink_to(target)


def instead(make: Callable[[Path], object]) -> Change:
    """Something else than the folder of tasks."""

    def breaks(place: Place) -> None:
        shutil.rmtree(place.tasks)
        make(place.tasks)

    return breaks


def both_broken(place: Place) -> None:
    for number in (1, 2):
        shutil.rmtree(place.tasks / f"testB/task{number}/query")


def paged(change: Callable[[bytes], bytes]) -> Change:
    """Another truth.csv beside the tasks, and a page that would show it."""

    def breaks(place: Place) -> Words:
        truth = place.tasks / "truth.csv"
        truth.write_bytes(change(truth.read_bytes()))
        return "--report", place.root / "page.html"

    return breaks


def given_truth(change: Callable[[bytes], bytes]) -> Change:
    """A truth that is given by name."""

    def breaks(place: Place) -> Words:
        path = place.root / "given.csv"
        path.write_bytes(change((place.tasks / "truth.csv").read_bytes()))
        return "--truth", path

    return breaks


def loose(place: Place) -> Words:
    """The first task's pictures, given as folders; there is no other task."""
    shutil.rmtree(place.tasks / "testB/task2")
    task = place.tasks / "testB/task1"
    words = ("--support", task / "support", "--query", task / "query", place.result)
    return ("predict", "--backbone", "tiny", *words)


def part(change: Callable[[Path], object], name: str = "support") -> Change:
    """Breaks one of the first task's folders."""

    def breaks(place: Place) -> None:
        change(place.tasks / "testB/task1" / name)

    return breaks


def gone_part(name: str) -> Change:
    return part(lambda folder: shutil.rmtree(folder), name)


def emptied_folder(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def strict(breaks: Change) -> Change:
    def also(place: Place) -> Words:
        breaks(place)
        return ("--strict",)

    return also


def junk(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "a/.hidden.png", "a/b/c.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def only_one_class(place: Place) -> None:
    for folder in sorted(place.classes.iterdir())[1:]:
        shutil.rmtree(folder)


def only_one_picture(place: Place) -> None:
    for path in place.classes.glob("*/*"):
        if path.name != "00.png":
            path.unlink()


def lone_picture(place: Place) -> None:
    for path in sorted(place.classes.glob("class00/*"))[1:]:
        path.unlink()


def all_classes(data: bytes | None) -> Change:
    """Every training picture is these bytes; None: every one is the same picture."""

    def breaks(place: Place) -> None:
        for path in place.classes.glob("*/*"):
            picture().save(path) if data is None else path.write_bytes(data)

    return breaks


def flat(place: Place) -> None:
    for path in list(place.classes.glob("*/*")):
        path.rename(place.classes / f"{path.parent.name}-{path.name}")


UNANSWERED = ("task2",)
TASKS = Group("Tasks (`predict`)", predict, (
    Case("empty task folder", gone(*PARTS), 3, "task2 has neither support/ nor query/"),
    Case("no query/", gone("query"), 3, "task2 has no folder query/"),
    Case("query/ is a file", file_as("query"), 3, "task2 has something else than a folder as query"),
    Case("query/ is empty", emptied("query"), 3, "task2 has no pictures in query/"),
    Case("query/ holds only other files", emptied("query", "notes.txt"), 3, "task2 has no pictures in query/"),
    Case("query/ holds only folders", emptied("query", "deeper/a.png"), 3, "task2 has no pictures in query/"),
    Case("no support/", gone("support"), 3, "task2 has no folder support/", UNANSWERED),
    Case("support/ is a file", file_as("support"), 3, "task2 has something else than a folder as support", UNANSWERED),
    Case("support/ is empty", emptied("support"), 3, "task2 has no picture in support/<class>/", UNANSWERED),
    Case("support/ holds pictures, but no class folders", emptied("support", "a.png"), 3, "1 picture outside a class", UNANSWERED),
    Case("support/ holds only empty class folders", emptied("support", "a/", "b/"), 3, "found 2 class folders without", UNANSWERED),
    Case("one class folder is empty", task2(lambda task: (task / "support" / "empty").mkdir()), 0, "1 class without a support picture"),
    Case("every support picture is spoilt", spoilt("support/*/*"), 3, "has no readable support picture", UNANSWERED),
    Case("every query picture is spoilt", spoilt("query/*"), 3, "cannot be read (not a picture", UNANSWERED),
    Case("a task that links to the folder of tasks", linked("task3", "."), 3, "task3 has neither support/ nor query/"),
    Case("a task that links to itself", linked("task3", "task3"), 0, "without a picture suffix"),
    Case("a class that links to its task", task2(lambda task: (task / "support" / "c").symlink_to(task)), 0, "without a support picture"),
    Case("other folders among the tasks", lambda place: (place.tasks / "testB/notes").mkdir(), 0, "1 folder beside the tasks"),
    Case("a truth.csv of noise beside them", lambda place: (place.tasks / "truth.csv").write_bytes(b"\xff\0"), 0, ""),
    Case("a truth.csv of noise beside them, with `--report`", paged(lambda data: b"\xff\0"), 0, "Going on without it"),
    Case("a stranger's truth.csv beside them, with `--report`",
         paged(lambda data: data.replace(b"task1", b"x1")), 0, "Going on without it"),
    Case("`--truth` of noise", given_truth(lambda data: b"\xff\0"), 1, "cannot read"),
    Case("`--truth` of other tasks", given_truth(lambda data: data.replace(b"task1", b"x1")), 1, "names 1 task that is not there: x1"),
    Case("`--truth` that lacks a picture", given_truth(lambda data: b"".join(data.splitlines(keepends=True)[:-1])), 1,
         "no row for 1 query picture"),
    Case("`--truth` of other classes", given_truth(lambda data: data.replace(b",class", b",klass")), 1, "is no class folder of the task"),
    Case("`--truth` that is not there", adding("--truth", "none.csv"), 1, "No such file"),
    Case("a broken task, with `--strict`", strict(gone("query")), 1, "1 task is broken"),
    Case("a spoilt picture, with `--strict`", strict(spoilt("query/*")), 1, "pictures cannot be read"),
    Case("every task is broken", both_broken, 1, "holds no picture to name: "),
    Case("no such folder", instead(lambda folder: None), 1, "there is no folder"),
    Case("a file", instead(lambda folder: folder.write_bytes(b"")), 1, "is not a folder"),
    Case("an empty folder", instead(lambda folder: folder.mkdir()), 1, "holds no tasks; expected"),
    Case("a folder of junk", instead(junk), 1, "holds no tasks; expected"),
    Case("a link to itself", instead(lambda folder: folder.symlink_to(folder)), 1, "is not a folder"),
    Case("a folder of class folders", lambda place: [shutil.rmtree(place.tasks), place.classes.rename(place.tasks)], 1,
         "holds no tasks; expected"),
))  # fmt: skip
LOOSE = Group("Pictures without a task folder (`predict --support --query`)", loose, (
    Case("no such folder of classes", gone_part("support"), 1, "there is no folder"),
    Case("a picture in place of the classes", part(lambda folder: [shutil.rmtree(folder), folder.write_bytes(b"")]), 1, "is not a folder"),
    Case("no class folder, only pictures", part(lambda folder: shutil.copytree(folder.parent / "query", emptied_folder(folder),
         dirs_exist_ok=True)), 1, "holds no class with a picture"),
    Case("every support picture is spoilt", part(lambda folder: [p.write_bytes(b"spoilt") for p in folder.glob("*/*")]), 3,
         "has no readable support picture", ("task1",)),
    Case("no such pictures", gone_part("query"), 1, "expected a picture to name, or a folder of them"),
    Case("an empty folder of pictures", part(emptied_folder, "query"), 1, "there is no picture to name in"),
    Case("every picture is spoilt", part(lambda folder: [p.write_bytes(b"spoilt") for p in folder.iterdir()], "query"), 3,
         "cannot be read (not a picture", ("task1",)),
    Case("other files among the pictures", part(lambda folder: junk(folder), "query"), 0, "without a picture suffix"),
))  # fmt: skip
CLASSES = Group("Class folders (`train`)", train, (
    Case("no such folder", lambda place: shutil.rmtree(place.classes), 1, "there is no folder"),
    Case("an empty folder", lambda place: [shutil.rmtree(place.classes), place.classes.mkdir()], 1, "It is empty"),
    Case("a folder of junk", lambda place: [shutil.rmtree(place.classes), junk(place.classes)], 1, "holds no class folders"),
    Case("pictures, but no class folders", flat, 1, "put each class into its own folder"),
    Case("class folders one level deeper", lambda place: [place.classes.rename(place.root / "x"), place.classes.mkdir(),
         (place.root / "x").rename(place.classes / "x")], 1, "Its folders hold folders of pictures"),
    Case("one class", only_one_class, 2, "2 classes"),
    Case("one picture a class", only_one_picture, 2, "found 0"),
    Case("one class of one picture among others", lone_picture, 0, "the others take no part"),
    Case("every picture spoilt", all_classes(b"spoilt"), 1, "pictures can be read"),
    Case("every picture the same", all_classes(None), 0, ""),
    Case("a class folder that links to the whole folder", lambda place: (place.classes / "loop").symlink_to("."), 0, "without pictures"),
))  # fmt: skip
