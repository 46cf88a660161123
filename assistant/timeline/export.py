"""Exports events of a timeline as JSON lines, subtitles or Markdown with thumbnails. Plain functions."""

from __future__ import annotations

import html
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, TextIO, get_args

from assistant.errors import ConfigError, StoreError
from assistant.events import Answer, StatusEvent
from assistant.subtitles import SubtitleWriter
from assistant.timeline.folder import PART, TimelineFolder, write_whole
from assistant.timeline.records import FoundEvent
from assistant.timeline.search import TimelineReader
from assistant.timeline.shown import shown_kind, shown_moment, shown_text

Format = Literal["jsonl", "srt", "vtt", "md"]
_MARKUP = re.compile(r"([\\`*_\[\]|~$]|#|^[-+=]|(?<=^\d)[.)]|:(?=//))")


def export(found: Iterable[FoundEvent], form: str, folder: TimelineFolder, out: Path | None) -> int:
    """Write events in the given order to a file, replaced atomically, or to standard output; return their number.

    Markdown's thumbnails go into a folder beside `out`; standard output has none. Raises `ConfigError` for an unknown
    format and `StoreError` if the file cannot be written.
    """
    if form not in get_args(Format):
        raise ConfigError(f"--format {form!r}: it must be one of {', '.join(get_args(Format))}; choose one")
    check_outside(folder, out)
    with _output(out) as file:
        if form == "jsonl":
            return _write_lines(found, file)
        events = list(found)
        if form == "md":
            file.write(as_markdown(events, folder, out))
        else:
            file.write(as_subtitles(events, "srt" if form == "srt" else "vtt"))
        return len(events)


def as_subtitles(events: Iterable[FoundEvent], form: Literal["srt", "vtt"]) -> str:
    """Comments, alerts and answers as the text of a subtitle file.

    Events of a single run keep their media time, to match its recording. Events of several runs are timed from the
    first by time of day, and begin with the camera's name if there are several cameras.
    """
    said = [found for found in events if not isinstance(found.event, StatusEvent)]
    if len({found.run for found in said}) > 1:
        start_s = min(found.wall_s for found in said)
        several = len({found.camera for found in said}) > 1
        timed = [
            replace(
                found.event,
                time_s=found.wall_s - start_s,
                text=f"{found.camera}: {found.event.text}" if several else found.event.text,
            )
            for found in said
        ]
    else:
        timed = [found.event for found in said]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"said.{form}"
        writer = SubtitleWriter(path, form)
        for event in sorted(timed, key=lambda event: event.time_s):
            writer.append(event)
        writer.close()
        return path.read_text(encoding="utf-8")


def as_markdown(events: list[FoundEvent], folder: TimelineFolder, out: Path | None) -> str:
    """Events as a Markdown page with a section per day; thumbnails are copied into `NAME_files` beside `out`."""
    cameras = ", ".join(_escaped(name) for name in sorted({found.camera for found in events})) or "none"
    lines = ["# Timeline", "", f"{len(events)} events; cameras: {cameras}.", ""]
    day = ""
    for found in events:
        moment = shown_moment(found.wall_s)
        if moment[:10] != day:
            day = moment[:10]
            lines += [f"## {day}", ""]
        lines += [f"### {moment[11:]} {_escaped(found.camera)}, {shown_kind(found)} {found.id}", ""]
        if isinstance(found.event, Answer):
            lines += [f"**{_escaped(found.event.question)}**", ""]
        lines += [_escaped(found.event.text), ""]
        pictures = _pictures(found, folder, out) if out is not None else []
        if pictures:
            lines += [" ".join(pictures), ""]
        lines += [f"<sub>{_figures(found)}</sub>", ""]
    return "\n".join(lines)


