"""Odd web servers: recordings, live streams, and errors for answers that cannot be watched."""

from __future__ import annotations

import ipaddress
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from streaming.buffer import Item
from streaming.clock import FakeClock
from streaming.errors import NotAVideo, SourceError, SourceTimeout, SourceUnreachable
from streaming.network_policy import NetworkPolicy
from streaming.open_source import open_source
from streaming.sources.base import WATCH_RETRY, RetryPolicy, SourceOptions
from streaming.sources.jpeg_series import JpegCutter
from streaming.sources.look_ahead import PeekedPacket, is_recording
from streaming.types import Frame, Notice, NoticeKind, SourceInfo
from tests.clips import FPS, number_of, write_clip
from tests.streaming.odd_server import (
    Answer,
    OddServer,
    chunked,
    jpegs,
    moved,
    packed,
    part_without_length,
    refusing_parts,
    series,
    until_closed,
    whole,
)

QUICK = RetryPolicy(max_retries=1, first_delay_s=0.01)
REACHES = pytest.mark.parametrize(
    "reach", [None, NetworkPolicy((ipaddress.ip_network("127.0.0.0/8"),))], ids=["the owner's", "a stranger's"]
)
NUM = 30


def play(url: str, reach: NetworkPolicy | None = None, **options: object) -> tuple[SourceInfo, list[Item]]:
    wanted = {"open_timeout_s": 2.0, "read_timeout_s": 0.6, "retry": QUICK, "reach": reach, **options}
    with open_source(url, options=SourceOptions(**wanted)) as source:  # type: ignore[arg-type]
        info = source.open()
        return info, list(source.frames())


def noise(index: int, width_px: int, height_px: int) -> np.ndarray:
    """What takes more bytes than FFmpeg reads at once."""
    return np.random.default_rng(index).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def numbers(items: Iterable[Item]) -> list[int]:
    return [number_of(item.image) for item in items if isinstance(item, Frame)]


def ended(items: list[Item]) -> Notice:
    last = items[-1]
    assert isinstance(last, Notice) and last.kind is NoticeKind.ENDED
    return last


def with_total_length(pieces: bytes, length_ms: int) -> bytes:
    """A fragmented MP4 whose index gains an `mehd` box, which declares the length of all fragments."""
    box = (16).to_bytes(4) + b"mehd" + bytes(4) + length_ms.to_bytes(4)
    for kind in (b"moov", b"mvex"):
        at = pieces.index(kind) - 4
        pieces = pieces[:at] + (int.from_bytes(pieces[at : at + 4]) + len(box)).to_bytes(4) + pieces[at + 4 :]
    at = pieces.index(b"mvex") + 4
    return pieces[:at] + box + pieces[at:]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Containers by name: with and without a length in their head, with the index first and last."""
    folder = tmp_path_factory.mktemp("clips")
    live, in_pieces = {"live": "1"}, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    pieces = write_clip(folder / "c.mp4", num_frames=NUM, options=in_pieces).read_bytes()
    return {
        "first": write_clip(folder / "a.mp4", num_frames=NUM, options={"movflags": "faststart"}).read_bytes(),
        "last": write_clip(folder / "b.mp4", num_frames=NUM, size_px=(320, 240), paint=noise).read_bytes(),
        "pieces": pieces,
        "known": write_clip(folder / "g.webm", num_frames=NUM, codec="libvpx").read_bytes(),
        "long": with_total_length(pieces, int(1000 * NUM / FPS)),
        "webm": write_clip(folder / "d.webm", num_frames=NUM, codec="libvpx", options=live).read_bytes(),
        "mkv": write_clip(folder / "e.mkv", num_frames=NUM, options=live).read_bytes(),
        "ts": write_clip(folder / "f.ts", num_frames=NUM, codec="mpeg2video", size_px=(320, 240)).read_bytes(),
    }


@REACHES
@pytest.mark.parametrize("name", ["first", "pieces", "webm", "mkv", "ts"])
@pytest.mark.parametrize("habit", [chunked, until_closed, part_without_length, whole, packed], ids=lambda h: h.__name__)
def test_what_ends_is_a_recording(
    clips: dict[str, bytes], name: str, habit: Callable[[bytes], Answer], reach: NetworkPolicy | None
) -> None:
    with OddServer({"clip": habit(clips[name])}) as server:
        info, items = play(server.url("clip"), reach)
    assert not info.is_live
    assert numbers(items) == list(range(NUM))
    assert ended(items).details["broken"] is False
    assert len(server.requests) == 1, "it is asked for once"


def test_it_is_watched_once_by_those_who_keep_trying_too(clips: dict[str, bytes]) -> None:
    with OddServer({"clip": chunked(clips["webm"], "video/webm")}) as server:
        info, items = play(server.url("clip"), retry=WATCH_RETRY)
        assert not info.is_live and numbers(items) == list(range(NUM))
        _, items = play(server.url("clip"), loop=2)
        assert numbers(items) == 2 * list(range(NUM)), "a loop that was asked for is another matter"


def test_what_comes_late_and_is_a_recording_is_watched_once_at_its_pace(clips: dict[str, bytes]) -> None:
    clip = chunked(clips["webm"], "video/webm")
    answers = iter([lambda request: request.begin(("Content-Length", "0"), status=404)])
    with OddServer({"clip": lambda request: next(answers, clip)(request)}) as server:
        began_s = time.monotonic()
        info, items = play(server.url("clip"), retry=replace(WATCH_RETRY, first_delay_s=0.01))
        took_s = time.monotonic() - began_s
    assert info.is_live, "it was not there, so nobody knew"
    assert [item.kind for item in items if isinstance(item, Notice)][:2] == [NoticeKind.RECONNECTING, NoticeKind.OPENED]
    assert numbers(items) == list(range(NUM)) and took_s > (NUM - 2) / FPS
    assert ended(items).details["broken"] is False


@REACHES
def test_what_breaks_off_is_said_so(clips: dict[str, bytes], reach: NetworkPolicy | None) -> None:
    with OddServer({"clip": chunked(clips["first"], cut=True)}) as server:
        info, items = play(server.url("clip"), reach)
    assert not info.is_live, "its head has a length"
    assert 0 < len(numbers(items)) < NUM and ended(items).details["broken"] is True


@pytest.fixture
def comes_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every stream look as slow as a camera's."""

    def looks_live(glimpses: Iterable[PeekedPacket], now_s: Callable[[], float]) -> bool:
        return not list(itertools.islice(glimpses, 5))

    monkeypatch.setattr("streaming.sources.reading.is_recording", looks_live)


