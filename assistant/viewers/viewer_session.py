"""One viewer's session: its stream, its feed, its settings and its files. Any thread may call it."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from assistant.errors import AssistantError
from assistant.events import Answer, StreamEvent
from assistant.serving.channel_types import check_talkative
from assistant.serving.contracts import OpenQuestion, WatchableStream
from assistant.viewers.feed import Feed, FeedItem
from assistant.viewers.recent_figures import RecentFigures

if TYPE_CHECKING:
    from assistant.timeline.store import Timeline
    from models.session.media_turns import Attachment

Kind = Literal["sample", "webcam", "camera", "file", "shared"]

MOST_BEFORE = 40
"""Events of a watched camera that somebody who joins is shown."""


MOST_LIMITS_S = MappingProxyType({"open_timeout_s": 30.0, "read_timeout_s": 30.0, "picture_timeout_s": 120.0})
"""What a viewer may have a source waited for."""


class ViewerSessionError(AssistantError):
    """A viewer asked for what its session cannot do now."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How long a source on the network is waited for, in seconds."""

    open_timeout_s: float = 5.0
    read_timeout_s: float = 3.0
    picture_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name, most_s in MOST_LIMITS_S.items():
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0 < value <= most_s):
                raise ViewerSessionError(
                    f"{name} {value}: it must be above 0 and at most {most_s:g} seconds; change it"
                )


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """What a viewer wants to watch, and how."""

    kind: Kind
    spec: str
    """What is opened: never shown, it may hold a password."""
    title: str
    """For people; credentials are redacted."""
    fps: float | None = None
    speed: float | None = 1.0
    """Recordings: media seconds a second; None for as fast as the model can."""
    loop: int | None = 1
    talkative: float = 0.0
    instruct: str | None = None
    limits: TimeLimits = field(default_factory=TimeLimits)


@dataclass(slots=True)
class _Watched:
    """The stream of a tab."""

    stream: WatchableStream
    title: str
    is_shared: bool
    leave: Callable[[], None]
    asked: dict[int, OpenQuestion] = field(default_factory=dict)


