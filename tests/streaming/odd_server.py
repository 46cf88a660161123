"""A web server that behaves like odd recorders, proxies and cameras; each answer is a function of the request."""

from __future__ import annotations

import contextlib
import gzip
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from tests.clips import numbered
from tests.served_in_thread import ServedInThread


class Request(BaseHTTPRequestHandler):
    """Handles one request with the answer for its path."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""

    def do_GET(self) -> None:  # noqa: N802
        self.server.requests.append((self.path, self.headers.get("Range")))
        with contextlib.suppress(ConnectionError, KeyError):
            self.server.answers[self.path.strip("/").partition("?")[0]](self)
        self.close_connection = True

    def begin(self, *headers: tuple[str, str], status: int = 200) -> None:
        """Send the status line and headers of an answer."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def wait(self, seconds: float) -> None:
        """Wait, unless the server ends."""
        self.wfile.flush()
        self.server.closing.wait(seconds)


Answer = Callable[[Request], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    answers: dict[str, Answer] = {}  # noqa: RUF012
    requests: list[tuple[str, str | None]] = []  # noqa: RUF012
    closing = threading.Event()


class OddServer(ServedInThread):
    """Serves `answers` by their paths."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        server = _Server(("127.0.0.1", 0), Request)
        super().__init__(server, "odd web server")
        self.requests: list[tuple[str, str | None]] = []
        """The requested paths and ranges, in order."""
        server.answers, server.requests, server.closing = answers, self.requests, self.closing

    def url(self, path: str) -> str:
        """The URL of `path`."""
        return f"http://127.0.0.1:{self.port}/{path}"


def chunked(
    data: bytes, kind: str = "video/mp4", *, cut: bool = False, headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """Answers in chunks, without a length; `cut` omits the last eighth of the data and the final chunk."""

    def answer(request: Request) -> None:
        request.begin(("Content-Type", kind), ("Transfer-Encoding", "chunked"), *headers)
        sent = data[: len(data) * 7 // 8] if cut else data
        for start in range(0, len(sent), 4096):
            piece = sent[start : start + 4096]
            request.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
        if not cut:
            request.wfile.write(b"0\r\n\r\n")

    return answer


def until_closed(data: bytes, kind: str = "video/webm") -> Answer:
    """Answers as HTTP/1.0 without a length: the end of the connection is the end of the data."""

    def answer(request: Request) -> None:
        request.begin(("Content-Type", kind), ("Connection", "close"))
        request.wfile.write(data)

    return answer


def whole(data: bytes, *headers: tuple[str, str], head_late_s: float = 0.0, body_late_s: float = 0.0) -> Answer:
    """Answers with the whole file, ignoring the requested range."""

    def answer(request: Request) -> None:
        request.wait(head_late_s)
        request.begin(("Content-Type", "video/mp4"), ("Content-Length", str(len(data))), *headers)
        request.wait(body_late_s)
        request.wfile.write(data)

    return answer


def packed(data: bytes) -> Answer:
    """Answers with gzip, although the request does not accept it."""
    return whole(gzip.compress(data), ("Content-Encoding", "gzip"))


def refusing_parts(data: bytes) -> Answer:
    """Claims to support range requests, and refuses each with 416."""

    def answer(request: Request) -> None:
        if request.headers.get("Range", "bytes=0-") == "bytes=0-":
            whole(data, ("Accept-Ranges", "bytes"))(request)
        else:
            request.begin(("Content-Length", "0"), status=416)

    return answer


def part_without_length(data: bytes) -> Answer:
    """Answers with a range (206) of a file of unknown length, in chunks."""

    def answer(request: Request) -> None:
        headers = ("Content-Type", "video/webm"), ("Transfer-Encoding", "chunked")
        request.begin(*headers, ("Content-Range", f"bytes 0-{len(data) - 1}/*"), status=206)
        request.wfile.write(b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n")

    return answer


def moved(to: str, status: int = 302) -> Answer:
    """Answers with a redirect."""
    return lambda request: request.begin(("Location", to), ("Content-Length", "0"), status=status)


def jpegs(num: int) -> Iterator[bytes]:
    """JPEG pictures that encode their number, for `tests.clips.number_of`."""
    for index in range(num):
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(numbered(index, 96, 64))).save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def series(
    pictures: list[bytes],
    part: Callable[[int], bytes],
    *headers: tuple[str, str],
    kind: str = "multipart/x-mixed-replace; boundary=frame",
    tail: bytes = b"\r\n",
) -> Answer:
    """Answers with an MJPEG stream: `part` returns the header before a picture of a given size in bytes."""

    def answer(request: Request) -> None:
        request.begin(*((("Content-Type", kind),) if kind else ()), *headers, ("Connection", "close"))
        for picture in pictures:
            request.wfile.write(part(len(picture)) + picture + tail)

    return answer
