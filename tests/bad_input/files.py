"""Result and truth files that cannot be scored, and outputs that cannot be written."""

from __future__ import annotations

import csv
from collections.abc import Callable

from tests.bad_input.case import Case, Change, Group, Place, Words, adding, predict


def truth(place: Place) -> list[list[str]]:
    with (place.tasks / "truth.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def score(place: Place) -> Words:
    """The truth as a result: all right, unless something is broken."""
    result = place.root / "scored.csv"
    result.write_bytes((place.tasks / "truth.csv").read_bytes())
    return "score", result, place.tasks / "truth.csv"


def text(change: Callable[[bytes], bytes]) -> Change:
    """Another content of the result."""
    return lambda place: (place.root / "scored.csv").write_bytes(change((place.tasks / "truth.csv").read_bytes()))


def true_text(change: Callable[[bytes], bytes]) -> Change:
    """Another content of the truth."""
    return lambda place: (place.tasks / "truth.csv").write_bytes(change((place.tasks / "truth.csv").read_bytes()))


def folder_instead(place: Place) -> None:
    (place.root / "scored.csv").unlink()
    (place.root / "scored.csv").mkdir()


def mirrored(data: bytes) -> bytes:
    """Columns from right to left."""
    return b"".join(b",".join(line.split(b",")[::-1]) + b"\n" for line in data.splitlines())


def with_formulas(place: Place) -> None:
    true_text(lambda data: data.replace(b"001.png", FORMULA))(place)
    text(lambda data: data.replace(FORMULA, b"'" + FORMULA))(place)


def full_disk(place: Place) -> Words:
    (place.root / "full.csv").symlink_to("/dev/full")
    return (place.root / "full.csv",)


def first_query(place: Place) -> object:
    return min(place.tasks.glob("testB/*/query/*.png"))


def link_to_query(place: Place) -> Words:
    (place.root / "link.csv").symlink_to(str(first_query(place)))
    return (place.root / "link.csv",)


def learned_steps(place: Place) -> Words:
    (place.root / "steps.json").write_text("{}")
    return place.root / "steps.json", "--classifier", "learned", "--learned", place.root / "steps.json"


FORMULA = b"=1+1.png"
SCORE = Group("Result and truth files (`score`)", score, (
    Case("no such file", lambda place: (place.root / "scored.csv").unlink(), 1, "No such file"),
    Case("a folder", folder_instead, 1, "Is a directory"),
    Case("empty", text(lambda data: b""), 1, "found the header (empty)"),
    Case("a header without rows", text(lambda data: data[:17]), 1, "holds a header but no rows"),
    Case("without the column label", text(lambda data: data.replace(b"label", b"name")), 1, "expected a CSV file with the columns"),
    Case("columns of other names", text(lambda data: data.replace(b"label", b"class", 1)), 1, "columns of other names: --columns"),
    Case("without the column task", text(lambda data: b"".join(line.partition(b",")[2] for line in data.splitlines(keepends=True))), 1,
         "has no column task, and rows appear more than once"),
    Case("semicolons", text(lambda data: data.replace(b",", b";")), 1, "expected a CSV file with the columns"),
    Case("a picture", text(lambda data: b"\x89PNG\r\n\x1a\n" + data), 1, "cannot read"),
    Case("UTF-16", text(lambda data: data.decode().encode("utf-16")), 1, "cannot read"),
    Case("Latin-1", text(lambda data: data + b"task1,caf\xe9.png,a\n"), 1, "cannot read"),
    Case("a zero byte", text(lambda data: data.replace(b"001", b"0\x001")), 1, "scored.csv"),
    Case("cut in a row", text(lambda data: data[:-10]), 1, "scored.csv"),
    Case("an open quotation mark", text(lambda data: data + b'task1,"a'), 1, "cannot read"),
    Case("a row too short", text(lambda data: data + b"task1,x.png\n"), 1, "expected 3 values"),
    Case("a row too long", text(lambda data: data + b"task1,x.png,a,b\n"), 1, "expected 3 values"),
    Case("a field of 200 kB", text(lambda data: data + b"task1,x.png," + b"a" * 200_000), 1, "cannot read"),
    Case("a row twice", text(lambda data: data + data.splitlines(keepends=True)[1]), 1, "appear more than once"),
    Case("a picture that the truth lacks", text(lambda data: data + b"task1,x.png,a\n"), 1, "has 1 image that"),
    Case("a picture less than the truth", text(lambda data: b"".join(data.splitlines(keepends=True)[:-1])), 1, "lacks 1 image of"),
    Case("a truth without a label", true_text(lambda data: data.rsplit(b",", 1)[0] + b",\n"), 1, "rows without a label"),
    Case("a byte order mark", text(lambda data: b"\xef\xbb\xbf" + data), 0, ""),
    Case("lines that end as on Windows", text(lambda data: data.replace(b"\n", b"\r\n")), 0, ""),
    Case("columns in another order", text(mirrored), 0, ""),
    Case("empty labels (they count as wrong)", text(lambda data: data.replace(b"class20\n", b"\n")), 0, ""),
    Case("formulas, defused in the result but not in the truth", with_formulas, 0, ""),
))  # fmt: skip
OUTPUTS = Group("Outputs (`predict`)", lambda place: ("predict", place.tasks, "--backbone", "tiny"), (
    Case("into a folder that does not exist", lambda place: (place.root / "nowhere" / "r.csv",), 1, "there is no folder"),
    Case("a folder", lambda place: (place.tasks,), 1, "is a folder"),
    Case("a link to a full disk", full_disk, 1, "No space left on device"),
    Case("the page is the CSV itself", lambda place: (place.result, "--report", "./result.csv"), 2, "is RESULT.csv itself"),
    Case("a query picture", lambda place: (first_query(place),), 2, "is read, and would be overwritten"),
    Case("a link to a query picture", link_to_query, 2, "is read, and would be overwritten"),
    Case("the page in a support picture's place", lambda place: (place.result, "--report", min(place.tasks.glob("testB/*/support/*/*"))), 2,
         "is read, and would be overwritten"),
    Case("the truth beside the tasks", lambda place: (place.tasks / "truth.csv",), 2, "is read, and would be overwritten"),
    Case("config.json of the checkpoint", lambda place: (place.run / "config.json", "--checkpoint", place.run), 2,
         "is read, and would be overwritten"),
    Case("the file of `--learned`", learned_steps, 2, "is read, and would be overwritten"),
    Case("a column that there is not", lambda place: (place.result, "--columns", "image,colour"), 2, "expected distinct names"),
    Case("a column twice", lambda place: (place.result, "--columns", "image,image"), 2, "expected distinct names"),
    Case("two columns of one name", lambda place: (place.result, "--columns", "image=a,label=a"), 2, "expected distinct names"),
    Case("a column without a name", lambda place: (place.result, "--columns", "image="), 2, "expected distinct names"),
    Case("no column", lambda place: (place.result, "--columns", ","), 2, "expected distinct names"),
    Case("a page of an unknown folder", lambda place: (place.result, "--report", place.root / "nowhere/p.html"), 1, "there is no folder"),
))  # fmt: skip
SETTINGS = Group("Options (`predict`)", predict, (
    Case("an option that there is not", adding("--colour", "red"), 2, "colour"),
    Case("a classifier that there is not", adding("--classifier", "oracle"), 2, "oracle"),
    Case("a backbone that there is not", adding("--backbone", "oracle"), 2, "oracle"),
    Case("a device that there is not", adding("--device", "abacus"), 2, "abacus"),
    Case("a checkpoint and a backbone", lambda place: ("--checkpoint", place.run), 2, "exclude each other"),
    Case("`--reject` of a classifier whose confidence nobody measured", adding("--reject", "0.05", "--classifier", "soft-kmeans"), 2,
         "--reject needs to know"),
    Case("`--reject nan`", adding("--reject", "nan"), 2, "reject is nan"),
    Case("`--query` without `--support`", adding("--query", "a.jpg"), 2, "--query needs --support"),
    Case("`--support` beside a folder of tasks", adding("--support", ".", "--query", "."), 2, "TEST_DIR is left out"),
    Case("`--support` without `--query`", lambda place: ("--support", "."), 2, "found 0 names to --query"),
    Case("`--columns truth` without `--truth`", adding("--columns", "image,truth"), 2, "the true labels are not known"),
    Case("`--workers -1`", adding("--workers", "-1"), 2, "workers"),
    Case("`--workers 1000000`", adding("--workers", "1000000"), 2, "workers"),
    Case("`--seed -1`", adding("--seed", "-1"), 2, "seed"),
    Case("weights that were not downloaded", adding("--backbone", "ViT-B/32", "--download_root", "."), 1, "fewshot download"),
))  # fmt: skip