@REACHES
@pytest.mark.usefixtures("comes_slowly")
@pytest.mark.parametrize("name", ["first", "known", "long"])
def test_a_length_in_the_container_makes_a_recording_however_slowly_it_comes(
    clips: dict[str, bytes], name: str, reach: NetworkPolicy | None
) -> None:
    with OddServer({"clip": chunked(clips[name])}) as server:
        info, items = play(server.url("clip"), reach)
    assert not info.is_live and info.duration_s_declared == pytest.approx(NUM / FPS, abs=2 / FPS)
    assert numbers(items) == list(range(NUM))


@REACHES
@pytest.mark.usefixtures("comes_slowly")
@pytest.mark.parametrize("name", ["webm", "ts", "pieces"])
@pytest.mark.parametrize(
    ("headers", "is_live"),
    [
        ([("ETag", '"5f-1"')], False),
        ([("Accept-Ranges", "bytes")], False),
        ([("Last-Modified", "Mon, 02 Nov 2020 10:00:00 GMT")], False),
        ([], True),
        ([("ETag", '"5f-1"'), ("Cache-Control", "no-cache, private")], True),
        ([("Last-Modified", "at noon")], True),
    ],
)
def test_a_stored_file_is_a_recording_however_slowly_it_comes(
    clips: dict[str, bytes], name: str, headers: list[tuple[str, str]], is_live: bool, reach: NetworkPolicy | None
) -> None:
    with OddServer({"clip": chunked(clips[name], "video/mp4", headers=headers)}) as server:
        info, items = play(server.url("clip"), reach)
    assert info.is_live is is_live and info.duration_s_declared is None
    assert numbers(items) == list(range(NUM)) and ended(items).details["broken"] is False


