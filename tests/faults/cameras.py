"""Faults of cameras and their network: reported in time, retried for ever, and watched again with memory kept."""

from __future__ import annotations

import socket
import time

from assistant.events import StatusEvent, StatusKind
from assistant.serving.channel_types import ChannelState
from streaming.sources.base import WATCH_RETRY
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, Watched, hold, wait_until
from tests.faults.proxy import Weather

READ_S = 1.5
"""Read timeout in these cases, seconds."""
OPEN_S = 5.0
SLACK_S = 1.5
"""Delay that a busy machine may add, seconds."""


def _memory(lab: Lab) -> tuple[int, int]:
    """Number of tokens in the first session, and of gap markers among them."""
    from models.spans import SpanKind

    context = lab.trouble.sessions[0].context
    spans = list(context.ledger)
    return sum(len(span) for span in spans), sum(span.kind is SpanKind.GAP for span in spans)


def _back(lab: Lab, door: Watched, since: int, within_s: float, num_before: int) -> Measured:
    """Check a camera that came back: a gap event, the memory kept with a gap marker, and new frames."""
    gap, took_s = door.wait_for(StatusKind.GAP, within_s, since)
    door.wait_seen(3, 10.0)
    num_tokens, num_gaps = _memory(lab)
    hold(len(lab.trouble.sessions) == 1, "its memory was given up")
    hold(num_tokens > num_before // 2, f"its memory shrank from {num_before} to {num_tokens} tokens")
    hold(num_gaps >= 1, "there is no gap marker in the prompt")
    hold(door.now.state is ChannelState.LIVE, f"its state is {door.now.state}")
    stored = [event for event in lab.stored("door") if isinstance(event, StatusEvent)]
    hold(any(event.kind is StatusKind.GAP for event in stored), "the gap is not in the timeline")
    return {"back_after_s": round(took_s, 2), "gap_s": round(float(gap.details["gap_s"]), 2), "gap_markers": num_gaps}


def _killed(lab: Lab, codec: str) -> Measured:
    server = lab.camera("--codec", codec)
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    num_before, mark = _memory(lab)[0], door.mark
    server.kill()
    lost, took_s = door.wait_for(StatusKind.RECONNECTING, READ_S + SLACK_S, mark)
    wait_until(lambda: door.now.source.num_reconnects >= 3, 10.0, "it is tried again and again")
    server.start()
    return {"said_after_s": round(took_s, 2), **_back(lab, door, mark, 6.0 + SLACK_S, num_before)}


_RULE = """said as a status event within {deadline}; tried again for ever; watched again without a restart once it is
there; the session keeps its memory, with a gap marker in the prompt; the gap is in the timeline"""


@FAULTS.add(_RULE.format(deadline="the read limit (1.5 s here)"), quick=True)
def server_killed_h264(lab: Lab) -> Measured:
    """The server's process is killed and started again."""
    return _killed(lab, "h264")


@FAULTS.add(_RULE.format(deadline="the read limit (1.5 s here)"))
def server_killed_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _killed(lab, "h265")


def _stopped(lab: Lab, codec: str) -> Measured:
    server = lab.camera("--codec", codec)
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    num_before, mark = _memory(lab)[0], door.mark
    server.freeze()
    _, took_s = door.wait_for(StatusKind.RECONNECTING, READ_S + SLACK_S, mark)
    time.sleep(3.0)
    server.resume()
    return {"said_after_s": round(took_s, 2), **_back(lab, door, mark, OPEN_S + 3.0 + SLACK_S, num_before)}


@FAULTS.add(_RULE.format(deadline="the read limit (1.5 s here), though its connections stay open"))
def server_stopped_h264(lab: Lab) -> Measured:
    """SIGSTOP to the server, and SIGCONT three seconds later."""
    return _stopped(lab, "h264")


@FAULTS.add(_RULE.format(deadline="the read limit (1.5 s here), though its connections stay open"))
def server_stopped_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _stopped(lab, "h265")


def _restarted(lab: Lab, codec: str) -> Measured:
    server = lab.camera("--codec", codec)
    door = lab.watch("door", server.url(), retry=WATCH_RETRY)
    door.wait_seen(4, 20.0)
    num_before, mark = _memory(lab)[0], door.mark
    server.kill()
    server.start()
    lost, took_s = door.wait_for(StatusKind.RECONNECTING, READ_S + SLACK_S, mark)
    delay_s = float(lost.details["delay_s"])
    hold(5.0 <= delay_s <= 7.5, f"the first delay is {delay_s:.1f} s; it is 5 to 7.5")
    measured = _back(lab, door, mark, delay_s + OPEN_S + SLACK_S, num_before)
    return {"said_after_s": round(took_s, 2), "delay_s": round(delay_s, 2), **measured}


_RESTARTED = _RULE.format(deadline="the read limit") + "; with the delays of `watch` itself, 5 to 60 s"


@FAULTS.add(_RESTARTED)
def server_restarted_h264(lab: Lab) -> Measured:
    """The server is killed and restarted at once, watched with the retry policy of `watch`."""
    return _restarted(lab, "h264")


@FAULTS.add(_RESTARTED)
def server_restarted_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _restarted(lab, "h265")


@FAULTS.add("""said within the open limit; tried for ever; another camera's rate and delay stay as they were; stopping
    takes less than ten seconds all the same""")
def camera_hangs_at_open(lab: Lab) -> Measured:
    """A server that accepts the connection and never answers."""
    silent = lab.enter(socket.socket())
    silent.bind(("127.0.0.1", 0))
    silent.listen(64)
    server = lab.camera()
    yard = lab.watch("yard", server.url())
    yard.wait_seen(4, 20.0)
    url = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live"
    door = lab.watch("door", url, open_timeout_s=1.0)
    _, took_s = door.wait_for(StatusKind.RECONNECTING, 1.0 + SLACK_S)
    num_before, began_s = yard.now.counts.num_sampled, time.monotonic()
    wait_until(lambda: door.now.source.num_reconnects >= 3, 10.0, "it is tried again and again")
    time.sleep(2.0)
    fps = yard.keeps_rate(num_before, time.monotonic() - began_s)
    stopping_s = time.monotonic()
    hold(door.channel.stop(10.0), "it did not stop within ten seconds")
    stop_s = time.monotonic() - stopping_s
    return {"said_after_s": round(took_s, 2), "other_fps": round(fps, 2), "stopped_after_s": round(stop_s, 2)}


@FAULTS.add("it is waited for, and watched once it is there; no restart, no crash")
def camera_comes_late(lab: Lab) -> Measured:
    """The camera starts only after watching has begun."""
    server = lab.camera()
    server.kill()
    door = lab.watch("door", server.url())
    lost, took_s = door.wait_for(StatusKind.RECONNECTING, OPEN_S + SLACK_S)
    hold("not there" in lost.reason, f"it was said as: {lost.reason}")
    time.sleep(2.0)
    server.start()
    _, opened_s = door.wait_for(StatusKind.OPENED, 6.0 + SLACK_S)
    door.wait_seen(3, 10.0)
    hold(not door.said(StatusKind.GAP), "nothing was missed before its first picture")
    return {"said_after_s": round(took_s, 2), "opened_after_s": round(opened_s, 2)}


@FAULTS.add("""media time goes on by the hour that passed, the gap says so, and the model is told of it; the time shown
    to the model stays in its range""")
def camera_away_for_an_hour(lab: Lab) -> Measured:
    """Our clock advances by an hour while the camera is away."""
    server = lab.camera()
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    num_before, mark, media_s = _memory(lab)[0], door.mark, door.now.media_s
    server.kill()
    door.wait_for(StatusKind.RECONNECTING, READ_S + SLACK_S, mark)
    lab.clock.now_shift_s += 3600.0
    server.start()
    measured = _back(lab, door, mark, 6.0 + SLACK_S, num_before)
    hold(3600 <= float(measured["gap_s"]) <= 3620, f"the gap is said to be {measured['gap_s']} s")
    hold(3600 <= door.now.media_s - media_s <= 3630, f"media time went on by {door.now.media_s - media_s:.0f} s")
    return {**measured, "media_s": round(door.now.media_s, 1)}


def _in_weather(lab: Lab, codec: str, weather: Weather, seconds: float) -> tuple[Watched, Measured]:
    """Disturb a camera's packets for a while, then check that it is seen as before."""
    server = lab.camera("--codec", codec)
    proxy = lab.proxy(server.port)
    door = lab.watch("door", proxy.url())
    door.wait_seen(4, 20.0)
    num_before, mark = door.now.counts.num_sampled, door.mark
    proxy.weather = weather
    time.sleep(seconds)
    proxy.weather = Weather()
    fps_bad = (door.now.counts.num_sampled - num_before) / seconds
    wait_until(lambda: door.now.state is ChannelState.LIVE, OPEN_S + 3.0, "it is live again")
    cleared_s = door.wait_seen(6, OPEN_S + 8.0)
    hold(len(lab.trouble.sessions) == 1, "its memory was given up")
    hold(not door.said(StatusKind.FAULT), "a step of the model failed")
    told = len(door.said(StatusKind.DAMAGED, mark)) + len(door.said(StatusKind.RECONNECTING, mark))
    return door, {
        "packets_hit": proxy.num_hit,
        "fps_meanwhile": round(fps_bad, 2),
        "six_frames_after_s": round(cleared_s, 2),
        "times_told": told,
        "frames_lost_said": sum(int(event.details.get("count", 0)) for event in door.said(StatusKind.DAMAGED, mark)),
    }


_WEATHER = """what is lost is said, at most about once a second; nothing crashes; what decodes is watched meanwhile; it
is seen as before within seconds of the end"""


@FAULTS.add(_WEATHER)
def packets_lost_h264(lab: Lab) -> Measured:
    """A fifth of the packets is lost."""
    return _told_of(*_in_weather(lab, "h264", Weather(lose=0.2), 8.0))


@FAULTS.add(_WEATHER)
def packets_lost_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _told_of(*_in_weather(lab, "h265", Weather(lose=0.2), 8.0))


@FAULTS.add(_WEATHER)
def packets_corrupted_h264(lab: Lab) -> Measured:
    """A third of the packets holds noise, timestamps included."""
    return _told_of(*_in_weather(lab, "h264", Weather(corrupt=0.3), 8.0))


@FAULTS.add(_WEATHER)
def packets_corrupted_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _told_of(*_in_weather(lab, "h265", Weather(corrupt=0.3), 8.0))


def _derailed(lab: Lab, codec: str) -> Measured:
    return _told_of(*_in_weather(lab, codec, Weather(derail=0.1), 8.0))


@FAULTS.add(_WEATHER)
def stream_derailed_h264(lab: Lab) -> Measured:
    """Packets have wrong lengths, so that the following bytes are read as garbage."""
    return _derailed(lab, "h264")


@FAULTS.add(_WEATHER)
def stream_derailed_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _derailed(lab, "h265")


def _told_of(door: Watched, measured: Measured) -> Measured:
    hold(int(measured["times_told"]) >= 1, "nothing was said of it")
    hold(int(measured["times_told"]) <= 8 + 4, f"it was said {measured['times_told']} times in eight seconds")
    return measured


def _delayed(lab: Lab, codec: str) -> Measured:
    door, measured = _in_weather(lab, codec, Weather(delay_s=0.4), 8.0)
    age_s = door.now.newest_seen_age_s
    hold(age_s is not None and age_s < 2.0, f"the newest frame seen is {age_s} s old")
    least = 0.7 * door.now.rates.fps_wanted * door.now.rates.factor
    hold(float(measured["fps_meanwhile"]) >= least, f"{measured['fps_meanwhile']} frames a second were seen meanwhile")
    hold(not measured["frames_lost_said"], f"{measured['frames_lost_said']} late frames were called lost")
    hold(not door.said(StatusKind.RECONNECTING), "a late camera was called lost")
    return measured


_DELAYED = "late packets are not taken for lost ones; the newest frame wins, so nothing piles up"


@FAULTS.add(_DELAYED)
def packets_delayed_h264(lab: Lab) -> Measured:
    """Each packet is delayed by 0.4 to 0.8 s."""
    return _delayed(lab, "h264")


@FAULTS.add(_DELAYED)
def packets_delayed_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _delayed(lab, "h265")


def _wrong_login(lab: Lab, codec: str, *digest: str) -> Measured:
    right, wrong = "p@ss:w/#%.1", "0ther#%/:@."
    usual = ("--codec", codec, *digest, "--user", "admin", "--password")
    server = lab.camera(*usual, wrong)
    door = lab.watch("door", server.url(f"admin:{right}"))
    refused, took_s = door.wait_for(StatusKind.RECONNECTING, OPEN_S + SLACK_S)
    hold(bool(refused.details["login_refused"]), f"it was said as: {refused.reason}")
    delay_s = float(refused.details["delay_s"])
    hold(2.4 <= delay_s <= 3.6, f"it is tried again after {delay_s:.1f} s; 3 s were wanted")
    policy = WATCH_RETRY.login_refused_delay_s
    hold(policy >= 300.0, f"watch tries a refused login every {policy:g} s; 300 were wanted")
    server.kill()
    server.change(*usual, right)
    server.start()
    door.wait_seen(3, 20.0)
    told = door.all_text()
    hold(not any(secret in told for secret in (right, wrong, "admin")), "the login was shown")
    return {"said_after_s": round(took_s, 2), "delay_s": round(delay_s, 2)}


_LOGIN = """said without user or password, tried slowly; where the right login is accepted again it is watched without a
restart"""


@FAULTS.add(_LOGIN, quick=True)
def wrong_login_h264(lab: Lab) -> Measured:
    """The camera refuses the password for a while, with Basic authentication."""
    return _wrong_login(lab, "h264")


@FAULTS.add(_LOGIN)
def wrong_login_h265(lab: Lab) -> Measured:
    """The same with H.265 and Digest authentication."""
    return _wrong_login(lab, "h265", "--digest")


def _resized(lab: Lab, codec: str) -> Measured:
    server = lab.camera("--codec", codec)
    door = lab.watch("door", server.url())
    door.wait_seen(4, 20.0)
    mark, cells = door.mark, (door.now.view.rows, door.now.view.cols)
    server.resize(176, 288)
    changed, took_s = door.wait_for(StatusKind.GRID_CHANGED, 5.0, mark)
    door.wait_seen(4, 10.0)
    hold(
        (door.now.source.width_px, door.now.source.height_px) == (176, 288),
        f"{door.now.source.width_px} x {door.now.source.height_px}",
    )
    hold((door.now.view.rows, door.now.view.cols) != cells, "the grid is the old one")
    hold(len(lab.trouble.sessions) == 1, "its memory was given up")
    hold(not door.said(StatusKind.FAULT), "a step of the model failed")
    return {"said_after_s": round(took_s, 2), "cells": f"{cells} -> {(door.now.view.rows, door.now.view.cols)}"}


_SIZE = "said as a status event; watched on with another grid and the same memory; no reconnect is needed"


@FAULTS.add(_SIZE, quick=True)
def size_changes_h264(lab: Lab) -> Measured:
    """The picture's size changes from 160 x 120 to 176 x 288 during the stream."""
    return _resized(lab, "h264")


@FAULTS.add(_SIZE)
def size_changes_h265(lab: Lab) -> Measured:
    """The same with H.265."""
    return _resized(lab, "h265")


@FAULTS.add("""said within its limit (4 s here, 60 s in `watch`) and the encoder's settling; connected anew with the
    same delays; its end is said as a gap, with a marker in the prompt; a camera that moves is never called frozen""")
def picture_frozen(lab: Lab) -> Measured:
    """The camera's clock runs while its picture is frozen."""
    server = lab.camera("--codec", "h265")
    door = lab.watch("door", server.url(), frozen_after_s=4.0)
    door.wait_seen(14, 25.0)
    hold(not door.said(StatusKind.FROZEN), "a moving picture was called frozen")
    num_before, mark = _memory(lab)[0], door.mark
    server.show("checkers-8")
    _, took_s = door.wait_for(StatusKind.FROZEN, 4.0 + 6.0, mark)
    hold(door.now.state is ChannelState.FROZEN, f"its state is {door.now.state}")
    wait_until(lambda: len(door.said(StatusKind.FROZEN, mark)) >= 2, 10.0, "it is connected anew, and still frozen")
    since = door.mark
    server.show("ball")
    measured = _back(lab, door, since, 10.0, num_before)
    hold(bool(door.said(StatusKind.GAP, since)[0].details.get("was_frozen")), "its gap does not say that it was frozen")
    return {"said_after_s": round(took_s, 2), **measured}
