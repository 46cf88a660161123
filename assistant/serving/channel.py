"""A channel: one stream that people start, stop, ask, instruct, listen to and look at. Every method is for any thread.

Events are published on the engine's thread; those about a step that hangs come from the watchdog's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Literal

from assistant.config.bounds import TALKATIVE
from assistant.errors import AssistantError, ConfigError
from assistant.events import Answer, Detail, StatusKind, StreamEvent
from assistant.evidence import EvidenceFrame, EvidenceKeeper
from assistant.serving.channel_types import ChannelConfig, ChannelSnapshot
from assistant.serving.config_changes import BY_SESSION, WITHOUT_OPENING
from assistant.serving.player import OpenSource
from assistant.serving.rehearsing import last_frames, on_thumbnails, rehearse
from assistant.serving.served_channel import ServedChannel
from assistant.serving.snapshot import Circumstances
from assistant.stream.open_stream import StreamOptions
from assistant.stream.question_queue import PendingQuestion
from models.session.steps import StepGenerator, Steps, as_steps
from streaming.clock import Clock, SystemClock
from streaming.errors import StreamingError
from streaming.open_source import open_source
from streaming.types import Frame, Notice, NoticeKind

if TYPE_CHECKING:
    import numpy as np

    from assistant.rules.rule import Rule
    from assistant.rules.rule_watch import ArmedRule, RuleFacts
    from assistant.serving.live_rehearsal import LiveRehearsal
    from assistant.serving.scheduler import Scheduler
    from assistant.sinks import EventSink
    from assistant.stream.speaking import Decision
    from assistant.stream.stream_session import StreamSession
    from assistant.timeline.recall import Recall
    from models.session.media_turns import Attachment


class Channel:
    """One stream that is watched. `start` it once; `stop` ends it for good."""

    def __init__(
        self,
        config: ChannelConfig,
        scheduler: Scheduler,
        *,
        clock: Clock | None = None,
        sinks: Sequence[EventSink] = (),
        opener: OpenSource = open_source,
        evidence: EvidenceKeeper | None = None,
        recall: Recall | None = None,
    ) -> None:
        """`sinks` take every event before subscribers do; their maker closes them.

        `recall` answers questions about times that the model's memory does not reach.
        """
        self._scheduler = scheduler
        self._clock: Clock = clock or SystemClock()
        self._recall = recall
        self.served = ServedChannel(
            config,
            scheduler,
            self._clock,
            sinks=sinks,
            opener=opener,
            keeper=evidence or EvidenceKeeper(),
            recall=recall,
        )
        """What the scheduler serves: the source, the session and the events."""
        self._player = self.served.player
        self._changes = self.served.changes
        self._started = False

    @property
    def name(self) -> str:
        """The name that people gave it."""
        return self.served.name

    @property
    def config(self) -> ChannelConfig:
        """Its configuration now."""
        return self._changes.config

    @property
    def failure(self) -> BaseException | None:
        """The error that ended it for good; None where there was none."""
        return self.served.failure

    @property
    def keeper(self) -> EvidenceKeeper:
        """Thumbnails of what the model saw of late."""
        return self.served.keeper

    def start(self) -> None:
        """Open the source and have it watched; returns at once, and what goes wrong shows in the snapshot.

        Raises `CapacityExceeded` or `ModelUnavailable` where the scheduler takes no more, and `ConfigError` for
        a source that is none.
        """
        if self._started:
            raise AssistantError(f"{self.name}: it was started before; a channel is started once; make another")
        self._player.begin()
        try:
            self._scheduler.attach(self.served)
        except AssistantError:
            self._player.stop(0.0)
            raise
        self._started = True

    def stop(self, timeout_s: float = 10.0) -> bool:
        """End it: close the turn being said, free threads and memory. Returns whether all that was done in time."""
        ends_s = self._clock.now_s() + timeout_s
        worker = self.served.worker
        if worker is not None:
            worker.stream.stop()
            worker.is_leaving = True
        self._player.close()
        in_time = self._scheduler.detach(self.served, timeout_s) if self._started else True
        return self._player.stop(max(0.1, ends_s - self._clock.now_s())) and in_time

    def close(self) -> None:
        """`stop`, without its result."""
        self.stop()

    def pause(self) -> None:
        """Show the model nothing more; a recording stands still, viewers of a live stream go on seeing it."""
        if self._player.pause():
            self.served.submit(_say(StatusKind.PAUSED, "paused"))

    def resume(self) -> None:
        """Go on. The model is told how long it saw nothing of a live stream."""
        stood_s = self._player.resume()
        if stood_s is None:
            return
        self.served.submit(_say(StatusKind.RESUMED, f"resumed after {stood_s:.1f} s", {"stood_s": stood_s}))
        if self._player.is_live:
            self.served.submit(lambda stream: stream.on_notice(self._gap(f"paused for {stood_s:.1f} s", stood_s)))

    def seek(self, media_s: float) -> None:
        """Play a recording from another place. Raises `NotPlaying` for a live stream, `ConfigError` past its end."""
        self._check_watched()
        self._player.check_recording()
        info = self._player.info
        length_s = info.duration_s_declared if info is not None else None
        if not 0 <= media_s < (length_s or float("inf")):
            raise ConfigError(f"{media_s:g} s: {self.name} goes from 0 to {length_s or 0:.1f} s; seek within it")
        self._player.begin(start_s=media_s)
        if self.served.worker is not None:
            self.served.worker.on_restart()
        self.served.submit(_say(StatusKind.SOUGHT, f"playing from {media_s:.1f} s", {"to_s": media_s}))

    def set_speed(self, speed: float | Literal["max"] | None) -> None:
        """Set the media seconds a second of a recording; `max` or None for as fast as it is used."""
        self._player.check_recording()
        self._player.playback.set_speed(None if speed == "max" else speed)

    def set_talkative(self, talkative: float) -> None:
        """Set the log-odds in favour of speaking, from the next frame on."""
        TALKATIVE.check(talkative, "talkative")
        self._changes.put(talkative=talkative)
        self.served.submit(lambda stream: self._changes.tune(stream, f"talkativeness is {talkative:+g}"))

    def instruct(self, text: str | None) -> Future[None]:
        """Replace the standing instruction; None takes it away.

        The future raises where it is refused, as for its length; the one before then stays, and an event says so.
        """
        text = (text or "").strip() or None
        return self.served.submit(lambda stream: self._changes.instruct(stream, text))

    def set_rules(self, rules: Sequence[Rule]) -> Future[None]:
        """Watch by other rules from the next frame on; those that stay keep what they know.

        Raises `ConfigError` for one that cannot be armed, and all stays then. The future raises where the channel is
        watched no more.
        """
        self.check_rules(rules)
        self._changes.put(rules=tuple(rules))

        @as_steps
        def arm(stream: StreamSession) -> StepGenerator[None]:
            self.served.arm()
            yield from ()

        return self.served.submit(arm)

    def check_rules(self, rules: Sequence[Rule]) -> tuple[ArmedRule, ...]:
        """The rules, armed for its zones and its model. Raises `ConfigError` for one that cannot be armed."""
        return self.served.check_rules(replace(self.config, rules=tuple(rules)))

    def rehearse(self, rule: Rule) -> LiveRehearsal:
        """Try a rule on the pictures that are kept of the last minutes, beside the streams; returns at once.

        Its cameras and its schedule are left aside. Raises `ConfigError` for one that cannot be armed, or where too
        little was seen so far, and `TooManyQuestions`.
        """
        (armed,) = self.check_rules([replace(rule, cameras=(), schedule=None, muted=False)])
        settings = self._changes.session_settings
        if settings is None:
            raise ConfigError(f"rule {rule.name}: {self.name} is not watched yet; rehearse it once its pictures come")
        source, config = self.snapshot().source, self.config
        options = StreamOptions(instruction=config.instruct, system=config.system, pruning=config.pruning)
        armed = on_thumbnails(armed, source.width_px, source.height_px)
        frames = last_frames(self.keeper)
        return rehearse(self._scheduler, self._clock, frames, armed, settings, options, source=self.name)

    def mute_rule(self, name: str, *, muted: bool) -> bool:
        """Mute a rule until it is changed, or unmute it; False where it has none of this name."""
        return self.served.rules.mute(name, muted=muted)

    def rules(self) -> tuple[RuleFacts, ...]:
        """How each of its rules stands."""
        return self.served.rules.facts()

    def forget(self) -> Future[None]:
        """Forget all that was seen and said but the instruction; thumbnails too."""
        self.keeper.clear()
        return self.served.submit(lambda stream: stream.forget())

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
        asked = PendingQuestion(text, on_piece, self.served.listeners)
        self.served.put(asked, tuple(attachments), aside=aside)
        return asked

    def report(self, kind: StatusKind, text: str, details: dict[str, Detail] | None = None) -> None:
        """Publish a status event of somebody else's, in its place among the stream's own."""
        if not self.served.has_left:
            self.served.submit(_say(kind, text, details))

    def push(self, image: np.ndarray, pts_s: float | None = None) -> bool:
        """Give a pushed stream a frame, uint8 RGB `[height, width, 3]`; False once it takes no more."""
        return self._player.push(image, pts_s)

    def reconfigure(self, config: ChannelConfig) -> Future[None]:
        """Watch by another configuration and keep the memory; the source is opened anew where it must be.

        Raises, with all left as it was, for what cannot be: another name, system turn, pruning or stream settings, a
        mask beside the picture, a source that is none, a rule that cannot be armed. The future raises where the session
        refuses its rate or its instruction, which then stay as they were. Refusals are events, too.
        """
        self._check_watched()
        before = self.config
        try:
            self._changes.check(config)
            self.served.check_rules(config)
            if replace(before, **{name: getattr(config, name) for name in WITHOUT_OPENING}) != config:
                self._open_anew(config)
        except (AssistantError, StreamingError) as error:
            self.served.submit(_say(StatusKind.REFUSED, f"all stays as it was configured: {error}"))
            raise
        self._changes.put(**{f.name: getattr(config, f.name) for f in fields(config) if f.name not in BY_SESSION})

        @as_steps
        def adopt(stream: StreamSession) -> StepGenerator[None]:
            if (config.rules, config.zones) != (before.rules, before.zones):
                self.served.arm()
            yield from self._changes.adopt(stream, config, before)

        return self.served.submit(adopt)

    def subscribe(self, subscriber: Callable[[StreamEvent], None]) -> Callable[[], None]:
        """Call `subscriber` with every event, after it was stored; it returns at once. The result ends that."""
        return self.served.bus.subscribe(subscriber)

    def add_viewer(self, viewer: Callable[[Frame], None]) -> Callable[[], None]:
        """Call `viewer` with every picture, masked, on the capture thread; it returns at once. The result ends that."""
        return self._player.viewers.add(self.served.listeners.guarded(viewer))

    def events(self, since: int = 0) -> tuple[int, list[StreamEvent]]:
        """The events from the one numbered `since` on, as far as they are kept, and the next number."""
        return self.served.bus.since(since)

    def decisions(self, since: int = 0) -> tuple[int, list[Decision]]:
        """The decisions from the one numbered `since` on, as far as they are kept, and the next number."""
        worker = self.served.worker
        return worker.stream.curve.since(since) if worker is not None else (0, [])

    def evidence(self, event: StreamEvent) -> tuple[EvidenceFrame, ...]:
        """Thumbnails of the frames behind an event, oldest first; those of then for an answer from the timeline."""
        if isinstance(event, Answer) and event.frames is not None:
            return self._recall.evidence(event) if self._recall is not None else ()
        return self.keeper.for_event(event)

    def snapshot(self) -> ChannelSnapshot:
        """Its state, rates, counts and memory now."""
        served = self.served
        now = Circumstances(
            model_state=self._scheduler.state,
            failure=self.failure,
            has_left=served.has_left,
            fps_wanted=self._changes.stream_fps,
            factor=self._changes.factor,
            num_events=served.bus.num_events,
            num_unstored=served.bus.num_unstored,
            num_listener_faults=served.listeners.num_faults,
        )
        return served.snapshots.build(self.config, self._player, served.worker, now)

    def _check_watched(self) -> None:
        if self.served.has_left:
            raise ConfigError(self.served.why_gone)

    def _open_anew(self, config: ChannelConfig) -> None:
        """Open the source by another configuration; a recording goes on where it is."""
        worker = self.served.worker
        is_under_way = self._player.is_live is False and worker is not None and not worker.has_drained
        self._player.begin(config, start_s=self.served.snapshots.media_s if is_under_way else None)
        if worker is not None:
            worker.on_restart(keep_trying=config.keep_trying)

    def _gap(self, reason: str, gap_s: float) -> Notice:
        media_s = self.served.snapshots.media_s
        return Notice(NoticeKind.GAP, self.name, media_s, reason, details={"gap_s": gap_s})


def _say(
    kind: StatusKind, reason: str, details: dict[str, Detail] | None = None
) -> Callable[[StreamSession], Steps[None]]:
    """A command that publishes a status event, in its place among the events."""

    @as_steps
    def command(stream: StreamSession) -> StepGenerator[None]:
        stream.say_status(kind, reason, details=details)
        yield from ()

    return command
