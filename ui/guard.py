"""What every request passes before Gradio sees it: whose page sent it, and what answers carry. On the server's loop."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_UNUSED = re.compile(
    r"/(?:gradio_api/)?(?:proxy=|vibe|undo-vibe|dev/|profiling|run-history|runs\b|process_recording|deep_link|custom_component)"
    r"|/monitoring|/svelte/"
)
"""Gradio's own routes that this app has no use for."""
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=(), payment=(), usb=()"),
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; media-src 'self' data: blob: mediastream:; font-src 'self' data:; "
        b"connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
)


_OPENER = (b"cross-origin-opener-policy", b"same-origin")
"""Browsers complain of it on pages over http from elsewhere."""


class Guard:
    """Refuses requests that another site's page sends, and names that were bent to this machine (DNS rebinding)."""

    def __init__(self, app: App, *, is_local: bool, is_known: Callable[[Scope], bool] | None = None) -> None:
        """is_local: the app listens on the loopback interface, so only that interface's names may be asked for.

        is_known: whether who asks has logged in, for routes that Gradio does not look after; None where nobody need.
        """
        self._app = app
        self._is_local = is_local
        self._is_known = is_known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await _refuse(scope, receive, send, refusal)
            return

        own = [*_HEADERS, _OPENER] if self._is_local or scope["scheme"] in ("https", "wss") else _HEADERS

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in own if pair[0] not in given)]
            await send(message)

        await self._app(scope, receive, send_on)

    def _refusal(self, scope: Scope) -> str:
        """Why the request is not answered, empty where it is."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if self._is_local and _without_port(host) not in _LOCAL_HOSTS:
            return "this app answers on the loopback interface alone; open it as http://127.0.0.1"
        if _UNUSED.match(scope["path"]):
            return "there is nothing here"
        origin = headers.get(b"origin")
        site = headers.get(b"sec-fetch-site", "")
        is_open = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if origin is not None:
            if urlsplit(origin.lower()).netloc != host:
                return "another site's page sent this"
        elif not is_open and site not in ("", "same-origin", "none"):
            return "another site's page sent this"
        if self._is_known is not None and not self._is_known(scope):
            return "log in first"
        return ""


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