@pytest.mark.parametrize("num_peeked", [0, 1, 5])
def test_what_ended_and_begins_again_the_same_is_over(
    clips: dict[str, bytes], num_peeked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looks_live(glimpses: Iterable[PeekedPacket], now_s: Callable[[], float]) -> bool:
        return not [*itertools.islice(glimpses, num_peeked), None]

    monkeypatch.setattr("streaming.sources.reading.is_recording", looks_live)
    with OddServer({"clip": chunked(clips["ts"])}) as server:
        info, items = play(server.url("clip"))
    assert info.is_live and numbers(items) == list(range(NUM))
    assert ended(items).details["broken"] is False and "seen once" in ended(items).reason


@pytest.mark.parametrize("group_s", [0.1, 0.5, 2.0, 4.0])
@pytest.mark.parametrize(
    ("pace", "kept_s", "expected"),
    [
        (1.0, 0.0, False),
        (1.0, 9.0, False),
        (1.1, 0.0, False),
        (1.1, 5.0, False),
        (1.5, 5.0, True),
        (4.0, 0.0, True),
        (50.0, 0.0, True),
        (0.2, 0.0, False),
        (0.2, 5.0, False),
    ],
)
def test_a_camera_is_told_from_a_recording_by_its_pace(
    pace: float, kept_s: float, group_s: float, expected: bool
) -> None:
    """`kept_s` come at once at first, then the pictures in groups: a fragment or cluster at a time."""
    clock = FakeClock()

    def glimpses() -> Iterable[PeekedPacket]:
        for index in range(10_000):
            stamp_s = index / 10
            begins_group = index % round(10 * group_s) == 0
            clock.advance(group_s / pace if stamp_s > kept_s and begins_group else 0.0)
            yield PeekedPacket(stamp_s, 1000)
        raise AssertionError("it was listened to for too long")

    if expected and group_s / pace > 0.5:
        return  # seconds at a time say too little
    assert is_recording(glimpses(), clock.now_s) is expected
    assert clock.now_s() <= 7.0 / min(pace, 1.0) + 2 * group_s / pace


@pytest.mark.parametrize("stall_at_s", [0.0, 0.9, 1.9, 3.0, 5.5])
@pytest.mark.parametrize("kept_s", [0.0, 3.0])
def test_a_stalling_camera_is_no_recording(stall_at_s: float, kept_s: float) -> None:
    """It sends nothing for 0.8 s, and then at once what it owes."""
    clock = FakeClock()

    def glimpses() -> Iterable[PeekedPacket]:
        for index in range(10_000):
            stamp_s = index / 10
            due_s = max(0.0, stamp_s - kept_s)
            due_s = stall_at_s + 0.8 if stall_at_s < due_s < stall_at_s + 0.8 else due_s
            clock.advance(max(0.0, due_s - clock.now_s()))
            yield PeekedPacket(stamp_s, 1000)
        raise AssertionError("it was listened to for too long")

    assert is_recording(glimpses(), clock.now_s) is False


def test_pictures_without_times_are_told_by_their_end_or_their_bytes() -> None:
    clock = FakeClock()
    assert is_recording([PeekedPacket(None, 1000)] * 9, clock.now_s)
    assert is_recording(itertools.repeat(PeekedPacket(None, 1 << 20)), clock.now_s)


@REACHES
@pytest.mark.parametrize("habit", [whole, chunked, until_closed, packed], ids=lambda h: h.__name__)
def test_an_index_at_the_end_is_refused_where_there_is_no_way_back(
    clips: dict[str, bytes], habit: Callable[[bytes], Answer], reach: NetworkPolicy | None
) -> None:
    with OddServer({"clip": habit(clips["last"])}) as server, pytest.raises(NotAVideo) as caught:
        play(server.url("clip"), reach)
    assert "index (moov) stands at its end" in str(caught.value) and "faststart" in str(caught.value)


def test_it_is_refused_too_where_its_first_boxes_say_nothing(clips: dict[str, bytes]) -> None:
    filled = clips["last"][:8] + clips["last"][8:]
    free = (200_000).to_bytes(4) + b"free" + bytes(199_992)
    head = int.from_bytes(filled[:4])
    with OddServer({"clip": whole(filled[:head] + free + filled[head:])}) as server, pytest.raises(SourceError):
        play(server.url("clip"))


@REACHES
def test_a_server_that_refuses_parts_is_read_in_one_go(clips: dict[str, bytes], reach: NetworkPolicy | None) -> None:
    with OddServer({"first": refusing_parts(clips["first"]), "last": refusing_parts(clips["last"])}) as server:
        assert numbers(play(server.url("first"), reach)[1]) == list(range(NUM))
        with pytest.raises(SourceUnreachable, match="refuses them \\(416\\). Download it"):
            play(server.url("last"), reach)


@REACHES
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(clips: dict[str, bytes], status: int, reach: NetworkPolicy | None) -> None:
    answers = {"old": moved("/new", status), "new": chunked(clips["webm"], "video/webm")}
    with OddServer(answers) as server:
        assert numbers(play(server.url("old"), reach)[1]) == list(range(NUM))


@pytest.mark.slow
@REACHES
def test_a_slow_start_is_waited_for_as_long_as_opening_may_take(
    clips: dict[str, bytes], reach: NetworkPolicy | None
) -> None:
    late = {"head": whole(clips["first"], head_late_s=0.9), "stuck": whole(clips["first"], body_late_s=60.0)}
    with OddServer(late) as server:
        assert numbers(play(server.url("head"), reach)[1]) == list(range(NUM))
        with pytest.raises(SourceTimeout, match="no picture came within 0.6 s"):
            play(server.url("stuck"), reach)


PARTS: dict[str, Callable[[list[bytes]], Answer]] = {
    "plain": lambda p: series(p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % n),
    "no length": lambda p: series(p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"),
    "odd type": lambda p: series(p, lambda n: b"--frame\r\nContent-Type: image/jpg\r\nContent-Length: %d\r\n\r\n" % n),
    "no type": lambda p: series(p, lambda n: b"--frame\r\n\r\n"),
    "binary type": lambda p: series(p, lambda n: b"--frame\r\nContent-type: application/octet-stream\r\n\r\n"),
    "length no number": lambda p: series(
        p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: none\r\n\r\n"
    ),
    "wrong length": lambda p: series(p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 7\r\n\r\n"),
    "negative length": lambda p: series(
        p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: -%d\r\n\r\n" % n
    ),
    "boundary after": lambda p: series(p, lambda n: b"Content-Type: image/jpeg\r\n\r\n", tail=b"\r\n--frame\r\n"),
    "boundary doubled": lambda p: series(p, lambda n: b"--frame\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"),
    "boundary with dashes": lambda p: series(
        p, lambda n: b"----frame\r\nContent-Type: image/jpeg\r\n\r\n", kind="multipart/x-mixed-replace;boundary=--frame"
    ),
    "another boundary": lambda p: series(p, lambda n: b"--other\r\nContent-Type: image/jpeg\r\n\r\n"),
    "no boundary": lambda p: series(p, lambda n: b"", kind="multipart/x-mixed-replace", tail=b""),
    "line feeds alone": lambda p: series(p, lambda n: b"\n--frame\nContent-Type: image/jpeg\n\n", tail=b"\n"),
    "an endless length": lambda p: series(
        p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", ("Content-Length", "99999999")
    ),
    "no type of its own": lambda p: series(p, lambda n: b"--frame\r\nContent-Type: image/jpeg\r\n\r\n", kind=""),
    "pictures alone": lambda p: series(p, lambda n: b"", kind="video/x-motion-jpeg", tail=b""),
}


@REACHES
@pytest.mark.parametrize("habit", PARTS)
def test_one_reader_takes_the_series_of_all_cameras(habit: str, reach: NetworkPolicy | None) -> None:
    pictures = list(jpegs(NUM))
    with OddServer({"live": PARTS[habit](pictures)}) as server:
        info, items = play(server.url("live"), reach, retry=RetryPolicy(max_retries=0))
    assert info.is_live and info.fps_declared is None, "no rate was measured"
    assert numbers(items) == list(range(NUM))
    assert not [item for item in items if isinstance(item, Notice) and item.kind is NoticeKind.DAMAGED]


def test_a_picture_is_given_as_soon_as_it_is_there() -> None:
    first, second = jpegs(2)
    cutter = JpegCutter()
    found = [list(cutter.add(bytes([byte]))) for byte in b"--x\r\n\r\n" + first + b"\r\n"]
    assert [pictures for pictures in found if pictures] == [[first]] and found[-3] == [first]
    assert list(cutter.add(second[:-1])) == [] and list(cutter.add(second[-1:] + first)) == [second, first]


def test_a_picture_within_a_picture_is_no_picture() -> None:
    inner, outer = jpegs(2)
    thumbnail = b"Exif\0\0" + inner[:3000]
    shown = outer[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail + outer[2:]
    assert list(JpegCutter().add(shown + inner)) == [shown, inner]


def test_a_damaged_picture_costs_no_other() -> None:
    pictures = list(jpegs(5))
    cut = [*pictures[:2], pictures[2][:300], *pictures[3:]]
    with OddServer({"live": series(cut, lambda n: b"--frame\r\n\r\n")}) as server:
        _, items = play(server.url("live"), retry=RetryPolicy(max_retries=0))
    assert {0, 1, 3, 4} <= set(numbers(items))


@REACHES
@pytest.mark.parametrize("body", [b"", b"--frame\r\nContent-Type: image/png\r\n\r\n\x89PNG" * 50_000, b"\xff\xd8\xff"])
def test_a_series_without_pictures_is_refused_in_words(body: bytes, reach: NetworkPolicy | None) -> None:
    with (
        OddServer({"live": series([body], lambda n: b"")}) as server,
        pytest.raises(NotAVideo, match="holds no JPEG picture.*Let the camera send MJPEG"),
    ):
        play(server.url("live"), reach)
