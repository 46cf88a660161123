"""Receivers of alerts on loopback: a web server that can fail, hang and lead elsewhere, and a mail server."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.served_in_thread import ServedInThread


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver does with a request: waits, then answers, or leads elsewhere. status 0: it hangs up."""

    status: int = 200
    text: str = "kept"
    location: str = ""
    waits_s: float = 0.0
    """Seconds between taking a message and answering."""
    hangs: bool = False
    """Whether it takes the message and never answers, until the receiver is closed."""


@dataclass(frozen=True, slots=True)
class Post:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.body)
        return values


class WebReceiver(ServedInThread):
    """A web server that honours idempotency keys: it counts how often each was taken, which must be once."""

    def __init__(self, reply: Callable[[Post], Reply] = lambda post: Reply()) -> None:
        self.reply = reply
        self.posts: list[Post] = []
        self.accepted: Counter[str] = Counter()
        """How often each key was taken as new; a key that is known already is answered without being taken again."""
        self.num_repeated = 0
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                post = Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                reply = receiver._take(post)
                if reply.hangs:
                    receiver.closing.wait(60)
                    return
                if not reply.status or receiver.closing.wait(reply.waits_s):
                    return
                self.send_response(reply.status)
                if reply.location:
                    self.send_header("location", reply.location)
                data = reply.text.encode()
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A sender that was killed leaves a broken connection, which is no news."""

        super().__init__(Server(("127.0.0.1", 0), Handler), "receiver")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def wait_for_keys(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until this many keys were taken."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.accepted) >= count, timeout_s), dict(self.accepted)

    def wait_for_posts(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until this many requests arrived."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.posts) >= count, timeout_s), len(self.posts)

    def _take(self, post: Post) -> Reply:
        reply = self.reply(post)
        with self._arrived:
            self.posts.append(post)
            if reply.hangs or 200 <= reply.status < 300 or not reply.status:
                if post.key in self.accepted:
                    self.num_repeated += 1
                else:
                    self.accepted[post.key] += 1
            self._arrived.notify_all()
        return reply


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class MailReceiver:
    """A mail server that keeps what it takes, or refuses it with its words."""

    def __init__(self, answer: str = "250 kept", port: int = 0) -> None:
        """answer: what it says to each mail. port: 0 for a free one."""
        from aiosmtpd.controller import Controller

        self.mails: list[bytes] = []
        receiver = self

        class Handler:
            async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
                if answer.startswith("2"):
                    receiver.mails.append(envelope.content)
                return answer

        self.port = port or free_port()
        self._controller = Controller(Handler(), hostname="127.0.0.1", port=self.port)

    @property
    def url(self) -> str:
        """Its address for apprise."""
        return f"mailto://localhost:{self.port}/?from=house@example.org&to=ada@example.org&mode=insecure"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
