"""Watches the rules of one stream: asks the model after each frame, and publishes alerts. The engine's thread owns it.

The questions are asked on forks of the model's memory, all of a frame at once, so they leave no trace in it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from assistant.events import Alert, Detail, StatusEvent, StatusKind, StreamEvent
from assistant.rules.asking import ConditionAnswers, RuleSession, ask
from assistant.rules.occurrence import Change, Judged, Occurrence, RuleState
from assistant.rules.rule import Rule
from assistant.rules.wording import Condition
from assistant.stream.zones import ZoneGate
from models.groundtruth.remarks import capitalised
from models.session.steps import StepGenerator, as_steps

if TYPE_CHECKING:
    from models.session.results import Sight
    from streaming.clock import Clock
    from streaming.masks import MaskRegion
    from streaming.types import Frame


@dataclass(frozen=True, slots=True)
class ArmedRule:
    """A rule on one stream: how the model is asked about it, and where its zone lies."""

    rule: Rule
    condition: Condition
    region: MaskRegion | None = None
    """The rule's zone; None for the whole picture."""


@dataclass(slots=True)
class _Watched:
    armed: ArmedRule
    state: RuleState
    gate: ZoneGate
    probability: float | None = None
    """The latest probability; None where it has to be asked for."""
    occurrence: str = ""
    """Id of the occurrence whose alert was raised last; empty where it was muted."""
    is_muted: bool = False
    num_raised: int = 0
    raised_at_wall_s: float | None = None


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """How one rule stands on one stream, for display."""

    name: str
    probability: float | None
    is_muted: bool
    is_raised: bool
    num_raised: int
    num_held_back: int
    raised_at_wall_s: float | None
    """Time of day of its latest alert."""


