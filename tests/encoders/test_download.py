"""Downloads against a loopback server that behaves well, breaks off, lies, and refuses."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from episodes.errors import DataError, UsageError
from fewshot.encoders import download as module
from fewshot.encoders.offline import strongest_offline

CONTENT = bytes(range(256)) * 9000  # 2.3 MB: several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """Serves `content`; stops after `limit` bytes; knows ranges unless told not to."""

    def __init__(self, settings: dict[str, object], *args: object) -> None:
        self.settings = settings
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        settings = self.settings
        settings["requests"].append(self.headers.get("Range"))  # type: ignore[attr-defined]
        if settings["status"] is not None:
            self.send_error(int(settings["status"]))  # type: ignore[call-overload]
            return
        if settings["moved"] and not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", f"/moved{self.path}" if settings["moved"] == "once" else self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body: bytes = settings["content"]  # type: ignore[assignment]
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if settings["ranges"] else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        claimed = settings["length"] if isinstance(settings["length"], int) else len(body) - start
        if claimed >= 0:
            self.send_header("Content-Length", str(claimed))
        self.end_headers()
        limit = settings["limit"]
        self.wfile.write(body[start : start + limit] if isinstance(limit, int) else body[start:])
        if settings["silent"]:
            self.wfile.flush()
            settings["silent"].wait()  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    settings: dict[str, object] = {"content": CONTENT, "limit": None, "ranges": True, "requests": []}
    settings |= {"status": None, "moved": "", "length": None, "silent": None}
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, settings))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    settings["url"] = f"http://127.0.0.1:{httpd.server_port}"
    # The addresses are the package's; the digest in them is that of what this server holds.
    monkeypatch.setattr(module, "model_urls", lambda: {"ViT-B/32": f"{settings['url']}/{DIGEST}/ViT-B-32.pt"})
    yield settings
    httpd.shutdown()
    httpd.server_close()


def test_download_verifies_and_is_not_repeated(server: dict[str, object], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = module.download("ViT-B/32", tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "ViT-B-32.pt" and path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and [d for d, _ in seen] == sorted(d for d, _ in seen)
    module.download("ViT-B/32", tmp_path)
    assert server["requests"] == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["ViT-B-32.pt"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_continues_or_restarts(server: dict[str, object], tmp_path: Path, ranges: bool) -> None:
    server["limit"] = 1_500_000
    with pytest.raises(DataError, match="run the command again to continue"):
        module.download("ViT-B/32", tmp_path)
    assert not (tmp_path / "ViT-B-32.pt").exists()
    assert (tmp_path / "ViT-B-32.pt.part").stat().st_size == 1_500_000
    server["limit"], server["ranges"] = None, ranges
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT
    assert server["requests"] == [None, "bytes=1500000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["ViT-B-32.pt"]


def test_a_complete_part_is_taken(server: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "ViT-B-32.pt.part").write_bytes(CONTENT)
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away(server: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "ViT-B-32.pt.part").write_bytes(b"x" * (len(CONTENT) + 10))
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_and_deleted(server: dict[str, object], tmp_path: Path) -> None:
    server["content"] = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match="SHA-256 .* expected " + DIGEST):
        module.download("ViT-B/32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_file_in_place_is_replaced(server: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "ViT-B-32.pt").write_bytes(b"half a file")
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


def test_a_mirror_is_asked_by_file_name(server: dict[str, object], tmp_path: Path) -> None:
    assert module.download("ViT-B/32", tmp_path, mirror=f"{server['url']}/mirror/").read_bytes() == CONTENT


def test_no_network_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        module.download("ViT-B/32", tmp_path, mirror="http://127.0.0.1:9")  # nothing listens on the discard port
    text = str(error.value)
    assert str(tmp_path / "ViT-B-32.pt") in text and f"--backbone {strongest_offline()}" in text and "--mirror" in text


def test_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="RN50x64"):
        module.download("ViT-B/31", tmp_path)


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_a_refusal_is_told_and_leaves_nothing(server: dict[str, object], tmp_path: Path, status: int) -> None:
    server["status"] = status
    with pytest.raises(DataError, match=rf"could not download ViT-B/32 from http.*HTTP Error {status}.*--mirror"):
        module.download("ViT-B/32", tmp_path)
    assert list(tmp_path.iterdir()) == []
    server["status"] = None
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


def test_a_redirection_is_followed_and_continued_behind(server: dict[str, object], tmp_path: Path) -> None:
    server["moved"], server["limit"] = "once", 1_000_000
    with pytest.raises(DataError, match="run the command again to continue"):
        module.download("ViT-B/32", tmp_path)
    server["limit"] = None
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT
    assert server["requests"] == [None, None, "bytes=1000000-", "bytes=1000000-"]


def test_a_redirection_in_circles_ends(server: dict[str, object], tmp_path: Path) -> None:
    server["moved"] = "in circles"
    with pytest.raises(DataError, match="could not download"):
        module.download("ViT-B/32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_falls_silent_is_left_and_continued(
    server: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.3)
    server["limit"], server["silent"] = 700_000, threading.Event()
    with pytest.raises(DataError, match=r"sent nothing for 0\.3 s; run the command again"):
        module.download("ViT-B/32", tmp_path)
    server["silent"].set()  # type: ignore[attr-defined]
    assert (tmp_path / "ViT-B-32.pt.part").stat().st_size == 700_000
    server["limit"] = server["silent"] = None
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("length", [len(CONTENT) - 10, len(CONTENT) + 10])
def test_a_wrong_length_never_gives_a_wrong_file(server: dict[str, object], tmp_path: Path, length: int) -> None:
    server["length"] = length
    with pytest.raises(DataError, match="the connection broke after" if length > len(CONTENT) else "SHA-256"):
        module.download("ViT-B/32", tmp_path)
    assert not (tmp_path / "ViT-B-32.pt").exists()
    server["length"] = None
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


def test_no_length_at_all_is_enough(server: dict[str, object], tmp_path: Path) -> None:
    server["length"] = -1
    assert module.download("ViT-B/32", tmp_path).read_bytes() == CONTENT


def test_more_than_any_model_has_is_not_put_on_the_disk(
    server: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 1_200_000)
    for length in (None, -1):  # announced, and not
        server["length"] = length
        with pytest.raises(DataError, match="more than 1,200,000 bytes"):
            module.download("ViT-B/32", tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(server: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="could not download"):
        module.download("ViT-B/32", tmp_path / "file" / "folder")
