"""A frozen camera whose timestamps continue is told from a still scene."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest

from streaming.buffer import Item
from streaming.clock import FakeClock
from streaming.masks import MaskRegion, Masks
from streaming.sources.base import WATCH_RETRY, RetryPolicy, SourceOptions
from streaming.sources.encoded import through_h264
from streaming.sources.freeze_detector import FreezeDetector
from streaming.sources.pictures import DecodedPicture, Event
from streaming.sources.reconnect import LiveSource
from streaming.types import Frame, Notice, NoticeKind

RNG = np.random.default_rng(0)
SCENE = RNG.integers(60, 190, (48, 64, 3), dtype=np.uint8)


def noisy(levels: float = 1.0) -> np.ndarray:
    """The same scene with a sensor's noise."""
    return np.clip(SCENE + RNG.normal(0, levels, SCENE.shape), 0, 255).astype(np.uint8)


def first_change(
    watch: FreezeDetector, images: Iterator[np.ndarray], start_s: float, step_s: float = 0.5
) -> float | None:
    """The time of the first change of state; None if there is none."""
    for index, image in enumerate(images):
        if watch.update(image, start_s + index * step_s) is not None:
            return start_s + index * step_s
    return None


def test_a_picture_that_repeats_is_frozen_after_its_time() -> None:
    watch = FreezeDetector(after_s=20.0)
    assert first_change(watch, iter([noisy() for _ in range(40)]), 0.0) is None
    found_at_s = first_change(watch, itertools.repeat(SCENE, 200), 20.0)
    assert found_at_s == pytest.approx(40.0, abs=1.0)
    assert watch.is_frozen
    assert watch.still_s(50.0) == pytest.approx(30.0, abs=1.0)


def test_a_still_scene_under_noise_is_not_frozen() -> None:
    watch = FreezeDetector(after_s=20.0)
    assert first_change(watch, (noisy(0.5) for _ in range(400)), 0.0) is None


@pytest.mark.slow
def test_a_still_scene_under_noise_is_not_frozen_behind_an_encoder() -> None:
    pictures = through_h264([noisy(1.0) for _ in range(240)], fps=2.0, crf=32, gop=20)
    assert first_change(FreezeDetector(after_s=20.0), iter(pictures), 0.0) is None


def test_a_frozen_picture_is_found_behind_an_encoder() -> None:
    pictures = through_h264([SCENE] * 240, fps=2.0, crf=32, gop=20)
    assert first_change(FreezeDetector(after_s=20.0), iter(pictures), 0.0) is not None


def test_pictures_that_take_turns_bring_nothing_new() -> None:
    """An encoder's key frames differ from the frames between them, again and again in the same way."""
    others = [noisy() for _ in range(4)]
    watch = FreezeDetector(after_s=20.0)
    assert first_change(watch, itertools.islice(itertools.cycle(others), 200), 0.0) == pytest.approx(21.5, abs=0.6)


def film(num_pictures: int, moves: slice) -> list[np.ndarray]:
    """A still scene in which a small light patch moves during `moves`; each picture has noise of its own."""
    pictures = [noisy(0.5) for _ in range(num_pictures)]
    for number in range(num_pictures)[moves]:
        row, column = 4 + number % 8 * 4, 4 + number % 10 * 5
        pictures[number][row : row + 5, column : column + 5] = 250
    return pictures


@pytest.mark.parametrize("reels", [1, 2])
def test_a_film_that_is_played_again_to_the_bit_is_not_frozen_while_things_move(reels: int) -> None:
    shown = [film(40, slice(10, 30)) for _ in range(reels)]
    images = itertools.chain.from_iterable(itertools.chain.from_iterable(itertools.repeat(shown, 12)))
    assert first_change(FreezeDetector(after_s=20.0), iter(images), 0.0) is None


def test_a_film_that_is_played_again_is_frozen_where_its_view_stands_still() -> None:
    shown = film(120, slice(0, 20))
    images = itertools.chain.from_iterable(itertools.repeat(shown, 12))
    watch = FreezeDetector(after_s=20.0)
    assert first_change(watch, iter(images), 0.0) == pytest.approx(60.0 + 10.0 + 20.0, abs=2.0)
    again = itertools.chain(shown[70:], shown)
    assert first_change(watch, iter(again), 120.0) == pytest.approx(120.0 + 25.0, abs=1.0), "it thaws as things move"


def test_a_slow_drift_is_motion() -> None:
    images = [np.clip(SCENE.astype(int) + step, 0, 255).astype(np.uint8) for step in range(40)]
    back_and_forth = itertools.islice(itertools.cycle([*images, *images[::-1]]), 800)
    assert first_change(FreezeDetector(after_s=20.0), back_and_forth, 0.0) is None


