"""Plays recordings: files, and finite files on a web server. No frame is dropped; the reader sets the pace.

One thread calls `open()` and `frames()`; any thread may call `close()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from streaming.buffer import Item
from streaming.clock import Clock
from streaming.errors import OptionError, SourceError, TimesJumpBack
from streaming.sources.base import BaseSource, FrameChooser, SourceOptions, check_aspect
from streaming.sources.file_opening import missing_bytes, missing_end, open_file
from streaming.sources.jumps import MOST_PACKETS, JumpBack, find_jump_back
from streaming.sources.pacing import Pacer
from streaming.sources.pictures import Broken, Damage, DecodedPicture
from streaming.sources.reading import VideoReader, reason_of
from streaming.sources.timestamp_spreading import spread_crowds
from streaming.sources.timestamps import RecordingTimeline, TimedPicture, time_pictures
from streaming.types import Notice, NoticeKind, SourceInfo

_MAX_PEEKED = 256
_ROUNDING_S = 0.001

Opener = Callable[[], VideoReader]


@dataclass(slots=True)
class _Standing:
    """The picture that is shown at present, until the next one or its own end."""

    picture: DecodedPicture
    from_s: float
    """Media time in the file from which it is delivered: its own time, or the start of the range if that is later."""
    index: int | None = None
    """Its number among the pictures in range; None while it lies before the range."""
    image: np.ndarray | None = None
    """The converted picture; None until it is delivered for the first time."""
    is_lost: bool = False
    """Whether its conversion failed."""


@dataclass(slots=True)
class _Pass:
    """The state of one pass through the recording; each repetition of a loop has its own."""

    timeline: RecordingTimeline
    events: Iterator[TimedPicture | Damage | Broken]
    offset_s: float = 0.0
    """Time added to the file's own media time in this pass."""
    first_s: float | None = None
    """Media time in the file of the first frame in range; None before it."""
    broken: str = ""
    """Why the file broke off; empty if it did not."""
    reached_end_s: bool = False
    """Whether the pass ended at the option `end_s`."""
    standing: _Standing | None = None
    """The picture that is shown at present."""


