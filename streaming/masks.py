"""Privacy masks: regions of the picture that are painted grey before anything else gets the frame.

Regions are immutable; a `Masks` belongs to the thread that reads the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from streaming.errors import OptionError

MID_GREY = 128
"""Grey level that masks are painted in: close to 0 after normalisation with mean 0.5."""

Units = Literal["relative", "pixels"]
Point = tuple[float, float]

_REMEDY = "give e.g. {rectangle: [0.7, 0.0, 0.3, 0.1]} as x, y, width, height in parts of the picture"


@dataclass(frozen=True, slots=True)
class MaskRegion:
    """A polygon on the upright picture; every pixel that it touches is hidden."""

    points: tuple[Point, ...]
    """Corners as (x, y) from the top left, at least three."""
    units: Units = "relative"
    """`relative`: 0 to 1 of the width and of the height. `pixels`: pixels of the picture as it arrives."""

    def __post_init__(self) -> None:
        shown = f"mask {list(self.points)} ({self.units})"
        if self.units not in get_args(Units):
            raise OptionError(f"units={self.units!r}", "units are relative or pixels", _REMEDY)
        if len(self.points) < 3:
            raise OptionError(shown, "a polygon has at least three corners", _REMEDY)
        coordinates = [value for point in self.points for value in point]
        if not all(math.isfinite(value) and value >= 0 for value in coordinates):
            raise OptionError(shown, "coordinates are numbers from 0 up", _REMEDY)
        if self.units == "relative" and max(coordinates) > 1 + 1e-9:
            raise OptionError(shown, "relative coordinates are at most 1", "add `units: pixels` if pixels are meant")
        if _area(self.points) <= 0:
            raise OptionError(shown, "the corners lie on one line, so nothing would be hidden", _REMEDY)

    @classmethod
    def rectangle(cls, x: float, y: float, width: float, height: float, units: Units = "relative") -> Self:
        """An axis-aligned rectangle, from its top left corner and its size."""
        return cls(((x, y), (x + width, y), (x + width, y + height), (x, y + height)), units)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Self:
        """A region from a configuration: `rectangle: [x, y, w, h]` or `polygon: [[x, y], …]`, and optional `units`.

        Raises `OptionError` for unknown keys and bad values.
        """
        unknown = set(mapping) - {"rectangle", "polygon", "units"}
        if unknown:
            raise OptionError(f"mask key {sorted(unknown)[0]!r}", "a mask has rectangle or polygon, and units", _REMEDY)
        if ("rectangle" in mapping) == ("polygon" in mapping):
            raise OptionError(f"mask {dict(mapping)!r}", "a mask has either a rectangle or a polygon", _REMEDY)
        units = mapping.get("units", "relative")
        if units not in get_args(Units):
            raise OptionError(f"units={units!r}", "units are relative or pixels", _REMEDY)
        if "rectangle" in mapping:
            x, y, width, height = _numbers(mapping["rectangle"], 4)
            return cls.rectangle(x, y, width, height, cast(Units, units))
        corners = mapping["polygon"]
        if not isinstance(corners, Sequence) or isinstance(corners, str):
            raise OptionError(f"polygon={corners!r}", "a polygon is a list of [x, y]", _REMEDY)
        points = tuple((x, y) for x, y in (_numbers(corner, 2) for corner in corners))
        return cls(points, cast(Units, units))

    def as_mapping(self, digits: int = 3) -> dict[str, object]:
        """The region as `from_mapping` reads it, a rectangle where it is one; coordinates rounded to `digits`.

        >>> MaskRegion.rectangle(0.7, 0, 0.3, 0.1).as_mapping()
        {'rectangle': [0.7, 0.0, 0.3, 0.1]}
        """
        xs, ys = sorted({x for x, _ in self.points}), sorted({y for _, y in self.points})
        corners = {(x, y) for x in xs for y in ys}
        written: dict[str, object]
        if len(self.points) == 4 == len(corners) and set(self.points) == corners:
            sides = (xs[0], ys[0], xs[1] - xs[0], ys[1] - ys[0])
            written = {"rectangle": [round(float(side), digits) for side in sides]}
        else:
            written = {"polygon": [[float(x), float(y)] for x, y in self.points]}
        return written | ({} if self.units == "relative" else {"units": self.units})

    def in_pixels(self, width_px: int, height_px: int) -> list[Point]:
        """The corners as pixel coordinates of a picture of this size."""
        if self.units == "pixels":
            return list(self.points)
        return [(x * width_px, y * height_px) for x, y in self.points]


class Masks:
    """All mask regions of one source; their pixel map is drawn once per picture size."""

    def __init__(self, regions: Sequence[MaskRegion]) -> None:
        self.regions = tuple(regions)
        self._hidden: np.ndarray | None = None

    def hidden(self, width_px: int, height_px: int) -> np.ndarray:
        """The hidden pixels of a picture of this size: bool, `[height, width]`."""
        if self._hidden is None or self._hidden.shape != (height_px, width_px):
            hidden = np.zeros((height_px, width_px), dtype=bool)
            for region in self.regions:
                hidden |= _touched(region.in_pixels(width_px, height_px), width_px, height_px)
            self._hidden = hidden
        return self._hidden

    def check(self, width_px: int, height_px: int) -> None:
        """Raise `OptionError` if a region lies outside a picture of this size, or the regions hide all of it."""
        for region in self.regions:
            if not _touched(region.in_pixels(width_px, height_px), width_px, height_px).any():
                raise OptionError(
                    f"mask {list(region.points)} ({region.units})",
                    f"it lies outside the picture of {width_px} x {height_px}",
                    "use relative coordinates, or pixels of this picture",
                )
        if self.regions and self.hidden(width_px, height_px).all():
            raise OptionError(
                f"masks over {width_px} x {height_px}", "they hide the whole picture", "make them smaller"
            )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """A copy of `image` (uint8, `[height, width, 3]`) with the regions grey; `image` itself without regions."""
        if not self.regions:
            return image
        painted = image.copy()
        painted[self.hidden(image.shape[1], image.shape[0])] = MID_GREY
        return painted


def _touched(points: list[Point], width_px: int, height_px: int) -> np.ndarray:
    """Pixels that the polygon touches: bool, `[height, width]`; a slanted edge hides up to a pixel more."""
    columns, rows = sorted({x for x, _ in points}), sorted({y for _, y in points})
    if len(points) == 4 and set(points) == {(x, y) for x in columns for y in rows}:
        hidden = np.zeros((height_px, width_px), dtype=bool)
        hidden[math.floor(rows[0]) : math.ceil(rows[-1]), math.floor(columns[0]) : math.ceil(columns[-1])] = True
        return hidden
    canvas = Image.fromarray(np.where(_centres_inside(points, width_px, height_px), 255, 0).astype(np.uint8))
    # Pillow also draws polygons thinner than a pixel. It counts from pixel centres, masks from pixel corners.
    ImageDraw.Draw(canvas).polygon([(x - 0.5, y - 0.5) for x, y in points], fill=255)
    return np.asarray(canvas.filter(ImageFilter.MaxFilter(3))) > 0


def _centres_inside(points: list[Point], width_px: int, height_px: int) -> np.ndarray:
    """Pixels whose centre lies in the polygon, by the even-odd rule: bool, `[height, width]`."""
    middles_x, middles_y = np.arange(width_px) + 0.5, np.arange(height_px)[:, None] + 0.5
    inside = np.zeros((height_px, width_px), dtype=bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        rows = (y0 > middles_y) != (y1 > middles_y)
        # The division may overflow in rows that this edge does not cross; `rows` leaves them out.
        with np.errstate(all="ignore"):
            inside ^= rows & (middles_x < x0 + (middles_y - y0) / (y1 - y0 or 1.0) * (x1 - x0))
    return inside


def _area(points: Sequence[Point]) -> float:
    """Area of the corners' bounding box; 0 if all lie on one vertical or horizontal line."""
    columns, rows = [x for x, _ in points], [y for _, y in points]
    return (max(columns) - min(columns)) * (max(rows) - min(rows))


def _numbers(value: object, count: int) -> tuple[float, ...]:
    """`value` as `count` floats; raises `OptionError` if it is anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != count:
        raise OptionError(f"mask {value!r}", f"it must be a list of {count} numbers", _REMEDY)
    for number in value:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise OptionError(f"mask {value!r}", f"{number!r} is not a number", _REMEDY)
    return tuple(float(number) for number in value)
