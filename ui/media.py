"""A tab's WebSocket (pictures and states out, webcam pictures in), and the route for its downloads.

Runs on the server's event loop; decodes and encodes in its threads.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from assistant.cameras.views import Region
from assistant.errors import AssistantError, ConfigError
from assistant.inputs.snapshots import NewestPicture, ViewerPicture
from ui.alert_link import AlertLink
from ui.pulse import SentState, cameras_of, evidence_of, pulse_of
from ui.rule_link import RuleLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from assistant.serving.contracts import WatchableStream
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession

PULSE_S = 0.25
GRID_S = 1.0
"""Interval at which the grid of all cameras is sent while it is visible."""
HELLO_S = 10.0
"""How long a connection may take to send its session's token."""
MOST_IN_FLIGHT = 2
"""Most pictures sent that the browser has not drawn yet; on a slow line the newest one is sent next."""
MOST_MESSAGE_BYTES = 4 << 20
MOST_TEXT = 32_768
"""Most characters of a text message; enough for drawn regions with all their corners."""
PICTURE_HEAD = struct.Struct("<dI")
"""Media time, number; the JPEG follows."""
WEBCAM_HEAD = struct.Struct("<d")
"""The browser's clock, seconds; the JPEG follows."""

_log = logging.getLogger(__name__)


