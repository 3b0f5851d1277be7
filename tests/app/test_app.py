"""The page over HTTP, as a browser uses it: its answers are those of `fewshot predict`, and nobody else gets in."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from episodes import EpisodeSampler, read_class_folders, write_task_directory
from episodes.errors import UsageError
from fewshot.app import server as server_module
from fewshot.app.answering import Naming
from fewshot.app.guard import is_loopback
from fewshot.app.naming import example
from fewshot.app.server import Server
from fewshot.commands.app import listening_socket
from fewshot.commands.cli import main
from tests.app.conftest import Visitor, serving
from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[2]


def predicted(root: Path, result: Path, *more: str) -> bytes:
    assert main(["predict", str(root), str(result), "--backbone", "tiny", "--quiet", *more]) in (0, 3)
    return result.read_bytes()


def test_classes_in_answers_out(visitor: Visitor, tmp_path: Path) -> None:
    classes, queries = example(tmp_path)
    for name, paths in classes.items():
        visitor.edit("add-class", name=name)
        for path in paths:
            visitor.upload(path.name, path.read_bytes(), name)
            target = tmp_path / "task" / "testB" / "task1" / "support" / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / "task" / "testB" / "task1" / "query").mkdir()
    for path in queries[::-1]:
        visitor.upload(path.name, path.read_bytes())
        (tmp_path / "task" / "testB" / "task1" / "query" / path.name).write_bytes(path.read_bytes())
    found = visitor.post("/api/name", classifier="prototype")
    expected = predicted(tmp_path / "task", tmp_path / "result.csv")
    assert visitor.get("/result.csv") == expected  # with the user's own file names
    rows = {row["image"]: row for row in csv.DictReader(io.StringIO(expected.decode()))}
    answers = found["named"]["answers"]
    assert [answer["name"] for answer in answers] == [path.name for path in queries[::-1]]  # in the order of choice
    for answer in answers:
        assert answer["label"] == rows[answer["name"]]["label"]
        assert answer["confidence"] == float(rows[answer["name"]]["confidence"])
    assert found["named"]["warnings"] == [] and found["named"]["changes"] == found["changes"]
    assert b"Few-shot predictions" in visitor.get("/report.html")
    assert visitor.post("/api/name", classifier="nearest")["named"]["classifier"] == "nearest"
    visitor.post("/api/name", 400, classifier="wizard")


def test_the_nearest_support_pictures_of_an_answer(visitor: Visitor) -> None:
    from fewshot import embed_images, load_encoder

    found = visitor.edit("example")
    support = {p["id"]: p["name"] for entry in found["classes"] for p in entry["pictures"]}
    answers = visitor.post("/api/name", classifier="nearest")["named"]["answers"]
    folder = next(visitor.folder.glob(f"*/uploads/{answers[0]['name']}")).parent
    names = [*support.values(), *(answer["name"] for answer in answers)]
    features = embed_images(load_encoder("tiny"), [folder / name for name in names]).features.numpy()
    for answer, feature in zip(answers, features[len(support) :], strict=True):
        cosines = dict(zip(support, (features[: len(support)] @ feature).tolist(), strict=True))
        best = sorted(cosines, key=lambda number: -cosines[number])[:3]
        assert [number for number, _ in answer["nearest"]] == best
        assert [cosine for _, cosine in answer["nearest"]] == pytest.approx([cosines[n] for n in best], abs=6e-4)
        assert support[best[0]].rsplit("-", 1)[0] == answer["label"]


def test_an_unreadable_picture_is_named_and_is_no_class(visitor: Visitor, tmp_path: Path) -> None:
    visitor.edit("example")
    visitor.edit("add-class", name="ghost")
    assert "not a picture" in visitor.upload("broken.png", b"no picture", "ghost")["problem"]
    assert visitor.upload("empty.jpg", b"")["problem"] == "the file is empty"
    visitor.upload("notes.txt", b"text", status=400)
    found = visitor.post("/api/name", classifier="prototype")["named"]
    told = "\n".join(found["warnings"])
    assert "support/ghost/broken.png cannot be read (not a picture in a known format)" in told
    assert "query/empty.jpg cannot be read (the file is empty)" in told
    assert "class ghost has no readable picture: it cannot be an answer" in told
    assert str(visitor.folder) not in told
    last = found["answers"][-1]
    assert (last["name"], last["label"], last["confidence"]) == ("empty.jpg", "", None)
    assert {answer["label"] for answer in found["answers"]} & {"ghost"} == set()
    assert b"task1,empty.jpg,,\n" in visitor.get("/result.csv")


def test_a_task_on_disk_is_loaded_answered_and_exported(visitor: Visitor, tmp_path: Path) -> None:
    table = read_class_folders(write_pictures(tmp_path / "pictures", 5, 6))
    root = write_task_directory(
        table, EpisodeSampler(table, ways=3, shots=2, queries=2, episodes=2), tmp_path / "tasks"
    )
    assert visitor.post("/api/load", path=str(root))["tasks"] == ["task1", "task2"]
    visitor.post("/api/load", path=str(root), task="task2")
    visitor.post("/api/name", classifier="prototype")
    alone = predicted(Path(root) / "testB" / "task2", tmp_path / "alone.csv")
    assert visitor.get("/result.csv") == alone
    written = Path(visitor.post("/api/export", path=str(tmp_path / "out"))["written"])
    assert written == tmp_path / "out" / "testB" and predicted(tmp_path / "out", tmp_path / "again.csv") == alone
    assert not any(path.is_symlink() for path in written.rglob("*"))
    visitor.post("/api/export", 400, path=str(tmp_path / "out"))  # never over something
    with zipfile.ZipFile(io.BytesIO(visitor.get("/testB.zip"))) as archive:
        archive.extractall(tmp_path / "unzipped")
    assert predicted(tmp_path / "unzipped", tmp_path / "zip.csv") == alone
    assert "there is no folder" in visitor.post("/api/load", 400, path=str(tmp_path / "nowhere"))["error"]


def test_every_visitor_has_a_task_of_his_own(visitor: Visitor) -> None:
    found = visitor.edit("example")
    number = found["queries"][0]["id"]
    assert visitor.get(f"/picture/{number}").startswith(b"\xff\xd8")
    other = Visitor(visitor.port, visitor.folder)
    assert other.enter() == 303 and other.headers["Cookie"] != visitor.headers["Cookie"]
    assert other.ask("GET", f"/picture/{number}")[0] == 404
    assert other.ask("GET", "/result.csv")[0] == 400
    assert len(visitor.edit("clear")["classes"]) == 0


@pytest.mark.parametrize(
    "path", ["/", "/api/state", "/picture/1", "/result.csv", "/report.html", "/testB.zip", "/?token=wrong"]
)
def test_without_the_token_nothing_is_told(stranger: Visitor, path: str) -> None:
    status, body, headers = stranger.ask("GET", path)
    assert status == 403 and b"whole address" in body and "set-cookie" not in headers
    assert stranger.ask("GET", path, Cookie=f"fewshot-{stranger.port}=made-up")[0] == 403


def test_other_pages_and_other_names_change_nothing(visitor: Visitor, tmp_path: Path) -> None:
    body = b'{"do": "example"}'
    own = f"http://127.0.0.1:{visitor.port}"
    assert visitor.ask("POST", "/api/edit", body, Origin=own)[0] == 200
    assert visitor.ask("POST", "/api/edit", b'{"do": "clear"}', Origin="http://evil.example")[0] == 403
    assert visitor.ask("POST", "/api/edit", b'{"do": "clear"}', Origin="null")[0] == 403
    without = Visitor(visitor.port, visitor.folder, {"Cookie": visitor.headers["Cookie"]})
    assert without.ask("POST", "/api/edit", b'{"do": "clear"}')[0] == 403  # what a form of a foreign page could send
    for name in ("evil.example", f"evil.example:{visitor.port}", f"127.0.0.1.evil.example:{visitor.port}", ""):
        assert visitor.ask("GET", "/api/state", Host=name)[0] == 421  # a name made to point here
    assert visitor.ask("GET", "/api/state", Host=f"localhost:{visitor.port}")[0] == 200
    assert visitor.ask("POST", "/api/load", b"[1]")[0] == 400 and visitor.ask("DELETE", "/api/state")[0] == 405
    _, _, headers = visitor.ask("GET", "/")
    assert (
        "script-src 'self'" in headers["content-security-policy"]
        and "'unsafe" not in headers["content-security-policy"]
    )


def test_an_upload_that_is_too_large_is_refused_and_not_kept(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor.edit("clear")
    monkeypatch.setattr(server_module, "MOST_BYTES", 1000)
    assert "more than the 1,000 bytes" in visitor.upload("large.png", b"x" * 5000, status=400)["error"]
    assert not [path for path in visitor.folder.glob("*/uploads/*") if path.stat().st_size in range(1000, 5001) and
                path.read_bytes().startswith(b"xx")]  # fmt: skip


def test_other_machines_get_no_folders(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")

    def never(*_: object) -> Any:
        raise AssertionError("nothing is named here")

    server = Server(Naming(never, never), "an encoder", ["prototype"], "prototype", tmp_path / "uploads")
    (tmp_path / "uploads").mkdir()
    write_pictures(tmp_path / "pictures", 2, 1)
    with serving(server, "0.0.0.0") as port:
        guest = Visitor(port, tmp_path)
        assert guest.ask("GET", "/api/state", Host="some.name")[0] == 403
        assert guest.enter() == 303
        assert guest.ask("GET", "/api/state", Host="some.name")[0] == 200  # names of this machine are many
        assert guest.edit("add-class", name="oak")["disk"] is False
        told = guest.post("/api/load", 400, path=str(tmp_path / "pictures"))["error"]
        assert "only where the page is for this machine alone" in told
        assert guest.post("/api/export", 400, path=str(tmp_path / "out"))["error"] == told
    assert not (tmp_path / "out").exists()


def test_which_hosts_are_this_machine_alone() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "192.168.1.5", "example.org", "::")] == [False] * 4


def test_a_place_that_is_taken_is_a_usage_error() -> None:
    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"--port {port}"):
            listening_socket("127.0.0.1", port)
    with pytest.raises(UsageError, match="--host no such"):
        listening_socket("no such host", 1)


def test_an_unknown_classifier_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--backbone", "tiny", "--classifier", "wizard"]) == 2
    assert "unknown classifier 'wizard'" in capsys.readouterr().err


def start(tmp_path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "fewshot", "app", "--backbone", "tiny", "--quiet", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.search(r"the page is at (http://127\.0\.0\.1:\d+/\?token=\S+)", said)
    if found is None:
        process.kill()
        raise AssertionError(said + (process.stderr.read() if process.stderr else ""))
    return process, found[1]


def use(url: str) -> Any:
    """Open the page and upload a picture."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(url) as page:
        assert page.status == 200 and b"Few-shot image classification" in page.read()
    base = url.partition("?")[0]
    request = urllib.request.Request(f"{base}api/upload?name=x.png", b"picture", {"x-fewshot": "1"}, method="PUT")
    with opener.open(request) as answer:
        assert answer.status == 200


@contextlib.contextmanager
def busy(url: str) -> Iterator[None]:
    """Meanwhile somebody uploads a picture whose end never comes."""
    address = urllib.parse.urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall(f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        cookie = re.search(rb"(?i)set-cookie: ([^;\r]+)", connection.recv(65536))
        assert cookie is not None
        head = f"PUT /api/upload?name=y.png HTTP/1.1\r\nHost: {address.netloc}\r\nCookie: {cookie[1].decode()}\r\nx-fewshot: 1\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nbegins".encode())
        yield


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGHUP, 143),  # the terminal was closed
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_uploads_are_gone_when_it_ends(tmp_path: Path, number: signal.Signals, status: int) -> None:
    process, url = start(tmp_path)
    try:
        use(url)
        assert list(tmp_path.glob("fewshot-app-*/*/uploads/*"))
        with busy(url) if number == signal.SIGTERM else contextlib.nullcontext():
            process.send_signal(number)
            assert process.stderr is not None
            error = process.stderr.read()
        assert process.wait() == status and "Traceback" not in error and "ERROR" not in error, error
        assert list(tmp_path.iterdir()) == []
    finally:
        process.kill()
