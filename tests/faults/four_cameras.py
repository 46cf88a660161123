"""Four cameras on one model: two good ones, one that hangs repeatedly, one that floods; bounds are checked.

`python -m tests.faults.four_cameras --minutes 30` prints a summary as JSON, and exits with 1 if a bound is exceeded.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assistant.events import StatusEvent, StatusKind
from assistant.serving.channel_types import ChannelSnapshot
from tests.faults.lab import Lab, Watched
from tests.faults.soak import flat_bounds
from tests.faults.vitals import Vitals, flatness, take_vitals
from tests.streaming.rtsp import RtspServer

GOOD, HANGING, FLOODING = ("door", "yard"), "cellar", "street"
READ_S = 3.0
MOST_WAIT_S = 1.0
"""Most seconds from a good camera's picture to the model's work on it, 99th percentile: one pass of each other camera
for each of its own, and the machine's own delay."""
MOST_AGE_S = 3.0
"""Largest age of a good camera's newest seen frame, 99th percentile, seconds, besides its own interval."""
LEAST_SHARE = 0.85
"""Least fraction of the rate set by the rate controller at which each good camera must be seen."""
MOST_SAID_S = READ_S + 2.0
"""Most seconds from the start of a hang to the event that reports it."""
WORKS_S, HANGS_S = 20.0, 40.0
_LOOK_S = 0.1
_VITALS_EVERY_S = 15.0


@dataclass(slots=True)
class AttentionTargets:
    """Measurements of one camera, sampled ten times per second."""

    waits_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    wanted: float = 0.0
    """Number of frames that the rate controller allowed over the time."""
    first: ChannelSnapshot | None = None
    last: ChannelSnapshot | None = None

    def add(self, now: ChannelSnapshot, passed_s: float) -> None:
        """Add a sample; the wait of a frame is counted once."""
        if self.last is not None and now.counts.num_sampled > self.last.counts.num_sampled:
            self.waits_s.append(now.delays_ms.queue / 1000)
        if now.newest_seen_age_s is not None:
            self.ages_s.append(now.newest_seen_age_s - 1 / (now.rates.fps_wanted * now.rates.factor))
        self.wanted += passed_s * now.rates.fps_wanted * now.rates.factor
        self.first, self.last = self.first or now, now

    @property
    def seen(self) -> int:
        """Number of frames that the model saw."""
        return self.last.counts.num_sampled - self.first.counts.num_sampled if self.first and self.last else 0

    def as_dict(self) -> dict[str, float | int]:
        """The measurements as values for JSON."""
        assert self.last is not None
        return {
            "frames_seen": self.seen,
            "share_of_the_rate": round(self.seen / max(self.wanted, 1.0), 3),
            "wait_ms_median": round(1000 * _quantile(self.waits_s, 0.5), 1),
            "wait_ms_p99": round(1000 * _quantile(self.waits_s, 0.99), 1),
            "wait_ms_most": round(1000 * max(self.waits_s, default=0.0), 1),
            "age_s_p99": round(_quantile(self.ages_s, 0.99), 2),
            "dropped": self.last.counts.num_dropped,
            "reconnects": self.last.source.num_reconnects,
            "faults": self.last.counts.num_faults,
        }


class Hanging(threading.Thread):
    """Stops a camera's process repeatedly, and notes when."""

    def __init__(self, server: RtspServer) -> None:
        super().__init__(name="hanging")
        self._server = server
        self.over = threading.Event()
        self.hung_at_s: list[float] = []

    def run(self) -> None:
        """Run until `over` is set."""
        while not self.over.wait(WORKS_S):
            self._server.freeze()
            self.hung_at_s.append(time.monotonic())
            self.over.wait(HANGS_S)
            self._server.resume()


def watch_four(minutes: float) -> dict[str, Any]:
    """Watch the four cameras for a time, and check the bounds."""
    with tempfile.TemporaryDirectory(prefix="four-") as folder, Lab(Path(folder)) as lab:
        usual = ("--width", "320", "--height", "240", "--fps", "10")
        servers = {name: lab.camera(*usual) for name in (*GOOD, HANGING)}
        servers[FLOODING] = lab.camera("--width", "320", "--height", "240", "--fps", "30", "--pattern", "snow")
        cameras = {
            name: lab.watch(name, server.url(), read_timeout_s=READ_S, fps=15.0 if name == FLOODING else None)
            for name, server in servers.items()
        }
        for camera in cameras.values():
            camera.wait_seen(3, 90.0)
        hanging = Hanging(servers[HANGING])
        hanging.start()
        try:
            looks, vitals = _look(cameras, 60 * minutes)
        finally:
            hanging.over.set()
            hanging.join(HANGS_S)
        said_s = _said_after(cameras[HANGING], hanging.hung_at_s)
        rates = _rates(cameras)
        lost = lab.timeline.num_lost + sum(camera.now.counts.num_unstored for camera in cameras.values())
    return _judge(minutes, looks, vitals, said_s, len(hanging.hung_at_s), rates, lost)