def media_routes(backend: Backend) -> list[BaseRoute]:
    """The app's own routes, which are matched before Gradio's."""

    async def connect(socket: WebSocket) -> None:
        await _serve(backend, socket)

    def fetch(request: Request) -> Response:
        viewer = backend.registry.by_token(request.path_params["token"])
        path = viewer.offered(request.path_params["name"]) if viewer is not None else None
        if path is None or not path.is_file():
            return PlainTextResponse("no such file", status_code=404)
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        return FileResponse(path, filename=path.name.split("-", 1)[1], headers=headers)

    return [WebSocketRoute("/sva/ws", connect), Route("/sva/files/{token}/{name}", fetch)]


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a connection comes from a page of this server or from a program, which sends no origin.

    >>> is_same_origin("http://evil.example", "localhost"), is_same_origin("http://localhost", "localhost")
    (False, True)
    """
    return origin is None or (host is not None and urlsplit(origin).netloc.lower() == host.lower())


def read_regions(values: Any) -> list[Region]:
    """Masks and zones from the JSON that the page sends. Raises `ConfigError`.

    >>> read_regions([{"kind": "mask", "name": "", "points": [[0, 0], [1, 0], [1, 0.5]]}])[0].points
    ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5))
    """
    try:
        read = [(str(value["kind"]), str(value.get("name", "")), value["points"]) for value in values]
        return [Region(kind, name, tuple((float(x), float(y)) for x, y in points)) for kind, name, points in read]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise ConfigError(
            "drawn regions: each has kind (mask or zone), name, and points as [[x, y], …]; send them so"
        ) from None


async def _serve(backend: Backend, socket: WebSocket) -> None:
    """Serve one connection from its opening to its end."""
    if not is_same_origin(socket.headers.get("origin"), socket.headers.get("host")):
        await socket.close(code=4403)
        return
    await socket.accept()
    try:
        hello = await asyncio.wait_for(socket.receive_json(), HELLO_S)
        token = hello.get("token") if isinstance(hello, dict) else None
        viewer = backend.registry.connect(token) if isinstance(token, str) else None
        if viewer is None:
            await socket.send_json({"type": "gone"})
            await socket.close()
            return
    except (TimeoutError, WebSocketDisconnect, ValueError, KeyError, RuntimeError):
        with suppress(RuntimeError):
            await socket.close()
        return
    connection = _Connection(backend, viewer, socket)
    connection.is_shown = bool(hello.get("shown", True))
    try:
        await connection.run()
    finally:
        backend.registry.disconnect(viewer)


class _Connection:
    """One open connection."""

    def __init__(self, backend: Backend, viewer: ViewerSession, socket: WebSocket) -> None:
        self._backend, self._viewer, self._socket = backend, viewer, socket
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._pictures = NewestPicture(self._wake)
        self._viewed: WatchableStream | None = None
        self._stop_viewing: Callable[[], None] = lambda: None
        self._sent = self._drawn = 0
        self._in_flight: list[int] = []
        self._told = SentState()
        self._feed_told = -1
        self._pushing: asyncio.Task[None] | None = None
        self._is_grid_seen = False
        self._next_grid_s = 0.0
        self._rules = RuleLink(backend, viewer)
        self._next_rules_s = 0.0
        self._alerts = AlertLink(backend, viewer)
        self._next_alerts_s = 0.0
        self.is_shown = True

    async def run(self) -> None:
        """Serve until the browser disconnects."""
        leave_feed = self._viewer.feed.listen(self._wake)
        sending = asyncio.create_task(self._send())
        try:
            await self._receive()
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            sending.cancel()
            leave_feed()
            self._view(None)
            with suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sending

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the server is shutting down
            self._loop.call_soon_threadsafe(self._news.set)

    async def _send(self) -> None:
        next_pulse_s = 0.0
        while True:
            now_s = self._loop.time()
            if now_s >= next_pulse_s or self._feed_told != self._viewer.feed.version:
                next_pulse_s = now_s + PULSE_S
                self._feed_told = self._viewer.feed.version
                await self._socket.send_json(await asyncio.to_thread(self._pulse))
            if self._is_grid_seen and self.is_shown and now_s >= self._next_grid_s:
                self._next_grid_s = now_s + GRID_S
                await self._socket.send_json(await asyncio.to_thread(self._grid))
            if self._rules.is_seen and self.is_shown and now_s >= self._next_rules_s:
                self._next_rules_s = now_s + GRID_S
                await self._socket.send_json(await asyncio.to_thread(self._rules.state))
            if now_s >= self._next_alerts_s:  # a hidden page, too: its title counts them
                self._next_alerts_s = now_s + GRID_S
                news = await asyncio.to_thread(self._alerts.news, time.time())
                if news is not None:
                    await self._socket.send_json(news)
            self._choose_view()
            picture = await self._next_picture()
            if picture is not None:
                self._in_flight.append(picture.number)
                await self._socket.send_bytes(PICTURE_HEAD.pack(picture.time_s, picture.number) + picture.jpeg.data)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), max(0.01, next_pulse_s - self._loop.time()))
            self._news.clear()

    def _pulse(self) -> dict[str, Any]:
        recording = bool(self._backend.recording)
        return pulse_of(self._viewer, self._backend.model.news(), self._told, recording=recording)

    def _grid(self) -> dict[str, Any]:
        cards = self._backend.views.cards() if self._backend.views is not None else []
        return cameras_of(cards, self._backend.recording)

    async def _next_picture(self) -> ViewerPicture | None:
        if len(self._in_flight) >= MOST_IN_FLIGHT or self._pictures.number <= self._sent:
            return None
        picture = await asyncio.to_thread(self._pictures.get, self._sent)
        if picture is not None:
            self._sent = picture.number
        return picture

    def _choose_view(self) -> None:
        """View the tab's stream while the page is visible; the browser shows its own webcam itself."""
        viewer = self._viewer
        is_own = viewer.wanted is not None and viewer.wanted.kind == "webcam"
        wanted = viewer.stream if self.is_shown and not is_own else None
        if wanted is not self._viewed:
            self._view(wanted)

    def _view(self, stream: WatchableStream | None) -> None:
        self._stop_viewing()
        self._viewed = stream
        self._stop_viewing = stream.add_viewer(self._pictures.put) if stream is not None else lambda: None
        self._in_flight.clear()

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            data, text = message.get("bytes"), message.get("text")
            if data is not None and len(data) <= MOST_MESSAGE_BYTES:
                self._take_webcam(data)
            elif text is not None and len(text) <= MOST_TEXT:
                with suppress(ValueError):
                    values = json.loads(text)
                    if isinstance(values, dict):
                        await self._take(values)

    def _take_webcam(self, data: bytes) -> None:
        """Hand on a picture of the browser's camera; skip it while the one before is still being decoded."""
        stream, wanted = self._viewer.stream, self._viewer.wanted
        if stream is None or wanted is None or wanted.kind != "webcam" or len(data) <= WEBCAM_HEAD.size:
            return
        if self._pushing is None or self._pushing.done():
            (sent_s,) = WEBCAM_HEAD.unpack_from(data)
            self._pushing = asyncio.create_task(asyncio.to_thread(self._backend.push, stream, data[8:], sent_s))

    async def _take(self, values: dict[str, Any]) -> None:
        drawn, seek_s, moment_s = values.get("drawn"), values.get("seek"), values.get("moment")
        item_id = values.get("evidence")
        if isinstance(drawn, int):
            self._in_flight = [number for number in self._in_flight if number > drawn]
            self._news.set()
        if isinstance(values.get("shown"), bool):
            self.is_shown = values["shown"]
            self._in_flight.clear()
            self._news.set()
        if isinstance(values.get("grid"), bool):
            self._is_grid_seen, self._next_grid_s = values["grid"], 0.0
            self._news.set()
        if isinstance(values.get("rules"), bool):
            self._rules.is_seen, self._next_rules_s = values["rules"], 0.0
            self._rules.picture_of = str(values.get("picture") or "")
            self._news.set()
        if isinstance(values.get("rule"), dict):
            await self._socket.send_json(await asyncio.to_thread(self._rules.answer, values["rule"]))
            self._next_rules_s = 0.0
            self._news.set()
        if isinstance(values.get("alert"), dict):
            await self._socket.send_json(await asyncio.to_thread(self._alerts.answer, values["alert"]))
            self._next_alerts_s = 0.0
            self._news.set()
        if isinstance(item_id, int):
            await self._send_evidence(item_id, None)
        if isinstance(moment_s, int | float):
            await self._send_evidence(None, float(moment_s))
        if isinstance(seek_s, int | float):
            await self._try(self._backend.seek, self._viewer, float(seek_s))
        if values.get("stop"):
            await self._try(self._backend.registry.stop, self._viewer)
        if isinstance(values.get("camera"), str):
            await self._send_regions(values["camera"], values.get("draw"))

    async def _send_evidence(self, item_id: int | None, moment_s: float | None) -> None:
        item = self._viewer.feed.get(item_id) if item_id is not None else None
        if item is None and moment_s is None:
            return
        frames = await asyncio.to_thread(self._backend.evidence, self._viewer, item, moment_s)
        seen = self._viewer.stream.snapshot() if self._viewer.stream is not None else None
        can_seek = seen is not None and seen.source.is_live is False and not self._viewer.is_shared
        at_s = item.time_s if item is not None else moment_s or 0.0
        await self._socket.send_json(evidence_of(item, frames, moment_s=at_s, can_seek=can_seek))

    async def _send_regions(self, name: str, drawn: Any) -> None:
        """Send a camera's masks and zones as YAML, after adding those that the page sent, if any."""
        told: dict[str, Any] = {"type": "regions", "camera": name, "may_draw": self._backend.may_draw, "drew": False}
        try:
            if drawn is None:
                told["yaml"] = await asyncio.to_thread(self._backend.regions_yaml, name)
            else:
                told["yaml"] = await asyncio.to_thread(self._backend.draw, name, read_regions(drawn))
                told["drew"], self._next_grid_s = True, 0.0
        except AssistantError as error:
            told["wrong"] = str(error)
        await self._socket.send_json(told)

    async def _try(self, action: Any, *values: Any) -> None:
        """Do what the page asked for; send it the error, if any."""
        try:
            await asyncio.to_thread(action, *values)
        except AssistantError as error:
            await self._socket.send_json({"type": "say", "text": str(error)})
