"""Random bytes as pictures and random trees as folders: never a crash, never a hang, never a lost row.

Examples are the same in every run. FEWSHOT_FUZZ=20000 tries so many new ones of each property.
"""

from __future__ import annotations

import csv
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from episodes import DataError, evaluate, read_class_folders, read_predictions, read_task_directory, write_predictions
from episodes.decoding import UnreadableImage, decode
from episodes.files import PICTURE_SUFFIXES, display_name, name_on_disk
from episodes.formulas import restore
from fewshot.images.transform import clip_pixels
from tests.bad_input.pictures import encoded, picture

TRIES = int(os.environ.get("FEWSHOT_FUZZ", "0"))
LONGEST = 60  # seconds that one example may take: what takes longer hangs


def fuzz(tries: int) -> Any:
    return settings(
        max_examples=TRIES or tries,
        derandomize=not TRIES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextmanager
def never_hanging() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"hangs for {LONGEST} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


FRAMES = {"save_all": True, "append_images": [picture(1), picture(2)]}
EXIF = Image.Exif()
EXIF[0x0112] = 6
SEEDS = [
    encoded(picture(), "JPEG"),
    encoded(picture(), "JPEG", progressive=True, exif=EXIF),
    encoded(picture().convert("CMYK"), "JPEG"),
    encoded(picture(), "PNG"),
    encoded(picture().quantize(16), "PNG", transparency=3),
    encoded(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40), "PNG"),
    encoded(picture(), "PNG", **FRAMES),
    encoded(picture(), "WEBP"),
    encoded(picture().convert("RGBA"), "WEBP", lossless=True, **FRAMES),
    encoded(picture(), "GIF", **FRAMES),
    encoded(picture(), "TIFF"),
    *(encoded(picture(), "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
    encoded(picture().convert("1"), "TIFF", compression="group4"),
    encoded(picture(), "JPEG2000"),
    encoded(picture(), "BMP"),
    encoded(picture(), "TGA"),
    encoded(picture(), "PPM"),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real picture with some bytes set, cut out, repeated, or taken from another one."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        kind = draw(st.sampled_from(("set", "set", "set", "cut", "end", "repeat", "splice")))
        if kind == "set":
            data[place : place + 4] = draw(st.binary(max_size=4))
        elif kind == "cut":
            del data[place : place + length]
        elif kind == "end":
            del data[place:]
        elif kind == "repeat":
            data[place:place] = data[place : place + length]
        else:
            data[place:] = draw(st.sampled_from(SEEDS))[place:]
    return bytes(data)


def decodes_or_refuses(data: bytes) -> None:
    with never_hanging():
        try:
            image = decode(data)
            pixels = clip_pixels(data, 32)
        except UnreadableImage as error:
            assert str(error)
            return
    assert image.mode == "RGB" and min(image.size) >= 1
    assert pixels.shape == (3, 32, 32) and pixels.dtype == np.uint8


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@fuzz(1000)
@given(mutated())
def test_damaged_pictures_are_decoded_or_refused(data: bytes) -> None:
    decodes_or_refuses(data)


MARKS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\x20\0\0\0WEBPVP8 ",
    b"II*\0",
    b"MM\0*",
    b"BM",
    b"P6 9 9 255\n",
    b"%!PS",
    b"",
)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@fuzz(500)
@given(st.sampled_from(MARKS), st.binary(max_size=300))
def test_noise_is_decoded_or_refused(mark: bytes, noise: bytes) -> None:
    decodes_or_refuses(mark + noise)


SUFFIXES = (b".png", b".PNG", b".jpg", b".jpeg", b".tiff", b".txt", b".png ", b".png.part", b"", b".db", b".")
STEMS = st.one_of(
    st.binary(max_size=8),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        (
            b"=1+1",
            b"'=1",
            b"a,b",
            b'"a"',
            b"a\nb",
            b"a\rb",
            b"\r\n",
            b"c\xff",
            b"c%FF",
            b"c%25FF",
            b"testB",
            b"task1",
            b"..a",
        )
    ),
)
NAMES = (
    st.tuples(STEMS, st.sampled_from(SUFFIXES))
    .map(b"".join)
    .filter(lambda name: name not in (b"", b".", b"..") and not set(name) & {0, ord("/")} and len(name) < 250)
)
KINDS = st.sampled_from(
    ("file", "file", "file", "folder", "fifo", "link to file", "link to nowhere", "link to itself", "link up")
)
FILES = st.dictionaries(NAMES, KINDS, max_size=6)
CLASSES = st.dictionaries(NAMES, FILES, max_size=4)
TASKS = st.dictionaries(
    NAMES,
    st.fixed_dictionaries({}, optional={b"support": CLASSES, b"query": st.one_of(FILES, st.just("file"))}),
    max_size=4,
)


def make(path: bytes, what: Any) -> None:
    """A tree of dictionaries, on the disk."""
    if isinstance(what, dict) or what == "folder":
        os.mkdir(path)
        for name, inner in what.items() if isinstance(what, dict) else ():
            make(os.path.join(path, name), inner)
    elif what == "file":
        Path(os.fsdecode(path)).write_bytes(b"x")
    elif what == "fifo":
        os.mkfifo(path)
    else:
        target = {
            "link to file": b"/etc/hostname",
            "link to nowhere": b"nowhere",
            "link to itself": path,
            "link up": b"..",
        }
        os.symlink(target[what], path)


def is_row(name: bytes, what: Any) -> bool:
    """The contract: what has a picture's suffix and is no folder, no pipe and not hidden has a row."""
    dot = name.rfind(b".")
    suffix = os.fsdecode(name[dot:] if dot >= 0 else name[-1:]).lower()
    return (
        not name.startswith(b".")
        and suffix in PICTURE_SUFFIXES
        and what in ("file", "link to file", "link to nowhere", "link to itself")
    )


def expected_rows(tasks: dict[bytes, Any]) -> set[tuple[bytes, bytes]]:
    return {
        (task, name)
        for task, parts in tasks.items()
        if not task.startswith(b".") and isinstance(parts.get(b"query"), dict)
        for name, what in parts[b"query"].items()
        if is_row(name, what)
    }


def flat(batch: Any) -> Any:
    return np.zeros((*batch.query.shape, batch.class_ids.shape[1]))


@fuzz(150)
@given(TASKS, st.booleans())
def test_no_tree_of_tasks_loses_a_row(tasks: dict[bytes, Any], defuse: bool) -> None:
    assume(not {b"support", b"query"} & set(tasks))
    with tempfile.TemporaryDirectory() as folder, never_hanging():
        make(os.fsencode(folder) + b"/testB", tasks)
        expected = expected_rows(tasks)
        try:
            table, episodes = read_task_directory(folder, find_truth=False)
        except DataError:
            assert not expected
            return
        frame = evaluate(episodes, flat).to_frame(table)
        write_predictions(frame, f"{folder}/r.csv", defuse_formulas=defuse)
        with open(f"{folder}/r.csv", encoding="utf-8", newline="") as stream:
            assert len(list(csv.DictReader(stream))) == len(expected)
        read = read_predictions(f"{folder}/r.csv")
        if defuse:
            read = read.map(lambda cell: restore(cell) if isinstance(cell, str) else cell)
        found = [
            (os.fsencode(name_on_disk(t)), os.fsencode(name_on_disk(i)))
            for t, i in zip(read["task"], read["image"], strict=True)
        ]
        assert len(found) == len(set(found)) and set(found) == expected
        for label, task in zip(read["label"], read["task"], strict=True):
            support = tasks[os.fsencode(name_on_disk(task))].get(b"support", {})
            classes = {name: files for name, files in support.items() if not name.startswith(b".")}
            filled = {
                display_name(os.fsdecode(c)) for c, files in classes.items() if any(map(is_row, files, files.values()))
            }
            assert label in filled if filled else label == ""


@fuzz(100)
@given(st.dictionaries(NAMES, st.one_of(KINDS, FILES), max_size=6), st.booleans())
def test_no_tree_of_classes_loses_a_picture(classes: dict[bytes, Any], nested: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, never_hanging():
        make(os.fsencode(folder) + b"/classes", classes)
        expected = {
            (name, picture)
            for name, files in classes.items()
            if isinstance(files, dict) and not name.startswith(b".")
            for picture, what in files.items()
            if is_row(picture, what)
        }
        try:
            table = read_class_folders(f"{folder}/classes", nested=nested)
        except DataError:
            assert not expected or any(what == "link up" for what in classes.values())
            return
        found = {
            (os.fsencode(name_on_disk(table.class_names[label])), os.fsencode(path.name))
            for label, path in zip(table.labels.tolist(), table.items, strict=True)
        }
        assert expected <= found and len(table) == len(found)
        assert found == expected or any(what == "link up" for what in classes.values()) or nested


def test_a_hang_would_be_told() -> None:
    with pytest.raises(AssertionError, match="hangs"), never_hanging():
        signal.raise_signal(signal.SIGALRM)
