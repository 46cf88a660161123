"""The page's event search: finds and exports events of a session or of the watched cameras.

Any thread may call it; it reads only.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import ConfigError

if TYPE_CHECKING:
    from assistant.timeline.records import FoundEvent
    from assistant.timeline.search import TimelineReader

MOST_FOUND = 200
FORMATS = {"JSON lines": "jsonl", "Subtitles (SRT)": "srt", "Subtitles (WebVTT)": "vtt", "Markdown with pictures": "md"}
TYPES = {"Remark": "comment", "Answer": "answer", "Alert": "alert", "Status": "status"}


@dataclass(frozen=True, slots=True)
class EventSearch:
    """A user's search."""

    text: str = ""
    since: str = ""
    """Earliest time: `2h`, `30m`, `10:15`, `2026-11-22T10:00`; empty for all."""
    camera: str = ""
    types: tuple[str, ...] = ()
    """Event types by the labels that the page shows, keys of `TYPES`; empty for all."""


def find(reader: TimelineReader, search: EventSearch, now_s: float) -> list[FoundEvent]:
    """Events that match a search, newest first, at most `MOST_FOUND`. Raises `ConfigError` for an invalid time."""
    from assistant.timeline.search import Query
    from assistant.timeline.times import parse_when

    since_s = parse_when(search.since, now_s) if search.since.strip() else None
    types = tuple(TYPES[name] for name in search.types if name in TYPES)
    cameras = (search.camera,) if search.camera else ()
    return reader.search(Query(text=search.text, since_s=since_s, cameras=cameras, types=types, limit=MOST_FOUND))


def export_file(reader: TimelineReader, found: list[FoundEvent], form: str) -> tuple[str, bytes]:
    """Export events, oldest first; return the file's name and bytes. Markdown is a ZIP file with its pictures.

    Raises `ConfigError` for an unknown format.
    """
    from assistant.timeline.export import export

    if form not in FORMATS.values():
        raise ConfigError(f"format {form!r}: it must be one of {', '.join(FORMATS.values())}; choose one")
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        out = Path(folder) / f"events.{form}"
        export(sorted(found, key=lambda event: event.id), form, reader.folder, out)
        if form != "md":
            return out.name, out.read_bytes()
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder).as_posix())
        return "events.zip", packed.getvalue()
