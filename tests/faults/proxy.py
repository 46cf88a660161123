"""A TCP proxy in front of a camera that loses, delays and damages packets.

RTSP over TCP frames each packet by a marker and a length, so packets can be lost here as on a bad network. The thread
`proxy` runs the event loop; everything public is for the test's thread.
"""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_MARK = ord("$")
_HEAD = 4
_CHUNK = 65536
_MAX_UNDER_WAY = 4096


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to packets on their way from the camera."""

    lose: float = 0.0
    """Share of packets that never arrive."""
    corrupt: float = 0.0
    """Share of packets in which a tenth of the bytes are noise."""
    delay_s: float = 0.0
    """Delay of each packet, once to twice this value; the order is kept."""
    derail: float = 0.0
    """Share of packets with a wrong length, so that the reader loses its place."""


_UnderWay = asyncio.Queue[tuple[float, bytes]]
"""Data and its time of arrival; None is the end."""


class Proxy:
    """Passes TCP connections on to `127.0.0.1:target_port`."""

    def __init__(self, target_port: int, seed: int = 0) -> None:
        self._target_port = target_port
        self._rng = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._over = asyncio.Event()
        self.weather = Weather()
        self.port = 0
        self.num_packets = 0
        self.num_hit = 0
        """Packets that something happened to, delays not counted."""

    def url(self, userinfo: str = "") -> str:
        """URL of the camera through the proxy."""
        return f"rtsp://{userinfo}{'@' if userinfo else ''}127.0.0.1:{self.port}/live"

    def hold(self) -> None:
        """Stop passing on data from the camera, with connections left open."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Continue after `hold`."""
        self._loop.call_soon_threadsafe(self._open.set)

    def cut(self) -> None:
        """Close every connection."""
        self._loop.call_soon_threadsafe(self._abort)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(5.0):
            raise RuntimeError("the proxy did not start within five seconds")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5.0)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._open.set()
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _pass_on(self, viewer_in: asyncio.StreamReader, viewer_out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        outs = [viewer_out]
        try:
            camera_in, camera_out = await asyncio.open_connection("127.0.0.1", self._target_port)
            outs.append(camera_out)
            self._writers.update(outs)
            under_way: _UnderWay = asyncio.Queue(_MAX_UNDER_WAY)
            ways = [
                asyncio.ensure_future(way)
                for way in (
                    self._copy(viewer_in, camera_out),
                    self._take_packets(camera_in, under_way),
                    self._deliver(under_way, viewer_out),
                )
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the camera is unreachable, or the proxy ends
        finally:
            for out in outs:
                self._writers.discard(out)
                out.transport.abort()
            self._tasks.discard(task)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()

    async def _take_packets(self, source: asyncio.StreamReader, under_way: _UnderWay) -> None:
        due_s = 0.0
        while first := await source.read(1):
            if first[0] == _MARK:
                rest = await source.readexactly(_HEAD - 1)
                body = await source.readexactly(int.from_bytes(rest[1:], "big"))
                data = self._weathered(first + rest, body)
            else:
                # An answer of the server: lines up to an empty one.
                data = first + await source.readuntil(b"\n")
            due_s = max(due_s, self._loop.time() + self.weather.delay_s * self._rng.uniform(1, 2))
            if data:
                await under_way.put((due_s, data))
        await under_way.put((due_s, b""))

    async def _deliver(self, under_way: _UnderWay, sink: asyncio.StreamWriter) -> None:
        while True:
            due_s, data = await under_way.get()
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))
            await self._open.wait()
            if not data:
                return
            sink.write(data)
            await sink.drain()

    def _weathered(self, head: bytes, body: bytes) -> bytes:
        """The bytes of a packet that arrive."""
        weather, rng = self.weather, self._rng
        self.num_packets += 1
        if rng.random() < weather.lose:
            self.num_hit += 1
            return b""
        if rng.random() < weather.corrupt:
            self.num_hit += 1
            body = bytes(rng.randrange(256) if rng.random() < 0.1 else byte for byte in body)
        if rng.random() < weather.derail:
            self.num_hit += 1
            head = head[:2] + rng.randbytes(2)
        return head + body
