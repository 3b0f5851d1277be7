"""One task out of a folder of classes and pictures anywhere: the same episode as from a task folder."""

import shutil
from pathlib import Path

import pytest

from episodes import DataError, TruthError, find_truth, read_support_and_query, read_task_directory

FILES = ("support/b/1.png", "support/a/2.png", "support/a/10.png", "query/10.jpg", "query/9.jpg", "query/notes.txt")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "pets"


def test_it_is_the_episode_of_the_task_folder(task: Path) -> None:
    table, (episode,) = read_support_and_query(task / "support", [task / "query"])
    expected_table, (expected,) = read_task_directory(task)
    assert table.paths() == expected_table.paths() and table.class_names == expected_table.class_names
    assert (episode.name, episode.class_names) == (expected.name, expected.class_names) == ("pets", ("a", "b"))
    assert [table.image_name(row) for row in episode.query] == ["9.jpg", "10.jpg"]
    assert (episode.support == expected.support).all() and (episode.support_labels == expected.support_labels).all()
    assert table.passed_over.counts == expected_table.passed_over.counts


def test_files_and_folders_mix_and_none_is_asked_twice(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(task)
    shutil.move("support", "known")
    table, (episode,) = read_support_and_query("known", ["query/notes.txt", "query/10.jpg", "query", "query/9.jpg"])
    names = [table.image_name(row) for row in episode.query]
    assert names == ["notes.txt", "10.jpg", "9.jpg"]  # a file that is named is asked about, whatever its suffix
    assert episode.name == "known"


def test_pictures_of_one_name_go_by_their_paths(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(task)
    Path("more").mkdir()
    shutil.copy("query/9.jpg", "more/9.jpg")
    table, (episode,) = read_support_and_query("support", ["query/9.jpg", "more"])
    assert [table.image_name(row) for row in episode.query] == ["query/9.jpg", "more/9.jpg"]
    assert table.paths(episode.query) == ["query/9.jpg", "more/9.jpg"]


@pytest.mark.parametrize(
    "text", ["image,label\n9.jpg,b\n10.jpg,a\n", "label,task,image\nb,pets,9.jpg\na,pets,10.jpg\n"]
)
def test_a_truth_with_and_without_the_task(task: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    _, (episode,) = read_support_and_query(task / "support", [task / "query"], tmp_path / "t.csv")
    assert episode.query_labels is not None and episode.query_labels.tolist() == [1, 0]


def test_what_is_not_there_is_named(task: Path, tmp_path: Path) -> None:
    support = task / "support"
    for queries, message in (
        ([task / "nowhere.jpg"], r"there is no .*nowhere.jpg"),
        ([support], "no picture to name in .*support"),
        ([], "no picture to name in nothing"),
    ):
        with pytest.raises(DataError, match=message):
            read_support_and_query(support, queries)
    with pytest.raises(DataError, match=r"query holds no class with a picture.*2 pictures outside a class folder"):
        read_support_and_query(task / "query", [task / "query"])
    with pytest.raises(DataError, match="there is no folder .*none"):
        read_support_and_query(task / "none", [task / "query"])
    (tmp_path / "t.csv").write_text("image,label\n9.jpg,b\n")
    with pytest.raises(TruthError, match=r"no row for 1 query picture: pets/10.jpg"):
        read_support_and_query(support, [task / "query"], tmp_path / "t.csv")


def test_the_truth_that_is_found_is_the_one_that_is_read(task: Path, tmp_path: Path) -> None:
    assert find_truth(tmp_path) is None
    (tmp_path / "testB").mkdir()
    moved = shutil.move(task, tmp_path / "testB" / "pets")
    truth = tmp_path / "truth.csv"
    truth.write_text("task,image,label\npets,9.jpg,b\npets,10.jpg,a\n")
    for root in (tmp_path, tmp_path / "testB", moved):
        assert find_truth(root) is not None and Path(str(find_truth(root))).resolve() == truth
        assert read_task_directory(root)[1][0].query_labels is not None
    truth.write_text("of something else")
    with pytest.raises(TruthError, match=r"truth.csv"):
        read_task_directory(tmp_path)


def test_a_truth_without_tasks_is_matched_by_image(task: Path, tmp_path: Path) -> None:
    shutil.copytree(task, tmp_path / "zoo")
    (tmp_path / "truth.csv").write_text("image,label\n9.jpg,b\n10.jpg,a\n")
    with pytest.raises(TruthError, match=r"2 of its images are in several tasks: 9.jpg, 10.jpg"):
        read_task_directory(tmp_path)
    for picture in (tmp_path / "zoo/query").iterdir():
        picture.rename(picture.with_name(f"z{picture.name}"))
    (tmp_path / "truth.csv").write_text("image,label\n9.jpg,b\n10.jpg,a\nz9.jpg,a\nz10.jpg,a\n")
    _, episodes = read_task_directory(tmp_path)
    assert [None if e.query_labels is None else e.query_labels.tolist() for e in episodes] == [[1, 0], [0, 0]]
