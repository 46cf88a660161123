"""Soak test: a simulated day of a camera, and a hundred restarts of a real server; checks growth and drift.

`python -m tests.faults.soak --hours 24` prints a summary as JSON, and exits with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from assistant.events import Comment, StatusEvent, StatusKind, StreamEvent
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig
from assistant.serving.contracts import ModelState
from assistant.serving.scheduler import Scheduler
from assistant.timeline.sink import ChannelSink
from assistant.timeline.store import Timeline
from assistant.timeline.upkeep import Retention
from tests.faults.day import DayCamera, DayClock, FrameEncoder, Taken
from tests.faults.lab import Lab, make_engine, wait_until
from tests.faults.vitals import Flatness, Vitals, flatness, take_vitals

RESTARTS_A_DAY = 100
MOST_GROWTH_MIB = 10.0
MOST_BAND_MIB = 30.0
MOST_MORE_FILES = 4
RATES = (0.7, 1.4)
"""Bounds of the number of remarks in the last third of the day, relative to the first third."""
MOST_MORE_REPEATED = 0.15
RECENT = 5
"""A remark counts as a repetition if one of this many previous remarks has the same text."""


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of camera time."""

    vitals: Vitals
    comments: int
    repeated: int
    vetoed: int
    reconnects: int
    gaps: int
    faults: int
    frames: int
    used: int
    timeline_mib: float
    wall_s: float
    """Real seconds that it took."""


@dataclass(slots=True)
class Tally:
    """Counts the events of the current hour."""

    counts: Counter[str] = field(default_factory=Counter)
    recent: list[str] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)

    def hear(self, event: StreamEvent) -> None:
        """Count an event; on the engine's thread."""
        if isinstance(event, Comment):
            self.counts["comments"] += 1
            self.counts["repeated"] += event.text in self.recent
            self.recent = [*self.recent, event.text][-RECENT:]
            self.texts[event.text] += 1
        elif isinstance(event, StatusEvent):
            self.counts[event.kind.value] += 1

    def take(self) -> Counter[str]:
        """Return the counts so far and reset them."""
        counts, self.counts = self.counts, Counter()
        return counts


def watch_a_day(hours: float, limit_s: float, fps: float = 1.0, seed: int = 1) -> dict[str, Any]:
    """Watch `hours` of camera time with the embedded checkpoint, or what fits into `limit_s` real seconds."""
    clock, tally = DayClock(), Tally()
    taken = Taken(clock)
    camera = DayCamera(clock, FrameEncoder(seed), taken, 24 * 3600 / RESTARTS_A_DAY, fps, random.Random(seed))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        timeline = Timeline(folder, clock=clock, retention=Retention(max_age_days=0.25))
        stack.callback(timeline.close)
        host = Scheduler(make_engine, clock=clock)
        stack.callback(host.stop)
        host.start()
        config = ChannelConfig(name="day", spec="day", fps=fps, keep_trying=True, frozen_after_s=60.0, talkative=0.5)
        sink = ChannelSink(timeline, "day", keeper=taken)
        channel = Channel(config, host, clock=clock, sinks=[sink], opener=camera.source, evidence=taken)
        channel.subscribe(tally.hear)
        wait_until(lambda: host.state is ModelState.READY, 240.0, "the model is loaded")
        channel.start()
        stack.callback(channel.stop)
        stack.callback(lambda: setattr(camera, "is_over", True))
        series = _hours(hours, limit_s, clock, camera, channel, tally, folder)
        unstored, lost = channel.snapshot().counts.num_unstored, timeline.num_lost
    return _summary(series, camera, tally, unstored + lost, clock.now_s())


def _hours(
    hours: float, limit_s: float, clock: DayClock, camera: DayCamera, channel: Channel, tally: Tally, folder: Path
) -> list[Hour]:
    """Measure the process at the end of each hour of camera time."""
    series: list[Hour] = []
    began_s = hour_began_s = time.monotonic()
    num_frames = num_used = 0
    while len(series) < hours and time.monotonic() - began_s < limit_s:
        due_s = 3600.0 * (len(series) + 1)
        while clock.now_s() < due_s and time.monotonic() - began_s < limit_s:
            time.sleep(0.2)
        if clock.now_s() < due_s:
            break
        gc.collect()
        counts, seen = tally.take(), channel.snapshot()
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        hour = Hour(
            vitals=take_vitals(),
            comments=counts["comments"],
            repeated=counts["repeated"],
            vetoed=counts[StatusKind.VETOED.value],
            reconnects=counts[StatusKind.RECONNECTING.value],
            gaps=counts[StatusKind.GAP.value],
            faults=counts[StatusKind.FAULT.value] + counts[StatusKind.BROKEN.value],
            frames=camera.num_frames - num_frames,
            used=seen.counts.num_used - num_used,
            timeline_mib=round(size / 2**20, 2),
            wall_s=round(time.monotonic() - hour_began_s, 1),
        )
        num_frames, num_used, hour_began_s = camera.num_frames, seen.counts.num_used, time.monotonic()
        series.append(hour)
        print(f"hour {len(series)}: {hour}", file=sys.stderr, flush=True)
    return series


