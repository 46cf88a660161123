"""Quirks of web servers: recordings without a length, malformed JPEG streams, unreachable indexes, odd answers."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from assistant.events import StatusKind
from assistant.serving.channel_types import ChannelState
from streaming.errors import SourceError
from streaming.network_policy import NetworkPolicy
from streaming.open_source import open_source
from streaming.sources.base import RetryPolicy, SourceOptions
from streaming.types import Frame, Notice, NoticeKind
from tests.clips import number_of, write_clip
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, hold, wait_until
from tests.faults.program import START_S, Program
from tests.streaming.odd_server import (
    Answer,
    OddServer,
    Request,
    chunked,
    jpegs,
    moved,
    packed,
    part_without_length,
    refusing_parts,
    until_closed,
    whole,
)

_FPS = 5
_NUM = 20


def _clip(folder: Path, name: str, **how: object) -> bytes:
    stamps_s = [index / _FPS for index in range(_NUM)]
    return write_clip(folder / name, num_frames=_NUM, stamps_s=stamps_s, **how).read_bytes()  # type: ignore[arg-type]


def _endless(before: bytes, after: bytes, *headers: tuple[str, str]) -> Answer:
    """A camera that sends five pictures per second; `%d` in `before` becomes their length."""

    def answer(request: Request) -> None:
        request.begin(("Content-Type", "multipart/x-mixed-replace; boundary=frame"), *headers, ("Connection", "close"))
        for picture in itertools.cycle(list(jpegs(32))):
            request.wfile.write(before.replace(b"%d", b"%d" % len(picture)) + picture + after)
            request.wait(1 / _FPS)
            if request.server.closing.is_set():
                return

    return answer


_HEAD = b"--frame\r\nContent-Type: image/jpeg\r\n"
CHEAP: dict[str, Answer] = {
    "boundary behind": _endless(b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", b"\r\n--frame\r\n"),
    "odd type": _endless(b"--frame\r\nContent-Type: image/jpg\r\nContent-Length: %d\r\n\r\n", b"\r\n"),
    "doubled": _endless(b"--frame\r\n" + _HEAD + b"\r\n", b"\r\n"),
    "no number": _endless(_HEAD + b"Content-Length: unknown\r\n\r\n", b"\r\n"),
}


def _played(url: str, reach: NetworkPolicy | None) -> tuple[bool, list[int], bool]:
    """Whether the source is live, the numbers of its pictures, and whether it broke off."""
    options = SourceOptions(open_timeout_s=3.0, read_timeout_s=1.0, retry=RetryPolicy(max_retries=0), reach=reach)
    with open_source(url, options=options) as source:
        info, items = source.open(), list(source.frames())
    last = items[-1]
    is_broken = not isinstance(last, Notice) or last.kind is not NoticeKind.ENDED or bool(last.details["broken"])
    return info.is_live, [number_of(item.image) for item in items if isinstance(item, Frame)], is_broken


@FAULTS.add("it is watched at its own pace, whole and once: no connection but the first, nothing dropped", rtsp=False)
def recording_without_length(lab: Lab) -> Measured:
    """A WebM without duration, sent in chunks, all at once."""
    answer = chunked(_clip(lab.folder, "a.webm", codec="libvpx", options={"live": "1"}), "video/webm")
    with OddServer({"clip": answer}) as server:
        door = lab.watch("door", server.url("clip"), fps=float(_FPS))
        began_s = time.monotonic()
        door.wait_for(StatusKind.ENDED, 30.0)
        took_s = time.monotonic() - began_s
        hold(len(server.requests) == 1, f"it was asked for {len(server.requests)} times")
    seen = door.now
    hold(not door.said(StatusKind.RECONNECTING), "its end was taken for a loss")
    hold(seen.counts.num_dropped == 0, f"{seen.counts.num_dropped} pictures were dropped")
    hold(seen.counts.num_sampled == _NUM, f"{seen.counts.num_sampled} of {_NUM} pictures were seen")
    hold(took_s >= (_NUM - 2) / _FPS, f"{_NUM / _FPS:.1f} s of it went by in {took_s:.1f} s")
    return {"seen": seen.counts.num_sampled, "took_s": round(took_s, 2)}


@FAULTS.add("each is watched like any other camera, live, and never called lost", rtsp=False)
def cheap_cameras(lab: Lab) -> Measured:
    """JPEG streams with missing or doubled boundaries, odd content types, and lengths that are not numbers."""
    with OddServer({name.replace(" ", "-"): answer for name, answer in CHEAP.items()}) as server:
        doors = {name: lab.watch(name, server.url(name.replace(" ", "-")), fps=2.0) for name in CHEAP}
        for name, door in doors.items():
            door.wait_seen(4, 30.0)
            hold(door.now.state is ChannelState.LIVE, f"{name}: {door.now.state}")
            hold(not door.said(StatusKind.RECONNECTING), f"{name}: it was called lost")
            hold(not door.said(StatusKind.DAMAGED), f"{name}: it was called damaged")
        for door in doors.values():
            hold(door.channel.stop(10.0), "it did not stop within ten seconds")
    return {"cameras": len(doors)}


@FAULTS.add("it is live: its time is ours, and no rate is claimed", rtsp=False)
def endless_with_a_length(lab: Lab) -> Measured:
    """A camera's JPEG stream that claims a length of 99,999,999 bytes."""
    with OddServer({"live": _endless(_HEAD + b"\r\n", b"\r\n", ("Content-Length", "99999999"))}) as server:
        door = lab.watch("door", server.url("live"), fps=2.0)
        opened, _ = door.wait_for(StatusKind.OPENED, 10.0)
        hold("frames a second" not in opened.reason, f"it was said as: {opened.reason}")
        door.wait_seen(2, 20.0)
        began_s, media_s = time.monotonic(), door.now.media_s
        door.wait_seen(8, 20.0)
        passed_s, watched_s = time.monotonic() - began_s, door.now.media_s - media_s
        hold(abs(watched_s - passed_s) < 1.0, f"{watched_s:.1f} s of media time in {passed_s:.1f} s")
        hold(door.channel.stop(10.0), "it did not stop within ten seconds")
    return {"media_s": round(watched_s, 2), "passed_s": round(passed_s, 2)}


