"""The page served from this process, and a visitor who talks to it as a browser does."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from fewshot.app.server import Server

TOKEN = "the-token"


@dataclass
class Visitor:
    """Asks for things, keeps the cookie, and sends the header that our own page sends."""

    port: int
    folder: Path
    headers: dict[str, str] = field(default_factory=lambda: {"x-fewshot": "1"})

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {**self.headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}
        finally:
            connection.close()

    def enter(self, token: str = TOKEN) -> int:
        status, _, headers = self.ask("GET", f"/?token={token}")
        if "set-cookie" in headers:
            self.headers["Cookie"] = headers["set-cookie"].partition(";")[0]
        return status

    def get(self, path: str) -> bytes:
        status, body, _ = self.ask("GET", path)
        assert status == 200, body
        return body

    def post(self, path: str, status: int = 200, /, **value: Any) -> Any:
        found, body, _ = self.ask("POST", path, json.dumps(value).encode())
        assert found == status, body
        return json.loads(body)

    def edit(self, do: str, status: int = 200, **value: Any) -> Any:
        return self.post("/api/edit", status, do=do, **value)

    def upload(self, name: str, data: bytes, into: str | None = None, status: int = 200) -> Any:
        where = {"name": name} | ({} if into is None else {"class": into})
        found, body, _ = self.ask("PUT", f"/api/upload?{urlencode(where)}", data)
        assert found == status, body
        return json.loads(body)


@contextmanager
def serving(server: Server, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve as if it listened at `host`; the port on loopback where it does."""
    from fewshot.commands.app import listening_socket, web_server

    with listening_socket("127.0.0.1", 0) as listening:
        web = web_server(server, host, listening, TOKEN)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            web.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def app_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    from fewshot.commands.app import Options, server_of

    folder = tmp_path_factory.mktemp("app")
    with serving(server_of(Options(backbone="tiny", quiet=True), folder)) as port:
        yield port, folder


@pytest.fixture
def stranger(app_port: tuple[int, Path]) -> Visitor:
    """Somebody who has not opened the address with its token."""
    return Visitor(*app_port)


@pytest.fixture
def visitor(stranger: Visitor) -> Visitor:
    """Somebody who has, with a task of his own."""
    assert stranger.enter() == 303
    return stranger
