"""Who may use the page: whoever has the address that was printed, from a page of our own, under a name of this machine.

The page reads folders of this machine, so other users of the machine, other web pages (CSRF) and names that are made to point
here (DNS rebinding) are kept out: a secret in the address becomes a cookie, the Host must be one that we answer to, and
whatever changes something must come from our own page, with a header that no foreign page can send.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OURS = "x-fewshot"  # the header that our page sends
MOST_VISITORS = 50
_PAGES = ("/app.js", "/app.css")  # hold nothing of anybody's
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
# The report brings a policy of its own, which names its script by hash: this one only adds to it.
_REPORT_POLICY = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_FORBIDDEN = b"Open the page by the whole address that 'fewshot app' printed, with its token."


class Guard:
    """ASGI middleware: lets a visitor in by the token, knows him by a cookie, and adds headers to every answer.

    An inner application finds the visitor's name in ``scope["visitor"]``.
    """

    def __init__(self, app: App, token: str, host: str, port: int) -> None:
        """Store whom to let in.

        Args:
            app: what is guarded.
            token: the secret in the address.
            host: where the server listens.
            port: likewise.
        """
        self._app, self._token = app, token
        self._cookie = f"fewshot-{port}"
        self._hosts = (
            {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]", host)} if is_loopback(host) else None
        )
        self._visitors: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        status, why = self._refusal(scope, headers)
        if status:
            await _plain(send, status, why)
            return
        if scope["path"] == "/" and "token" in (asked := parse_qs(scope["query_string"].decode("latin-1"))):
            if not secrets.compare_digest(asked["token"][0].encode(), self._token.encode()):
                await _plain(send, 403, _FORBIDDEN)
                return
            await self._let_in(send, self._visitor(headers))
            return
        visitor = self._visitor(headers)
        if visitor is None and scope["path"] not in _PAGES:
            await _plain(send, 403, _FORBIDDEN)
            return
        scope["visitor"] = visitor
        await self._app(scope, receive, _with_headers(send, scope["path"]))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, bytes]:
        host = headers.get("host", "")
        if self._hosts is not None and host not in self._hosts:
            return 421, b"This name is none that the page answers to."
        foreign = headers.get("origin", f"http://{host}") != f"http://{host}"
        if scope["method"] not in ("GET", "HEAD") and (foreign or OURS not in headers):
            return 403, b"Only the page itself may change something."
        return 0, b""

    def _visitor(self, headers: dict[str, str]) -> str | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return None
        return morsel.value if morsel is not None and morsel.value in self._visitors else None

    async def _let_in(self, send: Send, visitor: str | None) -> None:
        """On to the page without the token in its address; who comes anew gets a cookie."""
        headers = [(b"location", b"/")]
        if visitor is None:
            if len(self._visitors) >= MOST_VISITORS:
                await _plain(
                    send, 503, b"Too many browsers have opened this page: end 'fewshot app' and start it anew."
                )
                return
            visitor = secrets.token_urlsafe(24)
            self._visitors.add(visitor)
            headers.append((b"set-cookie", f"{self._cookie}={visitor}; Path=/; HttpOnly; SameSite=Lax".encode()))
        await _plain(send, 303, b"", headers)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, and no other can reach it there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _with_headers(send: Send, path: str) -> Send:
    policy = _REPORT_POLICY if path == "/report.html" else _POLICY

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *_safety(policy)]
        await send(message)

    return wrapped


def _safety(policy: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]


async def _plain(send: Send, status: int, text: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    sized = (b"content-length", str(len(text)).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [kind, sized, *(headers or []), *_safety(_POLICY)]}
    )
    await send({"type": "http.response.body", "body": text})
