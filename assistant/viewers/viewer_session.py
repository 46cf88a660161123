"""One viewer's session: its stream, its feed, its settings and its files. Any thread may call it."""

from __future__ import annotations

import math
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from assistant.config.bounds import OPEN_TIMEOUT_S, PICTURE_TIMEOUT_S, READ_TIMEOUT_S, TALKATIVE, VIEWER_TIMEOUTS
from assistant.errors import AssistantError
from assistant.events import Answer, StreamEvent
from assistant.serving.contracts import AnswersQuestions, OpenQuestion, WatchableStream
from assistant.viewers.feed import Feed, FeedItem
from assistant.viewers.recent_figures import RecentFigures

if TYPE_CHECKING:
    from assistant.rules.rule import Rule
    from assistant.serving.live_rehearsal import LiveRehearsal
    from assistant.timeline.store import Timeline
    from models.session.media_turns import Attachment

Kind = Literal["sample", "webcam", "camera", "file", "shared"]

MOST_BEFORE = 40
"""Earlier events of a watched camera that a new viewer is shown."""


class ViewerSessionError(AssistantError):
    """A viewer asked for something that the session cannot do now."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Time limits of a network source, seconds: for opening, for data, and for the first picture."""

    open_timeout_s: float = OPEN_TIMEOUT_S
    read_timeout_s: float = READ_TIMEOUT_S
    picture_timeout_s: float = PICTURE_TIMEOUT_S

    def __post_init__(self) -> None:
        for name, accepted in VIEWER_TIMEOUTS.items():
            value = getattr(self, name)
            problem = accepted.problem(value if isinstance(value, int | float) else math.nan)
            if problem is not None:
                raise ViewerSessionError(f"{name} {value}: {problem}")


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """A viewer's request to watch a source, with its settings."""

    kind: Kind
    spec: str
    """The source's name or URL; it may hold a password, so it is never shown."""
    title: str
    """Name to show, credentials redacted."""
    fps: float | None = None
    speed: float | None = 1.0
    """Playing speed of recordings, media seconds per second; None for as fast as the model can."""
    loop: int | None = 1
    talkative: float = 0.0
    instruct: str | None = None
    limits: TimeLimits = field(default_factory=TimeLimits)


@dataclass(slots=True)
class _Watched:
    """The stream that a session watches."""

    stream: WatchableStream
    title: str
    is_shared: bool
    unsubscribe: Callable[[], None]
    asked: dict[int, OpenQuestion] = field(default_factory=dict)


