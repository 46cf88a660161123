"""When to speak: the calibrated rule for checkpoints whose decision was trained, and a stand-in for the others.

Pure state machines without clocks, threads or torch; each belongs to one stream.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from models.checkpoint.settings import SpeakingSettings

MOST_REMARKS_A_FRAME = 0.5
"""Upper bound of the prior: where frames are so few that more remarks are wanted, every other frame may have one."""
CURVE_LENGTH = 7200
"""Decisions kept for the curve: an hour at 2 fps."""


class Reason(StrEnum):
    """Why a decision came out as it did."""

    SPOKE = "spoke"
    BELOW_THRESHOLD = "below_threshold"
    REFRACTORY = "refractory"
    REPEAT = "repeat"
    EMPTY = "empty"
    CUT_SHORT = "cut_short"
    INSTRUCTED_SILENCE = "instructed_silence"
    NOTHING_CHANGED = "nothing_changed"
    SAME_CHANGE = "same_change"
    OUTSIDE_ZONES = "outside_zones"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Observation:
    """The facts that a decision is made from: one frame, after the model saw it."""

    time_s: float
    """Media time."""
    appended: bool
    """Whether the frame went into the stream; one that did not looked like the frames before it."""
    changed_share: float
    """Share of cells that changed, in [0, 1]."""
    score: float | None = None
    """s = logit(im_start) − logit(stream_start); None where the frame was not appended."""
    log_p_assistant: float | None = None
    """log P(assistant | im_start), at most 0."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about one frame, whether to speak or to be silent."""

    time_s: float
    speak: bool
    reason: Reason
    score: float | None
    """Calibrated log-odds, or the share of changed cells where the stand-in decides."""
    threshold: float
    probability: float | None
    """Chance that a remark is due at this frame, where the score is calibrated."""


class SpeakingPolicy(Protocol):
    """Decides about frames in their order."""

    needs_check: bool
    """Whether a standing instruction must be checked with the model before a remark."""
    speak_above: float | None
    """Raw score above which log P(assistant) matters to the decision; None where it never does."""
    remark_check: str | None
    """How the model is asked whether a standing instruction lets a drafted remark through; None where it is not."""

    def tune(self, *, fps: float, talkativeness: float) -> None:
        """Set the rate of frames and the talkativeness, from the next frame on."""

    def decide(self, seen: Observation) -> Decision:
        """Whether to speak about this frame. A `True` counts as the start of a remark."""

    def withdraw(self) -> None:
        """Call the last remark off before a word of it was said: it does not count against later ones."""

    def waits(self, decision: Decision, log_chance: float) -> bool:
        """Whether to put a decision's draft off to the next frame. log_chance: log probability of its words."""

    def take_put_off(self) -> Decision | None:
        """The decision whose draft was put off, for when no frame comes any more; None where none was."""

    def veto(self, text: str) -> Reason | None:
        """The reason to hold a generated remark back; None where it may be said."""


class _Occurrence:
    """The words already said about the change that goes on."""

    def __init__(self) -> None:
        self._said: deque[str] = deque(maxlen=32)

    def over(self) -> None:
        """End the change: whatever comes next is news."""
        self._said.clear()

    def refuse(self, text: str) -> Reason | None:
        """The reason not to say `text`; where None, the text counts as said."""
        words = normalised(text)
        if not words:
            return Reason.EMPTY
        if words in self._said:
            return Reason.REPEAT
        self._said.append(words)
        return None


