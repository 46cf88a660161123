"""A small web server for tests: files with and without range requests, an MJPEG stream, and failures."""

from __future__ import annotations

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from tests.served_in_thread import ServedInThread

_BOUNDARY = "frame"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""

    def do_GET(self) -> None:  # noqa: N802
        kind, _, rest = self.path.lstrip("/").partition("/")
        try:
            getattr(self, f"_send_{kind}")(rest.partition("?")[0])
        except FileNotFoundError:
            self._send_status("404")
        except (ConnectionError, AttributeError):
            self.close_connection = True

    def _send_status(self, code: str) -> None:
        self.send_response(int(code))
        self.end_headers()

    def _send_file(self, name: str) -> None:
        """Send the whole file without range requests, so that FFmpeg cannot seek in it."""
        self._send(self.server.folder.joinpath(name).read_bytes())

    def _send_private(self, name: str) -> None:
        """Send the file to one user only."""
        wanted = base64.b64encode(self.server.login.encode()).decode()
        if self.headers.get("Authorization") == f"Basic {wanted}":
            self._send_file(name)
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="tests"')
            self.end_headers()

    def _send_parts(self, name: str) -> None:
        """Send the requested range of the file."""
        data = self.server.folder.joinpath(name).read_bytes()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(data[start:end])

    def _send_to(self, name: str) -> None:
        """Redirect to the file."""
        self._send_redirect(f"/file/{name}")

    def _send_circle(self, _: str) -> None:
        self._send_redirect("/circle/")

    def _send_redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_stall(self, name: str) -> None:
        """Send half of the file, then nothing more."""
        data = self.server.folder.joinpath(name).read_bytes()
        self._send(data, num_sent=len(data) // 2)
        self.wfile.flush()
        self.server.closing.wait()

    def _send_page(self, _: str) -> None:
        self._send(b"<html><body>Welcome to your camera</body></html>" * 50)

    def _send_camera(self, num_images: str) -> None:
        """Send an MJPEG stream without a declared length, like cheap cameras."""
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={_BOUNDARY}")
        self.end_headers()
        for index in range(int(num_images)):
            buffer = io.BytesIO()
            Image.new("RGB", (64, 48), (index * 5, 0, 0)).save(buffer, "JPEG")
            part = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {buffer.tell()}\r\n\r\n"
            self.wfile.write(part.encode() + buffer.getvalue() + b"\r\n")

    def _send(self, data: bytes, num_sent: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:num_sent])


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    folder = Path()
    login = ""
    closing = threading.Event()


class WebServer(ServedInThread):
    """Serves `folder`: `/file/NAME`, `/parts/NAME`, `/private/NAME`, `/stall/NAME`, and `/page/`, `/camera/COUNT`,
    `/status/CODE`; redirects by `/to/NAME`, `/redirect/URL` and `/circle/`."""

    def __init__(self, folder: Path, login: str = "") -> None:
        server = _Server(("127.0.0.1", 0), _Handler)
        super().__init__(server, "web server of a test")
        server.folder, server.login, server.closing = folder, login, self.closing

    def url(self, path: str, userinfo: str = "") -> str:
        """The URL of `path`."""
        return f"http://{userinfo}{'@' if userinfo else ''}127.0.0.1:{self.port}/{path}"
