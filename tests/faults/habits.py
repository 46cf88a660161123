"""Common quirks of cameras and web servers: late key frames, wrong timestamps, loops, encrypted playlists."""

from __future__ import annotations

import time

import numpy as np

from assistant.events import StatusKind
from assistant.serving.channel_types import ChannelState
from streaming.network_policy import NetworkPolicy
from streaming.sources.base import SourceOptions
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, Watched, hold
from tests.streaming.http_server import WebServer
from tests.streaming.rtsp_habits import HabitCamera, Habits
from tests.streaming.test_hls import KINDS, write_list

_RNG = np.random.default_rng(5)
_GROUND = np.repeat(_RNG.integers(90, 150, (120, 160, 1), dtype=np.uint8), 3, axis=2)


def _film(num_pictures: int, *, moves: bool = True) -> list[np.ndarray]:
    """Pictures of a patch that moves to and fro over a still background."""
    pictures = [_GROUND.copy() for _ in range(num_pictures)]
    for number, picture in enumerate(pictures if moves else []):
        left = 8 + abs(number - num_pictures // 2) * 2
        picture[40:70, left : left + 30] = (205, 40, 40)
    return pictures


def _late_key(lab: Lab, *, with_sets: bool) -> Measured:
    camera = lab.enter(HabitCamera(_film(100), Habits(with_sets=with_sets, gop=100, begin=40)))
    door = lab.watch("door", camera.url)
    began_s = time.monotonic()
    door.wait_seen(3, 25.0)
    hold(not door.said(StatusKind.RECONNECTING), "it was given up before its first key frame")
    hold(not door.said(StatusKind.DAMAGED), "what came before the first key frame was called damaged")
    return {
        "seen_after_s": round(time.monotonic() - began_s, 2),
        "size": f"{door.now.source.width_px} x {door.now.source.height_px}",
    }


_LATE_KEY = "its first key frame is waited for, 30 s at most; nothing is called lost or damaged meanwhile"


@FAULTS.add(_LATE_KEY, rtsp=False)
def key_frame_late_without_sets(lab: Lab) -> Measured:
    """An RTSP stream without parameter sets, whose first key frame comes after six seconds."""
    return _late_key(lab, with_sets=False)


@FAULTS.add(_LATE_KEY, rtsp=False)
def key_frame_late_with_sets(lab: Lab) -> Measured:
    """The same with parameter sets in the description."""
    return _late_key(lab, with_sets=True)


@FAULTS.add("given up after `picture_timeout_s`, which the message names, and tried again", rtsp=False)
def key_frame_never(lab: Lab) -> Measured:
    """A camera that sends no key frame within the time limit."""
    camera = lab.enter(HabitCamera(_film(300), Habits(gop=300, begin=10)))
    door = lab.watch("door", camera.url, picture_timeout_s=2.0)
    lost, took_s = door.wait_for(StatusKind.RECONNECTING, 10.0)
    hold("picture_timeout_s" in lost.reason and "key frame" in lost.reason, f"it was said as: {lost.reason}")
    return {"said_after_s": round(took_s, 2)}


def _keeps_step(door: Watched, seconds: float) -> float:
    """Check that media time keeps step with our clock; return the difference, seconds."""
    media_s, began_s = door.now.media_s, time.monotonic()
    time.sleep(seconds)
    strayed_s = abs(door.now.media_s - media_s - (time.monotonic() - began_s))
    hold(strayed_s < 1.5, f"media time strayed by {strayed_s:.1f} s in {seconds:g} s")
    return strayed_s


def _wrong_rate(lab: Lab, habits: Habits, rate: float, within_s: float) -> Measured:
    door = lab.watch("door", lab.enter(HabitCamera(_film(60), habits)).url)
    door.wait_seen(1, 20.0)
    gap, took_s = door.wait_for(StatusKind.GAP, within_s)
    said, left_out_s = float(gap.details.get("rate", 0.0)), float(gap.details.get("gap_s", 0.0))
    hold(abs(said - rate) <= 0.15 * rate, f"the rate was said to be {said:.2f}, it is {rate:g}")
    hold(rate > 1 or (left_out_s > 0.5 and f"{left_out_s:.1f} s" in gap.reason), f"it was said as: {gap.reason}")
    hold(" 0.0 s" not in gap.reason, f"it was said as: {gap.reason}")
    door.wait_seen(2, 5.0)  # the frames around the gap are then in memory
    strayed_s = round(_keeps_step(door, 6.0), 2)
    return {"said_after_s": round(took_s, 2), "left_out_s": round(left_out_s, 2), "strayed_s": strayed_s}


_RATE = "found out within seconds; media time keeps step with our clock; the event says the rate and what was left out"


@FAULTS.add(_RATE, rtsp=False)
def stamps_too_slow(lab: Lab) -> Measured:
    """A camera that claims 25 pictures a second and sends 10."""
    return _wrong_rate(lab, Habits(stamp_of=lambda sent_s: 0.4 * sent_s), 0.4, 10.0)


@FAULTS.add(_RATE, rtsp=False)
def stamps_too_fast(lab: Lab) -> Measured:
    """A camera that claims 5 pictures a second and sends 10."""
    return _wrong_rate(lab, Habits(stamp_of=lambda sent_s: 2.0 * sent_s), 2.0, 10.0)


@FAULTS.add(_RATE, rtsp=False)
def stamps_change_their_rate(lab: Lab) -> Measured:
    """A camera whose timestamps are right for eight seconds, and too slow from then on."""
    return _wrong_rate(lab, Habits(stamp_of=lambda sent_s: min(sent_s, 8 + 0.4 * (sent_s - 8))), 0.4, 25.0)


@FAULTS.add("frozen is said only where the view stands still; a film that moves is not called so", rtsp=False)
def film_looped_to_the_bit(lab: Lab) -> Measured:
    """Two cameras repeat a film of four seconds; things move in one film and not in the other."""
    moving = lab.watch("moving", lab.enter(HabitCamera(_film(40), Habits())).url, frozen_after_s=5.0)
    still = lab.watch("still", lab.enter(HabitCamera(_film(40, moves=False), Habits())).url, frozen_after_s=5.0)
    _, took_s = still.wait_for(StatusKind.FROZEN, 30.0)
    moving.wait_seen(20, 30.0)
    hold(not moving.said(StatusKind.FROZEN), "a film in which things move was called frozen")
    hold(moving.now.state is ChannelState.LIVE, f"its state is {moving.now.state}")
    return {"still_said_after_s": round(took_s, 2)}


@FAULTS.add("played by a viewer's address as by the owner's, or refused in words; a missing part is told", rtsp=False)
def playlist_encrypted(lab: Lab) -> Measured:
    """HLS with AES-128, opened as a viewer's URL; then with a wrong key, and with a key at a forbidden address."""
    from assistant.inputs.probe import probe

    path = write_list(lab.folder, **KINDS["keyed"])
    with WebServer(lab.folder) as server:
        url = server.url("parts/list.m3u8")
        played = probe(url, options=SourceOptions(reach=NetworkPolicy()))
        hold(played.ok, f"it was refused: {played.text}")
        said = {}
        for uri, words in (("info", "does not decrypt"), ("http://169.254.169.254/key", "metadata")):
            path.write_text(path.read_text().replace("key.bin", uri))
            refused = probe(url, options=SourceOptions(reach=NetworkPolicy()))
            hold(not refused.ok and words in refused.text, f"it was said as: {refused.text}")
            said[words] = refused.text
            path.write_text(path.read_text().replace(uri, "key.bin"))
    return {"played": played.text, **said}
