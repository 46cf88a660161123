"""Reads one video stream through FFmpeg (PyAV), from a file or a URL. For one thread at a time.

The properties are read when it is opened: any thread may use them, even after it was closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

import av
from av.format import Flags
from av.stream import Disposition

from streaming.errors import NotAVideo, NoVideoStream
from streaming.redact import escape_userinfo
from streaming.sources.container_header import (
    PLAYLIST_FORMATS,
    declared_fps,
    end_s_of,
    has_end,
    start_s_of,
    usual_fps,
)
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
from streaming.sources.tone_mapping import has_gamma_by_colour
from streaming.sources.tracks import choose_track, count_pictures, describe_track

if TYPE_CHECKING:
    from collections import Counter

    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

    from streaming.sources.hardware import HardwareDecoding

SAFE_FORMATS = (
    "mov,matroska,mpegts,mpeg,mpegvideo,avi,flv,ogg,asf,mxf,nut,wtv,ivf,obu,h264,hevc,m4v,gif,apng,mjpeg,mpjpeg,hls,"
    "dhav,dv,rm,yuv4mpegpipe,vvc,vc1"
)
"""FFmpeg's names of the formats that untrusted users may send: video containers, and playlists of those."""

MAX_PIXELS = 8192 * 4352
"""Most pixels of one picture from any source: an 8K camera's. A few bytes could otherwise demand gigabytes."""

TIMED_OUT = "nothing came within the time limit"
"""The reason of a `Broken` event after a timeout."""

_LEAST_LENGTH = 1.25
"""Shortest plausible length of a recording, in pictures."""