@FAULTS.add("code 2 before the model is loaded, one line with the reason and what helps, no traceback", rtsp=False)
def index_out_of_reach(lab: Lab) -> Measured:
    """An MP4 with its index at the end, on a server without range requests."""
    server = lab.enter(OddServer({"clip.mp4": whole(_clip(lab.folder, "last.mp4"))}))
    with Program(lab.folder / "run", "replay", server.url("clip.mp4")) as program:
        code = program.process.wait(START_S)
    hold(code == 2, f"it ended with {code}: {program.err[-500:]}")
    hold("moov" in program.err and "faststart" in program.err, program.err[-500:])
    hold("Traceback" not in program.err and "oading" not in program.err, program.err[-2000:])
    return {"code": code}


def _answers(folder: Path) -> dict[str, Answer]:
    first = _clip(folder, "first.mp4", options={"movflags": "faststart"})
    webm = _clip(folder, "b.webm", codec="libvpx", options={"live": "1"})
    return {
        "refuses-parts": refusing_parts(first),
        "moved": moved("/closed"),
        "closed": until_closed(webm),
        "packed": packed(first),
        "part-without-length": part_without_length(webm),
        "slow": whole(first, head_late_s=1.5),
        "chunked": chunked(first),
    }


@FAULTS.add("each is a recording, whole, for the owner's URLs and for strangers' alike", quick=True, rtsp=False)
def odd_answers(lab: Lab) -> Measured:
    """Refused range requests, redirects, gzip, 206 without a length, no length, a slow start."""
    answers = _answers(lab.folder)
    with OddServer(answers) as server:
        for name, reach in itertools.product(answers, (None, NetworkPolicy())):
            is_live, numbers, is_broken = _played(server.url(name), reach)
            hold(not is_live and not is_broken, f"{name}: live {is_live}, broken {is_broken}")
            hold(numbers == list(range(_NUM)), f"{name}: {numbers}")
    return {"answers": 2 * len(answers)}


@FAULTS.add("each is refused with its reason, and nothing is left open", quick=True, rtsp=False)
def answers_without_pictures(lab: Lab) -> Measured:
    """A stream of parts that are not pictures, an answer that stalls, an index at the end sent in chunks."""
    last = _clip(lab.folder, "last.mp4", size_px=(320, 240))
    answers: dict[str, tuple[Answer, str]] = {
        "series": (whole(b"--x\r\n\r\nhello\r\n" * 99, ("Content-Type", "multipart/mixed")), "not a video|no JPEG"),
        "stuck": (whole(last, body_late_s=60.0), "no picture came"),
        "last": (chunked(last), "moov"),
    }
    reasons = {}
    with OddServer({name: answer for name, (answer, _) in answers.items()}) as server:
        for (name, (_, words)), reach in itertools.product(answers.items(), (None, NetworkPolicy())):
            reasons[name] = _refusal(lambda name=name, reach=reach: _played(server.url(name), reach))  # type: ignore[misc]
            hold(re.search(words, reasons[name]) is not None, f"{name}: {reasons[name]}")
    return {"refused": 2 * len(reasons)}


def _refusal(work: Callable[[], object]) -> str:
    try:
        work()
    except SourceError as error:
        return str(error)
    return "nothing was refused"


@FAULTS.add(
    """what comes by the proxy's name is answered; another name, another site's page and a claim of the proxy's
    name under another are refused with value, rule and remedy""",
    rtsp=False,
)
def behind_a_proxy(lab: Lab) -> Measured:
    """Requests of a reverse proxy, and requests of clients that pretend to be one."""
    public = "https://camera.example.org/door"
    options = ("--port", "0", "--no-browser", "--public-url", public, "--i-know-this-is-open")
    with Program(lab.folder / "ui", "ui", *options) as program:
        wait_until(lambda: "watching at http" in program.out, START_S, "the page is served")
        (page,) = re.findall(r"watching at (http://\S+)", program.out)
        with httpx.Client(base_url=page, trust_env=False, timeout=60.0) as client:
            own = {"Host": "camera.example.org", "Origin": "https://camera.example.org"}
            root = client.get("/door/config", headers=own).json()["root"]
            hold(root == public, f"the page's root is {root}")
            local = client.get("/config").json()["root"]
            hold(local == page, f"on this machine the root is {local}")
            refused = [
                {"Host": "evil.example"},
                {"Host": "evil.example", "X-Forwarded-Host": "camera.example.org"},
                {"Host": "camera.example.org", "Origin": "https://evil.example"},
                {"Host": "camera.example.org", "Origin": "http://camera.example.org"},
                {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
            ]
            for headers in refused:
                answer = client.get("/config", headers=headers)
                hold(answer.status_code == 403, f"{headers}: {answer.status_code}")
                hold("is " in answer.text and "--public-url" in answer.text, answer.text)
        program.process.terminate()
        program.process.wait(20)
    return {"refused": len(refused)}
