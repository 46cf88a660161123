"""Reads one video stream through FFmpeg (PyAV), from a file or a URL; for one thread at a time.

The facts about it are taken when it is opened: any thread may ask for them, after it was closed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

import av
from av.format import Flags
from av.stream import Disposition

from streaming.errors import NotAVideo, NoVideoStream
from streaming.redact import escape_userinfo
from streaming.sources.look_ahead import PacketsAhead, PeekedPacket, is_recording
from streaming.sources.pictures import (
    UPRIGHT,
    Broken,
    Damage,
    DecodedPicture,
    Event,
    Orientation,
    PacketTimes,
    PictureConverter,
    Undecoded,
    orientation_of,
    square_pixel_size,
)
from streaming.sources.tracks import choose_track, count_pictures, describe_track

if TYPE_CHECKING:
    from collections import Counter

    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

    from streaming.sources.hardware import HardwareDecoding

SAFE_FORMATS = (
    "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,ogg,asf,mxf,nut,wtv,ivf,obu,h264,hevc,m4v,gif,apng,mjpeg,mpjpeg,hls,"
    "dhav,dv,rm,yuv4mpegpipe,vvc,vc1"
)
"""FFmpeg's names of the formats that strangers may send: pictures in a container, and playlists of those."""

MAX_PIXELS = 8192 * 4352
"""Of one picture, from whatever source: an 8K camera's. More costs gigabytes, and a few bytes can ask for it."""

TIMED_OUT = "nothing came within the time limit"
"""The reason of a `Broken` whose stream stayed silent."""

_MAX_SANE_FPS = 1000.0
_LEAST_USUAL_FPS, _MOST_USUAL_FPS = 1.0, 240.0
_LEAST_LENGTH = 1.25
"""Of a recording, in pictures."""