class ReplaySource(BaseSource):
    """A recording. Media time is the file's own: with `start_s=10` the first frame has a time of 10 s or more."""

    is_live = False

    def __init__(
        self, name: str, options: SourceOptions, clock: Clock | None = None, opener: Opener | None = None
    ) -> None:
        """`name` is the path of a file, or with an `opener` the display name of what it opens."""
        super().__init__(name, options, clock)
        self._opener = opener or (lambda: open_file(name))
        self._path = None if opener else Path(name).expanduser()
        self._reader: VideoReader | None = None
        self._pass: _Pass | None = None
        self._file_starts_s = 0.0
        self._num_unstamped = self._num_late = self._num_spread = 0
        self._is_joined = False
        """Whether the timestamps are known to jump back; the header's length and seeking are then unreliable."""
        self._has_longer = False
        """Whether pictures are known to lie after the end that the header declares."""
        self._leapt_at_s: float | None = None
        """Media time of the last notice of a leap ahead."""
        self._interval_from_s: float | None = None
        """The same of a leap that turned out to be the interval of a time-lapse."""
        self._read_s = self._used_s = 0.0
        """Seconds that the last frames took to be read, and to be used; older ones count less."""

    def open(self) -> SourceInfo:
        """Open the recording and decode its first picture.

        Raises `SourceError`, or `OptionError` if `start_s` lies after the end.
        """
        self.close()
        self._start()
        self._file_starts_s = 0.0
        self._num_unstamped = self._num_late = self._num_spread = 0
        self._has_longer = False
        self._leapt_at_s = self._interval_from_s = None
        return self._open_with(self._enter)

    def frames(self) -> Iterator[Item]:
        """Frames and notices in order; `ENDED` is the last."""
        reader, state = self._reader, self._pass
        if reader is None or state is None:
            raise SourceError(self._name, "it is not open", "call open() first")
        closed = self._closed
        sampler = self._options.frame_chooser()
        pacer = Pacer(self._clock, self._options.speed, closed, self._options.playback)
        yield self._opened(self._describe(reader))
        broken = ""
        for number in itertools.count(1):
            yield from self._play(state, sampler, pacer)
            if closed.is_set():
                return
            yield from self._end_notices(state)
            broken = broken or state.broken
            if number == self._options.loop or state.first_s is None:
                break
            try:
                following = self._with_decoder(lambda: self._enter_pass(is_first=False))
            except SourceError as error:
                broken = f"it could not be opened again: {error.rule}"
                break
            if following is None:
                return
            following.offset_s = state.offset_s + self._end_of(state) - state.first_s
            state = following
            yield self._notice(NoticeKind.LOOPED, f"played {number} time{'s' * (number > 1)}, starting again", number)
        yield self._ended(broken, pacer)

    def _enter(self) -> SourceInfo:
        """Open the reader and the first pass; on failure leave nothing open."""
        self._reader = self._opener()
        try:
            self._check_jumps()
            self._check_start(self._reader)
            self._pass = self._enter_pass(is_first=True)
            return self._describe(self._reader)
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        reader, self._reader, self._pass = self._reader, None, None
        if reader is not None:
            reader.close()

    def _check_jumps(self) -> None:
        """Find out whether the timestamps of a file jump back, if its format allows it; raises `TimesJumpBack`."""
        assert self._reader is not None
        is_refused = self._options.jumps == "refuse"
        if self._path is None or not self._path.is_file() or not (is_refused or self._reader.may_be_joined):
            return
        jump = self._jump_back(self._reader)
        if jump is not None and is_refused:
            raise TimesJumpBack(
                self._name,
                f"its timestamps jump back by {jump.by_s:.2f} s after {jump.after_s:.2f} s, and those of a recording "
                "must not",
                "give --jumps follow to watch it with media time that goes on from the frame before, or rewrite its "
                "timestamps",
            )
        self._is_joined = jump is not None
        self._reader.close()
        self._reader = self._opener()

    def _jump_back(self, reader: VideoReader) -> JumpBack | None:
        closed = self._closed
        packets = itertools.takewhile(lambda _: not closed.is_set(), reader.stamps())
        return find_jump_back(
            packets, fps_declared=reader.fps_declared, reorders=reader.reorders, end_s=self._options.end_s
        )

    def _length_s(self, reader: VideoReader) -> float | None:
        """Length by the header; None if it has none, or is known to be wrong."""
        return None if self._is_joined or self._has_longer else reader.duration_s_declared

    def _check_start(self, reader: VideoReader) -> None:
        duration_s = self._length_s(reader)
        start_s = self._options.start_s
        if duration_s is not None and 0 < duration_s <= start_s and not self._reaches(reader, start_s):
            raise OptionError(
                f"start_s={self._options.start_s:g}", f"{self._name} is {duration_s:.1f} s long", "start earlier"
            )

    def _reaches(self, reader: VideoReader, time_s: float) -> bool:
        """Whether a file has pictures at or after a time, by its packets; False for other recordings.

        The header is wrong if it counts decoding times, and after a copy that did not correct it.
        """
        if self._path is None or not self._path.is_file():
            return False
        stamps = itertools.islice(reader.stamps(), MOST_PACKETS)
        self._has_longer = any(stamp.show_s is not None and stamp.show_s >= time_s for stamp in stamps)
        reader.close()
        self._reader = self._opener()
        return self._has_longer

    def _describe(self, reader: VideoReader) -> SourceInfo:
        width_px, height_px = self._size_px or reader.coded_size_px
        check_aspect(self._name, width_px, height_px)
        return SourceInfo(
            name=self._name,
            is_live=False,
            width_px=width_px,
            height_px=height_px,
            fps_declared=reader.fps_declared,
            duration_s_declared=self._length_s(reader),
            codec=reader.codec,
            unwatched=reader.unwatched,
        )

    def _enter_pass(self, *, is_first: bool) -> _Pass:
        """A pass from `start_s`, by seeking if possible, else by reopening the file and decoding up to it."""
        assert self._reader is not None
        start_s = self._options.start_s
        if not is_first or start_s > 0:
            is_sought = self._reader.is_length_true and not self._is_joined
            if is_sought and self._reader.seek(start_s):
                state, first = self._peek(self._reader)
                latest_s = max(start_s, self._file_starts_s) + _ROUNDING_S
                if first is not None and first.is_stamped and first.placed.pts_s <= latest_s:
                    return state
            self._reader.close()
            self._reader = self._opener()
        state, first = self._peek(self._reader)
        if first is not None:
            self._file_starts_s = first.placed.pts_s
        return state

    def _peek(self, reader: VideoReader) -> tuple[_Pass, TimedPicture | None]:
        """A pass from the present position of `reader`, and its first picture, which the pass yields as well."""
        timeline = RecordingTimeline(reader.fps_declared, has_holes=reader.has_holes)
        events = time_pictures(spread_crowds(reader.events(), reader.fps_usual), timeline)
        peeked: list[TimedPicture | Damage | Broken] = []
        first = None
        for event in itertools.islice(events, _MAX_PEEKED):
            peeked.append(event)
            if isinstance(event, TimedPicture):
                first = event
                self._size_px = self._size_px or event.picture.size_px
                break
        return _Pass(timeline, itertools.chain(peeked, events)), first

    def _play(self, state: _Pass, sampler: FrameChooser, pacer: Pacer) -> Iterator[Item]:
        """Frames and notices of one pass, up to its end or `end_s`."""
        closed, start_s, end_s = self._closed, self._options.start_s, self._options.end_s
        while (event := self._next_event(state)) is not None:
            if isinstance(event, Damage):
                self._damage.add(event)
                continue
            if isinstance(event, Broken):
                state.broken = event.reason
                break
            pts_s = event.placed.pts_s
            if event.placed.stood_s and state.standing is not None:
                yield self._stood_notice(event.placed.stood_s, state.standing.from_s)
            yield from self._stand(state, pts_s - event.placed.hole_s, sampler, pacer)
            state.standing = _Standing(event.picture, max(pts_s, start_s))
            if end_s is not None and pts_s >= end_s - _ROUNDING_S:
                state.reached_end_s = True
                return
            if pts_s >= start_s - _ROUNDING_S:
                yield from self._damage_notices()
                yield from self._deliver(event, state, sampler, pacer)
            if closed.is_set():
                return
        if not closed.is_set():
            yield from self._stand(state, self._last_end_s(state), sampler, pacer)

    def _next_event(self, state: _Pass) -> TimedPicture | Damage | Broken | None:
        """The next event of a pass; None at its end, and after `close`."""
        began_s = self._clock.now_s()
        event = self._with_decoder(lambda: next(state.events, None))
        self._read_s += self._clock.now_s() - began_s
        return event

    def _deliver(self, event: TimedPicture, state: _Pass, sampler: FrameChooser, pacer: Pacer) -> Iterator[Item]:
        """The notices about one picture in range, and the picture as a frame if it is sampled."""
        assert state.standing is not None
        if state.first_s is None:
            state.first_s = event.placed.pts_s
        pts_s = event.placed.pts_s + state.offset_s
        yield from self._time_notices(event)
        state.standing.index = self._num_decoded
        self._num_decoded += 1
        if sampler.wants(pts_s):
            yield from self._emit(state.standing, pts_s, pacer)
        else:
            self._last_pts_s = pts_s

    def _stand(self, state: _Pass, until_s: float, sampler: FrameChooser, pacer: Pacer) -> Iterator[Item]:
        """Repeat the last picture at each tick of the sampler up to `until_s`, until which the file shows it.

        A picture from before `start_s` that is still shown then is first delivered there.
        """
        shown, end_s = state.standing, self._options.end_s
        if shown is None:
            return
        until_s = min(until_s, until_s if end_s is None else end_s) - _ROUNDING_S + state.offset_s
        while not shown.is_lost and not self._closed.is_set():
            pts_s = max(sampler.next_s, shown.from_s + state.offset_s)
            if pts_s >= until_s or not sampler.wants(pts_s, is_repeated=shown.index is not None):
                return
            if shown.index is None:
                shown.index = self._num_decoded
                self._num_decoded += 1
            if state.first_s is None:
                state.first_s = shown.from_s
            yield from self._emit(shown, pts_s, pacer)

    def _emit(self, shown: _Standing, pts_s: float, pacer: Pacer) -> Iterator[Item]:
        """Wait until a picture is due, and yield it as a frame."""
        late_s = pacer.wait(pts_s)
        if self._closed.is_set():
            return
        if late_s:
            does_what = "come" if self._read_s > self._used_s else "are used"
            reason = f"frames {does_what} slower than speed {pacer.speed:g}; the media clock waits for them"
            yield self._notice(NoticeKind.SLOWED, reason, behind_s=late_s)
        is_repeated = shown.image is not None
        if shown.image is None:
            try:
                shown.image = shown.picture.to_rgb()
            except av.FFmpegError as error:
                shown.is_lost = True
                self._damage.add(Damage(reason_of(error), num_lost=1))
                return
        assert shown.index is not None
        began_s = self._clock.now_s()
        yield from self._framed(shown.image, pts_s, shown.index, is_repeated=is_repeated)
        self._read_s, self._used_s = self._read_s / 2, self._used_s / 2 + self._clock.now_s() - began_s

    def _stood_notice(self, stood_s: float, from_s: float) -> Notice:
        """What is to be said of a picture that will stand far longer than any before, when it begins to."""
        reason = (
            f"one picture stands for {stood_s:.1f} s, from {from_s:.2f} s, far longer than any before; "
            "if a clock was set then, later times are not true"
        )
        return self._notice(NoticeKind.GAP, reason, stood_s=stood_s, from_s=from_s)

    def _time_notices(self, event: TimedPicture) -> Iterator[Notice]:
        """The notices about a picture's timestamp."""
        jump_s = event.placed.jump_s
        if event.placed.is_learnt:
            self._interval_from_s, self._leapt_at_s = self._leapt_at_s, None
        if jump_s < 0:
            reason = f"timestamps jumped back by {-jump_s:.3f} s; media time goes on from the frame before"
            yield self._notice(NoticeKind.GAP, reason, jump_s=jump_s)
        elif jump_s > 0:
            hole_s, self._leapt_at_s = event.placed.hole_s, self._last_pts_s
            yield self._notice(NoticeKind.GAP, f"no frames for {hole_s:.1f} s", gap_s=hole_s, jump_s=jump_s)
        elif event.placed.late_s:
            self._num_late += 1
            if self._num_late == 1:
                late_s = event.placed.late_s
                reason = f"a timestamp lies {late_s:.3f} s before the last; media time waits for those that follow"
                yield self._notice(NoticeKind.GAP, reason, late_s=late_s)
        if event.picture.is_spread:
            self._num_spread += 1
            if self._num_spread == 1:
                every_s = event.picture.duration_s
                reason = f"pictures lie at one time; theirs are taken from the rate, {1 / every_s:.4g} a second"
                yield self._notice(NoticeKind.DAMAGED, reason, spread=True)
        if not event.is_stamped:
            self._num_unstamped += 1
            if self._num_unstamped == 1:
                reason = "frames have no timestamps; their times are worked out from their neighbours or the rate"
                yield self._notice(NoticeKind.DAMAGED, reason, unstamped=True)

    def _last_end_s(self, state: _Pass) -> float:
        """Media time in the file at which its last picture ends: by the picture's duration, at most the file's end.

        If the header's end lies before that picture, the header and the duration count decoding times, and the typical
        interval is the better estimate.
        """
        timeline, reader = state.timeline, self._reader
        length_s = reader.duration_s_declared if reader is not None and not self._is_joined else None
        if length_s is None:
            return timeline.end_s
        usual_s = timeline.last_s + timeline.typical_interval_s
        return min(timeline.end_s, length_s if length_s > timeline.last_s else usual_s)

    def _end_of(self, state: _Pass) -> float:
        """Media time in the file at which a pass is over."""
        end_s = self._last_end_s(state)
        return min(end_s, self._options.end_s) if self._options.end_s is not None else end_s

    def _end_notices(self, state: _Pass) -> Iterator[Notice]:
        """The notices about damage at the end of a pass, and about an end that is missing."""
        yield from self._damage_notices()
        reader = self._reader
        if reader is not None and not state.broken and not state.reached_end_s and state.first_s is not None:
            state.broken = missing_end(reader, state.timeline.end_s) or missing_bytes(self._path)
        if state.broken:
            reason = f"it breaks off at {self._last_pts_s:.2f} s: {state.broken}"
            yield self._notice(NoticeKind.DAMAGED, reason, broken=True)

    def _ended(self, broken: str, pacer: Pacer) -> Notice:
        num_frames, num_lost = self._num_decoded, self._damage.num_lost
        learnt = {} if self._interval_from_s is None else {"interval_from_s": self._interval_from_s}
        reason = f"{num_frames} frame{'s' * (num_frames != 1)} read"
        if num_lost:
            reason += f", {num_lost} lost"
        if broken:
            reason += f"; it broke off: {broken}"
        return self._notice(
            NoticeKind.ENDED,
            reason,
            num_frames,
            broken=bool(broken),
            num_frames=num_frames,
            num_lost=num_lost,
            num_unstamped=self._num_unstamped,
            num_late=self._num_late,
            num_spread=self._num_spread,
            slowed_s=pacer.total_slowed_s,
            **learnt,
        )
