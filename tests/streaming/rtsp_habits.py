"""A small RTSP camera with cheap cameras' habits: it sends a film over and over, stamped and announced as a test wants.

Each connection has a thread of its own; `with` starts and ends them all.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from tests.served_in_thread import ServedInThread

_SPS, _PPS, _SLICES, _FRAGMENT = 7, 8, (1, 5), 28
_MOST_BYTES = 1300


@dataclass(frozen=True, slots=True)
class Habits:
    """How the camera behaves."""

    fps: float = 10.0
    """Pictures sent per second."""
    stamp_of: Callable[[float], float] = lambda sent_s: sent_s
    """The timestamp of a picture, from the time at which it is sent after the first."""
    with_sets: bool = True
    """Whether the stream description contains the parameter sets."""
    gop: int = 10
    begin: int = 0
    """Index of the picture with which the film starts for a new connection."""


class HabitCamera(ServedInThread):
    """Serves `rtsp://127.0.0.1:PORT/live` (H.264 over TCP)."""

    def __init__(self, pictures: Sequence[np.ndarray], habits: Habits) -> None:
        """`pictures`: the film, uint8 `[height, width, 3]` each."""
        self.habits = habits
        self.film = _encoded(pictures, habits.gop)
        server = _Server(("127.0.0.1", 0), _Viewer)
        super().__init__(server, "camera with habits")
        server.camera = self

    @property
    def url(self) -> str:
        """The URL of its stream."""
        return f"rtsp://127.0.0.1:{self.port}/live"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    camera: HabitCamera


class _Viewer(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (request := self._request()) is not None:
                self._answer(*request)

    def _request(self) -> tuple[str, str, str] | None:
        """Method, URL and number of the next request; None at the end."""
        lines: list[str] = []
        while True:
            first = self.rfile.read(1)
            if not first:
                return None
            if first == b"$":  # a report of the receiver's
                head = self.rfile.read(3)
                self.rfile.read(struct.unpack(">BH", head)[1])
                continue
            line = (first + self.rfile.readline()).decode().strip()
            if not line:
                break
            lines.append(line)
        method, url, _ = lines[0].split()
        return method, url, next(line.split(":")[1].strip() for line in lines if line.lower().startswith("cseq"))

    def _answer(self, method: str, url: str, number: str) -> None:
        extra, body = "Session: 1\r\n", ""
        if method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = self._description()
            extra = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Session: 1;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}\r\n{body}".encode())
        if method == "PLAY":
            threading.Thread(target=self._play, name="camera with habits, playing", daemon=True).start()
        elif method == "TEARDOWN":
            raise ValueError("the viewer left")

    def _description(self) -> str:
        camera = self.server.camera
        kinds = {unit[0] & 31: unit for unit in camera.film[0]}
        sets = ",".join(base64.b64encode(kinds[kind]).decode() for kind in (_SPS, _PPS))
        given = f";sprop-parameter-sets={sets}" if camera.habits.with_sets else ""
        return (
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
            "m=video 0 RTP/AVP 96\r\n"
            f"a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1{given}\r\na=control:track\r\n"
        )

    def _play(self) -> None:
        camera, habits, numbers = self.server.camera, self.server.camera.habits, itertools.count(1)
        with contextlib.suppress(OSError, ValueError):
            for index in itertools.count():
                units = camera.film[(habits.begin + index) % len(camera.film)]
                stamp = int(90_000 * habits.stamp_of(index / habits.fps)) & 0xFFFFFFFF
                for packet, is_last in _packets(units):
                    head = struct.pack(">BBHII", 0x80, 0x80 * is_last | 96, next(numbers) & 0xFFFF, stamp, 7)
                    self.wfile.write(b"$\0" + struct.pack(">H", len(head) + len(packet)) + head + packet)
                if camera.closing.wait(1 / habits.fps):
                    return


def _packets(units: list[bytes]) -> list[tuple[bytes, bool]]:
    """The payloads of one picture (RFC 6184), and whether each is its last."""
    packets: list[bytes] = []
    for unit in units:
        if len(unit) <= _MOST_BYTES:
            packets.append(unit)
            continue
        for start in range(1, len(unit), _MOST_BYTES):
            is_end = start + _MOST_BYTES >= len(unit)
            mark = 0x80 * (start == 1) | 0x40 * is_end | unit[0] & 31
            packets.append(bytes([unit[0] & 0xE0 | _FRAGMENT, mark]) + unit[start : start + _MOST_BYTES])
    return [(packet, number == len(packets) - 1) for number, packet in enumerate(packets)]


def _encoded(pictures: Sequence[np.ndarray], gop: int) -> list[list[bytes]]:
    """The units of each picture; the parameter sets stand before each key frame."""
    context = av.CodecContext.create("libx264", "w")
    context.height, context.width = pictures[0].shape[:2]
    context.pix_fmt, context.time_base, context.thread_count = "yuv420p", Fraction(1, 10), 1
    keys = f"repeat-headers=1:keyint={gop}:min-keyint={gop}:scenecut=0"
    context.options = {"preset": "veryfast", "bf": "0", "x264-params": keys}
    data = b""
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts = number
        data += b"".join(bytes(packet) for packet in context.encode(frame))
    data += b"".join(bytes(packet) for packet in context.encode(None))
    film: list[list[bytes]] = [[]]
    for unit in filter(None, re.split(b"\0\0\0?\1", data)):
        film[-1].append(unit)
        if unit[0] & 31 in _SLICES:
            film.append([])
    return film[:-1]