# FFmpeg renders text files as the screen of an old terminal.
_NOT_VIDEO_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
# These formats show each picture until the next one, however long: there is no time without a picture.
_FORMATS_WITHOUT_HOLES = frozenset({"mov", "gif", "apng", "avi", "webp", "webp_anim"})
# These formats have no timestamps; FFmpeg makes them up at 25 pictures a second, whatever the camera's rate.
_FORMATS_WITHOUT_TIME = frozenset(
    {"mpjpeg", "mjpeg", "image2", "image2pipe", "jpeg_pipe", "png_pipe"}
    | {"h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "cavsvideo", "dirac", "obu"}
)

# A graphics card that has decoded no picture and fails at this many packets in a row cannot decode the stream.
_MAX_REFUSED_BY_HARDWARE = 5

_PICTURE_FILES = frozenset({"mjpeg", "png", "webp", "tiff"})

# FFmpeg's own decoders of these codecs ignore transparency, which WebM stores beside the picture.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class VideoReader:
    """An open container and the decoder of the video track that is watched."""

    def __init__(
        self,
        container: InputContainer,
        name: str,
        *,
        is_live: bool,
        hardware: HardwareDecoding | None = None,
        is_finite: bool | None = None,
        length_s: float | None = None,
        seen: Counter[int] | None = None,
    ) -> None:
        """Take ownership of `container`. Raises `NotAVideo`, after closing it, if it has no readable video.

        `hardware`: the choice of device that the container was opened with; it learns if the device cannot decode the
        stream. `is_finite`: whether the server declares an end; None lets the container decide. `length_s`: the length
        to believe, not FFmpeg's, 0 if the container declares none. `seen`: pictures of each track, if counted.
        """
        self._container = container
        self._name = name
        self._formats = frozenset(container.format.name.split(","))
        declares_end = has_end(container, self._formats) if length_s is None else length_s > 0
        ends = declares_end if is_finite is None else is_finite
        self._is_finite = ends and not is_live
        self._is_live = not self._is_finite
        self._hardware = hardware
        self._num_refused = 0
        self._awaits_key = self._is_live
        """Whether a live stream has had no key frame yet: decoding fails until then, which does not count as damage."""
        try:
            self._stream, self._unwatched = self._choose_stream(seen)
            stream = self._stream
        except NotAVideo:
            container.close()
            raise
        # Frame threading delays the pictures by as many frames as there are threads.
        stream.thread_type = "SLICE" if self._is_live else "AUTO"
        self._context = self._make_context()
        self._context.options = {**self._context.options, "max_pixels": str(MAX_PIXELS)}
        # Copied now, because FFmpeg frees the stream together with its container.
        self._codec = stream.codec_context.name
        self._declared_aspect = float(stream.sample_aspect_ratio or 1)
        self._coded_aspect = self._context.sample_aspect_ratio
        self._coded_size_px = self._square(stream.width, stream.height)
        self._reorders = stream.codec_context.codec.reorder
        self._may_be_joined = bool(container.format.flags & cast("int", Flags.ts_discont.value))
        has_rate = self.has_timestamps or not self._is_live
        self._fps_declared = declared_fps(stream, is_live=self._is_live) if has_rate else None
        self._start_s = start_s_of(stream, container)
        end_s = end_s_of(stream, container, self._start_s) if length_s is None else length_s or None
        # A length of about one picture means a still, or pictures whose timestamps all coincide.
        self._fps_usual = usual_fps(stream)
        self._is_length_true = end_s is None or end_s * (self._fps_usual or 1.0) >= _LEAST_LENGTH
        self._duration_s_declared = end_s if self._is_length_true else None
        self._has_own_duration = (
            stream.duration is not None or "DURATION" in stream.metadata or len(container.streams) == 1
        )
        self._packets = PacketsAhead(self._demux)
        by_colour = has_gamma_by_colour(container.metadata, self._stream.metadata)
        self._converter = PictureConverter(gamma_by_colour=by_colour)
        self._oriented_kind: tuple[int, int, int] | None = None
        self._orientation = UPRIGHT
        self._still: Packet[Stream] | None = None
        """The last packet of a codec whose packets are picture files, which may have Exif."""

    @property
    def codec(self) -> str:
        """FFmpeg's name of the codec."""
        return self._codec

    @property
    def coded_size_px(self) -> tuple[int, int]:
        """Width and height by the header, with square pixels, before rotation; 0 if a live stream lacks it so far."""
        return self._coded_size_px

    @property
    def unwatched(self) -> tuple[str, ...]:
        """Descriptions of its other video tracks."""
        return self._unwatched

    @property
    def fps_declared(self) -> float | None:
        """Frame rate by the header; None if it declares no plausible one."""
        return self._fps_declared

    @property
    def duration_s_declared(self) -> float | None:
        """Media time by the header at which the pictures end, or else the container; None if neither is declared."""
        return self._duration_s_declared

    @property
    def fps_usual(self) -> float | None:
        """A frame rate from 1 to 240 by the header, or None; unlike `fps_declared`, never an absurd average."""
        return self._fps_usual

    @property
    def is_length_true(self) -> bool:
        """Whether the header's length is plausible; if not, it is ignored, and seeking by time is unreliable."""
        return self._is_length_true

    @property
    def has_own_duration(self) -> bool:
        """Whether the declared length is that of the pictures, rather than of a longer sound track."""
        return self._has_own_duration

    @property
    def has_timestamps(self) -> bool:
        """Whether its timestamps come from the camera; for formats without timestamps FFmpeg makes them up."""
        return not self._formats & _FORMATS_WITHOUT_TIME

    @property
    def is_bursty(self) -> bool:
        """Whether many seconds arrive at once, as with playlists of segments and files on web servers."""
        return bool(self._formats & PLAYLIST_FORMATS) or self._is_finite

    @property
    def may_be_joined(self) -> bool:
        """Whether files of its format can be joined byte by byte, so that timestamps may jump (by FFmpeg's flags)."""
        return self._may_be_joined

    @property
    def has_holes(self) -> bool:
        """Whether its format can have time without a picture, rather than showing each picture until the next."""
        return not self._formats & _FORMATS_WITHOUT_HOLES

    @property
    def reorders(self) -> bool:
        """Whether the codec's decoding order may differ from its presentation order."""
        return self._reorders

    @property
    def is_finite(self) -> bool:
        """Whether it has an end: a declared length, a known size (except playlists), or the finding of `find_end`."""
        return self._is_finite

    def events(self) -> Iterator[Event]:
        """The events from here to the end; `Broken` is the last one if the stream breaks off."""
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
        """The timestamps of the packets from here to the end, in decoding order; nothing is decoded."""
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
                        (packet.duration or 0) * scale,
                    )
        except av.FFmpegError:  # `events` reports the error when it gets there
            return

    def _demux(self) -> Iterator[Packet[Stream]]:
        """Packets in order. Live streams include sound, as PyAV would otherwise block until the next picture."""
        packets = self._container.demux() if self._is_live else self._container.demux(self._stream)
        return cast("Iterator[Packet[Stream]]", packets)

    def seek(self, to_s: float) -> bool:
        """Seek to the last key frame at or before `to_s` after the container's start; return False if it cannot."""
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
        """Whether the first packet can be read; `events` still yields its contents."""
        next(self._packets.read_ahead(), None)
        return self._packets.failure is None

    def find_end(self, now_s: Callable[[], float]) -> None:
        """Find out whether a stream without a declared length is a recording, hence finite: mostly in two seconds.

        If it comes somewhat faster than real time, that takes six.
        """
        if self._is_finite or self._formats & PLAYLIST_FORMATS:
            return
        self._is_finite = (
            is_recording(map(self._peeked, self._packets.read_ahead()), now_s) and not self._packets.failure
        )

    @property
    def digest(self) -> bytes | None:
        """Hash of its first three packets, to recognise the same recording; None if fewer were read so far."""
        return self._packets.digest

    def read_digest(self) -> bytes | None:
        """The same, after reading as many packets ahead as it needs; None if there are fewer."""
        packets = self._packets.read_ahead()
        while self.digest is None and next(packets, None) is not None:
            pass
        return self.digest

    def close(self) -> None:
        """Close the container; calling it again does nothing."""
        self._container.close()

    def _choose_stream(self, seen: Counter[int] | None) -> tuple[VideoStream, tuple[str, ...]]:
        """The track to watch, and descriptions of the others. Raises `NotAVideo`."""
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
        """The decoder of the stream, which also decodes transparency if the stream has it."""
        own = self._stream.codec_context
        alpha_decoder = _ALPHA_DECODERS.get(own.name)
        if alpha_decoder is None or self._stream.metadata.get("alpha_mode") != "1":
            return own
        try:
            return cast("av.VideoCodecContext", av.CodecContext.create(alpha_decoder, "r"))
        except av.FFmpegError:
            return own

    def _peeked(self, packet: Packet[Stream]) -> PeekedPacket:
        is_told = packet.stream.index == self._stream.index and self.has_timestamps
        stamp, time_base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
        return PeekedPacket(
            float(stamp * time_base) if is_told and stamp is not None and time_base else None, packet.size
        )

    def _decode(self, packet: Packet[Stream] | None) -> Iterator[Event]:
        """The events from decoding `packet`; None or an empty packet flushes the decoder."""
        self._awaits_key = self._awaits_key and not (packet is not None and packet.is_keyframe)
        if packet is not None and packet.size and self._codec in _PICTURE_FILES:
            self._still = packet
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
            # Whole numbers: products of fractions take longer than all else that is done for a skipped picture.
            ticks, unit = time_base.numerator, time_base.denominator
            duration_s = max(0.0, frame.duration * ticks / unit) if frame.duration else 0.0
            if frame.pts is not None:
                stamp_s = frame.pts * ticks / unit - self._start_s
        orientation = self._orientation_of(frame)
        width_px, height_px = square = self._square(frame.width, frame.height)
        size_px = (height_px, width_px) if orientation.swaps_sides else square
        return DecodedPicture(stamp_s, duration_s, size_px, lambda: self._converter.to_rgb(frame, orientation, square))

    def _square(self, width_px: int, height_px: int) -> tuple[int, int]:
        """The size with square pixels of a picture of this coded size.

        The container's pixel aspect ratio overrides the codec's, as in players, until the codec's changes.
        """
        coded = self._context.sample_aspect_ratio
        if coded and coded != self._coded_aspect:
            self._coded_aspect, self._declared_aspect = coded, float(coded)
        return square_pixel_size(width_px, height_px, self._declared_aspect, MAX_PIXELS)

    def _orientation_of(self, frame: VideoFrame) -> Orientation:
        """The orientation of `frame`; its matrix is read only if its rotation or size changed.

        Reading it makes a reference cycle that keeps the frame alive, and leaks some hundred bytes (PyAV 18.1).
        """
        kind = (frame.rotation, frame.width, frame.height)
        if kind != self._oriented_kind:
            data = b"" if self._still is None else bytes(self._still)
            self._oriented_kind, self._orientation = kind, orientation_of(frame, data)
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
    """Open `location` (an absolute path or a URL) with FFmpeg's `options`. Raises FFmpeg's errors and `NotAVideo`.

    `name` is the display name, for messages. `timeout_s`: time limits of opening and of each read. `hardware` may
    choose a device for decoding.
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
    """FFmpeg's description of an error, without the URL that its full message quotes."""
    if isinstance(error, av.error.ExitError):
        return TIMED_OUT
    return (error.strerror or type(error).__name__).rstrip(".").lower()
