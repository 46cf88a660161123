"""Clips with transcripts beside them, as `replay --out` writes them and a person corrects them, for fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assistant.errors import AssistantError
from assistant.evaluation.watching import CLIP_SUFFIXES
from assistant.events import Answer, Comment
from assistant.sinks import read_events

if TYPE_CHECKING:
    from models.training.examples import Turn
    from models.training.lora import Recording


def read_recordings(folder: Path) -> list[Recording]:
    """Each `NAME.jsonl` of a folder with the clip `NAME.*` beside it.

    Raises `AssistantError` where there is none, where a clip is missing, or where a line is no event.
    """
    from models.training.lora import Recording

    transcripts = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not transcripts:
        raise AssistantError(
            f"{folder}: holds no transcript; NAME.jsonl beside each clip NAME.mp4 is wanted; "
            "write one by replay NAME.mp4 --out NAME.jsonl, and correct it"
        )
    return [Recording(_clip_of(path), tuple(read_turns(path))) for path in transcripts]


def read_turns(path: Path) -> list[Turn]:
    """Remarks and answers of a transcript, by media time; status events are left out."""
    from models.training.examples import Turn

    turns = []
    for event in read_events(path):
        text = event.text.strip()
        if isinstance(event, Comment) and text:
            turns.append(Turn(event.time_s, text))
        elif isinstance(event, Answer) and text and event.question.strip():
            turns.append(Turn(event.asked_at_s, text, event.question.strip()))
    return sorted(turns, key=lambda turn: turn.time_s)


def _clip_of(transcript: Path) -> Path:
    for suffix in CLIP_SUFFIXES:
        clip = transcript.with_suffix(suffix)
        if clip.is_file():
            return clip
    raise AssistantError(
        f"{transcript}: no clip beside it; {transcript.stem} with one of {', '.join(CLIP_SUFFIXES)} is wanted; "
        "put it there, or take the transcript away"
    )
