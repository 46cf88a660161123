"""The engine's side of a channel: opens its session, gives out its jobs, and takes what people hand over to it.

The scheduler calls `ServedStream`'s methods on the engine's thread. `submit`, `put`, `emit` and the properties are for
any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError
from assistant.events import Detail, StatusEvent, StatusKind, StreamEvent
from assistant.evidence import EvidenceKeeper
from assistant.rules.arming import armed_rules
from assistant.rules.rule_watch import ArmedRule, RuleWatch
from assistant.rules.wording import TAUGHT_FORMS
from assistant.serving.config_changes import Changes, zone_problems
from assistant.serving.event_bus import EventBus
from assistant.serving.player import OpenSource, Player
from assistant.serving.snapshot import SnapshotBuilder
from assistant.serving.worker import Command, StreamWorker
from assistant.stream.listener_guard import ListenerGuard
from assistant.stream.open_stream import StreamOptions, open_model_session, open_stream
from assistant.stream.question_queue import PendingQuestion, Unanswered
from models.session.steps import Job, StepGenerator, as_steps

if TYPE_CHECKING:
    from assistant.serving.channel_types import ChannelConfig
    from assistant.serving.contracts import ModelEngine
    from assistant.serving.rate_control import RateChange
    from assistant.serving.scheduler import Scheduler
    from assistant.sinks import EventSink
    from assistant.stream.model_session import ModelSession
    from assistant.stream.speaking import Decision
    from assistant.timeline.recall import Recall, Recalled
    from models.checkpoint.settings import StreamSettings
    from models.session.media_turns import Attachment
    from models.session.results import Sight
    from streaming.clock import Clock
    from streaming.masks import MaskRegion
    from streaming.types import Frame

MOST_EARLY = 64
"""Commands that may wait for the session to be there."""


class ServedChannel:
    """Owns a channel's source, its session with the model, and its events. `Channel` is what people call."""

    def __init__(
        self,
        config: ChannelConfig,
        scheduler: Scheduler,
        clock: Clock,
        *,
        sinks: Sequence[EventSink],
        opener: OpenSource,
        keeper: EvidenceKeeper,
        recall: Recall | None,
    ) -> None:
        """The arguments are those of `Channel`."""
        self._scheduler = scheduler
        self._clock = clock
        self._recall = recall
        self.keeper = keeper
        self.listeners = ListenerGuard(config.name)
        self.bus = EventBus(config.name, sinks, self.listeners)
        self.player = Player(config, clock, scheduler.wake, opener)
        self.snapshots = SnapshotBuilder(clock)
        self.rules = RuleWatch(clock, self.emit)
        self.changes = Changes(
            config, self.player, self.emit_status, lambda settings: scheduler.reserve(self, settings)
        )
        self.worker: StreamWorker | None = None
        """None before the session is there."""
        self._lock = threading.Lock()
        """Held where something is handed to the worker, or kept for it, so that none of it is lost between threads."""
        self._early_questions: list[tuple[PendingQuestion, tuple[Attachment, ...], bool]] = []
        self._early_commands: list[tuple[Command, Future[None]]] = []
        self._failure: BaseException | None = None
        self._zones_checked: tuple[int, int, tuple[tuple[str, MaskRegion], ...]] | None = None
        """Size of the picture and the zones that were last compared."""
        self._left = threading.Event()

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.changes.config.name

    @property
    def is_live(self) -> bool:
        """Whether media time goes on while nothing is read, as far as that is known."""
        return self.player.is_live is True

    @property
    def is_answering(self) -> bool:
        """Whether its job under way answers a question."""
        return self.worker is not None and self.worker.stream.is_answering

    @property
    def is_over(self) -> bool:
        """Whether its last job was given out."""
        return self._left.is_set() or (self.worker is not None and self.worker.is_over)

    @property
    def has_left(self) -> bool:
        """Whether the scheduler serves it no more."""
        return self._left.is_set()

    @property
    def failure(self) -> BaseException | None:
        """The error that ended it for good."""
        worker = self.worker
        return self._failure or (worker.failure if worker is not None else None)

    @property
    def why_gone(self) -> str:
        """Why nothing can be asked of it any more, with the remedy."""
        return f"{self.name} is watched no more ({self.failure or 'it was stopped'}); start it again"

    # The scheduler calls these, on the engine's thread.

    def settings(self, of_checkpoint: StreamSettings) -> StreamSettings:
        """The settings that its session is to have. Raises `ConfigError`."""
        return self.changes.settings(of_checkpoint, self.changes.config.fps)

    def open(self, engine: ModelEngine, settings: StreamSettings) -> None:
        """Open the session, and hand over the questions and commands that came before it.

        Raises the `ModelError` with which the model refuses its settings.
        """
        self.changes.opened(settings)
        self.arm()

        def new_session() -> ModelSession:
            return open_model_session(engine, self.changes.session_settings, self._stream_options())

        def reopen() -> ModelSession:
            fresh = new_session()
            self._attach(fresh)
            return fresh

        session = new_session()
        stream = open_stream(
            session,
            settings,
            self._stream_options(),
            self._clock,
            self.emit,
            on_sight=self.listeners.guarded(self._on_sight),
            recall=self._look_up,
            rules=self.rules,
        )
        keep_trying = self.changes.config.keep_trying
        worker = StreamWorker(stream, self.player, self._clock, self.emit_status, reopen, keep_trying=keep_trying)
        self._attach(session)
        self.player.set_fps(settings.fps * self.changes.factor)
        self._hand_over_early(worker)

    def check_rules(self, config: ChannelConfig) -> tuple[ArmedRule, ...]:
        """The rules of a configuration, armed for its zones. Raises `ConfigError` for one that cannot be."""
        if not config.rules:
            return ()
        is_small = self._scheduler.describe().embedded
        return armed_rules(config.rules, dict(config.zones), config.name, is_small=is_small)

    def arm(self) -> None:
        """Watch by the configured rules. Raises `ConfigError` for one that cannot be armed; then all stays."""
        armed = self.check_rules(self.changes.config)
        known = {one.condition for one in self.rules.armed}
        self.rules.set_rules(armed)
        for one in armed:
            if not one.condition.is_taught and one.condition not in known:
                untaught = f"the embedded model was not taught to judge it; it can judge {TAUGHT_FORMS}"
                self.emit_status(
                    StatusKind.RULE,
                    f"rule {one.rule.name} is armed, but {untaught}; rehearse it on a recording first",
                    details={"rule": one.rule.name},
                )

    def next_job(self) -> Job[Any] | None:
        """The next job; None where there is nothing to do now."""
        worker = self.worker
        return worker.next_job() if worker is not None and not self._left.is_set() else None

    def on_done(self, job: Job[Any]) -> None:
        """Take note of a job that is done. Raises the `ModelError` that refuses for good what the stream shows."""
        if self.worker is not None and not self._left.is_set():
            self.worker.on_done(job)

    def set_rate(self, change: RateChange) -> None:
        """Lower or raise the rate of frames as for all streams; recordings that are read at once keep theirs."""
        self.changes.factor = change.factor
        if not self.is_live and self.player.playback.speed is None:
            return
        self.changes.slow(self.worker.stream if self.worker is not None else None, change)

    def take_counts(self) -> tuple[int, int]:
        """Frames used and frames lost since the last call; none count as lost while a question was answered."""
        num_used, num_lost = self.snapshots.take_counts(self.player.num_dropped)
        has_answered = self.worker is not None and self.worker.stream.take_answered()
        return num_used, 0 if has_answered else num_lost

    def fail(self, error: BaseException) -> None:
        """Note the error for which the model cannot watch it."""
        self._failure = error
        self.emit_status(StatusKind.BROKEN, str(error))

    def detach(self) -> None:
        """End it: the scheduler serves it no more. A second call has no effect."""
        with self._lock:
            if self._left.is_set():
                return
            self._left.set()
            questions, self._early_questions = self._early_questions, []
            commands, self._early_commands = self._early_commands, []
            worker = self.worker
        why = str(self.failure or "it was stopped")
        for asked, _, _ in questions:
            asked.failed(Unanswered(f"{asked.text!r}: {why}"))
        for _, future in commands:
            future.cancel()
        if worker is not None:
            worker.close(why)
        self.snapshots.detach_session()
        self.player.close()

    def stalled(self, seconds: float | None) -> None:
        """Say that a step of the model has hung for `seconds`; None: it came back. The watchdog's thread."""
        reason = "the model answers again" if seconds is None else f"a step of the model hangs for {seconds:.0f} s now"
        self.emit_status(StatusKind.STALLED, reason, details={"stalled_s": seconds or 0.0})

    # `Channel` calls these, on any thread.

    def submit(self, command: Command) -> Future[None]:
        """Run a command on the session between two frames, as soon as there is a session."""
        future: Future[None] = Future()
        with self._lock:
            if self._left.is_set():
                future.set_exception(AssistantError(self.why_gone))
            elif self.worker is not None:
                self.worker.submit(command, future)
            elif len(self._early_commands) < MOST_EARLY:
                self._early_commands.append((command, future))
            else:
                most = f"{MOST_EARLY} changes wait for the model; no more may; try again once it is there"
                future.set_exception(AssistantError(f"{self.name}: {most}"))
        self._scheduler.wake()
        return future

    def put(self, asked: PendingQuestion, attachments: tuple[Attachment, ...], *, aside: bool) -> None:
        """Put a question to the stream, or keep it until there is a session. Raises `TooManyQuestions`."""
        with self._lock:
            worker = self.worker
            is_gone = self._left.is_set() or self.failure is not None
            if worker is None and not is_gone:
                self._early_questions.append((asked, attachments, aside))
        if is_gone:
            asked.failed(Unanswered(f"{asked.text!r}: {self.why_gone}"))
        elif worker is not None:
            self._put(worker, asked, attachments, aside)

    def emit(self, event: StreamEvent) -> None:
        """Publish an event under the channel's name."""
        event = replace(event, source=self.name)
        self.snapshots.on_event(event)
        self.bus.publish(event)

    def emit_status(self, kind: StatusKind, reason: str, details: dict[str, Detail] | None = None) -> None:
        """Publish a status event at the media time of the last frame seen."""
        self.emit(
            StatusEvent(
                source=self.name,
                time_s=self.snapshots.media_s,
                text=reason,
                reason=reason,
                kind=kind,
                details=details or {},
            )
        )

    def _attach(self, session: ModelSession) -> None:
        self.snapshots.attach_session(session)
        self.player.fit = session.fitter

    def _hand_over_early(self, worker: StreamWorker) -> None:
        """Give the worker what came before the session; nothing where the channel was stopped meanwhile."""
        with self._lock:
            questions, self._early_questions = self._early_questions, []
            commands, self._early_commands = self._early_commands, []
            has_left = self._left.is_set()
            if not has_left:
                self.worker = worker
                for command, future in commands:
                    worker.submit(command, future)
        if has_left:
            worker.close(self.why_gone)
            self.snapshots.detach_session()
        for asked, attachments, aside in questions:
            try:
                self._put(worker, asked, attachments, aside)
            except AssistantError as error:
                asked.failed(error)

    def _stream_options(self) -> StreamOptions:
        """How the stream is watched, as it is configured now."""
        config = self.changes.config
        return StreamOptions(
            talkative=config.talkative,
            instruction=config.instruct,
            # Somebody waits for each: one that is refused ends itself alone, not the channel.
            questions=tuple(
                replace(planned, asked=planned.asked or PendingQuestion(planned.text)) for planned in config.questions
            ),
            zones=tuple(region for _, region in config.zones),
            system=config.system,
            pruning=config.pruning,
        )

    def _put(
        self, worker: StreamWorker, asked: PendingQuestion, attachments: tuple[Attachment, ...], aside: bool
    ) -> None:
        """Ask the stream; attachments are encoded first, in turns with the frames of the stream."""
        if not attachments:
            self._ask(worker, asked, (), aside)
            return

        @as_steps
        def encode(engine: ModelEngine) -> StepGenerator[None]:
            encoded = yield from worker.stream.encode(attachments, lambda: asked.done or self._left.is_set())
            if encoded is None:
                asked.failed(Unanswered(f"{asked.text!r}: {self.failure or 'it was stopped'}"))
            else:
                self._ask(worker, asked, encoded, aside)

        def on_done(future: Future[None]) -> None:
            error = Unanswered("the model was stopped") if future.cancelled() else future.exception()
            if error is not None:
                asked.failed(error)

        self._scheduler.submit(encode).add_done_callback(on_done)

    def _ask(
        self, worker: StreamWorker, asked: PendingQuestion, attachments: Sequence[Attachment], aside: bool
    ) -> None:
        with self._lock:
            has_left = self._left.is_set()
            if not has_left:
                worker.stream.ask(asked.text, attachments, aside=aside, asked=asked)
                self.player.look_now()
        if has_left:
            asked.failed(Unanswered(f"{asked.text!r}: {self.why_gone}"))
        self._scheduler.wake()

    def _look_up(self, question: str, media_s: float, remembered_s: float) -> Recalled | None:
        """The timeline's answer to a question about a time that the model does not remember."""
        if self._recall is None:
            return None
        oldest_s = media_s - remembered_s
        recalled = self._recall.answer(question, media_s=media_s, oldest_s=oldest_s, is_live=self.is_live)
        # The small checkpoint knows nothing of pictures out of their time.
        return replace(recalled, asks_model=not self._scheduler.describe().embedded) if recalled is not None else None

    def _on_sight(self, frame: Frame, sight: Sight, decision: Decision) -> None:
        """Note a frame that the model has seen, and keep its thumbnail."""
        self._check_zones(frame)
        taken_at_s = self.worker.taken_at_s if self.worker is not None else frame.captured_at_s
        self.snapshots.on_frame(frame, sight, queue_ms=1000 * (taken_at_s - frame.captured_at_s))
        wall_s = self._clock.wall_s() - (self._clock.now_s() - frame.captured_at_s)
        pruning = sight.pruning
        self.keeper.add(frame, pruning.keep, pruning.refreshed, wall_s, rows=sight.grid.rows, cols=sight.grid.cols)

    def _check_zones(self, frame: Frame) -> None:
        """Report zones that lie outside the picture, at its first frame and after a change of its size or of zones."""
        config = self.changes.config
        checked = (frame.image.shape[1], frame.image.shape[0], config.zones)
        if checked == self._zones_checked:
            return
        self._zones_checked = checked
        for problem in zone_problems(config, checked[0], checked[1]):
            self.emit_status(StatusKind.REFUSED, problem, details={"what": "zones"})
