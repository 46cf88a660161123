"""Synthetic scenes: one seed gives one scene, and the pictures show what the ground truth says."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from streaming.clock import FakeClock
from streaming.errors import OptionError, SourceError
from streaming.open_source import open_source
from streaming.scenes.scenario import EventKind, Family, SceneSettings, Thing, TruthEvent
from streaming.scenes.scenery import COLOURS, MIN_CONTRAST, SHAPES, Ground, Outline, paint_alpha, seen_colours
from streaming.scenes.source import Scene, SyntheticSource
from streaming.scenes.stage import SPACING_S
from streaming.sources.base import SourceOptions
from streaming.sources.encoded import through_h264
from streaming.types import Frame, Notice, NoticeKind

SEEDS = range(40)
PLAIN = SceneSettings(
    duration_s=40.0, noise_sigma=(0.0, 0.0), distractor_probability=0.0, artefact_probability=0.0, still_probability=0.0
)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [Scene(seed, PLAIN) for seed in SEEDS]


def events(scenes: list[Scene], *kinds: EventKind) -> list[tuple[Scene, TruthEvent]]:
    found = [(scene, event) for scene in scenes for event in scene.truth if event.kind in kinds]
    assert len(found) >= 8, f"too few of {kinds} to tell anything"
    return found


def thing_of(scene: Scene, event: TruthEvent) -> Thing:
    return next(thing for thing in scene.scenario.things if thing.thing_id == event.thing_id)


def coloured(scene: Scene, thing: Thing, t_s: float) -> np.ndarray:
    """Where, about its place, the picture has the thing's colour of that time: bool `[height, width]`."""
    away = scene.clean_frame(t_s).astype(np.float32) - thing.rgb_at(t_s)
    reach = 0.75 * thing.size_px
    x, y = np.subtract(thing.way.at(t_s), scene.scenario.camera.at(t_s))
    rows, columns = np.mgrid[0 : scene.height_px, 0 : scene.width_px]
    return (np.linalg.norm(away, axis=2) < 40) & (abs(rows - y) < reach) & (abs(columns - x) < reach)


# ---- from the seed ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_scene_whatever_the_order_of_asking() -> None:
    settings = SceneSettings(duration_s=12.0, distractor_probability=1.0, artefact_probability=1.0)
    times = [0.0, 3.5, 7.0, 11.5]
    for seed in (3, 8, 1_000_003):
        forward, backward = Scene(seed, settings), Scene(seed, settings)
        ahead = [forward.frame(t_s) for t_s in times]
        behind = [backward.frame(t_s) for t_s in reversed(times)][::-1]
        assert all(np.array_equal(a, b) for a, b in zip(ahead, behind, strict=True))
        assert np.array_equal(forward.frame(times[0]), ahead[0])
        assert forward.truth == backward.truth


def test_seeds_differ() -> None:
    assert len({Scene(seed, PLAIN).frame(0.0).tobytes() for seed in range(12)}) == 12


def test_noise_has_the_given_strength_and_is_new_in_each_frame() -> None:
    settings = SceneSettings(
        duration_s=6.0, noise_sigma=(4.0, 4.0), still_probability=1.0, grounds=(Ground.GRADIENT,),
        distractor_probability=0.0, artefact_probability=0.0,
    )  # fmt: skip
    scene = Scene(5, settings)
    first, second = (scene.frame(t_s).astype(np.float32) for t_s in (1.0, 1.5))
    unclipped = (first > 20) & (first < 235)
    assert np.std((first - second)[unclipped]) == pytest.approx(4.0 * np.sqrt(2), rel=0.06)


# ---- the script ------------------------------------------------------------------------------------------------------


def test_events_keep_apart_and_can_be_told_in_time(scenes: list[Scene]) -> None:
    for scene in scenes:
        for key in ("time_s", "visible_s"):
            moments = sorted(getattr(event, key) for event in scene.truth)
            assert all(b - a >= SPACING_S - 1e-9 for a, b in itertools.pairwise(moments))
        for event in scene.truth:
            assert 0 < event.time_s <= event.visible_s < scene.duration_s - 0.5
            assert event.visible_s - event.time_s <= 0.53


