"""A desk over streams that do what a test says, with a model that is there or not."""

from __future__ import annotations

from typing import Any

from assistant.inputs.limits import CameraPolicy, UploadLimits
from assistant.serving.contracts import ModelState, WatchableStream
from assistant.viewers.backend import Backend
from assistant.viewers.viewer_session import ViewerSession, WatchRequest
from models.checkpoint.types import ModelInfo
from streaming.clock import FakeClock
from tests.assistant.streams import FakeStream

EMBEDDED = ModelInfo("embedded", "cpu", "float32", "trained", True, 2.0, 2_150_000, 3072)


class FakeHost:
    """Says what state its model is in."""

    def __init__(self, state: ModelState = ModelState.READY) -> None:
        self.state = state
        self.failure: BaseException | None = None
        self.started = 0

    def start(self) -> None:
        self.started += 1

    def describe(self) -> ModelInfo:
        return EMBEDDED


class Office:
    """A desk and the streams that it opened."""

    def __init__(self, *, max_sessions: int | None = None, views: Any = None) -> None:
        self.host = FakeHost()
        self.streams: list[FakeStream] = []
        self.wishes: list[WatchRequest] = []
        self.clock = FakeClock()
        host: Any = self.host
        self.backend = Backend(
            host, "embedded", policy=CameraPolicy.bound_to("127.0.0.1"), uploads=UploadLimits(), clock=self.clock,
            max_sessions=max_sessions, views=views, make_stream=self._make,
        )  # fmt: skip

    def _make(self, viewer: ViewerSession, wanted: WatchRequest) -> WatchableStream:
        self.wishes.append(wanted)
        self.streams.append(FakeStream())
        return self.streams[-1]