def test_motion_thaws_at_once_and_noise_after_a_while() -> None:
    moved = [np.roll(SCENE, 30, axis=1)]
    for images, limit_s in ((moved, 0.1), ([noisy() for _ in range(99)], 15.0)):
        watch = FreezeDetector(after_s=20.0)
        assert first_change(watch, itertools.repeat(SCENE, 200), 0.0) is not None
        thawed_at_s = first_change(watch, iter(images), 100.0)
        assert thawed_at_s is not None and thawed_at_s <= 100.0 + limit_s
        assert not watch.is_frozen


def test_an_encoder_that_starts_anew_does_not_thaw() -> None:
    watch = FreezeDetector(after_s=20.0)
    assert first_change(watch, itertools.repeat(SCENE, 200), 0.0) is not None
    watch.on_reconnect(100.0)
    refining = [noisy(0.4) for _ in range(8)]
    assert first_change(watch, itertools.chain(refining, itertools.repeat(refining[-1], 200)), 100.0) is None


def test_what_came_before_a_connection_does_not_count_as_still() -> None:
    watch = FreezeDetector(after_s=20.0)
    assert first_change(watch, itertools.repeat(SCENE, 30), 0.0) is None
    watch.on_reconnect(3600.0)
    assert first_change(watch, itertools.repeat(SCENE, 30), 3600.0) is None


class Camera:
    """A connection whose picture freezes and thaws by the clock."""

    codec, coded_size_px, fps_declared, has_timestamps, is_bursty = "fake", (64, 48), 2.0, True, False
    is_finite = False

    def __init__(self, clock: FakeClock, frozen_s: tuple[float, float], paint: str = "noise") -> None:
        self._clock, self._frozen_s, self._paint = clock, frozen_s, paint

    def events(self) -> Iterator[Event]:
        while True:
            now_s = self._clock.now_s()
            begin_s, end_s = self._frozen_s
            image = SCENE if begin_s <= now_s < end_s else noisy()
            if self._paint == "clock":
                image = image.copy()
                image[:8, :16] = RNG.integers(0, 255, (8, 16, 3))
            yield DecodedPicture(now_s, 0.0, (64, 48), lambda image=image: image)  # type: ignore[misc]
            self._clock.advance(0.5)

    def close(self) -> None:
        """Do nothing."""


def play(clock: FakeClock, frozen_s: tuple[float, float], until_s: float, **options: object) -> list[Item]:
    numbers = {"num": 0}

    def connect() -> Camera:
        numbers["num"] += 1
        return Camera(clock, frozen_s, str(options.pop("paint", "noise")))

    options.setdefault("retry", WATCH_RETRY)
    wanted = SourceOptions(frozen_after_s=60.0, masks=options.pop("masks", None), retry=options["retry"])  # type: ignore[arg-type]
    source = LiveSource("cam", connect, wanted, clock, random.Random(0))
    source.open()
    items: list[Item] = []
    for item in source.frames():
        items.append(item)
        if clock.now_s() > until_s:
            source.close()
    items.append(Notice(NoticeKind.OPENED, "cam", 0.0, "connections", numbers["num"]))
    return items


def notices(items: list[Item]) -> list[Notice]:
    return [item for item in items if isinstance(item, Notice)]


def test_a_frozen_camera_is_said_connected_anew_and_its_thaw_is_a_gap() -> None:
    clock = FakeClock()
    told = notices(play(clock, (100.0, 400.0), 500.0))
    assert [str(notice.kind) for notice in told[:-1]] == ["opened", *["frozen"] * 4, "gap"]
    assert told[1].details["still_s"] == pytest.approx(60.0, abs=1.0)
    assert told[-2].details["was_frozen"] is True
    assert told[-2].details["gap_s"] == pytest.approx(300.0, abs=10.0)
    assert 6 <= told[-1].count <= 12, "new connections, 5 to 60 s apart"


@pytest.mark.slow
def test_a_camera_that_stays_frozen_is_not_told_every_minute() -> None:
    clock = FakeClock()
    told = notices(play(clock, (10.0, 1e9), 3_000.0))
    frozen = [notice for notice in told if notice.kind is NoticeKind.FROZEN]
    assert 5 <= len(frozen) <= 10
    assert told[-1].count > 40, "it is tried all the time"


def test_a_clock_in_the_picture_is_not_motion_once_it_is_masked() -> None:
    clock = FakeClock()
    masks = Masks([MaskRegion.rectangle(0.0, 0.0, 0.25, 0.17)])
    seen = notices(play(clock, (50.0, 1e9), 200.0, paint="clock"))
    masked = notices(play(FakeClock(), (50.0, 1e9), 200.0, paint="clock", masks=masks))
    assert not [notice for notice in seen if notice.kind is NoticeKind.FROZEN]
    assert [notice for notice in masked if notice.kind is NoticeKind.FROZEN]


def test_frames_go_on_while_it_is_frozen() -> None:
    clock = FakeClock()
    items = play(clock, (10.0, 1e9), 300.0, retry=RetryPolicy(max_retries=None, first_delay_s=5.0))
    frames = [item for item in items if isinstance(item, Frame)]
    steps_s = [after.pts_s - before.pts_s for before, after in itertools.pairwise(frames)]
    assert max(steps_s) <= 1.0