def test_every_kind_of_event_happens(scenes: list[Scene]) -> None:
    assert {event.kind for scene in scenes for event in scene.truth} == set(EventKind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "allowed"),
    [
        (Family.LIGHT, {EventKind.GETS_DARK, EventKind.GETS_BRIGHT}),
        (Family.VIEW, {EventKind.COVERED, EventKind.UNCOVERED, EventKind.BLURRED, EventKind.SHARP,
                       EventKind.CAMERA_MOVES, EventKind.CUT}),
        (Family.SHAPES, {EventKind.ENTERS, EventKind.LEAVES, EventKind.STARTS, EventKind.STOPS,
                         EventKind.CHANGES_COLOUR}),
        (Family.MOTION, {EventKind.ENTERS, EventKind.LEAVES, EventKind.STARTS, EventKind.STOPS}),
    ],
)  # fmt: skip
def test_families_are_kept_to(family: Family, allowed: set[EventKind]) -> None:
    settings = SceneSettings(families=frozenset({family}), still_probability=0.0)
    truth = [event for seed in range(10) for event in Scene(seed, settings).truth]
    assert truth and {event.kind for event in truth} <= allowed
    if family is Family.SHAPES:
        assert all(event.shape in SHAPES and event.colour in COLOURS for event in truth)
    else:
        assert all(event.shape is None and event.colour is None for event in truth)


def test_nothing_happens_while_the_view_is_covered_blurred_or_shaken(scenes: list[Scene]) -> None:
    pairs = {EventKind.COVERED: EventKind.UNCOVERED, EventKind.BLURRED: EventKind.SHARP}
    for scene in scenes:
        for event, following in itertools.pairwise(scene.truth):
            if event.kind in pairs:
                assert following.kind is pairs[event.kind]
        for move in scene.scenario.camera_moves:
            others = [e for e in scene.truth if move.start_s < e.time_s < move.end_s]
            assert [e.kind for e in others] == [EventKind.CAMERA_MOVES]


def test_a_still_scene_has_no_event_and_only_noise_between_its_frames() -> None:
    settings = SceneSettings(
        duration_s=30.0, still_probability=1.0, noise_sigma=(0.0, 0.0), distractor_probability=0.0,
        artefact_probability=0.0,
    )  # fmt: skip
    for seed in range(8):
        scene = Scene(seed, settings)
        assert not scene.truth
        assert np.array_equal(scene.frame(0.0), scene.frame(29.5))


def test_distractors_are_faint_or_small() -> None:
    settings = SceneSettings(duration_s=30.0, still_probability=1.0, noise_sigma=(0.0, 0.0), distractor_probability=1.0)
    for seed in range(8):
        scene = Scene(seed, settings)
        difference = np.abs(scene.frame(0.0).astype(int) - scene.frame(29.5)).mean(axis=2)
        assert 0 < difference.mean() < 14
        assert np.mean(difference > 40) < 0.02


# ---- the pictures ----------------------------------------------------------------------------------------------------


def test_what_enters_shows_at_its_edge_at_its_time(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.ENTERS):
        if event.shape is None:
            continue
        thing = thing_of(scene, event)
        seen = coloured(scene, thing, event.visible_s)
        assert 0.35 * thing.area_px < seen.sum() < 0.8 * thing.area_px
        assert seen[edge_of(scene, event.side or "", thing.size_px)].mean() > 0
        quarter = coloured(scene, thing, event.time_s)
        assert 0.08 * thing.area_px < quarter.sum() < 0.4 * thing.area_px


def edge_of(scene: Scene, side: str, depth_px: float) -> tuple[slice, slice]:
    depth = int(depth_px)
    rows = {"top": slice(0, depth), "bottom": slice(scene.height_px - depth, None)}.get(side, slice(None))
    columns = {"left": slice(0, depth), "right": slice(scene.width_px - depth, None)}.get(side, slice(None))
    return rows, columns


def test_what_has_left_is_gone(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.LEAVES):
        thing = thing_of(scene, event)
        before, told = (scene.scenario.seen_part(thing, t_s)[0] for t_s in (event.time_s, event.visible_s))
        assert before == pytest.approx(0.75, abs=0.08)
        assert told == pytest.approx(0.4, abs=0.08)
        assert all(state.thing_id != thing.thing_id for state in scene.state(thing.gone_s + 0.01).things)


def test_textured_things_change_the_picture_where_they_are(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.ENTERS):
        if event.shape is not None:
            continue
        born_s = thing_of(scene, event).born_s
        changed = np.abs(scene.clean_frame(event.visible_s).astype(int) - scene.clean_frame(born_s)).max(axis=2) > 25
        band = edge_of(scene, event.side or "", 0.5 * min(scene.width_px, scene.height_px))
        assert changed[band].sum() >= 60


def test_stops_and_starts_are_what_the_places_say(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.STOPS):
        thing = thing_of(scene, event)
        here = np.array(thing.way.at(event.time_s))
        assert np.hypot(*(np.array(thing.way.at(event.visible_s)) - here)) < 1.1 * scene.scenario.scale
        earlier = [np.array(thing.way.at(event.time_s - delay_s)) for delay_s in (0.1, 0.2, 0.3, 0.4)]
        assert max(np.hypot(*(place - here)) for place in earlier) > 0.8
        state = next(s for s in scene.state(event.visible_s + 0.1).things if s.thing_id == thing.thing_id)
        assert state.side == event.side and not state.moving
    for scene, event in events(scenes, EventKind.STARTS):
        thing = thing_of(scene, event)
        step = np.subtract(thing.way.at(event.visible_s), thing.way.at(event.time_s - 0.3))
        assert np.hypot(*step) > 2.0
        if event.direction in ("left", "right"):
            assert abs(step[0]) > abs(step[1]) and (step[0] > 0) == (event.direction == "right")
        elif event.direction:
            assert abs(step[1]) > abs(step[0]) and (step[1] > 0) == (event.direction == "down")


