"""read_class_folders on good and bad folders."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from episodes import DataError, UsageError, read_class_folders

MakeTree = Callable[..., Path]
Forbidden = Callable[[str], AbstractContextManager[None]]


def test_classes_in_natural_order_rows_in_plain_order(make_tree: MakeTree) -> None:
    root = make_tree("c10/a.png", "c2/b10.png", "c2/b9.JPG", "c2/a.webp", "c1/x.jpeg")
    table = read_class_folders(root)
    assert table.class_names == ("c1", "c2", "c10")
    assert list(table.items) == [
        root / name for name in ("c1/x.jpeg", "c2/a.webp", "c2/b10.png", "c2/b9.JPG", "c10/a.png")
    ]
    assert table.labels.tolist() == [0, 1, 1, 1, 2]
    assert table.passed_over.summary() == "" and table.passed_over.total == 0


def test_same_rows_as_a_walk_in_python(make_tree: MakeTree) -> None:
    root = make_tree(*(f"class{c}/{i}.{'png' if i % 3 else 'txt'}" for c in range(7) for i in range(9)))
    table = read_class_folders(root)
    walked = {str(path) for path in root.rglob("*.png")}
    assert set(table.paths()) == walked and len(table) == len(walked)
    for path, label in zip(table.items, table.labels, strict=True):
        assert isinstance(path, Path) and path.parent.name == table.class_names[label]


def test_bad_input_is_passed_over_and_counted(make_tree: MakeTree) -> None:
    root = make_tree(
        "a/1.png", "a/.2.png", "a/._3.png", "a/Thumbs.db", "a/notes.txt", "a/deeper/4.png",
        "empty/", "texts/x.txt", ".git/5.png", "loose.png", "readme.md",
    )  # fmt: skip
    table = read_class_folders(root)
    assert table.class_names == ("a",) and table.paths() == [str(root / "a" / "1.png")]
    assert table.passed_over.counts == {
        "hidden": 3,
        "without a picture suffix": 4,
        "sub-folders of a class folder": 1,
        "folders without pictures": 2,
        "pictures outside a class folder": 1,
    }
    assert "3 hidden (" in table.passed_over.summary() and str(root / "loose.png") in table.passed_over.summary()


def test_examples_are_few(make_tree: MakeTree) -> None:
    root = make_tree("a/1.png", *(f"a/{i}.txt" for i in range(50)))
    summary = read_class_folders(root).passed_over.summary()
    assert "50 without a picture suffix" in summary and summary.count(".txt") == 3 and "…" in summary


def test_nested_classes_are_named_by_their_path(make_tree: MakeTree) -> None:
    root = make_tree("Greek/character10/1.png", "Greek/character2/1.png", "Latin/a/b/1.png", "flat/1.png", "none/deep/")
    table = read_class_folders(root, nested=True)
    assert table.class_names == ("Greek/character2", "Greek/character10", "Latin/a/b", "flat")
    assert table.passed_over.counts == {"folders without pictures": 1}


def test_links_are_followed_and_circles_end(make_tree: MakeTree) -> None:
    elsewhere = make_tree("pictures/1.png", "pictures/2.png", root="elsewhere")
    root = make_tree("a/1.png")
    (root / "linked").symlink_to(elsewhere / "pictures")
    (root / "a" / "file.png").symlink_to(elsewhere / "pictures" / "1.png")
    (root / "a" / "gone.png").symlink_to(root / "nothing.png")
    (root / "a" / "self.png").symlink_to(root / "a" / "self.png")
    (root / "a" / "up").symlink_to(root)
    flat = read_class_folders(root)
    assert flat.class_names == ("a", "linked")
    assert [Path(path).name for path in flat.paths()] == ["1.png", "file.png", "gone.png", "self.png", "1.png", "2.png"]
    nested = read_class_folders(root, nested=True)
    assert nested.class_names == ("a", "linked")
    assert nested.passed_over.counts == {"links back to a folder above": 1}


def test_names_that_are_not_utf8(make_tree: MakeTree) -> None:
    root = make_tree("a/1.png")
    folder = os.path.join(os.fsencode(root), b"caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    with open(os.path.join(folder, b"\xff.png"), "wb") as stream:
        stream.write(b"content")
    table = read_class_folders(root)
    assert table.class_names == ("a", "caf%E9") and table.image_name(1) == "%FF.png"
    assert Path(table.paths()[1]).read_bytes() == b"content"


def test_min_images_filters_visibly(make_tree: MakeTree) -> None:
    root = make_tree("a/1.png", "b/1.png", "b/2.png")
    table = read_class_folders(root, min_images=2)
    assert table.class_names == ("b",)
    assert table.passed_over.counts == {"classes with fewer than 2 pictures": 1}
    with pytest.raises(DataError, match=r"none of the 2 classes has 3 pictures; the largest, b, has 2"):
        read_class_folders(root, min_images=3)
    with pytest.raises(UsageError, match="min_images"):
        read_class_folders(root, min_images=0)


def test_a_folder_that_cannot_be_listed_is_named(make_tree: MakeTree, forbidden: Forbidden) -> None:
    root = make_tree("a/1.png", "lost+found/")
    with forbidden("lost+found"):
        summary = read_class_folders(root).passed_over.summary()
    assert "Permission denied" in summary and "lost+found" in summary


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "It is empty"),
        (("1.png", "2.png"), "Found 2 pictures directly in it"),
        (("a/x/1.png", "b/y/1.png"), "nested=True"),
        (("a/1.txt",), "Found 1 folder; passed over: 1 without a picture suffix"),
    ],
)
def test_errors_say_what_was_found(make_tree: MakeTree, names: tuple[str, ...], expected: str) -> None:
    root = make_tree(*names)
    with pytest.raises(DataError) as error:
        read_class_folders(root)
    assert (
        expected in str(error.value) and str(root) in str(error.value) and "<root>/<class>/<image>" in str(error.value)
    )


def test_a_root_that_is_not_there(make_tree: MakeTree) -> None:
    root = make_tree("a/1.png")
    with pytest.raises(DataError, match="there is no folder"):
        read_class_folders(root / "b")
    with pytest.raises(DataError, match="is not a folder"):
        read_class_folders(root / "a" / "1.png")


def test_a_missing_folder_is_told_with_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there is no folder .*nowhere; expected class folders .*<root>/<class>/<image>"
    ):
        read_class_folders(tmp_path / "nowhere")