class ViewerSession:
    """The session of one browser tab or API client. `SessionRegistry` creates and ends it."""

    def __init__(self, now_s: float, within: Path | None = None) -> None:
        """within: the directory in which its folder is made; None for the system's temporary directory."""
        self.token = secrets.token_urlsafe(32)
        """Secret that identifies the session to its picture connection and files."""
        self.feed = Feed()
        self.history = RecentFigures()
        self.wanted: WatchRequest | None = None
        """The request that it watches, waits for, or watched last."""
        self.place = 0
        """Its place in the queue, from 1; 0 if it does not wait."""
        self.keys: set[str] = set()
        """Keys under which the page's requests come."""
        self.num_connections = 0
        self.last_seen_s = now_s
        self.switching = threading.RLock()
        """Held while its stream is replaced or stopped, so that requests at one moment do so one after the other."""
        self.run = 0
        """Number of streams started so far."""
        self.first_item = 0
        """Number of the last feed item before the current stream."""
        self.talkative = 0.0
        self.instruction: str | None = None
        self.rules: tuple[Rule, ...] = ()
        """What its own streams are watched for."""
        self.rehearsal: LiveRehearsal | None = None
        """The rehearsal of a rule that was started last."""
        self.rehearsed: set[str] = set()
        """Words of rules whose rehearsal was watched to its end."""
        self.test_keys: tuple[str, ...] = ()
        """Keys of the test alerts that were sent last."""
        self._watched: _Watched | None = None
        self._about_files: dict[int, OpenQuestion] = {}
        """Open questions about files only, by feed item."""
        self._within = within
        self._folder: Path | None = None
        self._timeline: Timeline | None = None
        self._files: dict[str, Path] = {}
        self._changing = threading.RLock()

    @property
    def stream(self) -> WatchableStream | None:
        """The stream that it watches; None if none."""
        watched = self._watched
        return watched.stream if watched is not None else None

    @property
    def is_shared(self) -> bool:
        """Whether the stream is a shared camera, which viewers cannot change."""
        watched = self._watched
        return watched is not None and watched.is_shared

    def require_stream(self) -> WatchableStream:
        """The stream. Raises `ViewerSessionError` if there is none."""
        if (stream := self.stream) is None:
            raise ViewerSessionError("nothing is being watched; start a source first")
        return stream

    def require_own(self, what: str) -> WatchableStream:
        """The session's own stream. Raises `ViewerSessionError`, naming `what`, if there is none or it is shared."""
        stream = self.require_stream()
        if self.is_shared:
            raise ViewerSessionError(f"{what}: this camera is watched by others too, so viewers cannot change it; "
                               "its configuration can")  # fmt: skip
        return stream

    def attach(self, stream: WatchableStream, wanted: WatchRequest, *, is_shared: bool) -> None:
        """Watch `stream`; the previous one must have been detached."""
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

    def detach(self) -> WatchableStream | None:
        """Stop watching and cancel open questions. Returns the session's own stream, to be stopped by the caller."""
        with self._changing:
            watched, self._watched = self._watched, None
        if watched is None:
            return None
        watched.unsubscribe()
        for asked in list(watched.asked.values()):
            asked.cancel()
        return None if watched.is_shared else watched.stream

    def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        attached: str = "",
        *,
        about_files: AnswersQuestions | None = None,
    ) -> tuple[FeedItem, OpenQuestion]:
        """Ask about the stream; the answer appears in the feed piece by piece. Raises if too many questions wait.

        attached: names of the files that come with it. about_files: answers where no stream is watched.
        """
        with self._changing:
            watched = self._watched
            answers: AnswersQuestions = about_files or self.require_stream() if watched is None else watched.stream
        item = self.feed.begin_answer(text, watched.stream.snapshot().media_s if watched is not None else 0.0, attached)
        is_aside = watched is None or watched.is_shared
        try:
            asked = answers.ask(text, attachments, lambda piece: self.feed.say(item.id, piece), aside=is_aside)
        except Exception as error:
            self.feed.fail_answer(item.id, str(error))
            raise
        if watched is not None:
            self._await(watched.asked, item, asked, watched.title)
        else:
            self._await(self._about_files, item, asked, "")
        return item, asked

    def stop_answers(self) -> int:
        """Cancel every open question; return their number."""
        watched = self._watched
        waiting = [*self._about_files.values(), *(watched.asked.values() if watched is not None else ())]
        for asked in waiting:
            asked.cancel()
        return len(waiting)

    def tune(self, *, talkative: float | None = None) -> None:
        """Set how readily the assistant speaks, for the current stream and later ones."""
        if talkative is not None:
            TALKATIVE.check(talkative, "talkative")
            if self.stream is not None:
                self.require_own("talkativeness").set_talkative(talkative)
            self.talkative = talkative

    def instruct(self, text: str | None) -> Future[None]:
        """Replace the standing instruction, for the current stream and later ones.

        The future raises the current stream's refusal; the previous instruction then stays, for later streams too.
        """
        if self.stream is None:
            self.instruction = text
            accepted: Future[None] = Future()
            accepted.set_result(None)
            return accepted
        future = self.require_own("a standing instruction").instruct(text)
        future.add_done_callback(lambda done: self._on_instructed(text, done))
        return future

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Watch its own streams for these, the current one from its next frame on.

        Raises `ConfigError` for one that cannot be armed, and all stays then.
        """
        with self.switching:
            stream = self.stream
            if stream is not None and not self.is_shared:
                stream.set_rules(rules)
            self.rules = tuple(rules)

    def mute_rule(self, name: str, *, muted: bool) -> bool:
        """Mute a rule of its own streams, or hear it again; False where there is none of this name."""
        with self.switching:
            stream = self.stream
            if stream is not None and not self.is_shared:
                stream.mute_rule(name, muted=muted)
            self.rules = tuple(replace(rule, muted=muted) if rule.name == name else rule for rule in self.rules)
            return any(rule.name == name for rule in self.rules)

    def with_settings(self, wanted: WatchRequest) -> WatchRequest:
        """A request with this session's talkativeness and standing instruction."""
        return replace(wanted, talkative=self.talkative, instruct=self.instruction)

    @property
    def folder(self) -> Path:
        """The session's own folder, readable by its owner only; removed with the session."""
        with self._changing:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="watch-", dir=self._within))
            return self._folder

    @property
    def timeline(self) -> Timeline:
        """The session's events with their thumbnails; removed with the session."""
        from assistant.timeline.store import Timeline

        with self._changing:
            if self._timeline is None:
                self._timeline = Timeline(self.folder / "timeline")
            return self._timeline

    @property
    def has_timeline(self) -> bool:
        """Whether the session has a timeline yet."""
        return self._timeline is not None

    def keep_file(self, path: Path, name: str) -> Path:
        """Move an uploaded file into the session's folder, out of other sessions' reach; return its new path."""
        kept = self.folder / f"{secrets.token_hex(8)}-{_plain(name)}"
        shutil.move(path, kept)
        kept.chmod(0o600)
        return kept

    def offer_file(self, name: str, data: bytes) -> str:
        """Create a file that only this session may download; return the name to download it by."""
        shown = _plain(name)
        path = self.folder / f"{secrets.token_hex(8)}-{shown}"
        path.write_bytes(data)
        path.chmod(0o600)
        with self._changing:
            self._files[path.name] = path
        return path.name

    def offered(self, name: str) -> Path | None:
        """Path of the offered file with this name; None if there is none."""
        return self._files.get(name)

    def end(self) -> None:
        """Cancel questions and remove its feed, timeline and files; its stream must have been detached."""
        for asked in list(self._about_files.values()):
            asked.cancel()
        if self.rehearsal is not None:
            self.rehearsal.cancel()
        self.feed.clear()
        with self._changing:
            folder, self._folder = self._folder, None
            timeline, self._timeline = self._timeline, None
            self._files.clear()
        if timeline is not None:
            with suppress(AssistantError):  # its folder is removed anyway
                timeline.close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _on_instructed(self, text: str | None, done: Future[None]) -> None:
        if done.cancelled() or done.exception() is None:  # a stream that ended did not refuse it
            self.instruction = text

    def _on_event(self, event: StreamEvent) -> None:
        if not isinstance(event, Answer):  # answers reach the viewer who asked by the future
            self.feed.add(event)

    def _await(self, waiting: dict[int, OpenQuestion], item: FeedItem, asked: OpenQuestion, source: str) -> None:
        """Keep a question in `waiting` until it ends, then show its answer or failure."""
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
                # The same source name as the stream's other events.
                self.feed.finish_answer(item_id, replace(future.result(), source=source))


def _plain(name: str) -> str:
    """A file name without directories and special characters."""
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in Path(name).name).lstrip(".")
    return plain[-80:] or "file"
