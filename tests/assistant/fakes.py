"""Scripted stand-ins for the model's side and for capture, made so that a test reads like a story."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np

from assistant.events import Alert, Answer, Comment, StatusEvent, StreamEvent
from models.errors import ModelError, SessionError, SettingsError
from models.eviction import Eviction, WindowSettings
from models.session.results import Check, Sight
from models.session.steps import Forward, Output, Pause, StepGenerator, Steps, TextPiece, as_steps
from models.session.turns import Utterance
from streaming.clock import FakeClock
from streaming.difffp.cells import CellGrid, Kind, Pruning
from streaming.types import Frame, Notice, NoticeKind

T = TypeVar("T")

GRID = CellGrid(rows=2, cols=5)
A_FORWARD = Forward(cache=cast(Any, None), embeddings=cast(Any, None))
AN_OUTPUT = Output(logits=cast(Any, None), elapsed_ms=1.0)


def frame(pts_s: float, *, captured_at_s: float = 0.0, source: str = "clip.mp4") -> Frame:
    """A frame of a recording at 30 fps."""
    return Frame(np.zeros((4, 4, 3), np.uint8), round(pts_s * 30), pts_s, captured_at_s, source)


def notice(kind: NoticeKind, pts_s: float = 0.0, count: int = 0, **details: Any) -> Notice:
    """A notice that says its own name."""
    return Notice(kind, "clip.mp4", pts_s, f"it {kind.value}", count, details)


@dataclass
class Look:
    """What the model makes of one frame."""

    score: float | None = None
    changed: int = 1
    """Cells that changed, of ten; none at all and the frame is not appended."""
    refreshed: int = 0
    log_p: float | None = None
    evictions: Sequence[Eviction] = ()
    rebased: bool = False
    grid_changed: bool = False
    widened: WindowSettings | None = None

    def sight(self, seen: Frame) -> Sight:
        changed = np.arange(GRID.num_cells) < self.changed
        refreshed = ~changed & (np.arange(GRID.num_cells) >= GRID.num_cells - self.refreshed)
        appended = bool(changed.any() or refreshed.any())
        kind = Kind.CHANGED if appended else Kind.SKIPPED
        return Sight(
            appended=appended,
            kind=kind,
            pruning=Pruning(changed | refreshed, changed, refreshed, kind, 0.5),
            grid=GRID,
            time_s=seen.pts_s,
            shown_time_s=seen.pts_s,
            score=self.score if appended else None,
            log_p_assistant=self.log_p if appended else None,
            num_tokens=int(appended),
            evictions=tuple(self.evictions),
            rebased=self.rebased,
            grid_changed=self.grid_changed,
            widened=self.widened,
        )


def eviction(num_tokens: int) -> Eviction:
    """Tokens that left."""
    return Eviction(np.arange(3), num_tokens, 2, 1, "vision window over its high watermark")


@dataclass
class FakeModel:
    """A model session that follows a script and notes what it was asked for, in order."""

    looks: dict[float, Look] = field(default_factory=dict)
    """By media time; others show a change with no score."""
    remarks: deque[str] = field(default_factory=deque)
    answers: dict[str, str] = field(default_factory=dict)
    checks: deque[bool] = field(default_factory=deque)
    hot: np.ndarray = field(default_factory=lambda: np.zeros(GRID.num_cells, bool))
    truncates: bool = False
    late_evictions: Sequence[Eviction] = ()
    """What left memory after the last frame."""
    most_fps: float = 30.0
    longest_instruction: int = 1000
    refuses: ModelError | None = None
    """What is wrong with whatever it is shown."""
    num_openings: int = 0
    """Forward passes before the first word of a turn, besides its own."""
    calls: list[str] = field(default_factory=list)
    thresholds: list[float | None] = field(default_factory=list)
    _under_way: list[str] | None = None

    def check_size(self, width_px: int, height_px: int) -> None:
        if self.refuses is not None:
            raise self.refuses

    def check_instruction(self, text: str | None) -> None:
        if text and len(text) > self.longest_instruction:
            raise SessionError(f"instruction of {len(text)} tokens: at most {self.longest_instruction} fit; shorten it")

    @as_steps
    def see(self, frame: Frame, *, speak_above: float | None = None) -> StepGenerator[Sight]:
        assert self._under_way is None, "a turn was left open"
        self.calls.append(f"see {frame.pts_s:g}")
        self.thresholds.append(speak_above)
        yield A_FORWARD
        return self.looks.get(frame.pts_s, Look()).sight(frame)

    @as_steps
    def comment(self) -> StepGenerator[Utterance]:
        self.calls.append("comment")
        return (yield from self._say(self.remarks.popleft() if self.remarks else "Something moves."))

    @as_steps
    def answer(
        self, question: str, attachments: Sequence[Any] = (), *, aside: bool = False
    ) -> StepGenerator[Utterance]:
        self.calls.append(f"answer {question}" + " aside" * aside + f" with {len(attachments)}" * bool(attachments))
        return (yield from self._say(self.answers.get(question, "Yes.")))

    @as_steps
    def encode(self, attachments: Sequence[Any]) -> StepGenerator[Sequence[Any]]:
        self.calls.append(f"encode {len(attachments)}")
        for _ in attachments:
            yield Pause()
        return tuple(attachments)

    @as_steps
    def check(self, question: str) -> StepGenerator[Check]:
        self.calls.append(f"check {question}")
        yield A_FORWARD
        yes = self.checks.popleft()
        return Check(yes, 1.0 if yes else -1.0)

    @as_steps
    def instruct(self, text: str | None) -> StepGenerator[None]:
        self.check_instruction(text)
        self.calls.append(f"instruct {text}")
        yield A_FORWARD

    @as_steps
    def forget(self) -> StepGenerator[None]:
        self.calls.append("forget")
        yield A_FORWARD

    @as_steps
    def expect(self, fps: float) -> StepGenerator[None]:
        self.calls.append(f"expect {fps:g}")
        yield A_FORWARD
        if fps > self.most_fps:
            raise SettingsError(f"fps {fps:g}: at most {self.most_fps:g} here; lower fps")

    @as_steps
    def note_gap(self, seconds: float) -> StepGenerator[None]:
        self.calls.append(f"gap {seconds:g}")
        yield A_FORWARD

    @as_steps
    def cut(self) -> StepGenerator[Utterance | None]:
        self.calls.append("cut")
        yield A_FORWARD
        said, self._under_way = self._under_way, None
        return self._utterance(said, cut=True) if said else None

    @as_steps
    def retract(self) -> StepGenerator[None]:
        self.calls.append("retract")
        yield A_FORWARD

    def take_evictions(self) -> tuple[Eviction, ...]:
        late, self.late_evictions = tuple(self.late_evictions), ()
        return late

    @property
    def remembered_s(self) -> float:
        return 60.0

    @property
    def fitter(self) -> Callable[[Frame], Frame]:
        return lambda frame: frame

    def hot_cells(self) -> np.ndarray:
        return self.hot

    @as_steps
    def _say(self, text: str) -> StepGenerator[Utterance]:
        self._under_way = []
        for _ in range(self.num_openings):
            yield A_FORWARD
        for number, word in enumerate(text.split(" ")):
            yield A_FORWARD
            piece = f" {word}" if number else word
            self._under_way.append(piece)
            yield TextPiece(piece)
        said, self._under_way = self._under_way, None
        return self._utterance(said, cut=False)

    def _utterance(self, said: Sequence[str], *, cut: bool) -> Utterance:
        return Utterance("".join(said), tuple(range(len(said))), -1.0, self.truncates, cut, None)


@dataclass
class FakeEngine:
    """Drives steps; each forward pass takes `forward_s` of the clock and may be listened to."""

    clock: FakeClock
    forward_s: float = 0.0
    on_forward: Callable[[], None] = lambda: None
    num_forwards: int = 0

    def run(self, steps: Steps[T]) -> T:
        output: Output | None = None
        try:
            while True:
                request = steps.send(output)
                output = None
                if isinstance(request, Forward):
                    self.num_forwards += 1
                    self.clock.advance(self.forward_s)
                    self.on_forward()
                    output = AN_OUTPUT
        except StopIteration as stop:
            return cast(T, stop.value)


class FakeFeed:
    """Items in order; an exception among them is raised in its turn, a callable is called."""

    def __init__(self, items: Iterable[Frame | Notice | Exception | Callable[[], None] | None]) -> None:
        self._items = deque(items)

    @property
    def is_drained(self) -> bool:
        return not self._items

    def get(self, timeout_s: float | None = None) -> Frame | Notice | None:
        while self._items:
            item = self._items.popleft()
            if isinstance(item, Exception):
                raise item
            if item is None or isinstance(item, Frame | Notice):
                return item
            item()
        return None


class FakeSink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[StreamEvent] = []
        self.closed = 0

    def append(self, event: StreamEvent) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1

    def comments(self) -> list[Comment]:
        return [event for event in self.events if isinstance(event, Comment)]

    def answers(self) -> list[Answer]:
        return [event for event in self.events if isinstance(event, Answer)]

    def alerts(self) -> list[Alert]:
        return [event for event in self.events if isinstance(event, Alert)]

    def statuses(self) -> list[StatusEvent]:
        return [event for event in self.events if isinstance(event, StatusEvent)]

    def kinds(self) -> list[str]:
        """Status kinds and the types of the rest, in order."""
        return [event.kind.value if isinstance(event, StatusEvent) else event.type for event in self.events]