class ViewerSession:
    """One browser tab, or one client of the API. `SessionRegistry` makes and ends it."""

    def __init__(self, now_s: float, within: Path | None = None) -> None:
        """within: where its folder is made; the system's place for such files where None."""
        self.token = secrets.token_urlsafe(32)
        """Names the tab to its own picture connection and files; nobody can guess it."""
        self.feed = Feed()
        self.history = RecentFigures()
        self.wanted: WatchRequest | None = None
        """What it watches, waits for, or watched last."""
        self.place = 0
        """Its place in the queue, from 1; 0 where it does not wait."""
        self.keys: set[str] = set()
        """Names under which the page's own requests come."""
        self.num_connections = 0
        self.last_seen_s = now_s
        self.run = 0
        """Grows each time a stream is started."""
        self.first_item = 0
        """The number of the last item of the feed before that."""
        self.talkative = 0.0
        self.instruction: str | None = None
        self._watched: _Watched | None = None
        self._alone: dict[int, OpenQuestion] = {}
        """Questions about files alone, by their items."""
        self._within = within
        self._folder: Path | None = None
        self._timeline: Timeline | None = None
        self._files: dict[str, Path] = {}
        self._changing = threading.RLock()

    @property
    def stream(self) -> WatchableStream | None:
        """What it watches now."""
        watched = self._watched
        return watched.stream if watched is not None else None

    @property
    def is_shared(self) -> bool:
        """Whether others watch the same stream, which nobody of them may then change."""
        watched = self._watched
        return watched is not None and watched.is_shared

    def require_stream(self) -> WatchableStream:
        """The stream, or `ViewerSessionError` where there is none."""
        if (stream := self.stream) is None:
            raise ViewerSessionError("nothing is being watched; start a source first")
        return stream

    def require_own(self, what: str) -> WatchableStream:
        """The stream, or `ViewerSessionError` where it is not this viewer's alone."""
        stream = self.require_stream()
        if self.is_shared:
            raise ViewerSessionError(f"{what}: this camera is watched by others too, so viewers cannot change it; "
                               "its configuration can")  # fmt: skip
        return stream

    def take(self, stream: WatchableStream, wanted: WatchRequest, *, is_shared: bool) -> None:
        """Watch `stream` from now on; the one before must have been let go."""
        with self._changing:
            assert self._watched is None, "a stream is still watched"
            self.wanted, self.place = wanted, 0
            self.run += 1
            self.first_item = self.feed.last_id
            self.history.clear()
            if is_shared:
                for event in stream.events()[1][-MOST_BEFORE:]:
                    self._on_event(event)
            self._watched = _Watched(stream, wanted.title, is_shared, stream.subscribe(self._on_event))

    def release(self) -> WatchableStream | None:
        """Let go of the stream: answers under way end. Returns it where it is this tab's own, to be closed."""
        with self._changing:
            watched, self._watched = self._watched, None
        if watched is None:
            return None
        watched.leave()
        for asked in list(watched.asked.values()):
            asked.cancel()
        return None if watched.is_shared else watched.stream

    def ask(
        self, text: str, attachments: Sequence[Attachment] = (), attached: str = ""
    ) -> tuple[FeedItem, OpenQuestion]:
        """Ask about what is seen; the answer grows in the feed. Raises where too many questions wait."""
        with self._changing:
            stream = self.require_stream()
            watched = self._watched
            assert watched is not None
        item = self.feed.begin_answer(text, stream.snapshot().media_s, attached)
        try:
            asked = stream.ask(text, attachments, lambda piece: self.feed.say(item.id, piece), aside=watched.is_shared)
        except Exception as error:
            self.feed.fail_answer(item.id, str(error))
            raise
        self._await(watched.asked, item, asked, watched.title)
        return item, asked

    def ask_alone(
        self, text: str, attached: str, begin: Callable[[FeedItem], OpenQuestion]
    ) -> tuple[FeedItem, OpenQuestion]:
        """A question about files alone, which `begin` puts to the model; the answer grows in the feed."""
        item = self.feed.begin_answer(text, 0.0, attached)
        try:
            asked = begin(item)
        except Exception as error:
            self.feed.fail_answer(item.id, str(error))
            raise
        self._await(self._alone, item, asked, "")
        return item, asked

    def stop_answers(self) -> int:
        """Leave off every answer under way; gives how many there were."""
        watched = self._watched
        waiting = [*self._alone.values(), *(watched.asked.values() if watched is not None else ())]
        for asked in waiting:
            asked.cancel()
        return len(waiting)

    def tune(self, *, talkative: float | None = None) -> None:
        """Set how much is said, for the stream that runs and for later ones."""
        if talkative is not None:
            check_talkative(talkative)
            if self.stream is not None:
                self.require_own("talkativeness").set_talkative(talkative)
            self.talkative = talkative

    def instruct(self, text: str | None) -> Future[None]:
        """Replace the standing instruction, for the stream that runs and for later ones.

        The future raises what that stream refuses; the one before stays then, for later streams too.
        """
        if self.stream is None:
            self.instruction = text
            there: Future[None] = Future()
            there.set_result(None)
            return there
        future = self.require_own("a standing instruction").instruct(text)
        future.add_done_callback(lambda done: self._on_instructed(text, done))
        return future

    def settled(self, wanted: WatchRequest) -> WatchRequest:
        """A wish with this tab's own settings."""
        return replace(wanted, talkative=self.talkative, instruct=self.instruction)

    @property
    def folder(self) -> Path:
        """A folder of its own, readable by nobody else, that goes with the tab."""
        with self._changing:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="watch-", dir=self._within))
            return self._folder

    @property
    def timeline(self) -> Timeline:
        """Its events with their thumbnails, kept for as long as the tab is there."""
        from assistant.timeline.store import Timeline

        with self._changing:
            if self._timeline is None:
                self._timeline = Timeline(self.folder / "timeline")
            return self._timeline

    @property
    def has_timeline(self) -> bool:
        """Whether anything was kept yet."""
        return self._timeline is not None

    def keep_file(self, path: Path, name: str) -> Path:
        """Move a file into the tab's folder; the others lose sight of it."""
        kept = self.folder / f"{secrets.token_hex(8)}-{_plain(name)}"
        shutil.move(path, kept)
        kept.chmod(0o600)
        return kept

    def offer_file(self, name: str, data: bytes) -> str:
        """Make a file that this tab alone may fetch; gives the name it is fetched by."""
        shown = _plain(name)
        path = self.folder / f"{secrets.token_hex(8)}-{shown}"
        path.write_bytes(data)
        path.chmod(0o600)
        with self._changing:
            self._files[path.name] = path
        return path.name

    def offered(self, name: str) -> Path | None:
        """A file that was offered under this name."""
        return self._files.get(name)

    def end(self) -> None:
        """Remove what it holds; its stream must have been released."""
        for asked in list(self._alone.values()):
            asked.cancel()
        self.feed.clear()
        with self._changing:
            folder, self._folder = self._folder, None
            timeline, self._timeline = self._timeline, None
            self._files.clear()
        if timeline is not None:
            with suppress(AssistantError):  # it goes anyway
                timeline.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _on_instructed(self, text: str | None, done: Future[None]) -> None:
        if done.cancelled() or done.exception() is None:  # a stream that ends has not refused it
            self.instruction = text

    def _on_event(self, event: StreamEvent) -> None:
        if not isinstance(event, Answer):  # those come to whoever asked
            self.feed.add(event)

    def _await(self, waiting: dict[int, OpenQuestion], item: FeedItem, asked: OpenQuestion, source: str) -> None:
        """Show how a question about `source` ends; until then it is among those that wait."""
        waiting[item.id] = asked
        asked.future.add_done_callback(lambda future: self._on_answer(waiting, item.id, future, source))

    def _on_answer(self, waiting: dict[int, OpenQuestion], item_id: int, future: Future[Any], source: str) -> None:
        waiting.pop(item_id, None)
        with suppress(Exception):
            if future.cancelled():
                self.feed.fail_answer(item_id, "stopped")
                return
            error = future.exception()
            if error is not None:
                self.feed.fail_answer(item_id, str(error))
            else:
                # Under the name that its other events have.
                self.feed.finish_answer(item_id, replace(future.result(), source=source))


def _plain(name: str) -> str:
    """A file name without folders or odd characters."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in Path(name).name).lstrip(".")
    return plain[-80:] or "file"
