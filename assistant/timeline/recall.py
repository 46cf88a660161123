"""Answers questions about times before the model's memory begins, from the timeline's events and thumbnails.

The answer is a template filled with the events of that time, and says so. Any thread may call it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.errors import ConfigError
from assistant.events import Answer, StatusEvent, StatusKind
from assistant.evidence import EvidenceFrame
from assistant.timeline.folder import TimelineFolder
from assistant.timeline.moments import TimeReference, find_moment
from assistant.timeline.records import FoundEvent, KeptFrame
from assistant.timeline.search import Query, TimelineReader
from assistant.timeline.shown import shown_moment, shown_text
from streaming.thumbnails import Jpeg

if TYPE_CHECKING:
    import numpy as np

    from streaming.clock import Clock

REASON = "timeline"
"""Value of `Answer.reason` for an answer from the timeline."""
MOST_QUOTED = 6
MOST_FRAMES = 4
MOST_LOOKED_AT = 500
"""Most events of a span that are read, the latest."""
AWAY = {StatusKind.ENDED, StatusKind.RECONNECTING, StatusKind.BROKEN, StatusKind.PAUSED, StatusKind.FROZEN}
THERE = {StatusKind.OPENED, StatusKind.GAP, StatusKind.RESUMED}
_SAID = ("comment", "alert")
_COMMON_WORDS = """
    a about after ago all an and any are around at been before being between by can could did do does ever for from had
    happen happened happening has have how in is it its last many me much my of off on or past saw say see seen she he
    show since some somebody someone something tell that the their them then there they thing things this to until was
    we were what when where which while who why with you
    today tonight yesterday morning afternoon evening night noon midnight
"""
_COMMON = frozenset(_COMMON_WORDS.split())
"""Words of a question that are ignored in the search for matching events."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """Answer of the timeline to a question about a time."""

    text: str
    """The answer; it says that it comes from the timeline."""
    moment: TimeReference
    found: tuple[FoundEvent, ...]
    """The events that the answer quotes."""
    frames: tuple[KeptFrame, ...]
    """Thumbnails of that time."""
    folder: TimelineFolder
    asks_model: bool = False
    """Whether to show the model the thumbnails; small checkpoints cannot handle pictures of another time."""

    def as_answer(self, question: str, *, source: str, time_s: float, asked_at_s: float | None = None) -> Answer:
        """The answer as an event. time_s: current media time, as for every answer."""
        asked_s = time_s if asked_at_s is None else asked_at_s
        return Answer(
            source=source,
            time_s=time_s,
            text=self.text,
            reason=REASON,
            question=question,
            asked_at_s=asked_s,
            frames=tuple(frame.path for frame in self.frames),
        )

    def pictures(self, most: int = MOST_FRAMES) -> list[np.ndarray]:
        """Thumbnails of that time for the model, oldest first, uint8 RGB `[height, width, 3]`, at most `most`."""
        from streaming.errors import StreamingError
        from streaming.thumbnails import decode_jpeg

        pictures = []
        for frame in self.frames[:most]:
            data = self.folder.read(frame.path)
            if data is not None:
                try:
                    pictures.append(decode_jpeg(data))
                except (StreamingError, ConfigError):
                    continue
        return pictures

    def prompt(self, question: str) -> str:
        """The model's prompt about the pictures."""
        return f"These pictures were kept {self.moment.said}. {question}"

    def with_words_of_the_model(self, text: str, num_pictures: int) -> str:
        """The answer extended by the model's words about thumbnails of that time."""
        pictures = "a picture" if num_pictures == 1 else f"{num_pictures} pictures"
        return f"{self.text} The model, shown {pictures} kept of then: {shown_text(text)}"


