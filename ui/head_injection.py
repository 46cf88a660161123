"""Inserts our HTML at the start of a page's head. On the server's loop.

Gradio's own `head` argument comes after its scripts, and is left out of the login page.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from ui.guard import App, Message, Receive, Scope, Send

_HEAD = b"<head>"


class HeadInjection:
    """Inserts `html` at the start of the page's head."""

    def __init__(self, app: App, *, html: str) -> None:
        self._app = app
        self._begun = _HEAD + html.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or connection."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def send_on(message: Message) -> None:
            """Hold the page back until it is complete, since its length is sent first."""
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                for each in self._opened(held):
                    await send(each)

        await self._app(scope, receive, send_on)

    def _opened(self, held: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
        start, *parts = held
        body = b"".join(part.get("body", b"") for part in parts).replace(_HEAD, self._begun, 1)
        lengthless = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        start["headers"] = [*lengthless, (b"content-length", str(len(body)).encode())]
        return [start, {"type": "http.response.body", "body": body}]
