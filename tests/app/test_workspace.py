"""What is gathered: limits, edits, and that files on disk are never touched while uploads go with their mention."""

from __future__ import annotations

from pathlib import Path

import pytest

from episodes import EpisodeSampler, read_class_folders, write_task_directory
from episodes.errors import DataError, UsageError
from fewshot.app import workspace as module
from fewshot.app.workspace import Workspace
from tests.conftest import write_pictures


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures", 4, 5)


def upload(workspace: Workspace, source: Path, place: str | None = None, name: str = "x.png") -> int:
    path = workspace.upload_path()
    path.write_bytes(source.read_bytes())
    return workspace.add_upload(place, name, path).id


def names(workspace: Workspace) -> dict[str, list[str]]:
    document = workspace.document
    found = {entry["name"]: [p["name"] for p in entry["pictures"]] for entry in document["classes"]}
    return {**found, "?": [p["name"] for p in document["queries"]]}


def test_classes_are_named_renamed_and_removed_with_their_uploads(workspace: Workspace, pictures: Path) -> None:
    source = next(pictures.glob("*/*.png"))
    assert workspace.add_class(" oak ") == "oak"
    workspace.add_class("elm")
    upload(workspace, source, "oak", "a.png")
    upload(workspace, source, "oak", "a.png")
    upload(workspace, source, None, "q.png")
    assert names(workspace) == {"oak": ["a.png", "a (2).png"], "elm": [], "?": ["q.png"]}
    workspace.rename_class("oak", "red oak")
    assert list(names(workspace)) == ["red oak", "elm", "?"]  # in its place
    for old, new in (("elm", "red oak"), ("elm", "a/b"), ("oak", "ash")):
        with pytest.raises(UsageError):
            workspace.rename_class(old, new)
    with pytest.raises(UsageError, match="already"):
        workspace.add_class("elm")
    assert len(list((workspace.folder / "uploads").iterdir())) == 3
    workspace.remove_class("red oak")
    assert names(workspace) == {"elm": [], "?": ["q.png"]}
    assert len(list((workspace.folder / "uploads").iterdir())) == 1


def test_pictures_move_between_classes_and_those_to_name(workspace: Workspace, pictures: Path) -> None:
    source = next(pictures.glob("*/*.png"))
    for name in ("oak", "elm"):
        workspace.add_class(name)
    a, b = (upload(workspace, source, "oak", f"{name}.png") for name in "ab")
    workspace.move([a], "elm")
    assert names(workspace) == {"oak": ["b.png"], "elm": ["a.png"], "?": []}
    workspace.move([a, b], None)
    assert names(workspace) == {"oak": [], "elm": [], "?": ["a.png", "b.png"]}
    before = workspace.changes
    for wrong in (
        lambda: workspace.move([a], "ash"),
        lambda: workspace.move([a, 99], "oak"),
        lambda: workspace.remove([99]),
    ):
        with pytest.raises(UsageError, match="reload"):
            wrong()
    assert workspace.changes == before and names(workspace)["?"] == ["a.png", "b.png"]
    workspace.remove([a])
    assert names(workspace)["?"] == ["b.png"] and workspace.changes > before


def test_what_cannot_be_read_is_named_when_it_comes(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    workspace.add_class("oak")
    upload(workspace, tmp_path / "broken.png", "oak", "broken.png")
    (entry,) = workspace.document["classes"][0]["pictures"]
    assert entry["name"] == "broken.png" and entry["problem"] == "not a picture in a known format"


def test_limits(workspace: Workspace, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(pictures.glob("*/*.png"))
    with pytest.raises(UsageError, match=r"notes.*no picture's suffix"):
        upload(workspace, source, None, "notes.txt")
    with pytest.raises(UsageError, match="takes up to"):
        workspace.check_room(1, module.MOST_BYTES + 1)
    monkeypatch.setattr(module, "MOST_PICTURES", 19)
    with pytest.raises(UsageError, match=r"up to 19 pictures; this folder has 20.*fewshot predict"):
        workspace.load(str(pictures))
    monkeypatch.setattr(module, "MOST_PICTURES", 1)
    upload(workspace, source)
    with pytest.raises(UsageError, match="would make 2"):
        upload(workspace, source)
    monkeypatch.setattr(module, "MOST_BYTES_IN_ALL", source.stat().st_size + 10)
    with pytest.raises(UsageError, match="together"):
        workspace.check_room(0, 11)


def test_class_folders_are_loaded_and_never_changed(workspace: Workspace, pictures: Path) -> None:
    upload(workspace, next(pictures.glob("*/*.png")))
    assert workspace.load(str(pictures)) == []
    found = names(workspace)
    assert found.pop("?") == [] and len(found) == 4  # in place of what was there
    assert all(of_class == [f"{i:02d}.png" for i in range(5)] for of_class in found.values())
    workspace.remove_class("class00")
    workspace.clear()
    assert len(list(pictures.glob("*/*.png"))) == 20


def test_of_several_tasks_one_is_chosen(workspace: Workspace, pictures: Path, tmp_path: Path) -> None:
    table = read_class_folders(pictures)
    root = write_task_directory(
        table, EpisodeSampler(table, ways=3, shots=2, queries=1, episodes=2), tmp_path / "tasks"
    )
    assert workspace.load(str(root)) == ["task1", "task2"] and names(workspace) == {"?": []}
    assert workspace.load(str(root), "task2") == [] and workspace.task_name == "task2"
    found = names(workspace)
    assert len(found.pop("?")) == 3 and [len(of_class) for of_class in found.values()] == [2, 2, 2]
    assert workspace.load(str(Path(root) / "testB" / "task1")) == [] and workspace.task_name == "task1"
    with pytest.raises(UsageError, match="no task 'task9'"):
        workspace.load(str(root), "task9")
    with pytest.raises(DataError):
        workspace.load(str(tmp_path / "nowhere"))