class CalibratedPolicy:
    """Speak if s' + log P(assistant | im_start) > log((1−π)/π) − talkativeness.

    s' is the Platt-scaled score, log-odds under balanced classes; π is the wanted share of frames with a remark. After
    a remark there is silence for `refractory_s`. A draft of which the model is not sure (`wait_below`) is put off by
    one frame, which then has a remark whatever its score: what has just begun is clearer then. An occurrence lasts
    from the threshold's crossing until the score has fallen `hysteresis` below it or nothing changes any more; within
    one occurrence the same words are said once.
    """

    needs_check = False

    def __init__(self, settings: SpeakingSettings, *, fps: float, talkativeness: float = 0.0) -> None:
        self._settings = settings
        self.remark_check = settings.remark_check
        self.tune(fps=fps, talkativeness=talkativeness)
        self._spoke_at_s = -math.inf
        self._put_off: Decision | None = None
        self._is_overdue = False
        self._occurrence = _Occurrence()

    def tune(self, *, fps: float, talkativeness: float) -> None:
        """Set the rate of frames and the talkativeness, from the next frame on."""
        settings = self._settings
        self._frame_s = 1 / fps
        prior = min(settings.remarks_per_s / fps, MOST_REMARKS_A_FRAME)
        self.prior_log_odds = math.log(prior / (1 - prior))
        self.threshold = -self.prior_log_odds - talkativeness
        at_least = self.threshold - settings.hysteresis - settings.platt_shift
        self.speak_above: float | None = at_least / settings.platt_scale

    def decide(self, seen: Observation) -> Decision:
        """Whether to speak about this frame."""
        decision = self._decide(seen)
        put_off = self.take_put_off()
        if put_off is not None and not 0 <= seen.time_s - put_off.time_s <= 2 * self._frame_s:
            put_off = None  # sought, or a gap: what it was about is gone
        self._is_overdue = put_off is not None
        if put_off is not None and decision.reason in (Reason.NOTHING_CHANGED, Reason.BELOW_THRESHOLD):
            decision = replace(put_off, time_s=seen.time_s)
            self._spoke_at_s = seen.time_s
        return decision

    def _decide(self, seen: Observation) -> Decision:
        if not seen.appended or seen.score is None:
            self._occurrence.over()
            return Decision(seen.time_s, False, Reason.NOTHING_CHANGED, None, self.threshold, None)
        settings = self._settings
        score = settings.platt_scale * seen.score + settings.platt_shift + (seen.log_p_assistant or 0.0)
        if not score >= self.threshold - settings.hysteresis:
            self._occurrence.over()
        if not score > self.threshold:
            reason = Reason.BELOW_THRESHOLD
        elif 0 <= seen.time_s - self._spoke_at_s < settings.refractory_s:
            reason = Reason.REFRACTORY
        else:
            reason = Reason.SPOKE
            self._spoke_at_s = seen.time_s
        probability = sigmoid(score + self.prior_log_odds)
        return Decision(seen.time_s, reason is Reason.SPOKE, reason, score, self.threshold, probability)

    def waits(self, decision: Decision, log_chance: float) -> bool:
        """Put a draft off where its words are less likely than `wait_below`, and it was not put off before."""
        if self._is_overdue or not math.exp(log_chance) < self._settings.wait_below:
            return False
        self._put_off = decision
        self.withdraw()
        return True

    def take_put_off(self) -> Decision | None:
        """The decision whose draft was put off; it is not put off again."""
        put_off, self._put_off = self._put_off, None
        self._is_overdue = put_off is not None
        return put_off

    def withdraw(self) -> None:
        """Call the last remark off; the next frame may have one."""
        self._spoke_at_s = -math.inf

    def veto(self, text: str) -> Reason | None:
        """Refuse empty words, and words already said about the occurrence that goes on."""
        return self._occurrence.refuse(text)