# FFmpeg plays text files as the screen of an old terminal.
_NOT_VIDEO_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# Their lists give each picture the time up to the next one, however long: there is no time without a picture.
_FORMATS_WITHOUT_HOLES = frozenset({"mov", "gif", "apng", "avi", "webp", "webp_anim"})
_PLAYLIST_FORMATS = frozenset({"hls", "dash"})
# FFmpeg gives the pictures of these 25 a second, whatever the camera does.
_FORMATS_WITHOUT_TIME = frozenset(
    {"mpjpeg", "mjpeg", "image2", "image2pipe", "jpeg_pipe", "png_pipe"}
    | {"h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "cavsvideo", "dirac", "obu"}
)

# A graphics card that never gave a picture and refuses this many packets in a row cannot decode the stream.
_MAX_REFUSED_BY_HARDWARE = 5

# FFmpeg's own decoders of these leave out the transparency, which WebM keeps beside the picture.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class VideoReader:
    """An open container and the decoder of its best video stream."""

    def __init__(
        self,
        container: InputContainer,
        name: str,
        *,
        is_live: bool,
        hardware: HardwareDecoding | None = None,
        is_finite: bool | None = None,
        seen: Counter[int] | None = None,
    ) -> None:
        """Take over `container`, closing it where it has no video; raises `NotAVideo`.

        `hardware` is told where the device that the container was opened with cannot decode the stream. `is_finite`
        says whether the server names an end; None leaves the answer to the container. `seen` counts the pictures of
        each track, where that was found out.
        """
        self._container = container
        self._name = name
        self._formats = frozenset(container.format.name.split(","))
        has_end = _has_end(container, self._formats) if is_finite is None else is_finite
        self._is_finite = has_end and not is_live
        self._is_live = not self._is_finite
        self._hardware = hardware
        self._num_refused = 0
        self._awaits_key = self._is_live
        """Whether it joined a stream under way and no key frame came yet: nothing decodes then, and nothing is lost."""
        try:
            self._stream, self._unwatched = self._choose_stream(seen)
            stream = self._stream
        except NotAVideo:
            container.close()
            raise
        # Threads by frame hold back as many pictures as there are threads.
        stream.thread_type = "SLICE" if self._is_live else "AUTO"
        self._context = self._make_context()
        self._context.options = {**self._context.options, "max_pixels": str(MAX_PIXELS)}
        # A stream's facts lie in memory that goes with its container.
        self._codec = stream.codec_context.name
        self._declared_aspect = float(stream.sample_aspect_ratio or 1)
        self._coded_aspect = self._context.sample_aspect_ratio
        self._coded_size_px = self._square(stream.width, stream.height)
        self._reorders = stream.codec_context.codec.reorder
        self._may_be_joined = bool(container.format.flags & cast("int", Flags.ts_discont.value))
        has_rate = self.has_timestamps or not self._is_live
        self._fps_declared = _rate_of(stream, is_live=self._is_live) if has_rate else None
        self._start_s = _start_of(stream, container)
        end_s = _end_of(stream, container, self._start_s)
        # As long as one picture lasts: a still, or all its pictures lie at one time.
        self._fps_usual = _usual_rate_of(stream)
        self._is_length_true = end_s is None or end_s * (self._fps_usual or 1.0) >= _LEAST_LENGTH
        self._duration_s_declared = end_s if self._is_length_true else None
        self._has_own_duration = (
            stream.duration is not None or "DURATION" in stream.metadata or len(container.streams) == 1
        )
        self._packets = PacketsAhead(self._demux)
        self._converter = PictureConverter()
        self._oriented_kind: tuple[int, int, int] | None = None
        self._orientation = UPRIGHT

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._codec

    @property
    def coded_size_px(self) -> tuple[int, int]:
        """Width and height by the header, of square pixels, before rotation; 0 where a live stream has not said it."""
        return self._coded_size_px

    @property
    def unwatched(self) -> tuple[str, ...]:
        """Its further picture tracks, in words."""
        return self._unwatched

    @property
    def fps_declared(self) -> float | None:
        """Rate by the header, None where it says none that can be."""
        return self._fps_declared

    @property
    def duration_s_declared(self) -> float | None:
        """By the header: media time at which the pictures end, else the whole container; None where neither says."""
        return self._duration_s_declared

    @property
    def fps_usual(self) -> float | None:
        """A rate from 1 to 240 a second by the header, None where it says none: what it averages may be nonsense."""
        return self._fps_usual

    @property
    def is_length_true(self) -> bool:
        """Whether the header's length can be: else it is left out, and a seek by time would mislead."""
        return self._is_length_true

    @property
    def has_own_duration(self) -> bool:
        """Whether the declared length is that of the pictures, not of a longer sound track."""
        return self._has_own_duration

    @property
    def has_timestamps(self) -> bool:
        """Whether its timestamps are a camera's: for a series of pictures without any FFmpeg makes them up."""
        return not self._formats & _FORMATS_WITHOUT_TIME

    @property
    def is_bursty(self) -> bool:
        """Whether many seconds arrive at once, as in playlists of segments and from web servers that hold a file."""
        return bool(self._formats & _PLAYLIST_FORMATS) or self._is_finite

    @property
    def may_be_joined(self) -> bool:
        """Whether recordings in its format can be joined byte by byte, as FFmpeg sees it: then times may jump."""
        return self._may_be_joined

    @property
    def has_holes(self) -> bool:
        """Whether its format can leave a time without a picture; else each picture is shown until the next."""
        return not self._formats & _FORMATS_WITHOUT_HOLES

    @property
    def reorders(self) -> bool:
        """Whether the codec may give pictures in another order than their data has."""
        return self._reorders

    @property
    def is_finite(self) -> bool:
        """Whether it ends: it has a length, its bytes are counted (and are no playlist), or that was found out."""
        return self._is_finite

    def events(self) -> Iterator[Event]:
        """Everything from here to the end; `Broken` last where the stream breaks off."""
        broken = None
        try:
            for packet in self._packets:
                if packet.stream.index != self._stream.index:
                    yield Undecoded()
                    continue
                if packet.is_corrupt and packet.size:
                    yield Damage("data arrived damaged", num_lost=0)
                yield from self._decode(packet)
                if self._hardware is not None and self._num_refused >= _MAX_REFUSED_BY_HARDWARE:
                    self._hardware.give_up()
                    broken = Broken("the graphics card cannot decode it; going on without")
                    break
        except av.EOFError:
            pass
        except av.FFmpegError as error:
            broken = Broken(reason_of(error))
        if broken is not None:
            if not self._num_refused:
                yield from self._decode(None)
            yield broken

    def stamps(self) -> Iterator[PacketTimes]:
        """The timestamps of the pictures from here to the end, in the order of their data; none is decoded."""
        time_base = self._stream.time_base
        if time_base is None:
            return
        start_s, scale = self._start_s, float(time_base)
        try:
            for packet in self._container.demux(self._stream):
                show, decode = packet.pts, packet.dts
                if packet.size and not packet.is_discard and not packet.is_corrupt:
                    yield PacketTimes(
                        None if show is None else show * scale - start_s,
                        None if decode is None else decode * scale - start_s,
                    )
        except av.FFmpegError:  # told by whoever reads it in earnest
            return

    def _demux(self) -> Iterator[Packet]:
        """Packets as they come. Of a live stream the sound as well: PyAV would wait in silence for the next picture."""
        return self._container.demux() if self._is_live else self._container.demux(self._stream)

    def seek(self, to_s: float) -> bool:
        """Go to the last key frame at or before `to_s` after the container's start; False where it cannot."""
        stream = self._stream
        if stream.time_base is None:
            return False
        try:
            self._container.seek(int((self._start_s + to_s) / float(stream.time_base)), stream=stream)
        except (av.FFmpegError, OverflowError):
            return False
        self._context.flush_buffers()
        self._packets.clear()
        return True

    def can_begin(self) -> bool:
        """Whether its first packet can be read; `events` gives it all the same."""
        next(self._packets.read_ahead(), None)
        return self._packets.failure is None

    def find_end(self, now_s: Callable[[], float]) -> None:
        """Find out whether what comes without a length is a recording: then it is finite. Takes two seconds at most."""
        if self._is_finite or self._formats & _PLAYLIST_FORMATS:
            return
        self._is_finite = (
            is_recording(map(self._peeked, self._packets.read_ahead()), now_s) and not self._packets.failure
        )

    @property
    def digest(self) -> bytes | None:
        """Of its first packets, where they were looked at ahead: the same where the same comes again."""
        return self._packets.digest

    def close(self) -> None:
        """Close the container; more than once does no harm."""
        self._container.close()

    def _choose_stream(self, seen: Counter[int] | None) -> tuple[VideoStream, tuple[str, ...]]:
        """The track to watch, and the others in words."""
        container = self._container
        if self._formats & _NOT_VIDEO_FORMATS:
            raise NotAVideo(self._name, "it is a text, not a video", "give a video file")
        videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not videos:
            kinds = sorted({stream.type for stream in container.streams} - {"video"})
            cover = " and a cover picture" if container.streams.video else ""
            found = ", ".join(kinds) or "nothing"
            raise NoVideoStream(self._name, f"it has no video stream, only {found}{cover}", "give a file with pictures")
        stream, others = choose_track(container, videos, seen)
        is_known = stream.codec_context is not None  # without a codec a stream has no size either
        has_size = is_known and stream.width > 0 and stream.height > 0
        if not is_known or not (has_size or self._is_live):
            raise NotAVideo(self._name, "its pictures have no size or no known codec", "check that it plays elsewhere")
        if stream.width * stream.height > MAX_PIXELS:
            size = f"{stream.width} x {stream.height}"
            rule = f"its picture is {size}; at most {MAX_PIXELS:,} pixels are read"
            raise NotAVideo(self._name, rule, "scale it down")
        return stream, tuple(describe_track(other) for other in others)

    def _make_context(self) -> av.VideoCodecContext:
        """The stream's own decoder, or the one that also decodes its transparency."""
        own = self._stream.codec_context
        alpha_decoder = _ALPHA_DECODERS.get(own.name)
        if alpha_decoder is None or self._stream.metadata.get("alpha_mode") != "1":
            return own
        try:
            return cast("av.VideoCodecContext", av.CodecContext.create(alpha_decoder, "r"))
        except av.FFmpegError:
            return own

    def _peeked(self, packet: Packet) -> PeekedPacket:
        is_told = packet.stream.index == self._stream.index and self.has_timestamps
        stamp, time_base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
        return PeekedPacket(
            float(stamp * time_base) if is_told and stamp is not None and time_base else None, packet.size
        )

    def _decode(self, packet: Packet | None) -> Iterator[Event]:
        """What `packet` gives (None or an empty one: what the decoder still holds)."""
        self._awaits_key = self._awaits_key and not (packet is not None and packet.is_keyframe)
        try:
            frames = self._context.decode(packet if packet is not None and packet.size else None)
        except av.EOFError:
            return
        except av.FFmpegError as error:
            if self._awaits_key:
                yield Undecoded()
                return
            self._num_refused += 1
            yield Damage(reason_of(error), num_lost=1)
            return
        if not frames and self._is_live:
            yield Undecoded()
        for frame in frames:
            self._num_refused, self._hardware, self._awaits_key = 0, None, False
            yield Damage("a picture was damaged", num_lost=1) if frame.is_corrupt else self._picture(frame)

    def _picture(self, frame: VideoFrame) -> DecodedPicture:
        time_base = frame.time_base or self._stream.time_base
        stamp_s = None
        duration_s = 0.0
        if time_base is not None:
            duration_s = max(0.0, float(frame.duration * time_base)) if frame.duration else 0.0
            if frame.pts is not None:
                stamp_s = float(frame.pts * time_base) - self._start_s
        orientation = self._orientation_of(frame)
        width_px, height_px = square = self._square(frame.width, frame.height)
        size_px = (height_px, width_px) if orientation.swaps_sides else square
        return DecodedPicture(stamp_s, duration_s, size_px, lambda: self._converter.to_rgb(frame, orientation, square))

    def _square(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The size at which a picture of this coded size is shown.

        What the container says of the pixels' form goes before the codec's, as in players, until the codec changes its.
        """
        coded = self._context.sample_aspect_ratio
        if coded and coded != self._coded_aspect:
            self._coded_aspect, self._declared_aspect = coded, float(coded)
        return square_pixel_size(width_px, height_px, self._declared_aspect, MAX_PIXELS)

    def _orientation_of(self, frame: VideoFrame) -> Orientation:
        """How `frame` is to be laid; its matrix is looked at only where its rotation or size is a new one.

        Each look makes a cycle of references that keeps the frame, and leaks some hundred bytes (PyAV 18.1).
        """
        kind = (frame.rotation, frame.width, frame.height)
        if kind != self._oriented_kind:
            self._oriented_kind, self._orientation = kind, orientation_of(frame)
        return self._orientation


def open_reader(
    location: str,
    name: str,
    *,
    options: Mapping[str, str],
    is_live: bool = False,
    timeout_s: tuple[float, float] | None = None,
    hardware: HardwareDecoding | None = None,
) -> VideoReader:
    """Open `location` (an absolute path or a URL) with FFmpeg's `options`; raises FFmpeg's errors and `NotAVideo`.

    `timeout_s` limits opening and each read; `hardware` may offer a device that decodes.
    """
    accelerator = hardware.accelerator() if hardware is not None else None
    container = av.open(
        escape_userinfo(location),
        options=dict(options),
        timeout=timeout_s,
        metadata_errors="replace",
        hwaccel=accelerator,
    )
    seen = None
    if len(container.streams.video) > 1 and not is_live and "://" not in location:
        with av.open(location, options=dict(options), timeout=timeout_s, metadata_errors="replace") as other:
            seen = count_pictures(other)
    device = hardware if accelerator is not None else None
    return VideoReader(container, name, is_live=is_live, hardware=device, seen=seen)


def reason_of(error: av.FFmpegError) -> str:
    """FFmpeg's own words for what went wrong, without the URL that its full message quotes."""
    if isinstance(error, av.error.ExitError):
        return TIMED_OUT
    return (error.strerror or type(error).__name__).rstrip(".").lower()


def _rate_of(stream: VideoStream, *, is_live: bool) -> float | None:
    """By the header; FFmpeg's guess is of use for recordings alone, which it looks through."""
    rate = stream.average_rate or (None if is_live else stream.guessed_rate)
    if rate and rate > _MAX_SANE_FPS:  # its pictures lie at one time
        return _usual_rate_of(stream)
    return float(rate) if rate and rate > 0 else None


def _usual_rate_of(stream: VideoStream) -> float | None:
    """The first rate that a camera may have: by the timestamps, by the container, by the pictures' own data."""
    rates = (stream.average_rate, stream.guessed_rate, stream.codec_context.framerate)
    return next((float(rate) for rate in rates if rate and _LEAST_USUAL_FPS <= rate <= _MOST_USUAL_FPS), None)


def _start_of(stream: VideoStream, container: InputContainer) -> float:
    """The timestamp from which media time counts, seconds: the container's first, as in players, sound included."""
    if container.start_time is not None:
        return container.start_time / av.time_base
    return _first_of(stream)


def _first_of(stream: VideoStream) -> float:
    start, time_base = stream.start_time, stream.time_base
    return 0.0 if start is None or time_base is None else float(start * time_base)


def _end_of(stream: VideoStream, container: InputContainer, start_s: float) -> float | None:
    """Media time of the end by the header.

    Matroska's DURATION is the last timestamp, not a length, but where mkvmerge wrote it among its statistics.
    """
    late_s = _first_of(stream) - start_s
    if stream.duration is not None and stream.time_base is not None:
        return late_s + float(stream.duration * stream.time_base)
    of_matroska = _seconds_of(stream.metadata.get("DURATION", ""))
    if of_matroska is not None:
        return of_matroska + (late_s if "_STATISTICS_TAGS" in stream.metadata else -start_s)
    if container.duration is None:
        return None
    is_end = "matroska" in container.format.name
    return container.duration / av.time_base - (start_s if is_end else 0.0)


def _has_end(container: InputContainer, formats: frozenset[str]) -> bool:
    return container.duration is not None or (container.size > 0 and not formats & _PLAYLIST_FORMATS)


def _seconds_of(timestamp: str) -> float | None:
    """`HH:MM:SS.fraction` in seconds, None where it is not of that form."""
    try:
        hours, minutes, seconds = timestamp.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
