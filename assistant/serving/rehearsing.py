"""Rehearses a rule on the pictures that are kept of a stream's last minutes, beside the streams. Any thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant.errors import ConfigError
from assistant.rules.rehearsal import Rehearsal
from assistant.rules.rule_watch import ArmedRule, RuleWatch
from assistant.serving.live_rehearsal import LiveRehearsal
from assistant.serving.memory_budget import MemoryNeed
from assistant.stream.open_stream import StreamOptions, open_model_session
from models.session.steps import StepGenerator, as_steps
from streaming.masks import MaskRegion
from streaming.types import Frame

if TYPE_CHECKING:
    from assistant.events import StreamEvent
    from assistant.evidence import EvidenceFrame, EvidenceKeeper
    from assistant.serving.contracts import ModelEngine
    from assistant.serving.scheduler import Scheduler
    from models.checkpoint.settings import StreamSettings
    from streaming.clock import Clock

LAST_S = 120.0
"""Media seconds that are rehearsed, at most."""
FEWEST_FRAMES = 4


def last_frames(keeper: EvidenceKeeper, last_s: float = LAST_S) -> list[EvidenceFrame]:
    """The thumbnails of the last seconds of a stream, oldest first, since it was last sought or began anew."""
    newest = keeper.newest()
    if newest is None:
        return []
    found: list[EvidenceFrame] = []
    for kept in reversed(keeper.around(newest.time_s, math.inf, math.inf)):
        if kept.time_s < newest.time_s - last_s or (found and kept.time_s >= found[-1].time_s):
            break
        found.append(kept)
    return found[::-1]


def rehearse(
    scheduler: Scheduler,
    clock: Clock,
    frames: Sequence[EvidenceFrame],
    armed: ArmedRule,
    settings: StreamSettings,
    options: StreamOptions,
    *,
    source: str,
) -> LiveRehearsal:
    """Show thumbnails to a session of its own and ask it about a rule after each.

    Raises `ConfigError` where there are too few, and `TooManyQuestions` where too much waits for the model.
    """
    if len(frames) < FEWEST_FRAMES:
        raise ConfigError(
            f"rule {armed.rule.name}: {len(frames)} pictures are kept of {source}; a rehearsal needs {FEWEST_FRAMES}; "
            "try again once it was watched for some seconds"
        )
    under_way = LiveRehearsal(Rehearsal(armed.rule), source, len(frames), armed.condition.is_taught)

    def ignored(event: StreamEvent) -> None:
        """Nobody is told of a rehearsal's alerts."""

    @as_steps
    def watch(engine: ModelEngine) -> StepGenerator[None]:
        session: Any = open_model_session(engine, settings, options)
        rules = RuleWatch(clock, ignored, lambda rule, judged: under_way.rehearsal.curve.append(judged))
        rules.set_rules([armed])
        for kept in frames:
            if under_way.is_cancelled:
                return
            frame = Frame(kept.image(), kept.frame_index, kept.time_s, clock.now_s(), source)
            sight = yield from session.see(frame)
            yield from rules.on_sight(session, frame, sight)
            under_way.num_done += 1

    def size(engine: ModelEngine) -> MemoryNeed:
        return MemoryNeed(engine.session_bytes(settings), engine.working_bytes(settings))

    under_way.future = scheduler.submit(watch, size=size, name="a rehearsal")
    return under_way


def on_thumbnails(armed: ArmedRule, width_px: int, height_px: int) -> ArmedRule:
    """A rule whose zone fits pictures of any size; width_px, height_px: those of the stream."""
    region = armed.region
    if region is None or region.units == "relative" or not (width_px and height_px):
        return armed
    points = tuple((min(1.0, x / width_px), min(1.0, y / height_px)) for x, y in region.points)
    return replace(armed, region=MaskRegion(points))
