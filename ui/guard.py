"""Checks every request before Gradio gets it, and adds security headers to every response. On the server's loop."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from ui.public_url import LOCAL_HOSTS, PublicUrl, forget_claims, without_port

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_UNUSED = re.compile(
    r"/(?:gradio_api/)?(?:proxy=|vibe|undo-vibe|dev/|profiling|run-history|runs\b|process_recording|deep_link|custom_component)"
    r"|/monitoring|/svelte/"
)
"""Gradio's routes that this app does not use and refuses."""
REFUSAL_HEADER = b"x-refusal"
"""Marks a refusal whose reason the page shows (`static/refusal.js`)."""
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
"""Not sent with pages over http from another machine, where browsers warn about it."""


class Guard:
    """Refuses requests sent by other sites' pages, and foreign names that resolve to this machine (DNS rebinding)."""

    def __init__(
        self,
        app: App,
        *,
        is_local: bool,
        is_known: Callable[[Scope], bool] | None = None,
        public: PublicUrl | None = None,
    ) -> None:
        """is_local: the app listens on the loopback interface only, so requests must use one of its names.

        public: the address under which a reverse proxy serves the app; requests may use it, too.

        is_known: whether a request comes from a logged-in user, for routes that Gradio does not check; None if the app
        has no login.
        """
        self._app = app
        self._is_local = is_local
        self._is_known = is_known
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        public = self._public
        is_public = public is not None and public.is_asked_for(_headers(scope))
        if public is not None and is_public:
            public.lay_on(scope)
        else:
            forget_claims(scope)
        refusal = self._refusal(scope, is_public=is_public)
        if refusal:
            await _refuse(scope, receive, send, refusal)
            return

        is_secure = scope["scheme"] in ("https", "wss") or (self._is_local and not is_public)
        own = [*_HEADERS, _OPENER] if is_secure else _HEADERS

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in own if pair[0] not in given)]
            await send(message)

        await self._app(scope, receive, send_on)

    def _refusal(self, scope: Scope, *, is_public: bool) -> str:
        """The reason for refusing a request, as value, rule and remedy; empty if it is accepted."""
        headers = _headers(scope)
        host = headers.get(b"host", "").lower()
        if self._is_local and not is_public and without_port(host) not in LOCAL_HOSTS:
            return (
                f"Host is {_shown(host)}: this app answers on the loopback interface only, to {self._names()}. Open "
                f"it as http://127.0.0.1; {self._remedy(f'https://{host}')}"
            )
        if _UNUSED.match(scope["path"]):
            return "there is nothing here"
        origin = headers.get(b"origin")
        site = headers.get(b"sec-fetch-site", "")
        is_open = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
        if origin is not None:
            if not self._is_own(origin.lower(), host, is_public=is_public):
                return (
                    f"Origin is {_shown(origin)}, and this app was opened as {_shown(host)}: another site's page "
                    f"may not use it. Open {self._names()} itself; {self._remedy(origin)}"
                )
        elif not is_open and site not in ("", "same-origin", "none"):
            return f"Sec-Fetch-Site is {_shown(site)}: another site's page may not use this app. Open the app itself"
        if self._is_known is not None and not self._is_known(scope):
            return "log in first"
        return ""

    def _is_own(self, origin: str, host: str, *, is_public: bool) -> bool:
        """Whether `origin` is this app; the scheme is compared only behind a proxy, where it is known."""
        if is_public and self._public is not None:
            return origin == self._public.origin
        return urlsplit(origin).netloc == host

    def _names(self) -> str:
        names = sorted(LOCAL_HOSTS)
        return ", ".join(names if self._public is None else [*names, str(self._public)])

    def _remedy(self, url: str) -> str:
        if self._public is not None:
            return "behind a reverse proxy, let it pass on the Host header, and give --public-url what people type"
        return f"behind a reverse proxy, start with --public-url {_shown(url)}"


def _headers(scope: Scope) -> dict[bytes, str]:
    return {name: value.decode("latin-1") for name, value in scope["headers"]}


def _shown(value: str) -> str:
    """Untrusted text for a message, as one line of at most 80 characters.

    >>> _shown("evil\\n.example")
    'evil .example'
    """
    return " ".join(value.split())[:80] or "missing"


async def _refuse(scope: Scope, receive: Receive, send: Send, reason: str) -> None:
    body = reason.encode("utf-8", "replace")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": body[:120].decode("utf-8", "ignore")})
        return
    kind = b"text/plain; charset=utf-8"
    if scope["path"].startswith("/v1/"):  # programs read the errors of the endpoint as OpenAI's
        error = {"message": reason, "type": "invalid_request_error", "param": None, "code": "refused"}
        kind, body = b"application/json", json.dumps({"error": error}).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    headers.append((REFUSAL_HEADER, b"1"))
    await send({"type": "http.response.start", "status": 403, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
