"""Opens, reads, pauses and seeks a channel's source without blocking its callers, and knows the source's state.

`get` is for the engine's thread, `_pass_on` runs on the capture's, everything else is for any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from assistant.errors import AssistantError
from assistant.evidence import with_thumbnail
from assistant.inputs.sample_clips import resolve_sample
from assistant.inputs.source_names import PUSHED, SourceKind, source_kind
from assistant.serving.channel_types import ChannelConfig, ChannelState
from streaming.capture import Capture
from streaming.clock import Clock
from streaming.errors import CaptureStuck, StreamingError
from streaming.masks import Masks
from streaming.open_source import open_source
from streaming.sources.base import WATCH_RETRY, RetryPolicy, Source, SourceOptions
from streaming.sources.pacing import Playback
from streaming.tap import Tap, Viewers
from streaming.types import Frame, Notice, NoticeKind, SourceInfo

if TYPE_CHECKING:
    from streaming.sources.push import PushSource

OpenSource = Callable[..., Source]
"""As `streaming.open_source`."""

MAX_AHEAD = 2
"""Frames of a recording that are read ahead."""


class NotPlaying(AssistantError):
    """A live stream was asked for what only a recording can do, or the other way round."""


@dataclass(frozen=True, slots=True)
class PlayerState:
    """How the source is doing."""

    state: ChannelState
    reason: str
    num_reconnects: int = 0


class Player:
    """The source side of one channel."""

    def __init__(
        self,
        config: ChannelConfig,
        clock: Clock,
        on_item: Callable[[], None],
        opener: OpenSource = open_source,
    ) -> None:
        """`on_item` is called whenever `get` may have something new."""
        self.viewers = Viewers()
        self.playback = Playback(config.speed)
        self._config = config
        self._clock = clock
        self._on_item = on_item
        self._opener = opener
        self._lock = threading.Lock()
        self._tap: Tap | None = None
        self._capture: Capture | None = None
        self._pushed: PushSource | None = None
        self._old: list[Capture] = []
        self._fps = config.fps
        self._paused_at_s: float | None = None
        self._num_free = 0
        self._is_over = False
        self._num_before = 0
        self._num_dropped_before = 0
        self._last_index = -1
        self._size_px = (0, 0)
        self.fit: Callable[[Frame], Frame] | None = None
        """Scales each frame to the model's grid, on the capture thread; None before there is a session."""
        self.num_begun = 0
        """Openings so far; an outcome noted for an earlier one says nothing about the last."""
        self.name = ""
        self.state = PlayerState(ChannelState.OPENING, "it is being opened")

    @property
    def info(self) -> SourceInfo | None:
        """Facts about the source; None before it is open."""
        capture = self._capture
        try:
            return capture.info if capture is not None else None
        except StreamingError:
            return None

    @property
    def is_live(self) -> bool | None:
        """None before it was opened."""
        info = self.info
        return info.is_live if info is not None else None

    @property
    def is_paused(self) -> bool:
        """Whether it is paused: the model gets no frames."""
        return self._paused_at_s is not None

    @property
    def is_drained(self) -> bool:
        """Whether there is nothing more to get, now or later."""
        capture = self._capture
        return capture is not None and capture.is_drained

    @property
    def num_read(self) -> int:
        """Pictures decoded so far, over all openings."""
        return self._num_before + self._last_index + 1

    @property
    def num_dropped(self) -> int:
        """Frames for the model that came faster than they were taken."""
        capture = self._capture
        return self._num_dropped_before + (capture.num_dropped if capture is not None else 0)

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the last picture, or by the header; 0 before."""
        return self._size_px

    @property
    def hand_over_ms(self) -> float:
        """Milliseconds that masks and viewers took of the last frame."""
        capture = self._capture
        return capture.hand_over_ms if capture is not None else 0.0

    def fps_in(self) -> float:
        """Pictures a second that the source gives."""
        return self._tap.fps_decoded(self._clock.now_s()) if self._tap is not None else 0.0

    def begin(self, config: ChannelConfig | None = None, *, start_s: float | None = None) -> None:
        """Open the source anew, in its own thread; what ran before is let go of. `start_s`: as after a seek.

        Raises, and leaves all as it was, for a source that is none, and `NotPlaying` where it was stopped.
        """
        with self._lock:
            config = config or self._config
            if self._is_over:
                raise NotPlaying(f"{config.name}: it was stopped; start another")
            tap = Tap(self._fps, self.viewers, clock=self._clock, view_fps=config.view_fps)
            tap.is_model_paused = self.is_paused and bool(self.is_live)
            source = self._make(config, tap, start_s)
            self._config = config  # what is refused is not tried again at the next loss
            self.name = source.name
            capture = Capture(
                source,
                clock=self._clock,
                max_items=MAX_AHEAD,
                accept=lambda item: self._pass_on(tap, item),
                on_item=self._on_item,
            )
            capture.prepare = self._prepare
            self.num_begun += 1  # first: what ran before seems drained from here on
            self._close_capture()
            self._tap, self._capture = tap, capture
            self._num_before, self._last_index = self.num_read, -1
            self.state = PlayerState(ChannelState.OPENING, "it is being opened", self.state.num_reconnects)
            if self.is_paused:
                self._num_free = 1
                self.playback.allow_frames(1)
            capture.begin()
        self._on_item()

    def get(self) -> Frame | Notice | None:
        """The next item, at once. Raises what broke the source, after all that came before."""
        capture = self._capture
        if capture is None:
            return None
        if self.is_paused and not self.is_live and self._num_free <= 0:
            return None
        item = capture.get(0.0)
        if isinstance(item, Frame) and self._num_free > 0:
            self._num_free -= 1
        return item

    def set_fps(self, fps: float) -> None:
        """Set the rate of frames for the model, from the next picture on."""
        self._fps = fps
        if self._tap is not None:
            self._tap.fps = fps

    @property
    def is_showing(self) -> bool:
        """Whether it is live and gives pictures: the next one is a moment away."""
        is_open = self.is_live is True and self.state.state is ChannelState.LIVE
        return is_open and not (self.is_paused or self.is_drained)

    def look_now(self) -> None:
        """Give the model the next picture of a live source, whether or not it is time for one."""
        if self.is_showing and self._tap is not None:
            self._tap.request_frame()

    def pause(self) -> bool:
        """Give the model no more frames; a recording stands still. Returns whether it ran before."""
        with self._lock:
            if self.is_paused:
                return False
            self._paused_at_s, self._num_free = self._clock.now_s(), 0
            if self.is_live and self._tap is not None:
                self._tap.is_model_paused = True
            else:
                self.playback.pause()
            return True

    def resume(self) -> float | None:
        """Go on. Returns for how many seconds it was paused; None where it was not."""
        with self._lock:
            if self._paused_at_s is None:
                return None
            stood_s = self._clock.now_s() - self._paused_at_s
            self._paused_at_s = None
            if self._tap is not None:
                self._tap.is_model_paused = False
            self.playback.resume()
        self._on_item()
        return stood_s

    def push(self, image: np.ndarray, pts_s: float | None) -> bool:
        """Give a pushed stream a frame. Returns False where it takes none."""
        if source_kind(self._config.spec) is not SourceKind.PUSHED:
            raise NotPlaying(f"{self._config.name}: it has a source of its own; frames are pushed to push:NAME alone")
        pushed = self._pushed
        return pushed is not None and pushed.push(image, pts_s)

    def check_recording(self) -> None:
        """Raise `NotPlaying` for a live stream."""
        if self.is_live:
            raise NotPlaying(f"{self._config.name}: it is live; only a recording can be sought or sped up; pause it")

    def close(self) -> None:
        """Close the source for good, without waiting; `stop` waits."""
        with self._lock:
            self._is_over = True
            capture = self._capture
        if capture is not None:
            capture.close()

    def stop(self, timeout_s: float) -> bool:
        """Close the source and wait for its threads. Returns whether they ended in time."""
        with self._lock:
            self._is_over = True
            self._close_capture()
            self._capture = self._pushed = None
        ends_s = self._clock.now_s() + timeout_s
        stuck: list[Capture] = []
        for capture in self._old:
            try:
                capture.stop(max(0.0, ends_s - self._clock.now_s()))
            except CaptureStuck:
                stuck.append(capture)
            except Exception:  # its failure was told, or comes too late to matter
                continue
        self._old = stuck
        return not stuck

    def _close_capture(self) -> None:
        if self._capture is not None:
            self._num_dropped_before += self._capture.num_dropped
            self._capture.close()
            self._old = [capture for capture in self._old if capture.is_running]
            self._old.append(self._capture)

    def _make(self, config: ChannelConfig, tap: Tap, start_s: float | None) -> Source:
        options = SourceOptions(
            start_s=config.start_s if start_s is None else start_s,
            end_s=config.end_s,
            loop=config.loop if start_s is None else 1,
            masks=Masks(config.masks) if config.masks else None,
            open_timeout_s=config.open_timeout_s,
            read_timeout_s=config.read_timeout_s,
            picture_timeout_s=config.picture_timeout_s,
            frozen_after_s=config.frozen_after_s,
            rtsp_transport=config.rtsp_transport,
            retry=WATCH_RETRY if config.keep_trying else RetryPolicy(),
            chooser=tap,
            playback=self.playback,
        )
        if source_kind(config.spec) is not SourceKind.PUSHED:
            return self._opener(resolve_sample(config.spec), options=options, clock=self._clock)
        from streaming.sources.masked import MaskedSource
        from streaming.sources.push import PushSource

        self._pushed = PushSource(config.spec.removeprefix(PUSHED) or "push", options, self._clock)
        return MaskedSource(self._pushed, options.masks) if options.masks is not None else self._pushed

    def _pass_on(self, tap: Tap, item: Frame | Notice) -> bool:
        """Note an item on its way from the capture. Returns whether the model is to get it."""
        if tap is not self._tap:
            return False
        if isinstance(item, Notice):
            self._note(item)
            return True
        self._last_index = item.index
        self._size_px = (item.image.shape[1], item.image.shape[0])
        if self.state.state in (ChannelState.OPENING, ChannelState.RECONNECTING):
            self._run("")
        return tap.deliver(item)

    def _prepare(self, frame: Frame) -> Frame:
        """Scale a frame for the model and encode it for keeping, on the capture thread, not on the engine's."""
        frame = with_thumbnail(frame)
        return self.fit(frame) if self.fit is not None else frame

    def _note(self, notice: Notice) -> None:
        num = self.state.num_reconnects
        if notice.kind is NoticeKind.OPENED:
            self._run(notice.reason)
            if self.is_paused and self.is_live and self._tap is not None:
                self._tap.is_model_paused = True
            if self.info is not None and self._size_px == (0, 0):
                self._size_px = (self.info.width_px, self.info.height_px)
        elif notice.kind is NoticeKind.RECONNECTING:
            self.state = PlayerState(ChannelState.RECONNECTING, notice.reason, num + 1)
        elif notice.kind is NoticeKind.FROZEN:
            self.state = PlayerState(ChannelState.FROZEN, notice.reason, num)
        elif notice.kind is NoticeKind.GAP and self.state.state is not ChannelState.REPLAY:
            self._run(notice.reason)
        elif notice.kind is NoticeKind.ENDED:
            self._last_index = max(self._last_index, notice.count - 1)

    def _run(self, reason: str) -> None:
        state = ChannelState.LIVE if self.is_live is not False else ChannelState.REPLAY
        self.state = PlayerState(state, reason, self.state.num_reconnects)
