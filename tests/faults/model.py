"""Faults of the model: a step that raises ends only its own job, one that hangs is detected, no queue grows."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

from assistant.cameras.monitor import health
from assistant.events import StatusKind
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelState
from assistant.serving.contracts import ModelState
from assistant.serving.scheduler import Scheduler
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, Watched, hold, wait_until


def _two_cameras(lab: Lab, **host_options: float) -> tuple[Watched, Watched]:
    lab.host(**host_options)
    door = lab.watch("door", lab.camera().url())
    door.wait_seen(2, 20.0)
    yard = lab.watch("yard", lab.camera().url())
    yard.wait_seen(4, 20.0)
    return door, yard


@FAULTS.add("""said on that camera as a status event; its memory is kept; the other camera does not notice; it is
    watched on by itself""")
def step_raises(lab: Lab) -> Measured:
    """One forward pass of one camera fails for lack of memory."""
    door, yard = _two_cameras(lab)
    cache = lab.trouble.sessions[0].context.cache
    num_raised = 0

    def raise_once(of: Any) -> None:
        nonlocal num_raised
        if of is cache and num_raised < 2:
            num_raised += 1
            raise RuntimeError("out of memory: tried to allocate 2.00 GiB")

    num_yard, began_s = yard.now.counts.num_sampled, time.monotonic()
    lab.trouble.before_pass = raise_once
    fault, took_s = door.wait_for(StatusKind.FAULT, 5.0)
    hold("out of memory" in fault.text, f"it was said as: {fault.text}")
    wait_until(lambda: num_raised == 2, 5.0, "it was tried again, and failed again")
    door.wait_seen(4, 10.0)
    fps = yard.keeps_rate(num_yard, time.monotonic() - began_s)
    hold(not yard.said(StatusKind.FAULT), "the other camera was told of it")
    hold(len(lab.trouble.sessions) == 2, "its memory was given up")
    num_told = len(door.said(StatusKind.FAULT))
    return {"said_after_s": round(took_s, 2), "times_told": num_told, "other_fps": round(fps, 2)}


@FAULTS.add("""after three in a row the session's memory is given up, and said to be; pauses between attempts grow; the
    other camera does not notice; once the cause is gone it is watched on by itself""")
def steps_keep_raising(lab: Lab) -> Measured:
    """Every pass of one camera's session fails until the camera gets a new session."""
    door, yard = _two_cameras(lab)
    spoiled = lab.trouble.sessions[0].context.cache

    def spoil(cache: Any) -> None:
        if cache is spoiled:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`")

    num_yard, began_s = yard.now.counts.num_sampled, time.monotonic()
    lab.trouble.before_pass = spoil
    wait_until(lambda: len(door.said(StatusKind.FAULT)) >= 3, 15.0, "three faults are said")
    door.wait_seen(4, 10.0)
    fps = yard.keeps_rate(num_yard, time.monotonic() - began_s)
    faults = door.said(StatusKind.FAULT)
    pauses_s = [float(fault.details["pause_s"]) for fault in faults]
    hold(pauses_s == sorted(pauses_s) and pauses_s[0] < pauses_s[-1], f"the pauses were {pauses_s} s")
    hold("given up" in faults[-1].text, f"the last was said as: {faults[-1].text}")
    took_s = time.monotonic() - began_s
    return {"times_told": len(faults), "other_fps": round(fps, 2), "recovered_after_s": round(took_s, 1)}


@FAULTS.add("""the model has failed within a second, so has each camera, with its reason; health says that the program
    is down, and questions are answered with the reason""")
def device_breaks(lab: Lab) -> Measured:
    """One forward pass ends with a device error that only a new process repairs."""
    door, yard = _two_cameras(lab)

    def break_(_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    lab.trouble.before_pass = break_
    took_s = wait_until(lambda: lab.host().state is ModelState.FAILED, 10.0, "the model has failed")
    for watched in (door, yard):
        broken, _ = watched.wait_for(StatusKind.BROKEN, 5.0)
        hold("new process" in broken.text and "\n" not in broken.text, f"it was said as: {broken.text}")
        wait_until(partial(_has_failed, watched), 5.0, "it is shown as failed")
        why = str(watched.channel.ask("What is there?").future.exception(1.0))
        hold("new process" in why, f"a question was answered with: {why}")
    alive, facts = health(lab.host(), _Shown(door, yard), None)
    hold(not alive and facts["status"] == "down", f"health is {facts}")
    return {"failed_after_s": round(took_s, 2)}


def _has_failed(watched: Watched) -> bool:
    return watched.now.state is ChannelState.FAILED


class _Shown:
    """Two cameras, as the health check reads them."""

    restart_needed = ()

    def __init__(self, *watched: Watched) -> None:
        self._watched = watched

    def snapshots(self) -> list[Any]:
        """The current state of each camera."""
        return [watched.now for watched in self._watched]


@FAULTS.add(
    """seen within its limit (1 s here, 30 s usually) and said on every camera; capture goes on, and when the
    step returns the newest frames are seen, no backlog""",
    quick=True,
)
def step_hangs(lab: Lab) -> Measured:
    """One forward pass takes four seconds."""
    door, yard = _two_cameras(lab, stalled_s=1.0)
    release, hung = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        lab.trouble.before_pass = lambda _: None
        hung.set()
        release.wait(30.0)

    lab.trouble.before_pass = hang
    hung.wait(5.0)
    began_s = time.monotonic()
    num_read = door.now.counts.num_read
    took_s = max(watched.wait_for(StatusKind.STALLED, 1.0 + 2.5)[1] for watched in (door, yard))
    hold(lab.host().state is ModelState.STALLED, f"the host's state is {lab.host().state}")
    time.sleep(max(0.0, 4.0 - (time.monotonic() - began_s)))
    num_read = door.now.counts.num_read - num_read
    hold(num_read >= 50, f"{num_read} pictures were read in four seconds; the camera sent 80")
    release.set()
    wait_until(lambda: len(door.said(StatusKind.STALLED)) == 2, 5.0, "its end is said")
    door.wait_seen(2, 10.0)
    time.sleep(1.0)
    age_s = door.now.newest_seen_age_s
    hold(age_s is not None and age_s < 1.5, f"the newest frame seen is {age_s} s old")
    return {"said_after_s": round(took_s, 2), "pictures_read": num_read, "age_after_s": round(age_s or 0.0, 2)}


@FAULTS.add("each channel says so in one line and is shown as failed; stopping works", rtsp=False)
def model_does_not_load(lab: Lab) -> Measured:
    """The checkpoint does not exist."""

    def load() -> Any:
        raise OSError("models/nowhere: there is no such checkpoint")

    host = Scheduler(load, clock=lab.clock)
    channel = Channel(ChannelConfig(name="door", spec="synthetic:1"), host, clock=lab.clock)
    watched = Watched(channel)
    channel.start()
    host.start()
    try:
        took_s = wait_until(lambda: host.state is ModelState.FAILED, 5.0, "the host has failed")
        broken, _ = watched.wait_for(StatusKind.BROKEN, 5.0)
        hold("no such checkpoint" in broken.text and "\n" not in broken.text, f"it was said as: {broken.text}")
        wait_until(lambda: watched.now.state is ChannelState.FAILED, 5.0, "the channel is shown as failed")
    finally:
        hold(channel.stop(10.0), "the channel did not stop within ten seconds")
        hold(host.stop(10.0), "the host did not stop within ten seconds")
    return {"said_after_s": round(took_s, 2)}