def _pictures(found: FoundEvent, folder: TimelineFolder, out: Path) -> list[str]:
    """Copy an event's thumbnails beside the page; return Markdown images. Deleted ones are skipped."""
    beside = out.with_name(f"{out.stem}_files")
    images = []
    for number, frame in enumerate(found.frames):
        data = folder.read(frame.path)
        if data is None:
            continue
        name = f"{found.id}-{number}.jpg"
        try:
            write_whole(beside / name, data)
        except OSError as error:
            raise StoreError(
                f"{beside}: {error.strerror}; the page's pictures are written there; free disk space"
            ) from error
        images.append(f"![{_escaped(found.camera)} at {shown_moment(frame.wall_s)}](<{beside.name}/{name}>)")
    return images


def _figures(found: FoundEvent) -> str:
    """An event's media time, score, latency, reason and clip, as one line."""
    event = found.event
    parts = [f"media time {event.time_s:.2f} s"]
    if event.score is not None and event.threshold is not None:
        parts.append(f"score {event.score:.2f} over {event.threshold:.2f}")
    if event.probability is not None:
        parts.append(f"probability {event.probability:.2f}")
    if event.latency_ms is not None:
        parts.append(f"{event.latency_ms:.0f} ms after its frame")
    if event.reason and event.reason != event.text:
        parts.append(_escaped(event.reason))
    if found.clip is not None:
        parts.append(f"clip {found.clip.state}: timeline export --clip {found.id}")
    return "; ".join(parts)


def _write_lines(found: Iterable[FoundEvent], file: TextIO) -> int:
    count = 0
    for event in found:
        file.write(json.dumps(event.as_dict(), ensure_ascii=False, allow_nan=False) + "\n")
        count += 1
    return count


@contextmanager
def _output(out: Path | None) -> Iterator[TextIO]:
    """A file to write, which gets its name once it is complete; standard output for None."""
    if out is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    part = out.with_name(out.name + PART)
    try:
        with part.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            yield file
        part.replace(out)
    except OSError as error:
        raise StoreError(
            f"{out}: {error.strerror}; an export needs a writable file; name another or free disk space"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _escaped(text: str) -> str:
    """`text` with the characters of Markdown and HTML markup escaped.

    >>> _escaped("<b>*1*</b> a_b http://x")
    '&lt;b&gt;\\\\*1\\\\*&lt;/b&gt; a\\\\_b http\\\\://x'
    """
    return _MARKUP.sub(r"\\\1", html.escape(shown_text(text), quote=False))


def export_clip(reader: TimelineReader, event_id: int, out: Path | None, seconds: float | None) -> str:
    """Write the clip of an event to a file; return a line about it.

    seconds: length before and after the event; None for the whole clip, which may show other events too. Raises
    `StoreError` if there is no clip, and `ConfigError` without `out`.
    """
    if out is None:
        raise ConfigError(f"--clip {event_id}: a clip needs a file to write; name it with --out clip.mp4")
    check_outside(reader.folder, out)
    found = reader.get(event_id)
    if found is None:
        raise StoreError(f"--clip {event_id}: no such event; it must be a number that search shows; correct it")
    clip = found.clip
    if clip is None:
        raise StoreError(
            f"--clip {event_id}: no clip of it was recorded; recording is off by default; start watch with --keep-clips"
        )
    data = reader.folder.read_clip(clip)
    if data is None:
        raise StoreError(
            f"--clip {event_id}: {clip.absence}; a clip must be finished and on disk; choose another event"
        )
    if seconds is None:
        _write_file(out, data)
    else:
        from streaming.recording import cut_clip

        middle_s = found.event.time_s - (clip.start_s or 0.0)
        cut_clip(reader.folder.inside(clip.path), out, middle_s - seconds, middle_s + seconds)
    return f"{out}: {shown_text(found.camera)}, event {event_id} at {shown_moment(found.wall_s)}"


def check_outside(folder: TimelineFolder, out: Path | None) -> None:
    """Raise `StoreError` for a path inside the timeline's own folder."""
    if out is not None and out.resolve().is_relative_to(folder.root.resolve()):
        raise StoreError(f"{out}: inside the timeline's own folder; an export must be outside of it; name another file")


def _write_file(out: Path, data: bytes) -> None:
    try:
        write_whole(out, data)
    except OSError as error:
        raise StoreError(
            f"{out}: {error.strerror}; a clip needs a writable file; name another or free disk space"
        ) from error
