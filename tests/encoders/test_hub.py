"""Downloads of open_clip's and timm's weights by the hub's own client, against a loopback server that answers as the hub does."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from episodes.errors import DataError
from fewshot.commands.cli import main
from fewshot.encoders import hub, load_encoder, timm_models
from fewshot.encoders.offline import strongest_offline

pytest.importorskip("timm")
pytest.importorskip("open_clip")
huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT = "1" * 40
REPOSITORY = "timm/test_vit.r160_in1k"


class _Handler(BaseHTTPRequestHandler):
    """Serves `files` (name -> bytes) of any repository; `digest` replaces the SHA-256 that it tells, `status` its answer."""

    def __init__(self, settings: dict[str, Any], *args: Any) -> None:
        self.settings = settings
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.settings["requests"].append((self.command, self.path))
        repository, _, name = self.path.strip("/").partition("/resolve/main/")
        if not name:  # by commit, once that is known
            repository, _, name = self.path.strip("/").partition(f"/resolve/{COMMIT}/")
        body = self.settings["files"].get((repository, name))
        self.send_response(self.settings["status"] or (200 if body is not None else 404))
        self.send_header("X-Repo-Commit", COMMIT)
        if body is None:
            if not self.settings["status"]:
                self.send_header("X-Error-Code", "EntryNotFound")
            body, with_body = b"", False
        else:
            self.send_header("ETag", f'"{self.settings["digest"] or hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    settings: dict[str, Any] = {"files": {}, "digest": None, "status": None, "requests": []}
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, settings))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    settings["url"] = f"http://127.0.0.1:{httpd.server_port}"
    yield settings
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def weights(timm_root: Callable[[str], Path]) -> bytes:
    return (timm_root("test_vit") / "test_vit" / "model.safetensors").read_bytes()


def test_the_command_downloads_what_load_then_finds(
    server: dict[str, Any],
    weights: bytes,
    tmp_path: Path,
    timm_root: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server["files"][REPOSITORY, "model.safetensors"] = weights
    command = ["download", "--model_name", "timm:test_vit", "--download_root", str(tmp_path), "--quiet"]
    assert main([*command, "--mirror", server["url"]]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.read_bytes() == weights and tmp_path in path.parents
    assert not huggingface_hub.utils.are_progress_bars_disabled()  # a setting of the process, which is not ours
    asked = len(server["requests"])
    found = load_encoder("timm:test_vit", download_root=tmp_path)
    assert found.fingerprint == load_encoder("timm:test_vit", download_root=timm_root("test_vit")).fingerprint
    assert len(server["requests"]) == asked  # loading asks nobody
    assert main([*command, "--mirror", server["url"]]) == 0
    assert [kind for kind, _ in server["requests"]].count("GET") == 1  # and a second download fetches nothing


def test_open_clip_s_weights_come_the_same_way(
    server: dict[str, Any], open_clip_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no safetensors in this repository, so the other file is taken."""
    file = open_clip_models / "tiny-vit.bin"
    server["files"]["tests/tiny-vit", "open_clip_pytorch_model.bin"] = file.read_bytes()
    backbone = "open_clip:tiny-vit/random"
    command = ["download", "--model_name", backbone, "--download_root", str(tmp_path), "--quiet"]
    assert main([*command, "--mirror", server["url"]]) == 0
    asked = [path.rpartition("/")[2] for kind, path in server["requests"] if kind == "HEAD"]
    assert asked[0] == "open_clip_model.safetensors"
    assert load_encoder(backbone, download_root=tmp_path).name == backbone


def test_a_file_that_is_not_what_the_hub_says_is_deleted(
    server: dict[str, Any], weights: bytes, tmp_path: Path
) -> None:
    server["files"][REPOSITORY, "model.safetensors"] = weights
    server["digest"] = "ab" * 32
    with pytest.raises(DataError, match="the hub says abab"):
        timm_models.TimmFamily().download("timm:test_vit", tmp_path, mirror=server["url"], quiet=True)
    with pytest.raises(DataError, match="fewshot download"):
        load_encoder("timm:test_vit", download_root=tmp_path)
    server["digest"] = None
    path = timm_models.TimmFamily().download("timm:test_vit", tmp_path, mirror=server["url"], quiet=True)
    assert path.read_bytes() == weights


def test_a_repository_without_weights_is_told(server: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds none of model\.safetensors, pytorch_model\.bin"):
        timm_models.TimmFamily().download("timm:test_vit", tmp_path, mirror=server["url"], quiet=True)


def test_a_server_that_refuses_says_what_to_do(server: dict[str, Any], tmp_path: Path) -> None:
    server["files"][REPOSITORY, "model.safetensors"], server["status"] = b"", 403
    where = hub.HubWeights("timm:test_vit", REPOSITORY, ("model.safetensors",))
    with pytest.raises(DataError) as error:
        hub.fetch(where, tmp_path, mirror=server["url"], quiet=True)
    text = str(error.value)
    assert str(tmp_path) in text and f"--backbone {strongest_offline()}" in text and "--mirror" in text


def test_an_unknown_model_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["download", "--download_root", str(tmp_path), "--model_name"]
    assert main([*command, "timm:resnet19"]) == 2
    assert main([*command, "open_clip:ViT-B-32/none"]) == 2
    assert "laion2b_s34b_b79k" in capsys.readouterr().err