class Recall:
    """Answers questions from the timeline of one camera, or of all."""

    def __init__(
        self, reader: TimelineReader, clock: Clock, *, camera: str | None = None, run: str | None = None
    ) -> None:
        """run: the run of the current stream (`ChannelSink.run`), to look up times of a recording; None for any."""
        self._reader = reader
        self._clock = clock
        self._cameras = (camera,) if camera is not None else ()
        self._run = run

    def answer(self, question: str, *, media_s: float, oldest_s: float, is_live: bool = True) -> Recalled | None:
        """The timeline's answer to a question; None if it names no time, or a time still in the model's memory.

        media_s: current media time. oldest_s: media time of the oldest frame in the model's memory. is_live: whether
        media time runs with the clock; in a recording `at 1:20` is a media time.
        """
        now_s = self._clock.wall_s()
        moment = find_moment(question, now_s, None if is_live else media_s)
        if moment is None:
            return None
        oldest_known_s = oldest_s if moment.in_media else now_s - max(0.0, media_s - oldest_s)
        if moment.start_s >= oldest_known_s and (is_live or moment.in_media):
            return None
        return self.about(question, moment)

    def evidence(self, answer: Answer) -> tuple[EvidenceFrame, ...]:
        """The thumbnails behind an answer from the timeline, oldest first; deleted ones are left out."""
        return tuple(
            EvidenceFrame(
                kept.frame_index, kept.media_s, kept.wall_s, Jpeg(data, kept.width_px, kept.height_px),
                *EvidenceFrame.of_cells(kept.cells),
            )
            for kept in self._reader.frames_at(answer.frames or ())
            if (data := self._reader.folder.read(kept.path)) is not None
        )  # fmt: skip

    def about(self, question: str, moment: TimeReference) -> Recalled:
        """Answer a question about a span of time; only events that match its words are quoted, if there are any."""
        found = self._reader.search(self._query(moment, _SAID, MOST_LOOKED_AT))[::-1]
        fitting, words = _fitting(found, question, moment)
        quoted = _spread(fitting or found)
        if moment.in_media:
            frames = [frame for event in quoted for frame in event.frames[-1:]][:MOST_FRAMES]
        else:
            frames = self._reader.frames_between(moment.start_s, moment.end_s, self._cameras, MOST_FRAMES)
        parts = [f"From the timeline ({self._named(moment)}):", self._noted(found, fitting, words, quoted, moment)]
        if frames:
            parts.append(f"{len(frames)} picture{'s' * (len(frames) > 1)} of then {_are(frames)} kept.")
        return Recalled(" ".join(parts), moment, tuple(quoted), tuple(frames), self._reader.folder)

    def _noted(
        self,
        found: Sequence[FoundEvent],
        fitting: Sequence[FoundEvent],
        words: str,
        quoted: Sequence[FoundEvent],
        moment: TimeReference,
    ) -> str:
        if not found:
            return self._nothing(moment)
        intro = ""
        if words and fitting and len(fitting) < len(found):
            intro = f'{len(fitting)} of {len(found)} notes mention "{words}": '
        elif words and not fitting:
            intro = f'nothing noted then mentions "{words}"; what was noted: '
        left = len(fitting or found) - len(quoted)
        return intro + " ".join(self._quote(each, moment) for each in quoted) + (f" And {left} more." if left else "")

    def _nothing(self, moment: TimeReference) -> str:
        """The answer for a span without events: whether the camera was watched, and the events before and after."""
        if moment.in_media:
            return "nothing was noted then."
        before = self._reader.search(Query(until_s=moment.start_s, cameras=self._cameras, types=("status",), limit=50))
        state = next((f for f in before if isinstance(f.event, StatusEvent) and f.event.kind in AWAY | THERE), None)
        if state is not None and isinstance(state.event, StatusEvent) and state.event.kind in AWAY:
            kind = state.event.kind.value
            return f"it was not watched then ({kind} since {shown_moment(state.wall_s, self._clock.wall_s())})."
        last = self._reader.search(Query(until_s=moment.start_s, cameras=self._cameras, types=_SAID, limit=1))
        following = Query(since_s=moment.end_s, cameras=self._cameras, types=_SAID, limit=1, oldest_first=True)
        after = self._reader.search(following)
        if not before and not last:
            return "nothing was kept of then or before."
        around = [f"the last before it: {self._quote(last[0], moment)}"] if last else []
        around += [f"the next: {self._quote(after[0], moment)}"] if after else []
        return "nothing was noted then" + (f"; {' '.join(around)}" if around else ".")

    def _quote(self, found: FoundEvent, moment: TimeReference) -> str:
        event = found.event
        at = _media_time(event.time_s) if moment.in_media else shown_moment(found.wall_s, self._clock.wall_s())
        camera = "" if self._cameras else f" {shown_text(found.camera)}:"
        text = shown_text(event.text)
        if isinstance(event, Answer):
            text = f"asked “{shown_text(event.question)}”, answered “{text}”"
        return f"{at}{camera} {text}" + ("" if text.endswith((".", "!", "?")) else ".")

    def _named(self, moment: TimeReference) -> str:
        if moment.in_media:
            return f"{_media_time(max(0.0, moment.start_s))} to {_media_time(moment.end_s)} of the recording"
        now_s = self._clock.wall_s()
        start, end = shown_moment(moment.start_s, now_s), shown_moment(moment.end_s, now_s)
        return f"{start} to {end.split()[-1] if end.split()[:-1] == start.split()[:-1] else end}"

    def _query(self, moment: TimeReference, types: tuple[str, ...], limit: int) -> Query:
        if moment.in_media:
            return Query(
                media_since_s=moment.start_s, media_until_s=moment.end_s, run=self._run, cameras=self._cameras,
                types=types, limit=limit,
            )  # fmt: skip
        return Query(since_s=moment.start_s, until_s=moment.end_s, cameras=self._cameras, types=types, limit=limit)


def _fitting(found: Sequence[FoundEvent], question: str, moment: TimeReference) -> tuple[list[FoundEvent], str]:
    """The events that contain the most words of the question, and the words that were searched for."""
    rest = question.replace(moment.said, " ")
    wanted = [word for word in re.findall(r"[^\W\d_]{2,}", rest.lower()) if word not in _COMMON]
    if not wanted:
        return [], ""
    scores = [sum(_stem(word) in text for word in wanted) for text in map(_stems, found)]
    best = max(scores, default=0)
    return [event for event, score in zip(found, scores, strict=True) if best and score == best], " ".join(wanted)


def _stems(found: FoundEvent) -> set[str]:
    return {_stem(word) for word in re.findall(r"[^\W\d_]{2,}", found.event.text.lower())}


def _stem(word: str) -> str:
    """A word without its most common endings, so that "circles entered" matches "a circle enters"."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)].rstrip("e")
    return word.rstrip("e")


def _spread(found: Sequence[FoundEvent]) -> list[FoundEvent]:
    """At most `MOST_QUOTED` events, evenly spread, including the first and the last."""
    if len(found) <= MOST_QUOTED:
        return list(found)
    return [found[round(i * (len(found) - 1) / (MOST_QUOTED - 1))] for i in range(MOST_QUOTED)]


def _are(frames: Sequence[KeptFrame]) -> str:
    return "is" if len(frames) == 1 else "are"


def _media_time(time_s: float) -> str:
    minutes, seconds = divmod(max(0.0, time_s), 60.0)
    return f"{int(minutes):02}:{seconds:04.1f}"