@dataclass(slots=True)
class RuleWatch:
    """The rules of one stream, in the order they were given."""

    clock: Clock
    emit: Callable[[StreamEvent], None]
    on_judged: Callable[[Rule, Judged], None] = lambda rule, judged: None
    """Called with each rule that is armed and what a frame made of it."""
    _watched: list[_Watched] = field(default_factory=list)
    _frame: Frame | None = None
    _answers: ConditionAnswers = field(default_factory=ConditionAnswers)

    def set_rules(self, rules: Sequence[ArmedRule]) -> None:
        """Watch these rules from the next frame on; those that did not change but for `muted` keep their state."""
        before = {_unmuted(one.armed): one for one in self._watched}
        kept = [_kept(before.pop(_unmuted(armed), None), armed) for armed in rules]
        for dropped in before.values():
            self._publish(dropped, *dropped.state.end(self._now_s()), why="its rule was changed or removed")
        self._watched = kept

    @property
    def armed(self) -> tuple[ArmedRule, ...]:
        """The rules that are watched; any thread."""
        return tuple(one.armed for one in list(self._watched))

    def mute(self, name: str, *, muted: bool) -> bool:
        """Mute a rule or unmute it; False where there is none of this name."""
        found = [one for one in self._watched if one.armed.rule.name == name]
        for one in found:
            one.is_muted = muted
        return bool(found)

    def facts(self) -> tuple[RuleFacts, ...]:
        """How each rule stands; any thread."""
        return tuple(
            RuleFacts(
                one.armed.rule.name,
                one.probability,
                one.is_muted,
                one.state.is_raised,
                one.num_raised,
                one.state.num_held_back,
                one.raised_at_wall_s,
            )
            for one in list(self._watched)
        )

    @as_steps
    def on_sight(self, model: RuleSession, frame: Frame, sight: Sight) -> StepGenerator[None]:
        """Judge the rules that are armed now by the frame that the model has just seen."""
        self._frame = frame
        if not self._watched:
            return
        local = datetime.fromtimestamp(self.clock.wall_s() - (self.clock.now_s() - frame.captured_at_s))
        armed = [one for one in self._watched if self._is_armed(one, local)]
        may_begin = {id(one): one.gate.lets_through(frame, sight) for one in self._watched}
        # What the model saw did not change since a frame that was not appended: what it said then stands.
        to_ask = [one for one in armed if sight.appended or one.probability is None]
        if to_ask:
            conditions = [one.armed.condition for one in to_ask]
            self._answers = yield from ask(model, conditions, self._answers)
            for one in to_ask:
                one.probability = self._answers.probability(one.armed.condition)
        for one in armed:
            assert one.probability is not None
            judged = Judged(frame.pts_s, one.probability, may_begin[id(one)])
            self.on_judged(one.armed.rule, judged)
            change, occurrence = one.state.step(judged)
            self._publish(one, change, occurrence, why="it no longer holds")

    def on_break(self, why: str) -> None:
        """End what goes on, as nothing is known of the time that follows: a gap, a lost camera, the end."""
        for one in self._watched:
            one.probability = None
            self._publish(one, *one.state.end(self._now_s()), why=why)

    def _is_armed(self, one: _Watched, local: datetime) -> bool:
        schedule = one.armed.rule.schedule
        if schedule is None or schedule.contains(local):
            return True
        one.probability = None
        self._publish(one, *one.state.end(self._now_s()), why="the rule's schedule is over")
        return False

    def _publish(self, one: _Watched, change: Change, occurrence: Occurrence | None, *, why: str) -> None:
        if occurrence is None or change is Change.NOTHING:
            return
        rule = one.armed.rule
        if change is Change.RAISED:
            one.occurrence = "" if one.is_muted else uuid.uuid4().hex
            if one.is_muted:
                self._say(one, occurrence, StatusKind.ALERT_MUTED, "it is muted, no alert was raised")
                return
            one.num_raised += 1
            one.raised_at_wall_s = self.clock.wall_s()
            self.emit(self._alert(one, occurrence))
        elif change is Change.HELD_BACK:
            again = f"an alert of it ended less than {rule.cooldown_s:g} s ago"
            self._say(one, occurrence, StatusKind.ALERT_HELD_BACK, again)
        elif one.occurrence:
            lasted_s = occurrence.latest_s - occurrence.started_s
            self._say(one, occurrence, StatusKind.ALERT_ENDED, f"over after {lasted_s:.1f} s: {why}")

    def _alert(self, one: _Watched, occurrence: Occurrence) -> Alert:
        rule, frame = one.armed.rule, self._frame
        assert frame is not None
        held_s = occurrence.latest_s - occurrence.started_s
        hits = ", ".join(f"{probability:.2f} at {time_s:.1f} s" for time_s, probability in occurrence.hits)
        return Alert(
            source=frame.source,
            time_s=frame.pts_s,
            text=f"{capitalised(rule.when.strip().rstrip('.'))}.",
            reason=f"rule {rule.name}: {one.armed.condition.question} yes for {held_s:.1f} s ({hits}); "
            f"at least {rule.sure:g} wanted, {rule.confirmations} times in a row",
            probability=one.probability,
            threshold=rule.sure,
            frame_index=frame.index,
            rule=rule.name,
            question=one.armed.condition.whole_question,
            hits=occurrence.hits,
            zone=_corners(one.armed.region, frame),
            severity=rule.severity.value,
            occurrence=one.occurrence,
            started_s=occurrence.started_s,
            latency_ms=1000 * (self.clock.now_s() - frame.captured_at_s),
        )

    def _say(self, one: _Watched, occurrence: Occurrence, kind: StatusKind, reason: str) -> None:
        rule, frame = one.armed.rule, self._frame
        details: dict[str, Detail] = {
            "rule": rule.name,
            "occurrence": one.occurrence,
            "severity": rule.severity.value,
            "started_s": occurrence.started_s,
            "ended_s": occurrence.latest_s,
            "peak": occurrence.peak,
            "peak_s": occurrence.peak_s,
        }
        self.emit(
            StatusEvent(
                source=frame.source if frame else "",
                time_s=self._now_s(),
                text=f"{rule.name}: {reason}",
                reason=reason,
                frame_index=frame.index if frame else None,
                kind=kind,
                details=details,
            )
        )

    def _now_s(self) -> float:
        return self._frame.pts_s if self._frame is not None else 0.0


def _unmuted(armed: ArmedRule) -> ArmedRule:
    return replace(armed, rule=replace(armed.rule, muted=False))


def _kept(before: _Watched | None, armed: ArmedRule) -> _Watched:
    """A rule with the state that it had; a new one where it is new."""
    if before is None:
        return _new(armed)
    if armed.rule.muted != before.armed.rule.muted:
        before.is_muted = armed.rule.muted
    before.armed = armed
    return before


def _corners(region: MaskRegion | None, frame: Frame) -> tuple[tuple[float, float], ...]:
    """A zone's corners as fractions of the picture."""
    if region is None:
        return ()
    height_px, width_px = frame.image.shape[:2]
    return tuple((x / width_px, y / height_px) for x, y in region.in_pixels(width_px, height_px))


def _new(armed: ArmedRule) -> _Watched:
    gate = ZoneGate((armed.region,) if armed.region is not None else ())
    return _Watched(armed, RuleState(armed.rule), gate, is_muted=armed.rule.muted)
