"""Opens the answer of a web server: a series of JPEGs, a recording, or a live stream.

Used for the owner's URLs and for untrusted ones. Threads as for `VideoReader`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import av

from streaming.errors import NotAVideo, SourceTimeout, SourceUnreachable
from streaming.sources.addresses import KINDS
from streaming.sources.base import SourceOptions
from streaming.sources.http_files import HttpFile, HttpFiles
from streaming.sources.jpeg_series import JpegSeries, is_series
from streaming.sources.mp4_boxes import fragments_length_s, index_is_last
from streaming.sources.pictures import Broken, Damage, Event
from streaming.sources.reading import VideoReader, reason_of

_PLAYLIST_TYPES = ("mpegurl", "dash+xml")
_PLAYLIST_HEADS = (b"#EXTM3U", b"<MPD", b"<?xml")
_PLAYLIST_FORMATS = frozenset({"hls", "dash"})
_INDEXED_FORMATS = frozenset({"mov", "mp4"})


class FilesReader(VideoReader):
    """A `VideoReader` that also closes the connections its data comes through, and reports their failures."""

    def __init__(
        self,
        container: Any,
        name: str,
        rest: ExitStack,
        *,
        is_live: bool,
        is_finite: bool | None,
        first: HttpFile | None = None,
        files: HttpFiles | None = None,
        length_s: float | None = None,
    ) -> None:
        """`rest` is closed together with the reader. `is_finite` None lets the container decide whether it ends.

        `first` is the main file, whose failure is reported; `files` knows the failures of all other files.
        `length_s`: as for `VideoReader`.
        """
        self._rest = rest
        self._first = first
        self._files = files
        try:
            super().__init__(container, name, is_live=is_live, is_finite=is_finite, length_s=length_s)
        except BaseException:
            rest.close()
            raise

    def events(self) -> Iterator[Event]:
        """The events from here to the end; `Broken` last if the data broke off, even if that happened while opening."""
        event = None
        for event in super().events():
            missing = self._files.pop_failure() if self._files is not None else None
            if missing is not None and not isinstance(event, Broken):
                yield Damage(missing.rule, num_lost=0)
            yield Broken(missing.rule) if missing is not None and isinstance(event, Broken) else event
        missing = self._files.pop_failure() if self._files is not None else None
        if missing is not None and not isinstance(event, Broken):
            yield Broken(missing.rule)
            return
        failure = self._first.failure if self._first is not None else None
        if failure is not None and not isinstance(event, Broken):
            yield Broken(reason_of(failure))

    def close(self) -> None:
        """Close the container, then the connections it read from."""
        super().close()
        self._rest.close()


def is_playlist(first: HttpFile) -> bool:
    """Whether the answer `first` is a playlist, which names other files to read in turn."""
    kind = first.content_type.lower()
    return any(wanted in kind for wanted in _PLAYLIST_TYPES) or first.head().lstrip().startswith(_PLAYLIST_HEADS)


def open_answer(
    name: str, first: HttpFile, files: HttpFiles, options: SourceOptions, av_options: Mapping[str, str]
) -> VideoReader:
    """A reader of the answer `first`; it closes `files` when it is closed. Raises `SourceError`.

    `av_options` are options for FFmpeg, which opens any further files through `files`.
    """
    with ExitStack() as stack:
        stack.enter_context(files)
        series = _series_of(name, first)
        if not first.seekable() and index_is_last(first.head()):
            raise _index_last(name)
        try:
            container = _open(name, series, files, options, av_options)
        except NotAVideo:
            if (failure := files.pop_failure()) is not None:
                raise failure from None
            _check_came(name, first, options)
            raise
        first.defers_failure = False
        formats = set(container.format.name.split(","))
        is_indexed, is_series = bool(_INDEXED_FORMATS & formats), series is not None
        reader = FilesReader(
            container,
            name,
            stack.pop_all(),
            is_live=is_series,
            is_finite=_is_finite(first, is_series=is_series, is_list=bool(_PLAYLIST_FORMATS & formats)),
            first=first,
            files=files,
            # Of an MP4 in fragments that it cannot seek in, FFmpeg gives the length of what it has read so far.
            length_s=fragments_length_s(first.beginning) if is_indexed and not first.seekable() else None,
        )
    if is_indexed and not first.seekable() and not reader.can_begin():
        reader.close()
        raise _index_last(name)
    if series is None and first.failure is None:
        reader.find_end(time.monotonic)
    return reader


def _is_finite(first: HttpFile, *, is_series: bool, is_list: bool) -> bool | None:
    """Whether the stream ends, by the server's answer; None lets the container decide, which may have a length."""
    if is_series:
        return False
    if is_list:
        return None
    if first.length_bytes is None:
        return True if first.is_stored else None
    return first.length_bytes > 0


def _open(
    name: str, series: JpegSeries | None, files: HttpFiles, options: SourceOptions, av_options: Mapping[str, str]
) -> Any:
    try:
        return av.open(
            files.url,
            format=None if series is None else "mpjpeg",
            io_open=files.open if series is None else lambda *_: series,
            options=dict(av_options),
            timeout=(options.open_timeout_s, options.read_timeout_s),
            metadata_errors="replace",
        )
    except av.error.ArgumentError:
        raise NotAVideo(name, "what the server sends is no video that is read from URLs", KINDS) from None
    except av.FFmpegError as error:
        reason = reason_of(error)
    raise NotAVideo(name, f"what the server sends is not a video ({reason})", "check the URL in a browser")


def _series_of(name: str, first: HttpFile) -> JpegSeries | None:
    is_endless = first.length_bytes is None and not first.content_type.lower().startswith("image/")
    if is_series(first.content_type, first.head(), is_endless=is_endless):
        return JpegSeries(name, first.content_type, first.read, first.close)
    return None


def _check_came(name: str, first: HttpFile, options: SourceOptions) -> None:
    """Raise `SourceUnreachable` if the data could not be read because the connection broke off."""
    if isinstance(first.failure, av.error.ExitError):
        rule = f"it answers, and then no picture came within {options.read_timeout_s:g} s"
        raise SourceTimeout(name, rule, "try again, or raise read_timeout_s")
    if first.failure is not None:
        rule = f"it breaks off before its first picture ({reason_of(first.failure)})"
        raise SourceUnreachable(name, rule, "try again")


def _index_last(name: str) -> NotAVideo:
    return NotAVideo(
        name,
        "its index (moov) stands at its end, and the server gives no parts of the file (no Range requests), so there "
        "is no way back to the pictures",
        "write the index first (ffmpeg -i IN -c copy -movflags +faststart OUT), use a server that gives parts, or "
        "download it and give the file",
    )
