"""Prints events and progress to a terminal, or events as JSON lines. Called on the engine's thread."""

from __future__ import annotations

from types import TracebackType
from typing import IO, TYPE_CHECKING, BinaryIO, Self, TextIO

from assistant.events import Answer, StatusEvent, StatusKind, StreamEvent
from assistant.sinks import to_line
from streaming.types import Frame, Notice

if TYPE_CHECKING:
    from tqdm import tqdm

    from assistant.stream.runner import ItemSource

QUIET_KINDS = frozenset(
    {StatusKind.EVICTED, StatusKind.REBASED, StatusKind.VETOED, StatusKind.TRUNCATED, StatusKind.UNSPOKEN}
)
"""Status events about the model's memory and speech, which the terminal does not show; files and `--json` have them."""


class Progress:
    """A progress bar, shown on a terminal only. Lines printed through it appear above the bar."""

    def __init__(self, errors: TextIO, *, shown: bool, start_s: float = 0.0, total_s: float | None = None) -> None:
        self._errors = errors
        self._start_s = start_s
        self._bar: tqdm | None = None
        if shown:
            from tqdm import tqdm

            form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of video [{elapsed}<{remaining}]"
            if total_s is None:
                form = "{desc}: {n:.0f} s of video [{elapsed}]"
            self._bar = tqdm(total=total_s, file=errors, desc="watching", bar_format=form, leave=False)

    def reached(self, media_s: float) -> None:
        """Move the bar to media time `media_s`, seconds."""
        if self._bar is not None:
            at_s = max(0.0, media_s - self._start_s)
            self._bar.update((at_s if self._bar.total is None else min(at_s, self._bar.total)) - self._bar.n)

    def print(self, line: str, file: IO[str]) -> None:
        """Print a line above the bar and flush `file`."""
        if self._bar is not None:
            self._bar.write(line, file=file)
        else:
            print(line, file=file)
        file.flush()

    def warn(self, line: str) -> None:
        """Print a line to standard error, above the bar."""
        self.print(line, self._errors)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WatchedFeed:
    """Passes the items of a feed through and moves a progress bar to the media time of each."""

    def __init__(self, feed: ItemSource, progress: Progress) -> None:
        self._feed = feed
        self._progress = progress

    @property
    def is_drained(self) -> bool:
        """Whether the wrapped feed has ended and holds no more items."""
        return self._feed.is_drained

    def get(self, timeout_s: float | None = None) -> Frame | Notice | None:
        """The wrapped feed's next item; None after `timeout_s` without one."""
        item = self._feed.get(timeout_s)
        if item is not None:
            self._progress.reached(item.pts_s)
        return item


class TextSink:
    """Prints comments, alerts and answers to the output, status events to standard error, each with its media time."""

    def __init__(self, output: TextIO, progress: Progress) -> None:
        self._output = output
        self._progress = progress

    def append(self, event: StreamEvent) -> None:
        """Print one event."""
        stamp = f"[{shown_time(event.time_s)}]"
        if isinstance(event, StatusEvent):
            if event.kind not in QUIET_KINDS:
                self._progress.warn(f"{stamp} {event.kind.value.replace('_', ' ')}: {shown_text(event.text)}")
            return
        if isinstance(event, Answer):
            self._progress.print(f"{stamp} Q: {shown_text(event.question)}", self._output)
            self._progress.print(f"{stamp} A: {shown_text(event.text)}", self._output)
            return
        self._progress.print(f"{stamp} {shown_text(event.text)}", self._output)

    def close(self) -> None:
        """Do nothing: every event was written at once."""


class JsonSink:
    """Writes each event as one line of JSON, in a single write."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def append(self, event: StreamEvent) -> None:
        """Write one event and flush."""
        self._output.write(to_line(event))
        self._output.flush()

    def close(self) -> None:
        """Do nothing: every event was written at once."""


def shown_time(time_s: float) -> str:
    """Media time as text: 12.46 → `00:12.5`, 3725 → `1:02:05.0`."""
    tenths = max(0, round(time_s * 10))
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes:02}:{seconds}"


def shown_text(text: str) -> str:
    """`text` on one line without control characters, which could move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
