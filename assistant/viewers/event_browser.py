"""Events of a tab or of the cameras as the page looks through them: found, shown with their frames, and exported.

Any thread may call it; nothing is changed.
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
    """What a person looks for."""

    text: str = ""
    since: str = ""
    """`2h`, `30m`, `10:15`, `2026-11-22T10:00`; empty for all."""
    camera: str = ""
    types: tuple[str, ...] = ()
    """As people call them: the keys of `TYPES`; none for all."""


def find(reader: TimelineReader, search: EventSearch, now_s: float) -> list[FoundEvent]:
    """Events, newest first. Raises `ConfigError` for a time that is none."""
    from assistant.timeline.search import Query
    from assistant.timeline.times import parse_when

    since_s = parse_when(search.since, now_s) if search.since.strip() else None
    types = tuple(TYPES[name] for name in search.types if name in TYPES)
    cameras = (search.camera,) if search.camera else ()
    return reader.search(Query(text=search.text, since_s=since_s, cameras=cameras, types=types, limit=MOST_FOUND))


def export_file(reader: TimelineReader, found: list[FoundEvent], form: str) -> tuple[str, bytes]:
    """Events, oldest first, as a file: its name and bytes. Markdown comes as a ZIP with its pictures."""
    from assistant.timeline.export import export

    if form not in FORMATS.values():
        raise ConfigError(f"format {form!r}: one of {', '.join(FORMATS.values())}; choose one")
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
