"""Events and progress for a person at a terminal, or as JSON lines. The engine's thread writes."""

from __future__ import annotations

from types import TracebackType
from typing import IO, TYPE_CHECKING, BinaryIO, Self, TextIO

from assistant.events import Answer, StatusEvent, StatusKind, StreamEvent
from assistant.sinks import to_line
from streaming.types import Frame, Notice

if TYPE_CHECKING:
    from tqdm import tqdm

    from assistant.stream.runner import ItemSource

QUIET_KINDS = frozenset({StatusKind.EVICTED, StatusKind.REBASED, StatusKind.VETOED, StatusKind.TRUNCATED})
"""Events of the memory that a person need not read line by line; files and `--json` have them."""


class Progress:
    """A bar on a terminal, nothing elsewhere. Lines printed through it leave the bar whole."""

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
        """Move the bar to a media time."""
        if self._bar is not None:
            at_s = max(0.0, media_s - self._start_s)
            self._bar.update((at_s if self._bar.total is None else min(at_s, self._bar.total)) - self._bar.n)

    def print(self, line: str, file: IO[str]) -> None:
        """Print a line above the bar, at once."""
        if self._bar is not None:
            self._bar.write(line, file=file)
        else:
            print(line, file=file)
        file.flush()

    def warn(self, line: str) -> None:
        """Print a line to the errors, above the bar."""
        self.print(line, self._errors)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WatchedFeed:
    """A feed whose frames move a progress bar."""

    def __init__(self, feed: ItemSource, progress: Progress) -> None:
        self._feed = feed
        self._progress = progress

    @property
    def is_drained(self) -> bool:
        """As the feed behind."""
        return self._feed.is_drained

    def get(self, timeout_s: float | None = None) -> Frame | Notice | None:
        """The next item."""
        item = self._feed.get(timeout_s)
        if item is not None:
            self._progress.reached(item.pts_s)
        return item


class TextSink:
    """What is said goes to the output with its media time, what happened to the stream to the errors."""

    def __init__(self, output: TextIO, progress: Progress) -> None:
        self._output = output
        self._progress = progress

    def append(self, event: StreamEvent) -> None:
        """Print an event."""
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
        """Nothing is kept back."""


class JsonSink:
    """One JSON object a line, each in a single write."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output

    def append(self, event: StreamEvent) -> None:
        """Write an event."""
        self._output.write(to_line(event))
        self._output.flush()

    def close(self) -> None:
        """Nothing is kept back."""


def shown_time(time_s: float) -> str:
    """Media time for a person: 12.46 → `00:12.5`, 3725 → `1:02:05.0`."""
    tenths = max(0, round(time_s * 10))
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes:02}:{seconds}"


def shown_text(text: str) -> str:
    """Text that cannot move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