@pytest.mark.slow
def test_the_state_names_the_colour_at_its_place(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        for t_s in scene.times(0.5):
            state = scene.state(float(t_s))
            if not state.settled:
                continue
            picture = scene.clean_frame(float(t_s)).astype(np.float32)
            for thing in (thing for thing in state.things if thing.shape):
                column, row = int(thing.x_px), int(thing.y_px)
                distances = {name: np.linalg.norm(picture[row, column] - rgb) for name, rgb in COLOURS.items()}
                assert min(distances, key=lambda name: distances[name]) == thing.colour
                if thing.side_sure:
                    assert thing.side == ("left", "centre", "right")[3 * column // scene.width_px]
                checked += 1
    assert checked > 50


def test_a_change_of_colour_shows(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.CHANGES_COLOUR):
        thing = thing_of(scene, event)
        colours = [thing.colour_at(t_s) for t_s in (event.time_s - 0.2, event.visible_s)]
        assert colours == [event.colour, event.new_colour] and event.colour != event.new_colour
        x, y = (int(value) for value in scene.scenario.seen_part(thing, event.visible_s)[1:])
        before, after = (
            scene.clean_frame(t_s)[y, x].astype(int) for t_s in (event.time_s - 0.3, event.visible_s + 0.3)
        )
        assert np.abs(before - after).max() > 40


def test_light_and_view_events_change_the_whole_picture(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.GETS_DARK, EventKind.GETS_BRIGHT):
        before, after = scene.frame(event.time_s - 0.35).mean(), scene.frame(event.visible_s + 0.5).mean()
        assert (after < before - 3) == (event.kind is EventKind.GETS_DARK)
        assert (after > before + 3) == (event.kind is EventKind.GETS_BRIGHT)
    for scene, event in events(scenes, EventKind.COVERED, EventKind.CUT):
        before, after = scene.frame(event.time_s - 0.4).astype(int), scene.frame(event.visible_s).astype(int)
        assert np.mean(np.abs(before - after).max(axis=2) > 12) > 0.55
    for scene, event in events(scenes, EventKind.BLURRED, EventKind.SHARP):
        before, after = (sharpness(scene.frame(t_s)) for t_s in (event.time_s - 0.4, event.visible_s + 0.5))
        assert (after < 0.75 * before) if event.kind is EventKind.BLURRED else (before < 0.75 * after)
    for scene, event in events(scenes, EventKind.CAMERA_MOVES):
        before, after = scene.frame(event.time_s - 0.6).astype(int), scene.frame(event.visible_s)
        assert np.mean(np.abs(before - after).max(axis=2) > 8) > 0.03


def sharpness(picture: np.ndarray) -> float:
    grey = picture.astype(np.float32).mean(axis=2)
    return float((np.diff(grey, axis=1) ** 2).mean() + (np.diff(grey, axis=0) ** 2).mean())


def test_a_covered_view_shows_nothing_of_the_scene(scenes: list[Scene]) -> None:
    for scene, event in events(scenes, EventKind.COVERED):
        hidden = scene.frame(event.visible_s + 0.9).astype(int)
        assert scene.state(event.visible_s + 0.9).covered
        assert np.median(np.abs(hidden - np.median(hidden, axis=(0, 1)))) < 10


# ---- outlines and colours ----------------------------------------------------------------------------------------


def test_colours_stand_out_from_every_ground(scenes: list[Scene]) -> None:
    for scene in scenes:
        for shot in scene.scenario.shots:
            names = seen_colours(shot.ground)
            assert len(names) >= 4
            for name in names:
                away = np.linalg.norm(np.asarray(shot.ground.palette) - COLOURS[name], axis=1)
                assert away.min() >= MIN_CONTRAST


@pytest.mark.parametrize("form", [*SHAPES, "ellipse", "blob", "person", "arm"])
def test_outlines_are_antialiased_and_stay_in_their_box(form: str) -> None:
    lobes = ((0.1, 0.5), (0.05, 2.0)) if form == "blob" else ()
    alpha = paint_alpha(Outline(form, 0.1, 0.7, lobes), 40.0, phase=1.0)
    assert alpha.min() == 0 and alpha.max() == 1
    assert np.mean((alpha > 0.05) & (alpha < 0.95)) > 0.02
    assert alpha[0].max() == alpha[:, 0].max() == 0 or form == "arm"
    assert 0.15 < alpha.sum() / 40**2 < 0.8


def test_motion_is_sub_pixel_smooth(scenes: list[Scene]) -> None:
    scene, event = next((s, e) for s, e in events(scenes, EventKind.LEAVES) if e.shape)
    thing = thing_of(scene, event)
    start = event.time_s - 0.4
    columns, rows = np.meshgrid(np.arange(scene.width_px), np.arange(scene.height_px))
    centres = []
    for t_s in start + np.arange(4) * 0.02:
        weight = coloured(scene, thing, float(t_s)).astype(float)
        centres.append((np.average(columns, weights=weight), np.average(rows, weights=weight)))
    steps = np.hypot(*np.diff(np.array(centres), axis=0).T)
    assert 0 < steps.max() < 4


def test_settings_are_checked() -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"duration_s": 0.5},
        {"fps": 0.0},
        {"view_sizes": ()},
        {"noise_sigma": (3.0, 1.0)},
        {"families": frozenset()},
        {"families": frozenset({"sounds"})},
        {"cast": (("pink", "circle"),)},
        {"pace": 0.0},
        {"odds": {"juggles": 2.0}},
        {"odds": {"cut": -1.0}},
        {"upright_share": 1.5},
    )
    for wrong in wrongs:
        with pytest.raises(OptionError):
            SceneSettings(**wrong)


