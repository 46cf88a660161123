"""Data types of synthetic scenes, without pixels: settings, things, paths, effects and ground truth.

All are immutable, with look-ups by time, for any thread. `planning.py` makes a `Scenario`, `rendering.py` draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from streaming.errors import OptionError
from streaming.scenes.object_names import NAMES
from streaming.scenes.scenery import COLOURS, POINTS_PER_SIDE, RGB, SHAPES, USUAL_GROUNDS, Ground, GroundSpec, Outline


class Family(StrEnum):
    """Families of events, to which a scene can be limited."""

    SHAPES = "shapes"
    MOTION = "motion"
    LIGHT = "light"
    VIEW = "view"


class EventKind(StrEnum):
    """Kinds of events. The first five concern a thing, the others the whole view."""

    ENTERS = "enters"
    LEAVES = "leaves"
    STARTS = "starts"
    STOPS = "stops"
    CHANGES_COLOUR = "changes_colour"
    GETS_DARK = "gets_dark"
    GETS_BRIGHT = "gets_bright"
    COVERED = "covered"
    UNCOVERED = "uncovered"
    BLURRED = "blurred"
    SHARP = "sharp"
    CAMERA_MOVES = "camera_moves"
    CUT = "cut"


ACTS = (
    *("shape_enters", "shape_crosses", "shape_moves", "shape_leaves", "shape_turns"),
    *("body_enters", "body_crosses", "body_moves", "body_sways", "body_leaves", "arm_reaches"),
    *("light_changes", "light_returns", "covered", "cut", "blurred", "camera_moves_away"),
)
"""Names of all acts: the functions in `acts` and `effects`."""


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What a scene may contain; together with the seed it determines the scene to the bit."""

    duration_s: float = 30.0
    fps: float = 2.0
    """Frames a second that the viewer samples. A stop is visible one sampled frame after it, and events leave room for
    that, so another rate may give another scene."""
    view_sizes: tuple[tuple[int, int], ...] = ((224, 140),)
    """Possible widths and heights in pixels; each scene has one of them."""
    families: frozenset[Family] = frozenset(Family)
    grounds: tuple[Ground, ...] = USUAL_GROUNDS
    photographs: tuple[str, ...] = ()
    """Files that grounds of the kind `PHOTO` are cut from."""
    noise_sigma: tuple[float, float] = (0.0, 4.0)
    """Range of the sensor noise's standard deviation, grey levels; each scene draws one value."""
    still_probability: float = 0.12
    """Share of scenes in which nothing happens."""
    max_things: int = 3
    """Most things in view at once."""
    pace: float = 1.0
    """Events a second relative to the default (about one in 3 to 5 s while something is going on)."""
    distractor_probability: float = 0.3
    """Probability of each distractor: ticking clock, flicker, drift of light, a wandering soft shadow, exposure that
    reacts to things, a small part that shimmers."""
    artefact_probability: float = 0.3
    """Share of scenes with JPEG artefacts, half of them pulsing as video encoders do."""
    cast: tuple[tuple[str, str], ...] = ()
    """The colours and shapes that may appear; empty for all."""
    cutouts: tuple[tuple[str, str], ...] = ()
    """Files of cut-outs with alpha that may replace textured things, each with its word of `object_names.NAMES`, or ""
    if it has no word."""
    cutout_share: float = 0.8
    """Share of textured things that are cut-outs, if `cutouts` are given."""
    opening: int | None = None
    """Number of shapes in view at the beginning; None draws it at random."""
    odds: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Factors on the probability of acts, by their names in `ACTS`."""
    upright_share: float = 0.0
    """Share of moves from place to place that are forced to go up or down; in a wide view few do so by chance."""

    def __post_init__(self) -> None:
        if not 2.0 <= self.duration_s <= 7200.0:
            raise OptionError(f"duration_s={self.duration_s:g}", "a scene lasts 2 to 7200 seconds", "60 is usual")
        if not 0.2 <= self.fps <= 60.0:
            raise OptionError(f"fps={self.fps:g}", "a scene is watched at 0.2 to 60 frames a second", "2 is usual")
        if not self.view_sizes or min(min(size) for size in self.view_sizes) < 56:
            raise OptionError(f"view_sizes={self.view_sizes}", "each side is 56 pixels or more", "give ((224, 140),)")
        low, high = self.noise_sigma
        if not 0.0 <= low <= high <= 64.0:
            raise OptionError(f"noise_sigma={self.noise_sigma}", "it is a range within 0 to 64", "give (0, 4)")
        if not self.families or not self.grounds or not set(self.families) <= set(Family):
            raise OptionError(
                f"families={sorted(self.families)}, grounds={list(self.grounds)}",
                f"families are among {', '.join(Family)}, and neither is empty",
                "name at least one of each",
            )
        if Ground.PHOTO in self.grounds and not self.photographs:
            raise OptionError(
                f"grounds={list(self.grounds)}", "photo needs photographs", "give some, or leave photo out of grounds"
            )
        if any(colour not in COLOURS or shape not in SHAPES for colour, shape in self.cast):
            raise OptionError(f"cast={self.cast}", "each is a colour and a shape", 'give e.g. (("red", "circle"),)')
        unknown = sorted({word for _, word in self.cutouts} - {"", *NAMES})
        if unknown:
            rule = f"words are among {', '.join(NAMES)}, or empty"
            raise OptionError(f"cutouts with {', '.join(unknown)}", rule, "name one of them")
        if self.max_things < 1 or self.pace <= 0:
            raise OptionError(
                f"max_things={self.max_things}, pace={self.pace:g}", "both are above 0", "3 and 1 are usual"
            )
        if not set(self.odds) <= set(ACTS) or min(self.odds.values(), default=0.0) < 0:
            raise OptionError(
                f"odds={dict(self.odds)}", f"they are 0 or more, of {', '.join(ACTS)}", "give e.g. {'blurred': 2}"
            )
        for name, usual in (("upright_share", "0"), ("cutout_share", "0.8")):
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                raise OptionError(f"{name}={share:g}", "a share is 0 to 1", f"{usual} is usual")


@dataclass(frozen=True, slots=True)
class TruthEvent:
    """An event that is worth a remark."""

    kind: EventKind
    time_s: float
    """The time at which a quarter of the change is visible.

    enters: a quarter of what will come in is in; leaves: a quarter of what was in is out; starts: it has moved by
    2 px (of a 224-pixel view); stops: it has come to within 1 px of where it rests; changes_colour, gets_dark,
    gets_bright, blurred, sharp: a quarter of the change in level; covered, uncovered: a quarter of the view;
    camera_moves: a quarter of the largest displacement; cut: the cut."""
    visible_s: float
    """The time from which a remark about it is true and can be checked by eye.

    enters: 60 % in; leaves: 60 % out; starts: moved by 6 px; stops: at rest for one sampled frame; covered and
    uncovered: 70 %; changes_colour: 85 %; the others 60 % of the change; cut: the cut."""
    thing_id: int | None = None
    colour: str | None = None
    """The shape's colour (before the change, where it changes); None for textured things and the view."""
    shape: str | None = None
    side: str | None = None
    """enters, leaves: the edge (left, right, top, bottom); starts, stops: the third (left, centre, right)."""
    direction: str | None = None
    """starts, enters, leaves: where it goes (left, right, up, down); None for moving on the spot."""
    new_colour: str | None = None
    name: str | None = None
    """The thing's word of `object_names.NAMES`; None if it has none."""


