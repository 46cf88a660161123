"""Masked regions are grey before anything else gets the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.buffer import Item
from streaming.errors import OptionError
from streaming.masks import MID_GREY, MaskRegion, Masks
from streaming.sources.base import BaseSource, SourceOptions
from streaming.sources.masked import MaskedSource
from streaming.types import Frame, NoticeKind, SourceInfo

WIDTH_PX, HEIGHT_PX = 40, 20
IMAGE = np.random.default_rng(0).integers(0, 100, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)


def is_inside(x: float, y: float, points: list[tuple[float, float]]) -> bool:
    """Even-odd rule."""
    inside = False
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


def test_a_rectangle_is_painted_grey_and_the_rest_is_left() -> None:
    before = IMAGE.copy()
    masked = Masks([MaskRegion.rectangle(0.5, 0.25, 0.25, 0.5)]).apply(IMAGE)
    assert (masked[5:15, 20:30] == MID_GREY).all()
    masked[5:15, 20:30] = IMAGE[5:15, 20:30]
    assert (masked == IMAGE).all()
    assert (before == IMAGE).all(), "the frame itself is not written to"


@pytest.mark.parametrize(
    ("rectangle", "rows", "columns"),
    [
        ((2.3, 3.9, 1.0, 1.0), slice(3, 5), slice(2, 4)),
        ((0, 0, 40, 3), slice(0, 3), slice(0, 40)),
        ((38.5, 18.5, 100, 100), slice(18, 20), slice(38, 40)),
    ],
)
def test_a_pixel_that_is_touched_is_hidden(
    rectangle: tuple[float, float, float, float], rows: slice, columns: slice
) -> None:
    hidden = Masks([MaskRegion.rectangle(*rectangle, units="pixels")]).hidden(WIDTH_PX, HEIGHT_PX)
    wanted = np.zeros((HEIGHT_PX, WIDTH_PX), dtype=bool)
    wanted[rows, columns] = True
    assert (hidden == wanted).all()


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=6))
def test_nothing_inside_a_polygon_shows(points: list[tuple[float, float]]) -> None:
    try:
        region = MaskRegion(tuple(points))
    except OptionError:
        return
    hidden = Masks([region]).hidden(WIDTH_PX, HEIGHT_PX)
    corners = region.in_pixels(WIDTH_PX, HEIGHT_PX)
    left, right = min(x for x, _ in corners), max(x for x, _ in corners)
    for row in range(HEIGHT_PX):
        for column in range(WIDTH_PX):
            if is_inside(column + 0.5, row + 0.5, corners):
                assert hidden[row, column]
            if column + 1 < left - 2 or column > right + 2:
                assert not hidden[row, column]


def test_masks_follow_a_change_of_size() -> None:
    masks = Masks([MaskRegion.rectangle(0.0, 0.0, 0.5, 1.0)])
    for width_px in (40, 80, 41):
        hidden = masks.hidden(width_px, 20)
        assert hidden.sum() == math.ceil(width_px / 2) * 20


def test_a_configuration_is_read() -> None:
    region = MaskRegion.from_mapping({"rectangle": [1, 2, 3, 4], "units": "pixels"})
    assert region == MaskRegion.rectangle(1, 2, 3, 4, "pixels")
    region = MaskRegion.from_mapping({"polygon": [[0, 0], [1, 0], [0.5, 1]]})
    assert region.points == ((0, 0), (1, 0), (0.5, 1))
    assert region.units == "relative"


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"rectangle": [0, 0, 1]},
        {"rectangle": "0011"},
        {"rectangle": [0, 0, 1, 1], "polygon": [[0, 0], [1, 0], [1, 1]]},
        {"rectangle": [0.5, 0, 0.6, 1]},
        {"rectangle": [0, 0, 0, 1]},
        {"rectangle": [-0.1, 0, 1, 1]},
        {"rectangle": [0, 0, math.nan, 1]},
        {"rectangle": [0, 0, True, 1]},
        {"rectangle": [0, 0, "a", 1]},
        {"polygon": [[0, 0], [1, 1]]},
        {"polygon": [[0, 0], [1, 1], 3]},
        {"polygon": 3},
        {"rectangle": [0, 0, 1, 1], "units": "percent"},
        {"rectangel": [0, 0, 1, 1]},
    ],
)
def test_a_bad_configuration_is_refused_in_one_line(mapping: dict[str, object]) -> None:
    with pytest.raises(OptionError) as caught:
        MaskRegion.from_mapping(mapping)
    assert "\n" not in str(caught.value)


class OneFrame(BaseSource):
    """A source of one frame."""

    is_live = False

    def open(self) -> SourceInfo:
        self._start()
        return SourceInfo(self.name, False, WIDTH_PX, HEIGHT_PX, None, None, "none")

    def frames(self) -> Iterator[Item]:
        yield self._notice(NoticeKind.OPENED, "one frame")
        yield from self._framed(IMAGE, 0.0, 0)

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()


def test_frames_leave_a_masked_source_masked_and_notices_as_they_are() -> None:
    masks = Masks([MaskRegion.rectangle(0.0, 0.0, 0.5, 0.5)])
    with MaskedSource(OneFrame("one", SourceOptions()), masks) as source:
        source.open()
        notice, frame = list(source.frames())
    assert not isinstance(notice, Frame)
    assert isinstance(frame, Frame)
    assert (frame.image == masks.apply(IMAGE)).all()
    assert not (frame.image == IMAGE).all()


@pytest.mark.parametrize(
    ("region", "rule"),
    [
        (MaskRegion.rectangle(100, 0, 10, 10, "pixels"), "outside the picture of 40 x 20"),
        (MaskRegion.rectangle(0, 0, 1, 1), "hide the whole picture"),
    ],
)
def test_masks_that_do_not_fit_the_picture_are_refused_at_opening(region: MaskRegion, rule: str) -> None:
    inner = OneFrame("one", SourceOptions())
    source = MaskedSource(inner, Masks([region]))
    with pytest.raises(OptionError, match=rule):
        source.open()
    assert inner.is_closed
