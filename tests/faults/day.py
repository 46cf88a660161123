"""A simulated day of a camera, watched faster than real time: the camera and the clock wait for the model."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from assistant.evidence import EvidenceKeeper
from streaming.clock import Clock, SystemClock
from streaming.errors import SourceUnreachable
from streaming.scenes.source import Scene
from streaming.sources.base import WATCH_RETRY, SourceOptions
from streaming.sources.pictures import DecodedPicture, Event
from streaming.sources.reconnect import LiveSource
from streaming.types import Frame

SLOT_S = 600
"""Seconds between events of the simulated day."""
SCENE_S = 30
NUM_SCENES = 12
"""Scenes repeat in the same order every two hours, so that hours can be compared."""
NOISE_LEVELS = 1.0
_MARGIN = 64
_TAKE_TIMEOUT_S = 120.0


class DayClock(SystemClock):
    """A clock that the camera advances. Waits of a capture thread return at once and advance it; others are real."""

    def __init__(self, wall_s: float = 1_795_305_600.0) -> None:
        self._lock = threading.Lock()
        self._now_s = 0.0
        self._wall_s = wall_s
        self.num_rests = 0
        """How often the engine has found nothing to do."""
        self.rested = threading.Condition()

    def now_s(self) -> float:
        """Seconds since the day began."""
        with self._lock:
            return self._now_s

    def wall_s(self) -> float:
        """The simulated time of day, seconds since 1970."""
        return self._wall_s + self.now_s()

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        with self._lock:
            self._now_s += seconds

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Advance the clock for the camera's waits; wait in real time for others."""
        if timeout_s is None or not threading.current_thread().name.startswith("capture:"):
            return super().wait(event, timeout_s)
        if not event.is_set():
            self.advance(timeout_s)
        return event.is_set()

    def wait_for(self, condition: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
        """Wait in real time, and note when the engine is idle."""
        if threading.current_thread().name == "engine":
            with self.rested:
                self.num_rests += 1
                self.rested.notify_all()
        return super().wait_for(condition, predicate, timeout_s)


class Taken(EvidenceKeeper):
    """An evidence keeper that also notes which frames the model has seen."""

    def __init__(self, clock: DayClock) -> None:
        super().__init__()
        self._clock = clock
        self.frames = threading.Semaphore(0)
        self.num_rests_before = 0
        """How often the engine had rested when it saw the last frame."""

    def add(
        self, frame: Frame, keep: np.ndarray, refreshed: np.ndarray, wall_s: float, *, rows: int = 0, cols: int = 0
    ) -> None:
        """Add a frame that the model has seen, and note that it was seen."""
        super().add(frame, keep, refreshed, wall_s, rows=rows, cols=cols)
        self.num_rests_before = self._clock.num_rests
        self.frames.release()


class FrameEncoder:
    """The picture of each second: scenes with still periods between them, and sensor noise."""

    def __init__(self, seed: int) -> None:
        scenes = [Scene(seed + number) for number in range(NUM_SCENES)]
        # Half the width and height, so that the model needs a quarter of the time.
        self._frames = [[scene.frame(float(second))[::2, ::2] for second in range(SCENE_S)] for scene in scenes]
        rng = np.random.default_rng(seed)
        most = [max(frame.shape[axis] for frames in self._frames for frame in frames[:1]) for axis in (0, 1)]
        shape = (most[0] + _MARGIN, most[1] + _MARGIN, 3)
        self._noise = rng.normal(0, NOISE_LEVELS, shape).round().astype(np.int16)
        self._rng = rng

    def at(self, second: int) -> np.ndarray:
        """The picture at a time, uint8 RGB `[height, width, 3]`."""
        slot, within = divmod(second, SLOT_S)
        image = self._frames[slot % NUM_SCENES][min(within, SCENE_S - 1)]
        top, left = self._rng.integers(0, _MARGIN, 2)
        noise = self._noise[top : top + image.shape[0], left : left + image.shape[1]]
        return np.clip(image + noise, 0, 255).astype(np.uint8)


@dataclass(slots=True)
class DayCamera:
    """A camera whose connections each break off after a part of the day."""

    clock: DayClock
    view: FrameEncoder
    taken: Taken
    each_s: float
    """Seconds that a connection lasts."""
    fps: float
    rng: random.Random
    num_connections: int = 0
    num_frames: int = 0
    is_over: bool = False
    """Whether the day is over; set it to end the run."""
    _num_refusals: int = 0

    def connect(self) -> DayConnection:
        """Open a connection; refused a few times after each loss."""
        if self._num_refusals > 0:
            self._num_refusals -= 1
            raise SourceUnreachable("day", "it cannot be reached (no route to host)", "wait")
        self._num_refusals = self.rng.randrange(4)
        self.num_connections += 1
        return DayConnection(self)

    def source(self, spec: str, *, options: SourceOptions, clock: Clock) -> LiveSource:
        """Opener of the camera's source, in place of `open_source`."""
        assert options.retry == WATCH_RETRY, "it is watched as `watch` does"
        return LiveSource(spec, self.connect, options, clock, self.rng)


class DayConnection:
    """Sends pictures one by one, each after the model has seen the previous one and finished speaking."""

    codec, fps_declared, has_timestamps, is_bursty = "day", None, True, False
    is_finite = False

    def __init__(self, camera: DayCamera) -> None:
        self._camera = camera
        image = camera.view.at(int(camera.clock.now_s()))
        self.coded_size_px = (image.shape[1], image.shape[0])

    def events(self) -> Iterator[Event]:
        """Pictures until the connection breaks off."""
        camera = self._camera
        ends_s = camera.clock.now_s() + camera.each_s * camera.rng.uniform(0.8, 1.2)
        while camera.clock.now_s() < ends_s and not camera.is_over:
            now_s = camera.clock.now_s()
            image = camera.view.at(int(now_s))
            camera.num_frames += 1
            yield DecodedPicture(now_s, 0.0, (image.shape[1], image.shape[0]), lambda image=image: image)  # type: ignore[misc]
            self._wait_for_model()
            camera.clock.advance(1 / camera.fps)

    def _wait_for_model(self) -> None:
        """Wait until the frame was seen and the engine is idle."""
        camera = self._camera
        if not camera.taken.frames.acquire(timeout=_TAKE_TIMEOUT_S):
            raise SourceUnreachable("day", f"the model took no frame for {_TAKE_TIMEOUT_S:g} s", "look at the log")
        clock, before = camera.clock, camera.taken.num_rests_before
        with clock.rested:
            clock.rested.wait_for(lambda: clock.num_rests > before, _TAKE_TIMEOUT_S)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