def _summary(series: list[Hour], camera: DayCamera, tally: Tally, num_lost: int, day_s: float) -> dict[str, Any]:
    if len(series) < 6:
        return {"held": False, "hours": len(series), "why": "too few hours to judge by: six are the least"}
    flat = flatness([hour.vitals for hour in series])
    third = len(series) // 3
    first, last = (_talk(part) for part in (series[:third], series[-third:]))
    ratio = last["a_hour"] / max(first["a_hour"], 1e-9)
    kept = {
        **flat_bounds(flat),
        "remarks_do_not_drift": RATES[0] <= ratio <= RATES[1],
        "repetition_does_not_drift": abs(last["repeated_share"] - first["repeated_share"]) <= MOST_MORE_REPEATED,
        "no_step_failed": not sum(hour.faults for hour in series),
        "no_event_lost": num_lost == 0,
        "timeline_bounded": series[-1].timeline_mib <= 1.3 * max(hour.timeline_mib for hour in series[: 2 * third]),
    }
    wall_s = sum(hour.wall_s for hour in series)
    return {
        "held": all(kept.values()),
        "hours": len(series),
        "wall_minutes": round(wall_s / 60, 1),
        "times_real_speed": round(3600 * len(series) / wall_s, 1),
        "frames": sum(hour.frames for hour in series),
        "frames_used": sum(hour.used for hour in series),
        "connections": camera.num_connections,
        "attempts_said": sum(hour.reconnects for hour in series),
        "gaps_said": sum(hour.gaps for hour in series),
        "remarks": {"first_third": first, "last_third": last, "ratio": round(ratio, 3), "texts": len(tally.texts)},
        "process": asdict(flat) | {"growth_mib": flat.growth_mib},
        "timeline_mib": series[-1].timeline_mib,
        "bounds": kept,
    }


def flat_bounds(flat: Flatness) -> dict[str, bool]:
    """Whether memory, threads and open files stayed within their bounds."""
    return {
        "memory_flat": flat.growth_mib <= MOST_GROWTH_MIB and flat.rss_most_mib - flat.rss_first_mib <= MOST_BAND_MIB,
        "threads_flat": flat.threads[1] - flat.threads[0] <= 2,
        "files_flat": flat.files[1] - flat.files[0] <= MOST_MORE_FILES,
    }


def _talk(part: list[Hour]) -> dict[str, float]:
    comments = sum(hour.comments for hour in part)
    repeated = sum(hour.repeated for hour in part)
    return {
        "a_hour": round(comments / len(part), 2),
        "repeated_share": round(repeated / max(1, comments), 3),
        "vetoed": sum(hour.vetoed for hour in part),
    }


def restart_often(times: int) -> dict[str, Any]:
    """Kill and restart a watched real RTSP server a number of times."""
    looks: list[Vitals] = []
    back_s: list[float] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, Lab(Path(folder)) as lab:
        server = lab.camera()
        door = lab.watch("door", server.url())
        door.wait_seen(3, 30.0)
        for number in range(times):
            mark = door.mark
            server.kill()
            door.wait_for(StatusKind.RECONNECTING, 5.0, mark)
            server.start()
            began_s = time.monotonic()
            door.wait_for(StatusKind.GAP, 20.0, mark)
            door.wait_seen(1, 20.0)
            back_s.append(time.monotonic() - began_s)
            if number % 5 == 4:
                gc.collect()
                looks.append(_beside_the_cache(take_vitals(), lab))
                print(f"restart {number + 1}: {looks[-1]}", file=sys.stderr, flush=True)
        faults = len(door.said(StatusKind.FAULT))
        sessions = len(lab.trouble.sessions)
        cache_mib = _cache_mib(lab)
    flat = flatness(looks)
    kept = {**flat_bounds(flat), "no_step_failed": not faults, "memory_kept": sessions == 1}
    back_s.sort()
    return {
        "held": all(kept.values()),
        "restarts": times,
        "seen_again_after_s": {"median": round(back_s[len(back_s) // 2], 2), "most": round(back_s[-1], 2)},
        "process_beside_the_cache": asdict(flat) | {"growth_mib": flat.growth_mib},
        "cache_mib": cache_mib,
        "bounds": kept,
    }


def _beside_the_cache(look: Vitals, lab: Lab) -> Vitals:
    """A measurement without the session's KV cache, which fills up to its bound meanwhile."""
    return replace(look, rss_mib=round(look.rss_mib - _cache_mib(lab), 1))


def _cache_mib(lab: Lab) -> float:
    return round(lab.trouble.sessions[0].usage.cache_bytes / 2**20, 1)


def main() -> int:
    """Run both parts, or one."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--hours", type=int, default=24, help="of camera time; 0 leaves this part out")
    parser.add_argument("--fps", type=float, default=1.0, help="frames a second of the camera")
    parser.add_argument("--restarts", type=int, default=100, help="of a real server; 0 leaves this part out")
    parser.add_argument("--limit-minutes", type=float, default=600.0, help="of our time for the hours")
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    parts: dict[str, Any] = {}
    if arguments.restarts:
        parts["restarts"] = restart_often(arguments.restarts)
    if arguments.hours:
        parts["day"] = watch_a_day(arguments.hours, 60 * arguments.limit_minutes, arguments.fps)
    held = all(part["held"] for part in parts.values())
    print(json.dumps({"held": held, **parts}, indent=1))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