class ChangePolicy:
    """The stand-in: speak when the picture changes after quiet, and now and then while it goes on changing.

    The score is the share of changed cells. A change that begins is remarked on at once, unless the last remark is
    less than half of 1 / `remarks_per_s` ago; one that goes on, every 1 / `remarks_per_s`. Talkativeness shortens both
    times by its exponential.
    """

    needs_check = True
    LEVEL = 0.02
    """Share of changed cells at which something happens."""
    QUIET = 0.005
    """Share below which nothing does."""

    def __init__(self, settings: SpeakingSettings, *, talkativeness: float = 0.0) -> None:
        self._settings = settings
        self.tune(fps=settings.remarks_per_s, talkativeness=talkativeness)
        self.speak_above: float | None = None
        self.remark_check: str | None = None
        self._refractory_s = settings.refractory_s
        self._spoke_at_s = -math.inf
        self._quiet = True
        self._before = (self._spoke_at_s, self._quiet)
        self._not_before_s = -math.inf
        self._occurrence = _Occurrence()

    def tune(self, *, fps: float, talkativeness: float) -> None:
        """Set the talkativeness from the next frame on; the rate of frames does not matter here."""
        settings = self._settings
        between_s = math.exp(-talkativeness) / settings.remarks_per_s
        self._again_s = max(between_s, settings.refractory_s)
        self._at_most_every_s = max(between_s / 2, settings.refractory_s)

    def decide(self, seen: Observation) -> Decision:
        """Whether to speak about this frame."""
        share = seen.changed_share if seen.appended else 0.0
        if share < self.QUIET:
            self._quiet = True
            self._occurrence.over()
        if seen.time_s < self._spoke_at_s:
            self._spoke_at_s = self._not_before_s = -math.inf
        since_s = seen.time_s - self._spoke_at_s
        if share < self.LEVEL:
            reason = Reason.BELOW_THRESHOLD if seen.appended else Reason.NOTHING_CHANGED
        elif since_s < self._at_most_every_s or seen.time_s < self._not_before_s:
            reason = Reason.REFRACTORY
        elif not self._quiet and since_s < self._again_s:
            reason = Reason.SAME_CHANGE
        else:
            reason = Reason.SPOKE
            self._before = (self._spoke_at_s, self._quiet)
            self._spoke_at_s, self._quiet = seen.time_s, False
        return Decision(seen.time_s, reason is Reason.SPOKE, reason, share, self.LEVEL, None)

    def withdraw(self) -> None:
        """Call the last remark off: the change may still have one, after `refractory_s`."""
        self._not_before_s = self._spoke_at_s + self._refractory_s
        self._spoke_at_s, self._quiet = self._before

    def waits(self, decision: Decision, log_chance: float) -> bool:
        """False: this policy serves checkpoints whose probabilities were never measured."""
        return False

    def take_put_off(self) -> Decision | None:
        """None: nothing is ever put off."""
        return None

    def veto(self, text: str) -> Reason | None:
        """Refuse empty words, and words already said about the change that goes on."""
        return self._occurrence.refuse(text)


class DecisionCurve:
    """The latest decisions of a stream, silences too, and how often each reason came up since its start."""

    def __init__(self, length: int = CURVE_LENGTH) -> None:
        self._decisions: deque[Decision] = deque(maxlen=length)
        self._num_added = 0
        self._lock = threading.Lock()
        self.reasons: Counter[Reason] = Counter()

    def add(self, decision: Decision) -> None:
        """Append a decision."""
        with self._lock:
            self._decisions.append(decision)
            self._num_added += 1
        self.reasons[decision.reason] += 1

    @property
    def num_added(self) -> int:
        """Decisions so far."""
        return self._num_added

    def since(self, index: int) -> tuple[int, list[Decision]]:
        """The decisions from the one numbered `index` on, as far as they are kept, and the next number; any thread."""
        with self._lock:
            start = max(0, index - (self._num_added - len(self._decisions)))
            return self._num_added, list(itertools.islice(self._decisions, start, None))

    def amend(self, decision: Decision, reason: Reason) -> Decision:
        """Correct the last decision, whose remark was not said after all. Returns the corrected one."""
        self.reasons[decision.reason] -= 1
        self.reasons[reason] += 1
        amended = replace(decision, speak=False, reason=reason)
        with self._lock:
            if self._decisions and self._decisions[-1] is decision:
                self._decisions[-1] = amended
        return amended

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._decisions)

    def __len__(self) -> int:
        return len(self._decisions)


def policy_for(settings: SpeakingSettings, *, fps: float, talkativeness: float = 0.0) -> SpeakingPolicy:
    """The policy that a checkpoint's settings ask for. `fps` is how many frames a second are decided about."""
    if settings.decision == "trained":
        return CalibratedPolicy(settings, fps=fps, talkativeness=talkativeness)
    return ChangePolicy(settings, talkativeness=talkativeness)


def normalised(text: str) -> str:
    """Words for comparison: case, punctuation and spacing do not count."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())


def sigmoid(x: float) -> float:
    """The probability of log-odds, which may be of any size."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
