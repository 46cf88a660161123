"""Recordings: files, and finite files on a web server. Nothing is dropped; the reader decides the pace.

`open()` and `frames()` are for one thread, `close()` for any.
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
    """The picture that is shown now, up to the next or to its own end."""

    picture: DecodedPicture
    from_s: float
    """The file's media time from which it is wanted: its own, or the start of the range."""
    index: int | None = None
    """Its number among those in range; None while it is from before."""
    image: np.ndarray | None = None
    """Once it was wanted."""
    is_lost: bool = False
    """Whether it could not be converted."""


@dataclass(slots=True)
class _Pass:
    """One pass through the recording; a loop makes one anew."""

    timeline: RecordingTimeline
    events: Iterator[TimedPicture | Damage | Broken]
    offset_s: float = 0.0
    """What this pass adds to the file's own media time."""
    first_s: float | None = None
    """The file's media time of the first frame in range; None before it."""
    broken: str = ""
    """Why it broke off, empty where it did not."""
    reached_end_s: bool = False
    standing: _Standing | None = None


class ReplaySource(BaseSource):
    """A recording. Media time is the file's own: with `start_s=10` the first frame has a time of 10 s or more."""

    is_live = False

    def __init__(
        self, name: str, options: SourceOptions, clock: Clock | None = None, opener: Opener | None = None
    ) -> None:
        """`name` is a path, unless `opener` opens something else."""
        super().__init__(name, options, clock)
        self._opener = opener or (lambda: open_file(name))
        self._path = None if opener else Path(name).expanduser()
        self._reader: VideoReader | None = None
        self._pass: _Pass | None = None
        self._file_starts_s = 0.0
        self._num_unstamped = self._num_late = self._num_spread = 0
        self._is_joined = False
        """Whether the timestamps are known to jump back: the header's length and a seek would then mislead."""
        self._has_longer = False
        """Whether pictures are known to lie after the end by the header."""

    def open(self) -> SourceInfo:
        """Open it and look at its first picture; raises `SourceError`, or `OptionError` for a start after its end."""
        self.close()
        self._start()
        self._file_starts_s = 0.0
        self._num_unstamped = self._num_late = self._num_spread = 0
        self._has_longer = False
        return self._open_with(self._enter)

    def frames(self) -> Iterator[Item]:
        """Notices and frames, ending with `ENDED`."""
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
        """Open it, or leave nothing behind."""
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
        """Find out whether the timestamps jump back, where that is worth its time; raises `TimesJumpBack`."""
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
        """By the header; None where it cannot know, or is known to be wrong."""
        return None if self._is_joined or self._has_longer else reader.duration_s_declared

    def _check_start(self, reader: VideoReader) -> None:
        duration_s = self._length_s(reader)
        start_s = self._options.start_s
        if duration_s is not None and 0 < duration_s <= start_s and not self._reaches(reader, start_s):
            raise OptionError(
                f"start_s={self._options.start_s:g}", f"{self._name} is {duration_s:.1f} s long", "start earlier"
            )

    def _reaches(self, reader: VideoReader, time_s: float) -> bool:
        """Whether there are pictures at or after a time, whatever the header says; where it is a file, which is cheap.

        A header is wrong where it counts the order of decoding, and after a copy that did not mend it.
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
        """Stand at `start_s`, by seeking where that works, else by opening anew and decoding up to it."""
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
        """A pass from where `reader` stands, and its first picture, which the pass gives too."""
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
        while (event := self._with_decoder(lambda: next(state.events, None))) is not None:
            if isinstance(event, Damage):
                self._damage.add(event)
                continue
            if isinstance(event, Broken):
                state.broken = event.reason
                break
            pts_s = event.placed.pts_s
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

    def _deliver(self, event: TimedPicture, state: _Pass, sampler: FrameChooser, pacer: Pacer) -> Iterator[Item]:
        """One picture in range: as a frame if it is sampled, after what has to be said of it."""
        assert state.standing is not None
        if state.first_s is None:
            state.first_s = event.placed.pts_s
        pts_s = event.placed.pts_s + state.offset_s
        yield from self._time_notices(event)
        state.standing.index = self._num_decoded
        self._num_decoded += 1
        if sampler.wants(pts_s):
            yield from self._give(state.standing, pts_s, pacer)
        else:
            self._last_pts_s = pts_s

    def _stand(self, state: _Pass, until_s: float, sampler: FrameChooser, pacer: Pacer) -> Iterator[Item]:
        """The last picture again at each tick up to `until_s`, the file's media time until which it is shown.

        One from before `start_s` that is still shown then begins there.
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
            yield from self._give(shown, pts_s, pacer)

    def _give(self, shown: _Standing, pts_s: float, pacer: Pacer) -> Iterator[Item]:
        """A picture as a frame, when its time has come."""
        late_s = pacer.wait(pts_s)
        if self._closed.is_set():
            return
        if late_s:
            yield self._notice(
                NoticeKind.SLOWED,
                f"frames are used slower than speed {pacer.speed:g}; the media clock waits for them",
                behind_s=late_s,
            )
        is_repeated = shown.image is not None
        if shown.image is None:
            try:
                shown.image = shown.picture.to_rgb()
            except av.FFmpegError as error:
                shown.is_lost = True
                self._damage.add(Damage(reason_of(error), num_lost=1))
                return
        assert shown.index is not None
        yield from self._framed(shown.image, pts_s, shown.index, is_repeated=is_repeated)

    def _time_notices(self, event: TimedPicture) -> Iterator[Notice]:
        """What is to be said of a picture's timestamp."""
        jump_s = event.placed.jump_s
        if jump_s < 0:
            reason = f"timestamps jumped back by {-jump_s:.3f} s; media time goes on from the frame before"
            yield self._notice(NoticeKind.GAP, reason, jump_s=jump_s)
        elif jump_s > 0:
            hole_s = event.placed.hole_s
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
        """The file's media time at which its last picture ends: by its own duration, but not after the file does.

        Where the header ends before it, both count the order of decoding, and the usual interval is the better guess.
        """
        timeline, reader = state.timeline, self._reader
        length_s = reader.duration_s_declared if reader is not None and not self._is_joined else None
        if length_s is None:
            return timeline.end_s
        usual_s = timeline.last_s + timeline.typical_interval_s
        return min(timeline.end_s, length_s if length_s > timeline.last_s else usual_s)

    def _end_of(self, state: _Pass) -> float:
        """The file's media time at which a pass is over."""
        end_s = self._last_end_s(state)
        return min(end_s, self._options.end_s) if self._options.end_s is not None else end_s

    def _end_notices(self, state: _Pass) -> Iterator[Notice]:
        """What was damaged at its end, and whether it broke off there."""
        yield from self._damage_notices()
        reader = self._reader
        if reader is not None and not state.broken and not state.reached_end_s and state.first_s is not None:
            state.broken = missing_end(reader, state.timeline.end_s) or missing_bytes(self._path)
        if state.broken:
            reason = f"it breaks off at {self._last_pts_s:.2f} s: {state.broken}"
            yield self._notice(NoticeKind.DAMAGED, reason, broken=True)

    def _ended(self, broken: str, pacer: Pacer) -> Notice:
        num_frames, num_lost = self._num_decoded, self._damage.num_lost
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
        )
