"""Exports marked alerts as clips with transcripts beside them, which `train --finetune` reads. Plain functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from assistant.errors import StoreError
from assistant.events import Alert, Answer, Comment
from assistant.sinks import to_line
from assistant.timeline.export import check_outside
from assistant.timeline.folder import write_whole
from assistant.timeline.marks import AlertMarks
from assistant.timeline.records import FoundEvent, KeptClip
from assistant.timeline.search import Query, TimelineReader

SAID = {"right": "Yes.", "wrong": "No."}
"""The true answer to an alert's question, by what a person said of the alert."""


@dataclass(slots=True)
class MarkedExport:
    """What an export of marked alerts wrote."""

    num_alerts: int = 0
    """Number of marked alerts in the written transcripts."""
    transcripts: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Why an alert or a transcript was not written, one line each."""


def export_marked(reader: TimelineReader, marks: AlertMarks, out: Path) -> MarkedExport:
    """Write the clip of each marked alert to folder `out`, with a transcript beside it.

    A transcript has what was said in the clip's time, and for each marked alert its question with the answer that the
    mark makes true. Files that are there already are left as they are, since a person may have corrected them. Raises
    `StoreError` if the folder cannot be written.
    """
    check_outside(reader.folder, out)
    done = MarkedExport()
    for clip, alerts in _by_clip(reader, marks, done):
        path = out / f"{Path(clip.path).stem}.jsonl"
        if path.exists():
            done.left_out.append(f"{path}: it is there already and may be corrected; move it away to write it anew")
            continue
        data = reader.folder.read_clip(clip)
        if data is None:
            done.left_out += [f"alert {alert.id}: its clip cannot be read: {clip.absence}" for alert in alerts]
            continue
        lines = _transcript(reader, clip, alerts)
        try:
            write_whole(path.with_suffix(".mp4"), data)
            write_whole(path, b"".join(to_line(event) for event in lines))
        except OSError as error:
            raise StoreError(
                f"{path}: {error.strerror}; transcripts and their clips are written there; free disk space"
            ) from error
        done.transcripts.append(path)
        done.num_alerts += len(alerts)
    return done


def _by_clip(
    reader: TimelineReader, marks: AlertMarks, done: MarkedExport
) -> Iterable[tuple[KeptClip, list[FoundEvent]]]:
    """The clips of the marked alerts, each with its alerts; those that cannot be used are noted in `done`."""
    clips: dict[str, tuple[KeptClip, list[FoundEvent]]] = {}
    for number in marks.marked():
        found = reader.get(number)
        if found is None or found.verdict is None or not isinstance(found.event, Alert):
            continue  # removed by retention, or its mark was taken back since
        if not found.event.question:
            done.left_out.append(f"alert {number}: it does not tell what was asked; an older version stored it")
        elif found.clip is None:
            done.left_out.append(f"alert {number}: no clip of it was recorded")
        else:
            clips.setdefault(found.clip.uid, (found.clip, []))[1].append(found)
    return clips.values()


def _transcript(reader: TimelineReader, clip: KeptClip, alerts: list[FoundEvent]) -> list[Comment | Answer]:
    """What was said in a clip's time and the answers that the marks make true, in the clip's own time."""
    start_s, end_s = clip.start_s or 0.0, clip.end_s or 0.0
    query = Query(run=alerts[0].run, media_since_s=start_s, media_until_s=end_s, types=("comment", "answer"))
    said: list[Comment | Answer] = []
    for found in reader.every(query, bare=True):
        event = found.event
        if isinstance(event, Comment):
            said.append(replace(event, time_s=event.time_s - start_s))
        elif isinstance(event, Answer) and event.frames is None:  # others are about another time
            asked_at_s = max(0.0, event.asked_at_s - start_s)
            said.append(replace(event, time_s=event.time_s - start_s, asked_at_s=asked_at_s))
    said += [_answered(found, start_s) for found in alerts]
    return sorted(said, key=lambda event: event.time_s)


def _answered(found: FoundEvent, start_s: float) -> Answer:
    alert = found.event
    assert isinstance(alert, Alert) and found.verdict is not None
    at_s = max(0.0, alert.time_s - start_s)
    return Answer(
        source=alert.source,
        time_s=at_s,
        text=SAID[found.verdict],
        reason=f"an alert of rule {alert.rule} was marked {found.verdict}",
        question=alert.question,
        asked_at_s=at_s,
    )
