"""A stream that does what a test says, in place of a channel on a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np

from assistant.events import Answer, Comment, StreamEvent
from assistant.evidence import EvidenceFrame
from assistant.rules.arming import armed_rules
from assistant.rules.rehearsal import Rehearsal
from assistant.rules.rule import Rule
from assistant.rules.rule_watch import ArmedRule, RuleFacts
from assistant.serving.channel_types import (
    CacheUse,
    ChannelSnapshot,
    ChannelState,
    FrameDelays,
    FrameRates,
    MemoryUse,
    SeenCells,
    SourceFacts,
    StreamCounts,
)
from assistant.serving.live_rehearsal import LiveRehearsal
from assistant.stream.speaking import Decision, Reason
from streaming.types import Frame

STILL = ChannelSnapshot(
    name="scene", state=ChannelState.REPLAY, state_reason="", health="ok", newest_seen_age_s=0.2, media_s=12.5,
    talkative=0.0, instruct=None,
    source=SourceFacts(
        name="synthetic:3", is_live=False, duration_s=60.0, width_px=448, height_px=280, is_paused=False, speed=1.0,
        num_reconnects=0, num_viewers=0,
    ),
    rates=FrameRates(fps_in=25.0, fps_wanted=2.0, fps_used=2.0, factor=1.0),
    counts=StreamCounts(
        num_read=300, num_sampled=25, num_used=20, num_empty=5, num_dropped=0, num_damaged=0, num_comments=0,
        num_answers=0, num_waiting=0, num_faults=0, num_unstored=0, num_listener_faults=0, num_decisions=0,
        num_events=0,
    ),
    memory=MemoryUse(CacheUse(20, 30, 400, 2800, 1 << 20), 0, 0, tokens_per_frame=4.0, tokens_unpruned=28),
    view=SeenCells(
        rows=2, cols=4, kept=np.array([1, 0, 0, 0, 0, 0, 0, 1], bool),
        refreshed=np.array([0, 0, 0, 0, 0, 0, 0, 1], bool),
    ),
    delays_ms=FrameDelays(1.0, 2.0, 15.0, 12.0, 40.0), last_comment=None,
)  # fmt: skip


class FakeAsked:
    """A question that the test answers."""

    def __init__(self, text: str, on_piece: Callable[[str], None], aside: bool) -> None:
        self.text, self.say, self.aside = text, on_piece, aside
        self.future: Future[Answer] = Future()
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def answer(self, text: str, time_s: float = 12.5) -> None:
        self.future.set_result(
            Answer(source="scene", time_s=time_s, text=text, reason="asked", question=self.text, asked_at_s=12.5)
        )


class FakeStream:
    """Notes what was asked of it."""

    def __init__(self, *, failure: Exception | None = None) -> None:
        self.calls: list[str] = []
        self.asked: list[FakeAsked] = []
        self.pushed: list[tuple[tuple[int, ...], float | None]] = []
        self.shown = STILL
        self.curve: list[Decision] = []
        self.happened: list[StreamEvent] = []
        self.viewers: list[Callable[[Frame], None]] = []
        self.subscribers: list[Callable[[StreamEvent], None]] = []
        self.frames: tuple[EvidenceFrame, ...] = ()
        self.rehearsals: list[LiveRehearsal] = []
        self.viewed = threading.Event()
        self.refuses: Exception | None = None
        """What becomes of an instruction."""
        self._failure = failure

    def start(self) -> None:
        if self._failure is not None:
            raise self._failure
        self.calls.append("start")

    def stop(self, timeout_s: float = 10.0) -> bool:
        self.calls.append("stop")
        return True

    def pause(self) -> None:
        self.shown = replace(self.shown, source=replace(self.shown.source, is_paused=True))

    def resume(self) -> None:
        self.shown = replace(self.shown, source=replace(self.shown.source, is_paused=False))

    def seek(self, media_s: float) -> None:
        self.calls.append(f"seek {media_s:g}")

    def set_speed(self, speed: float | None) -> None:
        self.calls.append(f"speed {speed}")

    def set_talkative(self, talkative: float) -> None:
        self.calls.append(f"talkative {talkative:g}")

    def instruct(self, text: str | None) -> Future[None]:
        self.calls.append(f"instruct {text}")
        if self.refuses is None:
            return _done()
        refused: Future[None] = Future()
        refused.set_exception(self.refuses)
        return refused

    def forget(self) -> Future[None]:
        self.calls.append("forget")
        return _done()

    def ask(
        self, text: str, attachments: Sequence[Any] = (), on_piece: Callable[[str], None] | None = None, *,
        aside: bool = False,
    ) -> FakeAsked:  # fmt: skip
        asked = FakeAsked(text, on_piece or (lambda piece: None), aside)
        self.asked.append(asked)
        return asked

    def set_rules(self, rules: Sequence[Rule]) -> Future[None]:
        self.calls.append(f"rules {', '.join(rule.name for rule in rules)}")
        return Future()

    def check_rules(self, rules: Sequence[Rule]) -> tuple[ArmedRule, ...]:
        return armed_rules(rules, {}, "scene", is_small=True)

    def rehearse(self, rule: Rule) -> LiveRehearsal:
        (armed,) = self.check_rules([rule])
        self.rehearsals.append(LiveRehearsal(Rehearsal(rule), "scene", 4, armed.condition.is_taught))
        return self.rehearsals[-1]

    def mute_rule(self, name: str, *, muted: bool) -> bool:
        self.calls.append(f"mute {name} {muted}")
        return True

    def rules(self) -> tuple[RuleFacts, ...]:
        return ()

    def subscribe(self, subscriber: Callable[[StreamEvent], None]) -> Callable[[], None]:
        self.subscribers.append(subscriber)
        return lambda: self.subscribers.remove(subscriber)

    def add_viewer(self, viewer: Callable[[Frame], None]) -> Callable[[], None]:
        self.viewers.append(viewer)
        self.viewed.set()
        return lambda: self.viewers.remove(viewer)

    def snapshot(self) -> ChannelSnapshot:
        return replace(self.shown, counts=replace(self.shown.counts, num_decisions=len(self.curve)))

    def decisions(self, since: int = 0) -> tuple[int, list[Decision]]:
        return len(self.curve), self.curve[since:]

    def events(self, since: int = 0) -> tuple[int, list[StreamEvent]]:
        return len(self.happened), self.happened[since:]

    def evidence(self, event: StreamEvent) -> tuple[EvidenceFrame, ...]:
        return self.frames

    def push(self, image: np.ndarray, pts_s: float | None = None) -> bool:
        self.pushed.append((image.shape, pts_s))
        return True

    def happen(self, event: StreamEvent) -> None:
        """Tell everybody who listens."""
        self.happened.append(event)
        for subscriber in list(self.subscribers):
            subscriber(event)


def remark(text: str, time_s: float = 2.5) -> Comment:
    return Comment(
        source="scene", time_s=time_s, text=text, reason="spoke", score=2.0, probability=0.8, threshold=1.4,
        latency_ms=120.0, frame_index=int(time_s * 25),
    )  # fmt: skip


def decision(time_s: float, score: float | None = 1.0, *, speak: bool = False) -> Decision:
    return Decision(time_s, speak, Reason.SPOKE if speak else Reason.BELOW_THRESHOLD, score, 1.4, 0.5)


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future
