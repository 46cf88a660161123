"""Paints the parts of synthetic scenes: grounds (backgrounds), outlines and textures. Pure; for any thread."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from streaming.errors import OptionError
from streaming.scenes.cutouts import is_opaque
from streaming.scenes.photographs import cut_out, palette_of

RGB = tuple[float, float, float]
Point = tuple[float, float]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 36, 40),
    "green": (36, 158, 62),
    "blue": (40, 76, 214),
    "yellow": (238, 214, 44),
    "white": (244, 244, 244),
    "black": (16, 16, 18),
    "orange": (242, 128, 24),
    "purple": (142, 48, 170),
}
"""The colours that things can have, by name; each thing's own colour varies a little around it."""

SHAPES = ("circle", "square", "triangle", "star")
"""The plain shapes."""

MIN_CONTRAST = 95.0
"""Least distance in RGB (Euclidean, grey levels) between a shape's colour and every colour of its ground."""


POINTS_PER_SIDE = 24
"""Number of sample points of a form along each side of its bounding box."""
_PHOTO_TRIES = 12
"""Parts of photographs that are tried before another kind of ground: few contrast with four of the eight colours."""


class Ground(StrEnum):
    """Kinds of ground (background)."""

    FLAT = "flat"
    GRADIENT = "gradient"
    STRIPES = "stripes"
    NOISE = "noise"
    BLOBS = "blobs"
    CHECKER = "checker"
    ROOM = "room"
    LEAVES = "leaves"
    """Overlapping pieces of all sizes: statistics near those of photographs (Lee, Mumford and Huang 2001)."""
    PHOTO = "photo"
    """Parts of photographs, whose files the settings must name."""


USUAL_GROUNDS = tuple(kind for kind in Ground if kind not in (Ground.LEAVES, Ground.PHOTO))
"""The default kinds of ground; it lists no later kinds, so that the scene of a seed never changes."""
DETAILED = frozenset(Ground) - {Ground.FLAT, Ground.GRADIENT}
"""Grounds on which blur and camera movement are visible."""


@dataclass(frozen=True, slots=True)
class GroundSpec:
    """The parameters that determine a ground's picture."""

    kind: Ground
    palette: tuple[RGB, ...]
    """The colours the ground is made of; shapes keep `MIN_CONTRAST` from each."""
    period_px: float
    """Width of a stripe pair, a check or a typical blob."""
    angle_rad: float
    shade: float
    """How much the light falls off over the picture, 0 to 0.2."""
    seed: int
    photograph: str = ""
    """File of the photograph of a `Ground.PHOTO`."""

    @property
    def luma(self) -> float:
        """Brightness, 0 to 255: the mean of the first colour's and of the average of the others."""
        lumas = np.asarray(self.palette) @ np.array([0.299, 0.587, 0.114])
        others = lumas[1:] if len(lumas) > 1 else lumas
        return float((lumas[0] + others.mean()) / 2)


