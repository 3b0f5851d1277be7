"""Bad input to the page in the browser (`fewshot app`): what is sent to it, and what it answers."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.app.conftest import Visitor

Sends = Callable[[Visitor, Path], tuple[int, bytes, dict[str, str]]]


@dataclass(frozen=True)
class Ask:
    """One kind of bad input.

    Attributes:
        what: it is, in words.
        sends: by a visitor who has the page open with a class "oak" and nothing else; the folder is an empty one of his.
        status: of HTTP.
        says: among what is answered.
    """

    what: str
    sends: Sends
    status: int
    says: str


def posts(where: str, **value: Any) -> Sends:
    return lambda visitor, folder: visitor.ask("POST", where, json.dumps(value).encode())


def edits(do: str, **value: Any) -> Sends:
    return posts("/api/edit", do=do, **value)


def uploads(name: str, data: bytes = b"no picture", **where: str) -> Sends:
    words = "&".join(f"{key}={value}" for key, value in {"name": name, **where}.items())
    return lambda visitor, folder: visitor.ask("PUT", f"/api/upload?{words}", data)


def sending(method: str, path: str, body: bytes | None = None, **headers: str) -> Sends:
    return lambda visitor, folder: visitor.ask(method, path, body, **headers)


def without_the_token(visitor: Visitor, folder: Path) -> tuple[int, bytes, dict[str, str]]:
    return Visitor(visitor.port, folder).ask("GET", "/api/state")


def loads(name: str) -> Sends:
    return lambda visitor, folder: posts("/api/load", path=str(folder / name))(visitor, folder)


def exports_over(visitor: Visitor, folder: Path) -> tuple[int, bytes, dict[str, str]]:
    return posts("/api/export", path=str(folder))(visitor, folder)


def without_room(visitor: Visitor, folder: Path) -> tuple[int, bytes, dict[str, str]]:
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, usual[1]))
    try:
        return uploads("x.png", bytes(5000))(visitor, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


ASKS = (
    Ask("a picture that is none", uploads("x.png"), 200, "not a picture in a known format"),
    Ask("an empty picture", uploads("x.png", b""), 200, "the file is empty"),
    Ask("a file that is called no picture", uploads("notes.txt"), 400, "has no picture's suffix"),
    Ask("a picture without a name", uploads(""), 400, "has no picture's suffix"),
    Ask("a picture's name with folders: they are left out", uploads("..%2F..%2Fx.png"), 200, '"x.png"'),
    Ask("a name of 300 bytes", uploads("x" * 300 + ".png"), 400, "expected a file name of up to"),
    Ask("a picture for which the disk has no room", without_room, 400, "make room for temporary files"),
    Ask(
        "a picture for a class that is not there", uploads("x.png", **{"class": "ash"}), 400, "there is no class 'ash'"
    ),
    Ask("a class without a name", edits("add-class", name=" "), 400, "cannot be the name of a class"),
    Ask("a class name with a slash", edits("add-class", name="a/b"), 400, "cannot be the name of a class"),
    Ask("a class name with a dot at the front", edits("add-class", name=".a"), 400, "cannot be the name of a class"),
    Ask("a class that is there already", edits("add-class", name="oak"), 400, "there is a class 'oak' already"),
    Ask(
        "another name for a class that is not there",
        edits("rename-class", **{"class": "ash", "name": "elm"}),
        400,
        "no class 'ash'",
    ),
    Ask("a picture that is not there, moved", edits("move", ids=[999], **{"class": "oak"}), 400, "no longer there"),
    Ask("numbers of pictures that are none", edits("remove", ids="all"), 400, "ids are numbers of pictures"),
    Ask("a change that there is not", edits("paint"), 400, "there is no change 'paint'"),
    Ask("a folder that is not there", loads("nowhere"), 400, "there is no folder"),
    Ask("a folder without pictures", loads("."), 400, "holds no"),
    Ask("no folder", posts("/api/load"), 400, "which folder?"),
    Ask("an export over something", exports_over, 400, "this one is there already"),
    Ask("an export to nowhere", posts("/api/export"), 400, "where to?"),
    Ask("naming with one class", posts("/api/name", classifier="prototype"), 400, "it takes two at least"),
    Ask(
        "a classifier that there is not",
        posts("/api/name", classifier="oracle"),
        400,
        "there is no classifier 'oracle'",
    ),
    Ask("the result before anything was named", sending("GET", "/result.csv"), 400, "nothing has been named yet"),
    Ask("a picture's number that there is not", sending("GET", "/picture/999"), 404, ""),
    Ask("a request that is no JSON", sending("POST", "/api/edit", b"{"), 400, "no JSON object"),
    Ask("a request of two megabytes", sending("POST", "/api/edit", b" " * (2 << 20)), 400, "too long"),
    Ask("a visitor without the token", without_the_token, 403, "whole address"),
    Ask("a request of another web page", sending("POST", "/api/edit", b"{}", Origin="http://evil.example"), 403, ""),
    Ask("another name for this machine", sending("GET", "/api/state", Host="evil.example"), 421, ""),
)
