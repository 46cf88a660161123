"""A channel: one stream with its source, its session, and all who listen to it, look at it or ask it.

Every public method is for any thread. Events are given out on the engine's thread, but for those about a step that
hangs, which come from the watchdog's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal

from assistant.config.bounds import TALKATIVE
from assistant.errors import AssistantError, ConfigError
from assistant.events import Answer, Detail, StatusEvent, StatusKind, StreamEvent
from assistant.evidence import EvidenceFrame, EvidenceKeeper
from assistant.serving.channel_types import ChannelConfig, ChannelSnapshot
from assistant.serving.config_changes import BY_SESSION, WITHOUT_OPENING, Changes
from assistant.serving.event_bus import EventBus
from assistant.serving.player import OpenSource, Player
from assistant.serving.snapshot import SnapshotBuilder
from assistant.serving.worker import Command, StreamWorker
from assistant.stream.listener_guard import ListenerGuard
from assistant.stream.open_stream import StreamOptions, open_model_session, open_stream
from assistant.stream.question_queue import PendingQuestion, Unanswered
from models.session.steps import Job, StepGenerator, Steps, as_steps
from streaming.clock import Clock, SystemClock
from streaming.errors import StreamingError
from streaming.open_source import open_source
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    import numpy as np

    from assistant.serving.rate_control import RateChange
    from assistant.serving.scheduler import ModelEngine, Scheduler
    from assistant.sinks import EventSink
    from assistant.stream.speaking import Decision
    from assistant.stream.stream_session import ModelSession, StreamSession
    from assistant.timeline.recall import Recall, Recalled
    from models.checkpoint.settings import StreamSettings
    from models.session.media_turns import Attachment
    from models.session.results import Sight


MOST_EARLY = 64
"""Changes that may wait for the session to be there."""


class Channel:
    """One stream that is watched. `start` it once; `stop` ends it for good."""

    def __init__(
        self,
        config: ChannelConfig,
        host: Scheduler,
        *,
        clock: Clock | None = None,
        sinks: Sequence[EventSink] = (),
        opener: OpenSource = open_source,
        evidence: EvidenceKeeper | None = None,
        recall: Recall | None = None,
    ) -> None:
        """`sinks` take every event before anyone is shown it; who makes them closes them.

        `recall` answers questions about times that the model's memory does not reach.
        """
        self._host = host
        self._clock: Clock = clock or SystemClock()
        self._listeners = ListenerGuard(config.name)
        self._broadcast = EventBus(config.name, sinks, self._listeners)
        self._player = Player(config, self._clock, host.wake, opener)
        self._recall = recall
        self._keeper = evidence or EvidenceKeeper()
        self._snapshots = SnapshotBuilder(self._clock)
        self._watch: StreamWorker | None = None
        self._changes = Changes(config, self._player, self._emit_status, lambda settings: host.reserve(self, settings))
        self._lock = threading.Lock()
        """Held where something is handed to the watch, or kept for it, so that none of it falls between two threads."""
        self._early: list[tuple[PendingQuestion, tuple[Attachment, ...], bool]] = []
        self._early_orders: list[tuple[Command, Future[None]]] = []
        self._failure: BaseException | None = None
        self._started = False
        self._left = threading.Event()

    # What the host calls is below; first what people do.

    @property
    def name(self) -> str:
        """What people call it."""
        return self._changes.config.name

    @property
    def config(self) -> ChannelConfig:
        """As it is now."""
        return self._changes.config

    @property
    def is_live(self) -> bool:
        """Whether its time goes on without us, as far as that is known."""
        return self._player.is_live is True

    @property
    def failure(self) -> BaseException | None:
        """Why it is watched no more, where something went wrong for good."""
        watch = self._watch
        return self._failure or (watch.failure if watch is not None else None)

    def start(self) -> None:
        """Open the source and have it watched; returns at once, and what goes wrong shows in the snapshot.

        Raises `CapacityExceeded` or `ModelUnavailable` where the scheduler takes no more, and `ConfigError` for
        a source that is none.
        """
        if self._started:
            raise AssistantError(f"{self.name}: it was started before; a channel is started once; make another")
        self._player.begin()
        try:
            self._host.attach(self)
        except AssistantError:
            self._player.stop(0.0)
            raise
        self._started = True

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End it: what is being said is closed, threads and memory are freed. Whether all of that was done in time."""
        ends_s = self._clock.now_s() + timeout_s
        watch = self._watch
        if watch is not None:
            watch.stream.stop()
            watch.is_leaving = True
        self._player.close()
        in_time = self._host.detach(self, timeout_s) if self._started else True
        return self._player.stop(max(0.1, ends_s - self._clock.now_s())) and in_time

    def close(self) -> None:
        """`stop`, for those who do not ask how it went."""
        self.stop()

    def pause(self) -> None:
        """Show the model nothing more; a recording stands still, viewers of a live stream go on seeing it."""
        if self._player.pause():
            self._submit(_say(StatusKind.PAUSED, "paused"))

    def resume(self) -> None:
        """Go on. The model is told how long it saw nothing of a live stream."""
        stood_s = self._player.resume()
        if stood_s is None:
            return
        self._submit(_say(StatusKind.RESUMED, f"resumed after {stood_s:.1f} s", {"stood_s": stood_s}))
        if self._player.is_live:
            self._submit(lambda stream: stream.on_notice(self._gap(f"paused for {stood_s:.1f} s", stood_s)))

    def seek(self, media_s: float) -> None:
        """Play a recording from another place. Raises `NotPlaying` for a live stream, `ConfigError` past its end."""
        self._check_watched()
        self._player.check_recording()
        info = self._player.info
        length_s = info.duration_s_declared if info is not None else None
        if not 0 <= media_s < (length_s or float("inf")):
            raise ConfigError(f"{media_s:g} s: {self.name} goes from 0 to {length_s or 0:.1f} s; seek within it")
        self._player.begin(start_s=media_s)
        if self._watch is not None:
            self._watch.on_restart()
        self._submit(_say(StatusKind.SOUGHT, f"playing from {media_s:.1f} s", {"to_s": media_s}))

    def set_speed(self, speed: float | Literal["max"] | None) -> None:
        """Media seconds a second for a recording; `max` or None for as fast as it is used."""
        self._player.check_recording()
        self._player.playback.set_speed(None if speed == "max" else speed)

    def set_talkative(self, talkative: float) -> None:
        """Log-odds in favour of speaking, from the next frame on."""
        TALKATIVE.check(talkative, "talkative")
        self._changes.put(talkative=talkative)
        self._submit(lambda stream: self._changes.tune(stream, f"talkativeness is {talkative:+g}"))

    def instruct(self, text: str | None) -> Future[None]:
        """Replace the standing instruction; None takes it away.

        The future raises where it is refused, as for its length; the one before stays in force then, and that is said.
        """
        text = (text or "").strip() or None
        return self._submit(lambda stream: self._changes.instruct(stream, text))

    def forget(self) -> Future[None]:
        """Forget all that was seen and said but the instruction; thumbnails too."""
        self._keeper.clear()
        return self._submit(lambda stream: stream.forget())

    def ask(
        self,
        text: str,
        attachments: Sequence[Attachment] = (),
        on_piece: Callable[[str], None] | None = None,
        *,
        aside: bool = False,
    ) -> PendingQuestion:
        """Ask about what is seen now; pieces of the answer come on the engine's thread.

        Raises `TooManyQuestions`. aside: the question and its answer leave no trace in the channel's memory.
        """
        if not text.strip():
            raise ConfigError(f"question {text!r}: it is empty; ask in words")
        asked = PendingQuestion(text, on_piece, self._listeners)
        with self._lock:
            watch = self._watch
            has_gone = self._left.is_set() or self.failure is not None
            if watch is None and not has_gone:
                self._early.append((asked, tuple(attachments), aside))
        if has_gone:
            asked.failed(Unanswered(f"{text!r}: {self._gone()}"))
        elif watch is not None:
            self._put(watch, asked, tuple(attachments), aside)
        return asked

    def push(self, image: np.ndarray, pts_s: float | None = None) -> bool:
        """A frame of a pushed stream, uint8 RGB `[height, width, 3]`; False once it takes no more."""
        return self._player.push(image, pts_s)

    def reconfigure(self, config: ChannelConfig) -> Future[None]:
        """Watch by another configuration and keep the memory; the source is opened anew where it must be.

        Raises, with all left as it was, for what cannot be: another name, system turn, pruning or stream settings, a
        mask beside the picture, a source that is none. The future raises where the session refuses its rate or its
        instruction, which then stay as they were. Refusals are said, too.
        """
        self._check_watched()
        before = self.config
        try:
            self._changes.check(config)
            if replace(before, **{name: getattr(config, name) for name in WITHOUT_OPENING}) != config:
                self._open_anew(config)
        except (AssistantError, StreamingError) as error:
            self._submit(_say(StatusKind.REFUSED, f"all stays as it was configured: {error}"))
            raise
        self._changes.put(**{f.name: getattr(config, f.name) for f in fields(config) if f.name not in BY_SESSION})
        return self._submit(lambda stream: self._changes.adopt(stream, config, before))

    def subscribe(self, subscriber: Callable[[StreamEvent], None]) -> Callable[[], None]:
        """Be told of every event, after it was stored; the subscriber returns at once. Call the result to end it."""
        return self._broadcast.subscribe(subscriber)

    def add_viewer(self, viewer: Callable[[Frame], None]) -> Callable[[], None]:
        """Be shown every picture, masked, on the capture thread; the viewer returns at once. The result ends it."""
        return self._player.viewers.add(self._listeners.guarded(viewer))

    def events(self, since: int = 0) -> tuple[int, list[StreamEvent]]:
        """The events from the one numbered `since` on, as far as they are kept, and the next number."""
        return self._broadcast.since(since)

    def decisions(self, since: int = 0) -> tuple[int, list[Decision]]:
        """The decisions from the one numbered `since` on, as far as they are kept, and the next number."""
        watch = self._watch
        return watch.stream.curve.since(since) if watch is not None else (0, [])

    def evidence(self, event: StreamEvent) -> tuple[EvidenceFrame, ...]:
        """Thumbnails of the frames behind an event, oldest first; those of then for an answer from the timeline."""
        if isinstance(event, Answer) and event.frames is not None:
            return self._recall.evidence(event) if self._recall is not None else ()
        return self._keeper.for_event(event)

    @property
    def keeper(self) -> EvidenceKeeper:
        """Thumbnails of what the model saw of late."""
        return self._keeper

    def snapshot(self) -> ChannelSnapshot:
        """How it is doing now."""
        return self._snapshots.build(
            self.config,
            self._player,
            self._watch,
            host_state=self._host.state,
            failure=self.failure,
            has_left=self._left.is_set(),
            fps_wanted=self._changes.stream_fps,
            factor=self._changes.factor,
            num_events=self._broadcast.num_events,
            num_unstored=self._broadcast.num_unstored,
            num_listener_faults=self._listeners.num_faults,
        )

    # What the host calls, on the engine's thread.

    @property
    def is_answering(self) -> bool:
        """Whether what it does now is to answer a question."""
        return self._watch is not None and self._watch.stream.is_answering

    @property
    def is_over(self) -> bool:
        """Whether its last job was given."""
        return self._left.is_set() or (self._watch is not None and self._watch.is_over)

    def settings(self, of_checkpoint: StreamSettings) -> StreamSettings:
        """What its session is to be like."""
        return self._changes.settings(of_checkpoint, self.config.fps)

    def open(self, engine: ModelEngine, settings: StreamSettings) -> None:
        """Make its session, and put the questions that came before it. Raises what the model refuses of it."""
        self._changes.opened(settings)

        def new_session() -> ModelSession:
            return open_model_session(engine, self._changes.session_settings, self._stream_options())

        session = new_session()

        def reopen() -> ModelSession:
            fresh = new_session()
            self._snapshots.attach_session(fresh)
            self._player.fit = fresh.fitter
            return fresh

        stream = open_stream(
            session,
            settings,
            self._stream_options(),
            self._clock,
            self._emit,
            on_sight=self._listeners.guarded(self._see),
            recall=self._look_up,
        )
        watch = StreamWorker(
            stream, self._player, self._clock, self._emit_status, reopen, keep_trying=self.config.keep_trying
        )
        self._snapshots.attach_session(session)
        self._player.fit = session.fitter
        self._player.set_fps(settings.fps * self._changes.factor)
        with self._lock:
            early, self._early = self._early, []
            orders, self._early_orders = self._early_orders, []
            has_left = self._left.is_set()
            if not has_left:
                self._watch = watch
                for order, future in orders:
                    watch.submit(order, future)
        if has_left:  # it was stopped while its session was made
            watch.close(self._gone())
            self._snapshots.detach_session()
        for asked, attachments, aside in early:
            try:
                self._put(watch, asked, attachments, aside)
            except AssistantError as error:
                asked.failed(error)

    def _stream_options(self) -> StreamOptions:
        """What is said and done about what its session sees, as it is configured now."""
        config = self.config
        return StreamOptions(
            talkative=config.talkative,
            instruction=config.instruct,
            # With somebody who waits for it, a question that is refused ends itself alone.
            questions=tuple(
                replace(planned, asked=planned.asked or PendingQuestion(planned.text)) for planned in config.questions
            ),
            zones=tuple(region for _, region in config.zones),
            system=config.system,
            pruning=config.pruning,
        )

    def next_job(self) -> Job[Any] | None:
        """What to do next, where there is anything."""
        watch = self._watch
        return watch.next_job() if watch is not None and not self._left.is_set() else None

    def on_done(self, job: Job[Any]) -> None:
        """A job is done. Raises the `ModelError` with which what it shows was refused for good."""
        if self._watch is not None and not self._left.is_set():
            self._watch.on_done(job)

    def set_rate(self, change: RateChange) -> None:
        """All streams are given another rate; recordings as fast as they are used are not."""
        self._changes.factor = change.factor
        if not self.is_live and self._player.playback.speed is None:
            return
        self._changes.slow(self._watch.stream if self._watch is not None else None, change)

    def take_counts(self) -> tuple[int, int]:
        """Frames used and lost since the last call."""
        num_used, num_lost = self._snapshots.take_counts(self._player.num_dropped)
        has_answered = self._watch is not None and self._watch.stream.take_answered()
        return num_used, 0 if has_answered else num_lost

    def fail(self, error: BaseException) -> None:
        """There is no model for it."""
        self._failure = error
        self._emit_status(StatusKind.BROKEN, str(error))

    def detach(self) -> None:
        """It is served no more; what is said twice has no effect."""
        with self._lock:
            if self._left.is_set():
                return
            self._left.set()
            early, self._early = self._early, []
            orders, self._early_orders = self._early_orders, []
            watch = self._watch
        why = str(self.failure or "it was stopped")
        for asked, _, _ in early:
            asked.failed(Unanswered(f"{asked.text!r}: {why}"))
        for _, future in orders:
            future.cancel()
        if watch is not None:
            watch.close(why)
        self._snapshots.detach_session()
        self._player.close()

    def stalled(self, seconds: float | None) -> None:
        """A step hangs for so long; None where it came back."""
        reason = "the model answers again" if seconds is None else f"a step of the model hangs for {seconds:.0f} s now"
        self._emit_status(StatusKind.STALLED, reason, details={"stalled_s": seconds or 0.0})

    def _put(
        self, watch: StreamWorker, asked: PendingQuestion, attachments: tuple[Attachment, ...], aside: bool
    ) -> None:
        """Put a question to the stream; what comes with it is encoded first, in turns, while the stream goes on."""
        if not attachments:
            self._hand_over(watch, asked, (), aside)
            return

        @as_steps
        def encode(engine: ModelEngine) -> StepGenerator[None]:
            encoded = yield from watch.stream.encode(attachments, lambda: asked.done or self._left.is_set())
            if encoded is None:
                asked.failed(Unanswered(f"{asked.text!r}: {self.failure or 'it was stopped'}"))
            else:
                self._hand_over(watch, asked, encoded, aside)

        def on_done(future: Future[None]) -> None:
            error = Unanswered("the model was stopped") if future.cancelled() else future.exception()
            if error is not None:
                asked.failed(error)

        self._host.submit(encode).add_done_callback(on_done)

    def _hand_over(
        self, watch: StreamWorker, asked: PendingQuestion, attachments: Sequence[Attachment], aside: bool
    ) -> None:
        with self._lock:
            has_left = self._left.is_set()
            if not has_left:
                watch.stream.ask(asked.text, attachments, aside=aside, asked=asked)
                self._player.look_now()
        if has_left:
            asked.failed(Unanswered(f"{asked.text!r}: {self._gone()}"))
        self._host.wake()

    def _submit(self, order: Command) -> Future[None]:
        """Have something done with the session between two frames, as soon as it is there."""
        future: Future[None] = Future()
        with self._lock:
            if self._left.is_set():
                future.set_exception(AssistantError(self._gone()))
            elif self._watch is not None:
                self._watch.submit(order, future)
            elif len(self._early_orders) < MOST_EARLY:
                self._early_orders.append((order, future))
            else:
                most = f"{MOST_EARLY} changes wait for the model; no more may; try again once it is there"
                future.set_exception(AssistantError(f"{self.name}: {most}"))
        self._host.wake()
        return future

    def _gone(self) -> str:
        return f"{self.name} is watched no more ({self.failure or 'it was stopped'}); start it again"

    def _check_watched(self) -> None:
        if self._left.is_set():
            raise ConfigError(self._gone())

    def _open_anew(self, config: ChannelConfig) -> None:
        """Open the source by another configuration; a recording goes on where it is."""
        watch = self._watch
        is_under_way = self._player.is_live is False and watch is not None and not watch.has_drained
        self._player.begin(config, start_s=self._snapshots.media_s if is_under_way else None)
        if watch is not None:
            watch.on_restart(keep_trying=config.keep_trying)

    def _look_up(self, question: str, media_s: float, remembered_s: float) -> Recalled | None:
        """What the timeline says to a question about a time that the model does not remember."""
        if self._recall is None:
            return None
        oldest_s = media_s - remembered_s
        recalled = self._recall.answer(question, media_s=media_s, oldest_s=oldest_s, is_live=self.is_live)
        # The small checkpoint knows nothing of pictures out of their time.
        return replace(recalled, asks_model=not self._host.describe().embedded) if recalled is not None else None

    def _gap(self, reason: str, gap_s: float) -> Notice:
        return Notice(NoticeKind.GAP, self.name, self._snapshots.media_s, reason, details={"gap_s": gap_s})

    def _see(self, frame: Frame, sight: Sight, decision: Decision) -> None:
        """The model has seen a frame."""
        taken_at_s = self._watch.taken_at_s if self._watch is not None else frame.captured_at_s
        self._snapshots.on_frame(frame, sight, queue_ms=1000 * (taken_at_s - frame.captured_at_s))
        wall_s = self._clock.wall_s() - (self._clock.now_s() - frame.captured_at_s)
        pruning = sight.pruning
        self._keeper.add(frame, pruning.keep, pruning.refreshed, wall_s, rows=sight.grid.rows, cols=sight.grid.cols)

    def _emit_status(self, kind: StatusKind, reason: str, details: dict[str, Detail] | None = None) -> None:
        self._emit(
            StatusEvent(
                source=self.name,
                time_s=self._snapshots.media_s,
                text=reason,
                reason=reason,
                kind=kind,
                details=details or {},
            )
        )

    def _emit(self, event: StreamEvent) -> None:
        """Give an event out under the channel's name."""
        event = replace(event, source=self.name)
        self._snapshots.on_event(event)
        self._broadcast.publish(event)


def _say(
    kind: StatusKind, reason: str, details: dict[str, Detail] | None = None
) -> Callable[[StreamSession], Steps[None]]:
    """An order that says something happened, in its place among the events."""

    @as_steps
    def order(stream: StreamSession) -> StepGenerator[None]:
        stream.say_status(kind, reason, details=details)
        yield from ()

    return order