def muted_colour(rng: np.random.Generator, max_saturation: float = 0.4) -> RGB:
    """A random muted colour, as of walls, floors and clothes."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(rng.random(), max_saturation * rng.random(), rng.uniform(0.2, 0.95))
    return (255 * red, 255 * green, 255 * blue)


def _palette(kind: Ground, rng: np.random.Generator) -> tuple[RGB, ...]:
    base = np.array(muted_colour(rng, 0.9 if kind in (Ground.FLAT, Ground.GRADIENT) and rng.random() < 0.25 else 0.4))
    if kind is Ground.FLAT:
        colours = [base]
    elif kind is Ground.NOISE:
        swing = rng.uniform(12, 45) * np.array([1.0, 1.0, 1.0]) + rng.uniform(-8, 8, 3)
        colours = [base, base + swing, base - swing]
    elif kind in (Ground.ROOM, Ground.LEAVES):
        colours = [base, *(np.array(muted_colour(rng, 0.35)) for _ in range(3))]
    elif kind is Ground.BLOBS:
        colours = [base, *(base + rng.uniform(-70, 70) + rng.uniform(-20, 20, 3) for _ in range(2))]
    else:
        step = rng.uniform(25, 80) * rng.choice([-1.0, 1.0])
        colours = [base, base + step + rng.uniform(-15, 15, 3)]
    return tuple((float(r), float(g), float(b)) for r, g, b in (np.clip(c, 6, 250) for c in colours))


def choose_ground(
    rng: np.random.Generator,
    kinds: tuple[Ground, ...],
    scale: float,
    wanted: frozenset[str] = frozenset(),
    photographs: tuple[str, ...] = (),
) -> GroundSpec:
    """A random ground with which at least four of the eight colours contrast, two of the wanted ones among them.

    Raises `OptionError` if all grounds are photographs and none of many parts of them is suitable.
    """
    tries = 0
    while True:
        kind = kinds[int(rng.integers(len(kinds)))]
        for _ in range(_PHOTO_TRIES if kind is Ground.PHOTO else 1):
            spec = _drawn_photo(rng, photographs, scale) if kind is Ground.PHOTO else _drawn(rng, kind, scale)
            detail = max(np.ptp(np.asarray(spec.palette), axis=0)) if kind in DETAILED else 255.0
            seen = seen_colours(spec)
            if len(seen) >= 4 and len(wanted & set(seen)) >= min(len(wanted), 2) and detail > 20:
                return spec
        if set(kinds) == {Ground.PHOTO} and (tries := tries + 1) >= _PHOTO_TRIES:
            raise OptionError(
                f"photographs such as {photographs[0]}",
                f"from none of {_PHOTO_TRIES**2} parts of them do four of {', '.join(COLOURS)} stand out",
                "give plainer photographs, or other kinds of ground beside photo",
            )


def _drawn(rng: np.random.Generator, kind: Ground, scale: float) -> GroundSpec:
    return GroundSpec(
        kind=kind,
        palette=_palette(kind, rng),
        period_px=float(scale * rng.uniform(14, 56)),
        angle_rad=float(rng.uniform(0, np.pi)),
        shade=float(rng.uniform(0, 0.2) if rng.random() < 0.6 else 0.0),
        seed=int(rng.integers(2**31)),
    )


def _drawn_photo(rng: np.random.Generator, photographs: tuple[str, ...], scale: float) -> GroundSpec:
    photograph, seed = photographs[int(rng.integers(len(photographs)))], int(rng.integers(2**31))
    palette = palette_of(cut_out(photograph, seed, 140, 224))
    return GroundSpec(Ground.PHOTO, palette, scale * 28, 0.0, 0.0, seed, photograph)


def seen_colours(spec: GroundSpec) -> list[str]:
    """Names of the colours that contrast with the ground."""
    palette = np.asarray(spec.palette)
    return [
        name for name, rgb in COLOURS.items() if np.linalg.norm(palette - np.asarray(rgb), axis=1).min() >= MIN_CONTRAST
    ]


def fractal_field(rng: np.random.Generator, height: int, width: int, slope: float) -> np.ndarray:
    """Noise with an amplitude spectrum of 1 / f^slope: float32 `[height, width]`, mean 0, standard deviation 1."""
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None, :]
    radius = np.maximum(np.hypot(fy, fx), 1.0 / max(height, width))
    spectrum = np.exp(2j * np.pi * rng.random(radius.shape)) / radius**slope
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(height, width))
    return (field / max(float(field.std()), 1e-9)).astype(np.float32)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    mixed: np.ndarray = first + (second - first) * share[..., None]
    return mixed


def _paint_room(spec: GroundSpec, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wall, a floor with boards and a few pieces of furniture."""
    wall, floor, *furniture = (np.asarray(c, np.float32) for c in spec.palette)
    picture = np.broadcast_to(wall, (height, width, 3)).copy()
    horizon = int(height * rng.uniform(0.5, 0.8))
    ys, xs = np.mgrid[horizon:height, 0:width].astype(np.float32)
    boards = ((xs - width / 2) / (1 + (ys - horizon) / height) / (spec.period_px * 0.5)).astype(np.int32) % 2
    picture[horizon:] = floor + (boards[..., None] - 0.5) * rng.uniform(6, 24)
    for index in range(int(rng.integers(1, 5))):
        w, h = int(width * rng.uniform(0.05, 0.25)), int(height * rng.uniform(0.15, 0.5))
        x, y = int(rng.integers(-w // 2, width - w // 2)), int(np.clip(horizon - h * rng.uniform(0.2, 1.2), 0, height))
        piece = picture[max(y, 0) : y + h, max(x, 0) : x + w]
        piece[...] = furniture[index % len(furniture)] + np.linspace(-10, 10, piece.shape[1])[None, :, None]
    return picture + fractal_field(rng, height, width, 1.2)[..., None] * rng.uniform(0.5, 4)


def _paint_blobs(spec: GroundSpec, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    base, *others = (np.asarray(c, np.float32) for c in spec.palette)
    picture = np.broadcast_to(base, (height, width, 3)).copy()
    for index, colour in enumerate(others):
        field = fractal_field(rng, height, width, 2.0 + 0.4 * index)
        softness = rng.uniform(0.03, 0.6)
        share = np.clip((field - rng.uniform(0.0, 0.8)) / softness, 0, 1)
        picture = _mix(picture, colour, share)
    return picture


def _paint_leaves(spec: GroundSpec, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Overlapping pieces of many sizes, each with its own shade and grain."""
    palette = np.asarray(spec.palette, np.float32)
    picture = np.broadcast_to(palette[0], (height, width, 3)).copy()
    grain = fractal_field(rng, height, width, 1.2)[..., None]
    least, most = 0.15 * spec.period_px, 2.5 * spec.period_px
    # A density of r^-3 makes a dead-leaves picture scale invariant; the large ones lie below.
    share = rng.random(int(rng.integers(60, 160)))
    radii = 1 / np.sqrt(share / least**2 + (1 - share) / most**2)
    for radius in sorted(map(float, radii), reverse=True):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        left, top = max(int(x - radius), 0), max(int(y - radius), 0)
        piece = picture[top : int(y + radius) + 1, left : int(x + radius) + 1]
        ys, xs = np.mgrid[top : top + piece.shape[0], left : left + piece.shape[1]].astype(np.float32)
        angle = rng.uniform(0, np.pi)
        u = ((xs - x) * np.cos(angle) + (ys - y) * np.sin(angle)) / radius
        v = ((ys - y) * np.cos(angle) - (xs - x) * np.sin(angle)) / (radius * rng.uniform(0.3, 1.0))
        inside = u * u + v * v <= 1 if rng.random() < 0.5 else np.maximum(np.abs(u), np.abs(v)) <= 0.7
        colour = palette[int(rng.integers(len(palette)))] + rng.uniform(-12, 12)
        shade = (u * rng.uniform(0, 14))[..., None] + grain[ys.astype(int), xs.astype(int)] * rng.uniform(0, 9)
        piece[inside] = (colour + shade)[inside]
    return picture


def ground_margin_px(scale: float) -> int:
    """Width of the ground painted beyond each side of the view, for camera movement."""
    return int(np.ceil(46.0 * scale)) + 2


def paint_ground(spec: GroundSpec, height: int, width: int) -> np.ndarray:
    """The ground's picture: float32 RGB `[height, width, 3]`, 0 to 255."""
    if spec.kind is Ground.PHOTO:
        return cut_out(spec.photograph, spec.seed, height, width)
    rng = np.random.default_rng(spec.seed)
    first = np.asarray(spec.palette[0], np.float32)
    last = np.asarray(spec.palette[-1], np.float32)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    along = xs * np.cos(spec.angle_rad) + ys * np.sin(spec.angle_rad)
    across = ys * np.cos(spec.angle_rad) - xs * np.sin(spec.angle_rad)
    if spec.kind is Ground.FLAT:
        picture = np.broadcast_to(first, (height, width, 3)).copy()
    elif spec.kind is Ground.GRADIENT:
        picture = _mix(first, last, (along - along.min()) / max(float(np.ptp(along)), 1.0))
    elif spec.kind is Ground.STRIPES:
        share = np.clip(0.5 + spec.period_px / 6 * np.sin(2 * np.pi * along / spec.period_px), 0, 1)
        picture = _mix(first, last, share)
    elif spec.kind is Ground.CHECKER:
        even = (np.floor(along / spec.period_px) + np.floor(across / spec.period_px)) % 2
        picture = _mix(first, last, even.astype(np.float32))
    elif spec.kind is Ground.NOISE:
        field = fractal_field(rng, height, width, float(rng.uniform(0.7, 1.7))) * 0.6
        picture = first + np.clip(field, -1.2, 1.2)[..., None] * (np.asarray(spec.palette[1], np.float32) - first)
    elif spec.kind is Ground.BLOBS:
        picture = _paint_blobs(spec, rng, height, width)
    elif spec.kind is Ground.LEAVES:
        picture = _paint_leaves(spec, rng, height, width)
    else:
        picture = _paint_room(spec, rng, height, width)
    light = 1.0 - spec.shade * (along - along.min()) / max(float(np.ptp(along)), 1.0)
    ground: np.ndarray = np.clip(picture * light[..., None], 0, 255).astype(np.float32)
    return ground


@dataclass(frozen=True, slots=True)
class Outline:
    """A form within the square from -1 to 1; `u` points right and `v` down."""

    form: str
    """circle, square, triangle, star (plain shapes); ellipse, blob, person, arm (textured things); cutout."""
    angle_rad: float = 0.0
    aspect: float = 1.0
    """Width over height of an ellipse or blob, at most 1."""
    lobes: tuple[tuple[float, float], ...] = ()
    """Amplitude and phase of a blob's second, third … harmonic."""
    picture: str = ""
    """File of a cut-out."""
    mirrored: bool = False
    """Whether a cut-out is mirrored left to right."""

    def inside(self, u: np.ndarray, v: np.ndarray, phase: float = 0.0) -> np.ndarray:
        """Whether each point lies in the form; `phase` (radians) moves limbs and lobes."""
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        u, v = cos * u + sin * v, cos * v - sin * u
        inside: np.ndarray
        if self.form == "circle":
            inside = u * u + v * v <= 1
            return inside
        if self.form == "square":
            inside = np.maximum(np.abs(u), np.abs(v)) <= 0.8
            return inside
        if self.form == "triangle":
            inside = (v <= 0.6) & (v >= 1.84 * np.abs(u) - 0.98)
            return inside
        if self.form == "star":
            return _inside_star(u, v)
        if self.form == "person":
            return _inside_person(u, v, phase)
        if self.form == "arm":
            return _inside_arm(u, v, phase)
        if self.form == "cutout":
            return is_opaque(self.picture, self.mirrored, u, v)
        radius = np.hypot(u / self.aspect, v)
        theta = np.arctan2(v, u)
        reach = np.full_like(radius, 1.0 - sum(abs(a) for a, _ in self.lobes))
        for order, (amplitude, shift) in enumerate(self.lobes, start=2):
            reach = reach + amplitude * np.cos(order * theta + shift + np.sin(phase) * 0.7)
        inside = radius <= reach
        return inside


def _inside_star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    radius, theta = np.hypot(u, v), np.arctan2(v, u) + np.pi / 2
    step = 2 * np.pi / 5
    folded = np.abs((theta + step / 2) % step - step / 2)
    inner_x, inner_y = 0.42 * np.cos(step / 2), 0.42 * np.sin(step / 2)
    x, y = radius * np.cos(folded), radius * np.sin(folded)
    inside: np.ndarray = (inner_x - 1) * y - inner_y * (x - 1) >= 0
    return inside


def _capsule(u: np.ndarray, v: np.ndarray, start: Point, end: Point, radius: float) -> np.ndarray:
    du, dv = end[0] - start[0], end[1] - start[1]
    share = np.clip(((u - start[0]) * du + (v - start[1]) * dv) / (du * du + dv * dv), 0, 1)
    return np.hypot(u - start[0] - share * du, v - start[1] - share * dv) <= radius


def _inside_person(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    swing = 0.22 * float(np.sin(phase))
    inside = (np.hypot(u / 0.17, (v + 0.78) / 0.2) <= 1) | (np.hypot(u / 0.33, (v + 0.1) / 0.55) <= 1)
    for side in (-1.0, 1.0):
        inside |= _capsule(u, v, (0.1 * side, 0.3), ((0.12 + swing) * side, 0.88), 0.11)
        inside |= _capsule(u, v, (0.26 * side, -0.4), ((0.38 - swing) * side, 0.2), 0.08)
    return inside


def _inside_arm(u: np.ndarray, v: np.ndarray, phase: float) -> np.ndarray:
    """A forearm whose base is at the bottom and whose hand is at the top."""
    bend = 0.12 * float(np.sin(phase))
    return _capsule(u, v, (0.0, 1.0), (bend, -0.55), 0.19) | (np.hypot((u - bend) / 0.27, (v + 0.7) / 0.29) <= 1)


def outline_points(outline: Outline, size_px: float) -> np.ndarray:
    """Sample points of the form, in pixels from its centre: float32 `[num_points, 2]`, x then y.

    Each point lies at random in its own grid square, so that a straight edge does not cross a whole row at once.
    """
    axis = np.arange(POINTS_PER_SIDE) / POINTS_PER_SIDE * 2 - 1
    offsets = np.random.default_rng(0).random((2, POINTS_PER_SIDE, POINTS_PER_SIDE)) * 2 / POINTS_PER_SIDE
    u, v = axis[None] + offsets[0], axis[:, None] + offsets[1]
    inside = outline.inside(u, v)
    return (np.stack([u[inside], v[inside]], axis=1) * size_px / 2).astype(np.float32)


def outline_extent(outline: Outline, size_px: float) -> tuple[np.ndarray, np.ndarray]:
    """The form's extent over all poses, in pixels from its centre: left and top (negative), right and bottom."""
    axis = (np.arange(48) + 0.5) / 24 - 1
    u, v = np.meshgrid(axis, axis)
    inside = np.zeros(u.shape, bool)
    for phase in (0.0, np.pi / 2, -np.pi / 2) if outline.form in ("person", "arm", "blob") else (0.0,):
        inside |= outline.inside(u, v, phase)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    low = np.array([axis[columns[0]], axis[rows[0]]]) - 1 / 48
    high = np.array([axis[columns[-1]], axis[rows[-1]]]) + 1 / 48
    return low * size_px / 2 - 1.0, high * size_px / 2 + 1.0


def paint_alpha(outline: Outline, size_px: float, phase: float = 0.0) -> np.ndarray:
    """The form's antialiased opacity: float32 `[side, side]`, centred, with a transparent rim."""
    side = int(np.ceil(size_px)) + 4
    fine = 4 if side <= 72 else 2
    axis = ((np.arange(side * fine) + 0.5) / fine - side / 2) / (size_px / 2)
    u, v = np.meshgrid(axis, axis)
    inside = outline.inside(u, v, phase)
    alpha: np.ndarray = inside.reshape(side, fine, side, fine).mean(axis=(1, 3), dtype=np.float32)
    return alpha


def paint_texture(rng: np.random.Generator, side: int, base: RGB) -> np.ndarray:
    """A random texture such as cloth, skin or fur: float32 RGB `[side, side, 3]` around a base colour."""
    coarse = fractal_field(rng, side, side, float(rng.uniform(0.8, 1.8)))
    picture = np.asarray(base, np.float32) + coarse[..., None] * rng.uniform(5, 28)
    if rng.random() < 0.5:
        edge = int(side * rng.uniform(0.3, 0.6))
        picture[:edge] = picture[:edge] + rng.uniform(-60, 60, 3)
    if rng.random() < 0.3:
        picture = picture + rng.standard_normal((side, side, 1)) * rng.uniform(4, 20)
    return np.clip(picture, 0, 255).astype(np.float32)


def shifted(picture: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """The picture moved by a fraction of a pixel (bilinear), one row and column longer: `[h + 1, w + 1, …]`."""
    pad = [(1, 1), (1, 1)] + [(0, 0)] * (picture.ndim - 2)
    wide = np.pad(picture, pad)
    rows = wide[1:] * (1 - dy) + wide[:-1] * dy
    return rows[:, 1:] * (1 - dx) + rows[:, :-1] * dx