def test_a_cast_and_an_opening_are_followed() -> None:
    settings = SceneSettings(cast=(("red", "star"), ("blue", "star")), opening=2, families=frozenset({Family.SHAPES}),
                             still_probability=1.0)  # fmt: skip
    for seed in range(6):
        shown = {(thing.colour, thing.shape) for thing in Scene(seed, settings).state(0.0).things}
        assert shown == {("red", "star"), ("blue", "star")}


# ---- as a source -----------------------------------------------------------------------------------------------------


def test_the_source_plays_the_scene_with_exact_media_time() -> None:
    settings = SceneSettings(duration_s=3.0, view_sizes=((112, 84),))
    with SyntheticSource(7, fps=30.0, settings=settings, clock=FakeClock()) as source:
        info = source.open()
        items = list(source.frames())
        scene = Scene(7, settings)
    assert (info.width_px, info.height_px, info.is_live, info.name) == (112, 84, False, "synthetic:7")
    assert isinstance(items[0], Notice) and items[0].kind is NoticeKind.OPENED
    assert isinstance(items[-1], Notice) and items[-1].kind is NoticeKind.ENDED
    frames = [item for item in items if isinstance(item, Frame)]
    assert len(frames) == len(items) - 2 == 90
    assert [frame.index for frame in frames] == list(range(90))
    assert all(frame.pts_s == index / 30 for index, frame in enumerate(frames))
    assert np.array_equal(frames[40].image, scene.frame(40 / 30))


def test_the_source_follows_start_end_loop_sampling_and_speed() -> None:
    clock = FakeClock()
    options = SourceOptions(start_s=1.0, end_s=3.0, loop=2, sample_fps=2.0, speed=2.0)
    with open_source("synthetic:7", options=options, clock=clock) as source:
        source.open()
        items = list(source.frames())
    times = [item.pts_s for item in items if isinstance(item, Frame)]
    assert times == pytest.approx([1.0, 1.52, 2.0, 2.52, 3.0, 3.52, 4.0, 4.52])
    assert sum(isinstance(item, Notice) and item.kind is NoticeKind.LOOPED for item in items) == 1
    assert sum(clock.waits_s) == pytest.approx(3.52 / 2, abs=0.01)


def test_a_closed_source_stops_and_can_be_opened_again() -> None:
    source = SyntheticSource(7, fps=10.0, settings=SceneSettings(duration_s=4.0), clock=FakeClock())
    with pytest.raises(SourceError):
        next(source.frames())
    source.open()
    frames = source.frames()
    assert [type(next(frames)) for _ in range(3)] == [Notice, Frame, Frame]
    source.close()
    assert list(frames) == []
    source.open()
    assert sum(isinstance(item, Frame) for item in source.frames()) == 40
    with pytest.raises(OptionError):
        SyntheticSource(7, SourceOptions(start_s=99.0)).open()


def test_h264_keeps_number_size_and_look_of_the_pictures() -> None:
    scene = Scene(9, SceneSettings(duration_s=4.0, view_sizes=((113, 85),), noise_sigma=(2.0, 2.0)))
    pictures = [scene.frame(float(t_s)) for t_s in scene.times(5.0)]
    coded = through_h264(pictures, 5.0)
    assert [picture.shape for picture in coded] == [picture.shape for picture in pictures]
    errors = [np.abs(a.astype(int) - b).mean() for a, b in zip(coded, pictures, strict=True)]
    assert 0.1 < np.mean(errors) < 8
    assert through_h264([], 5.0) == []
