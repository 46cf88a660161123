"""Writes comments and answers as WebVTT or SubRip subtitles, cue by cue. One thread writes to a file."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from assistant.errors import StoreError
from assistant.events import Answer, StatusEvent, StreamEvent

HOLD_S = 4.0
"""Seconds that a cue is shown unless another follows sooner."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: a text with its start and end."""

    start_ms: int
    end_ms: int
    text: str


class SubtitleWriter:
    """A sink that writes each cue when its end is known, so that a killed run leaves a valid file.

    A cue ends when the next begins, or after `HOLD_S`. Texts of one time share a cue. Times in the file never
    decrease: an event older than the cue before it is added to that cue.
    """

    def __init__(self, path: Path, form: Literal["vtt", "srt"]) -> None:
        self.path = path
        self._form = form
        self._start_ms = 0
        self._lines: list[str] = []
        self._num_cues = 0
        try:
            self._file: TextIO | None = path.open("w", encoding="utf-8", newline="\n")
        except OSError as error:
            raise StoreError(
                f"{path}: {error.strerror}; subtitles need a writable file; choose another name"
            ) from error
        if form == "vtt":
            self._write("WEBVTT\n\n")

    def append(self, event: StreamEvent) -> None:
        """Add a comment, alert or answer; status events are left out."""
        if isinstance(event, StatusEvent):
            return
        lines = [_one_line(event.text)]
        if isinstance(event, Answer):
            lines.insert(0, f"Q: {_one_line(event.question)}")
        if not any(lines):
            return
        start_ms = max(0, round(event.time_s * 1000))
        if self._lines and start_ms > self._start_ms:
            self._finish_cue(start_ms)
        self._start_ms = max(self._start_ms, start_ms)
        self._lines += [line for line in lines if line]

    def close(self) -> None:
        """Write the last cue and close the file."""
        if self._file is None:
            return
        self._finish_cue(None)
        self._file.close()
        self._file = None

    def _finish_cue(self, next_ms: int | None) -> None:
        if not self._lines:
            return
        end_ms = self._start_ms + round(HOLD_S * 1000)
        if next_ms is not None:
            end_ms = min(end_ms, next_ms)
        self._num_cues += 1
        cue = Cue(self._start_ms, end_ms, "\n".join(self._lines))
        self._write(vtt_cue(cue) if self._form == "vtt" else srt_cue(cue, self._num_cues))
        self._lines = []

    def _write(self, text: str) -> None:
        if self._file is None:
            raise StoreError(f"{self.path}: closed; subtitles need an open file; open it again")
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:
            raise StoreError(
                f"{self.path}: {error.strerror}; subtitles need disk space to be written; free some"
            ) from error


def vtt_cue(cue: Cue) -> str:
    """One WebVTT cue and the blank line after it (W3C WebVTT, 4.1): `&`, `<` and `>` are escaped."""
    text = html.escape(cue.text, quote=False)
    return f"{_stamp(cue.start_ms, '.')} --> {_stamp(cue.end_ms, '.')}\n{text}\n\n"


def srt_cue(cue: Cue, number: int) -> str:
    """One SubRip cue and the blank line after it. SubRip has no escapes: `-->` in the text becomes `->`."""
    text = cue.text.replace("-->", "->")
    return f"{number}\n{_stamp(cue.start_ms, ',')} --> {_stamp(cue.end_ms, ',')}\n{text}\n\n"


def _stamp(time_ms: int, comma: str) -> str:
    """A time as `HH:MM:SS.mmm`; hours may have more than two digits."""
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{comma}{ms:03}"


def _one_line(text: str) -> str:
    """`text` without line breaks, which would end a cue, and without control characters and direction marks."""
    return " ".join(_CONTROL.sub(" ", text).split())