def _look(cameras: dict[str, Watched], seconds: float) -> tuple[dict[str, AttentionTargets], list[Vitals]]:
    looks = {name: AttentionTargets() for name in cameras}
    vitals: list[Vitals] = []
    began_s = looked_at_s = time.monotonic()
    while (now_s := time.monotonic()) - began_s < seconds:
        for name, camera in cameras.items():
            looks[name].add(camera.now, now_s - looked_at_s)
        looked_at_s = now_s
        if now_s - began_s >= _VITALS_EVERY_S * len(vitals):
            gc.collect()
            vitals.append(take_vitals())
            if len(vitals) % 8 == 0:
                print(f"{now_s - began_s:.0f} s: {vitals[-1]}, {looks[GOOD[0]].as_dict()}", file=sys.stderr, flush=True)
        time.sleep(_LOOK_S)
    return looks, vitals


def _said_after(camera: Watched, hung_at_s: Sequence[float]) -> list[float]:
    """For each hang, seconds until an event reported it; infinity if none did."""
    said_at_s = [
        at_s
        for at_s, event in camera.events
        if isinstance(event, StatusEvent) and event.kind is StatusKind.RECONNECTING
    ]
    return [min((at_s - hung_s for at_s in said_at_s if at_s > hung_s), default=np.inf) for hung_s in hung_at_s]


def _rates(cameras: dict[str, Watched]) -> dict[str, list[float]]:
    """The rate factors that each camera's events reported, in order."""
    return {
        name: [float(event.details["factor"]) for event in camera.said(StatusKind.RATE)]
        for name, camera in cameras.items()
    }


def _judge(
    minutes: float,
    looks: dict[str, AttentionTargets],
    vitals: list[Vitals],
    said_s: list[float],
    num_hangs: int,
    rates: dict[str, list[float]],
    lost: int,
) -> dict[str, Any]:
    good = [looks[name] for name in GOOD]
    flat = flatness(vitals)
    in_time = [after_s for after_s in said_s if after_s <= MOST_SAID_S]
    kept = {
        "good_cameras_wait_little": all(_quantile(look.waits_s, 0.99) <= MOST_WAIT_S for look in good),
        "good_cameras_are_fresh": all(_quantile(look.ages_s, 0.99) <= MOST_AGE_S for look in good),
        "good_cameras_keep_their_rate": all(look.seen >= LEAST_SHARE * look.wanted for look in good),
        "good_cameras_never_reconnect": all(
            look.last is not None and not look.last.source.num_reconnects for look in good
        ),
        # The end of the run may cut the last hang short.
        "hanging_is_said_in_time": len(in_time) >= num_hangs - 1 and num_hangs > 0,
        "rates_are_lowered_alike": len({tuple(factors) for factors in rates.values()}) == 1,
        "no_step_failed": not any(look.last is None or look.last.counts.num_faults for look in looks.values()),
        "no_event_lost": lost == 0,
        **flat_bounds(flat),
    }
    factors = Counter(factor for factor in rates[FLOODING])
    return {
        "held": all(kept.values()),
        "minutes": minutes,
        "processors": os.cpu_count(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "bounds_s": {"wait_p99": MOST_WAIT_S, "age_p99": MOST_AGE_S, "hang_said": MOST_SAID_S},
        "cameras": {name: look.as_dict() for name, look in looks.items()},
        "hangs": num_hangs,
        "hang_said_after_s_most": round(max(in_time, default=np.inf), 2),
        "rate_factors_told": {str(factor): times for factor, times in sorted(factors.items())},
        "process": asdict(flat) | {"growth_mib": flat.growth_mib},
        "bounds": kept,
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share)) if values else 0.0


def main() -> int:
    """Watch, print the summary, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.four_cameras", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())
    summary = watch_four(arguments.minutes)
    print(json.dumps(summary, indent=1))
    return 0 if summary["held"] else 1


if __name__ == "__main__":
    sys.exit(main())
