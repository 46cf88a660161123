"""Starts and stops the RTSP server that the tests talk to."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

PYTHON = "/usr/bin/python3"
"""The system's Python, because it has GStreamer's bindings."""

RTSP_PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)

_SCRIPT = Path(__file__).with_name("rtsp_server.py")


class RtspServer:
    """A server in a process of its own, which can be killed, stopped and started again on the same port."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def start(self) -> None:
        """Start it and wait until it listens."""
        command = [PYTHON, str(_SCRIPT), "--port", str(self.port), *self._arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words[:1] == ["ready"], "the RTSP server did not start"
        self.port = int(words[1])

    def url(self, userinfo: str = "") -> str:
        """The URL of its stream."""
        return f"rtsp://{userinfo}{'@' if userinfo else ''}127.0.0.1:{self.port}/live"

    def change(self, *arguments: str) -> None:
        """Use these arguments from the next start on."""
        self._arguments = arguments

    def freeze(self) -> None:
        """Stop it without closing its connections, like a camera that hangs."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `freeze`."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def resize(self, width_px: int, height_px: int) -> None:
        """Serve pictures of this size from now on."""
        self._order(f"size {width_px} {height_px}")

    def show(self, pattern: str) -> None:
        """Serve another of videotestsrc's patterns from now on: `ball` moves, `circular` stands still."""
        self._order(f"pattern {pattern}")

    def kill(self) -> None:
        """Kill the server at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _order(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