@dataclass(frozen=True, slots=True)
class Ramp:
    """A level that changes piecewise linearly over time."""

    times_s: tuple[float, ...] = (0.0,)
    levels: tuple[float, ...] = (0.0,)

    def at(self, t_s: float) -> float:
        """The level at a time."""
        if len(self.times_s) == 1:
            return self.levels[0]
        return float(np.interp(t_s, self.times_s, self.levels))


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The path of a point over time, linear between its knots."""

    times_s: np.ndarray
    """float64 `[num_knots]`, rising."""
    points: np.ndarray
    """float64 `[num_knots, 2]`, x then y in pixels."""

    def at(self, t_s: float) -> tuple[float, float]:
        """The point at a time; before the first knot the first point, after the last the last."""
        return (
            float(np.interp(t_s, self.times_s, self.points[:, 0])),
            float(np.interp(t_s, self.times_s, self.points[:, 1])),
        )

    def length_px(self, t_s: float) -> float:
        """Length of the path from its first knot up to a time."""
        steps = np.hypot(*np.diff(self.points, axis=0).T)
        return float(np.interp(t_s, self.times_s, np.concatenate([[0.0], np.cumsum(steps)])))


@dataclass(frozen=True, slots=True)
class Motion:
    """A period in which a thing or the camera moves."""

    start_s: float
    end_s: float
    direction: str | None
    """left, right, up, down, or None for moving on the spot."""


@dataclass(frozen=True, slots=True)
class ColourChange:
    """A shape's gradual change to another colour."""

    start_s: float
    end_s: float
    colour: str
    rgb: RGB


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a scene, with its path and changes from beginning to end."""

    thing_id: int
    outline: Outline
    size_px: float
    colour: str | None
    """Name of its first colour; None for textured things."""
    rgb: RGB
    changes: tuple[ColourChange, ...]
    born_s: float
    gone_s: float
    way: Trajectory
    """Its centre, in pixels of the first camera position."""
    motions: tuple[Motion, ...]
    points: np.ndarray
    """float32 `[num_points, 2]`: points of its form, from its centre."""
    full_share: float
    """Share of the form inside the view when it counts as wholly in (below 1 for arms and large things)."""
    seed: int
    name: str | None = None
    """Its word of `names.NAMES`; None for shapes and what has no word."""

    @property
    def area_px(self) -> float:
        """Area of its form."""
        return self.size_px**2 * len(self.points) / POINTS_PER_SIDE**2

    @property
    def shape(self) -> str | None:
        """The name of its plain shape; None for textured things."""
        return self.outline.form if self.colour is not None else None

    def colour_at(self, t_s: float) -> str | None:
        """The name of its colour at a time (the new one from half the change on)."""
        name = self.colour
        for change in self.changes:
            if t_s >= (change.start_s + change.end_s) / 2:
                name = change.colour
        return name

    def rgb_at(self, t_s: float) -> np.ndarray:
        """Its colour in RGB, 0 to 255."""
        rgb = np.asarray(self.rgb, np.float32)
        for change in self.changes:
            share = np.clip((t_s - change.start_s) / max(change.end_s - change.start_s, 1e-6), 0, 1)
            rgb = rgb + (np.asarray(change.rgb, np.float32) - rgb) * np.float32(share)
        return rgb


@dataclass(frozen=True, slots=True)
class Shot:
    """The ground between two cuts."""

    start_s: float
    ground: GroundSpec


@dataclass(frozen=True, slots=True)
class Cover:
    """Something that covers the lens."""

    ramp: Ramp
    """Share of the view that is covered, from `edge`."""
    edge: str
    rgb: RGB
    softness_px: float
    seed: int


@dataclass(frozen=True, slots=True)
class Sensor:
    """What the camera adds to the picture, and small changes that are not worth a remark."""

    noise_sigma: float
    balance: RGB
    """Gain of each channel, near 1."""
    flicker_levels: float
    flicker_hz: float
    drift: Ramp
    """Slow change of brightness: a factor near 1."""
    reaction: float
    """Share by which the picture darkens when things fill the whole view."""
    shadow_levels: float
    """Depth of a soft shadow that wanders, grey levels; 0 for none."""
    clock_corner: str | None
    """Corner of a ticking clock, as "top left"."""
    shimmer_levels: float
    """Strength of the flicker of a small part of the view, like a screen in the background; 0 for none."""
    shimmer_box: tuple[float, float, float, float]
    """Left, top, width and height of that part, shares of the view."""
    jpeg_quality: int | None
    pulse_s: float | None
    """Interval between frames that are encoded much better, like key frames; None for no such frames."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The complete plan of a scene."""

    seed: int
    width_px: int
    height_px: int
    duration_s: float
    shots: tuple[Shot, ...]
    things: tuple[Thing, ...]
    covers: tuple[Cover, ...]
    gain: Ramp
    blur_px: Ramp
    camera: Trajectory
    camera_moves: tuple[Motion, ...]
    sensor: Sensor
    truth: tuple[TruthEvent, ...]
    scale: float
    """Pixels of this view for one pixel of a 224 × 140 view."""

    def shot_at(self, t_s: float) -> int:
        """The index of the shot at a time."""
        starts = [shot.start_s for shot in self.shots]
        return max(int(np.searchsorted(starts, t_s, side="right")) - 1, 0)

    def seen_part(self, thing: Thing, t_s: float) -> tuple[float, float, float]:
        """Share of a thing in view, relative to its `full_share`, and the centre of that part in view pixels (x, y)."""
        x, y = thing.way.at(t_s)
        camera_x, camera_y = self.camera.at(t_s)
        points = thing.points + np.array([x - camera_x, y - camera_y], np.float32)
        inside = ((points >= 0) & (points < (self.width_px, self.height_px))).all(axis=1)
        if not inside.any():
            return 0.0, x - camera_x, y - camera_y
        middle = points[inside].mean(axis=0)
        return min(float(inside.mean()) / thing.full_share, 1.0), float(middle[0]), float(middle[1])


def share_inside(points: np.ndarray, x: np.ndarray, y: np.ndarray, width: int, height: int) -> np.ndarray:
    """Share of a form's points inside the view, for each centre `x`, `y` `[n]`: float64 `[n]`."""
    px = points[:, 0] + np.asarray(x, np.float64)[:, None]
    py = points[:, 1] + np.asarray(y, np.float64)[:, None]
    shares: np.ndarray = ((px >= 0) & (px < width) & (py >= 0) & (py < height)).mean(axis=1)
    return shares
