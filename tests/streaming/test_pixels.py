"""Pixels are converted as screens show them: square, in BT.709 colours, in 8 bits, over white."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from streaming.bit_depth import grey_range, to_8_bits, white_level
from streaming.open_source import open_source
from streaming.sources.pictures import square_pixel_size
from streaming.sources.reading import MAX_PIXELS
from streaming.types import Frame, Notice, NoticeKind
from tests.clips import quadrants

COLOURS = ((205, 40, 40), (40, 60, 205), (150, 155, 150), (40, 160, 60), (220, 200, 40), (255, 255, 255), (12, 12, 12))
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""BT.2087, equation for linear light."""


def record(
    path: Path,
    frames: list[VideoFrame],
    codec: str,
    pix_fmt: str,
    tune: Callable[[Any], None] = lambda context: None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Encode frames, five a second; `tune` sets what else the encoder is to say of them. tags: the track's."""
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=5))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        tune(stream.codec_context)
        stream.metadata.update(tags)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = 200 * index, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def seen(path: Path) -> tuple[tuple[int, int], list[np.ndarray], list[Notice]]:
    """The size that is told on opening, then pictures and notices."""
    with open_source(str(path)) as source:
        info = source.open()
        items = list(source.frames())
    images = [item.image for item in items if isinstance(item, Frame)]
    return (info.width_px, info.height_px), images, [item for item in items if isinstance(item, Notice)]


def stripes(colours: tuple[tuple[int, int, int], ...] = COLOURS) -> np.ndarray:
    """Plain stripes, 32 pixels each, side by side."""
    return np.repeat(np.array([colours], np.uint8), 32, axis=1).repeat(48, axis=0)


def middles(image: np.ndarray) -> np.ndarray:
    """The colour in the middle of each stripe, `[num_colours, 3]`."""
    return image[24, 16::32].astype(int)


@pytest.mark.parametrize(
    ("aspect", "rotation", "size"),
    [
        (Fraction(2), 0, (128, 48)),
        (Fraction(1, 2), 0, (64, 96)),
        (Fraction(2), 90, (48, 128)),
        (Fraction(64, 45), 180, (91, 48)),
    ],
)
def test_pixels_that_are_not_square_are_scaled_before_the_picture_is_turned(
    tmp_path: Path, aspect: Fraction, rotation: int, size: tuple[int, int]
) -> None:
    def tune(context: Any) -> None:
        context.sample_aspect_ratio = aspect

    path = tmp_path / "wide.mp4"
    frames = [VideoFrame.from_ndarray(quadrants(0, 64, 48), format="rgb24") for _ in range(3)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(rotation)
        tune(stream.codec_context)
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    told, images, notices = seen(path)
    assert told == size and all(image.shape == (size[1], size[0], 3) for image in images)
    assert not [notice for notice in notices if notice.kind is NoticeKind.GRID_CHANGED]
    wanted = np.rot90(quadrants(0, 64, 48), rotation // 90)
    corner = images[0][4, 4].astype(int)
    assert np.abs(corner - wanted[4, 4]).max() < 60


def test_pixels_that_change_their_form_are_followed(tmp_path: Path) -> None:
    parts = []
    for number, aspect in enumerate((Fraction(1), Fraction(2))):

        def tune(context: Any, aspect: Fraction = aspect) -> None:
            context.sample_aspect_ratio = aspect
            context.options = {"bf": "0", "x264-params": "repeat-headers=1"}

        frames = [VideoFrame.from_ndarray(quadrants(0, 64, 48), format="rgb24") for _ in range(4)]
        parts.append(record(tmp_path / f"{number}.h264", frames, "libx264", "yuv420p", tune).read_bytes())
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    _, images, notices = seen(path)
    assert [image.shape[1] for image in images] == [64] * 4 + [128] * 4
    assert NoticeKind.GRID_CHANGED in [notice.kind for notice in notices]


def test_square_pixels_grow_the_short_side_and_never_past_what_is_read() -> None:
    assert square_pixel_size(720, 576, 64 / 45, MAX_PIXELS) == (1024, 576)
    assert square_pixel_size(7680, 4320, 2.0, MAX_PIXELS) == (7680, 2160)
    assert square_pixel_size(7680, 4320, 0.5, MAX_PIXELS) == (3840, 4320)
    assert square_pixel_size(64, 48, 0.0, MAX_PIXELS) == square_pixel_size(64, 48, float("nan"), MAX_PIXELS) == (64, 48)


def _light(colours: np.ndarray) -> np.ndarray:
    """BT.2020 light in nits of levels whose white is 203 nits, on a screen of gamma 2.4."""
    return (colours / 255.0) ** 2.4 @ TO_BT2020.T * 203.0


def _hlg(nits: np.ndarray) -> np.ndarray:
    scene = (nits / 1000.0) ** (1 / 1.2)
    return np.where(
        scene <= 1 / 12,
        np.sqrt(3 * scene),
        0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-12)) + 0.55991073,
    )


def _hlg_on_luminance(nits: np.ndarray) -> np.ndarray:
    """As BT.2100 has the system gamma, and cameras with it."""
    luminance = np.maximum(nits @ [0.2627, 0.6780, 0.0593], 1e-9) / 1000.0
    scene = nits / 1000.0 / luminance[..., None] ** (0.2 / 1.2)
    return _hlg(1000.0 * scene**1.2)


def _pq(nits: np.ndarray) -> np.ndarray:
    power = (nits / 10_000.0) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


@pytest.mark.parametrize(("transfer", "signal_of"), [(18, _hlg), (16, _pq)])
@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"), [("a.mp4", "libx265", "yuv420p10le"), ("a.mkv", "ffv1", "gbrp12le")]
)
def test_hdr_shows_plain_colours_as_the_ordinary_original_has_them(
    tmp_path: Path, transfer: int, signal_of: Callable[[np.ndarray], np.ndarray], name: str, codec: str, pix_fmt: str
) -> None:
    signal = np.round(signal_of(_light(stripes())) * 65535).astype(np.uint16)
    frame = VideoFrame.from_ndarray(signal, format="rgb48le")
    frames = [frame.reformat(format=pix_fmt, dst_colorspace="BT2020") for _ in range(3)]

    def tune(context: Any) -> None:
        context.color_trc, context.color_primaries = transfer, 9
        context.colorspace = 0 if pix_fmt.startswith("gbr") else 9
        context.color_range = 2 if pix_fmt.startswith("gbr") else 1

    path = record(tmp_path / name, frames, codec, pix_fmt, tune)
    _, images, _ = seen(path)
    assert np.abs(middles(images[1]) - COLOURS).max() <= 12


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"), [("a.mov", "libx265", "yuv420p10le"), ("a.mkv", "ffv1", "gbrp12le")]
)
def test_a_phones_hlg_shows_plain_colours_as_the_ordinary_original_has_them(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    signal = np.round(_hlg_on_luminance(_light(stripes())) * 65535).astype(np.uint16)
    frame = VideoFrame.from_ndarray(signal, format="rgb48le")
    frames = [frame.reformat(format=pix_fmt, dst_colorspace="BT2020") for _ in range(3)]

    def tune(context: Any) -> None:
        context.color_trc, context.color_primaries = 18, 9
        context.colorspace = 0 if pix_fmt.startswith("gbr") else 9
        context.color_range = 2 if pix_fmt.startswith("gbr") else 1

    path = record(tmp_path / name, frames, codec, pix_fmt, tune, {"handler_name": "Core Media Video"})
    _, images, _ = seen(path)
    assert np.abs(middles(images[1]) - COLOURS).max() <= 12


@pytest.mark.parametrize(
    ("container", "stream", "by_colour"),
    [
        ({"encoder": "Lavf59.27.100"}, {"handler_name": "VideoHandler"}, True),
        ({}, {"ENCODER": "Lavc60.3.100 libx265"}, True),
        ({"encoder": "Lavf59.27.100"}, {"handler_name": "Core Media Video"}, False),
        ({"com.apple.quicktime.make": "Apple", "encoder": "Lavf59.27.100"}, {}, False),
        ({"com.android.version": "14"}, {}, False),
        ({}, {}, False),
    ],
)
def test_who_made_hlg_is_read_from_what_it_tells_of_its_maker(
    container: dict[str, str], stream: dict[str, str], by_colour: bool
) -> None:
    from streaming.sources.tone_mapping import has_gamma_by_colour

    assert has_gamma_by_colour(container, stream) is by_colour


def test_highlights_stay_apart_and_in_order() -> None:
    from streaming.sources.tone_mapping import tone_map

    nits = np.array([100.0, 150.0, 203.0, 280.0, 330.0, 1000.0])
    signal = np.round(_pq(nits)[None, :, None].repeat(3, axis=2) * 65535).astype(np.uint16)
    levels = tone_map(16, 9).apply(signal)[0, :, 0].astype(int)
    assert (np.diff(levels) > 0).tolist() == [True] * 5 and levels[-1] == 255
    assert 246 <= levels[2] <= 250


def test_ordinary_colours_in_a_wide_container_keep_theirs(tmp_path: Path) -> None:
    wide = np.round(np.clip((stripes() / 255.0) ** 2.4 @ TO_BT2020.T, 0, 1) ** (1 / 2.4) * 65535).astype(np.uint16)
    frames = [VideoFrame.from_ndarray(wide, format="rgb48le").reformat(format="gbrp12le") for _ in range(2)]

    def tune(context: Any) -> None:
        context.color_trc, context.color_primaries, context.colorspace = 14, 9, 0

    _, images, _ = seen(record(tmp_path / "wide.mkv", frames, "ffv1", "gbrp12le", tune))
    assert np.abs(middles(images[0]) - COLOURS).max() <= 3


@pytest.mark.parametrize(("matrix", "sws"), [(1, "ITU709"), (6, "ITU601"), (9, "BT2020")])
@pytest.mark.parametrize("full", [False, True])
def test_the_matrix_and_the_range_that_a_file_names_are_followed(
    tmp_path: Path, matrix: int, sws: str, full: bool
) -> None:
    frame = VideoFrame.from_ndarray(stripes(), format="rgb24")
    frames = [
        frame.reformat(format="yuv444p", dst_colorspace=sws, dst_color_range="JPEG" if full else "MPEG")
        for _ in range(2)
    ]

    def tune(context: Any) -> None:
        context.color_trc, context.color_primaries = 1, 1
        context.colorspace, context.color_range = matrix, 2 if full else 1

    _, images, _ = seen(record(tmp_path / "m.mkv", frames, "ffv1", "yuv444p", tune))
    assert np.abs(middles(images[0]) - COLOURS).max() <= 3


def _grey_clip(path: Path, pictures: list[np.ndarray]) -> Path:
    return record(path, [VideoFrame.from_ndarray(p, format="gray16le") for p in pictures], "ffv1", "gray16le")


def test_16_bit_video_is_scaled_by_the_bits_that_it_uses(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 256)[None, :].repeat(64, axis=0)
    whole = [(ramp * 65535).astype(np.uint16)] * 2
    _, images, _ = seen(_grey_clip(tmp_path / "whole.mkv", whole))
    assert np.abs(images[0][0, :, 0].astype(int) - np.arange(256)).max() <= 1
    depth = [(ramp * reach).astype(np.uint16) for reach in (4000, 3000, 8000, 4000)]
    _, images, _ = seen(_grey_clip(tmp_path / "depth.mkv", depth))
    peaks = [int(image.max()) for image in images]
    assert peaks == [249, 187, 249, 125], "12 bits, and 13 from where they are needed on"


def test_a_still_of_few_values_is_spread_and_of_many_is_not() -> None:
    rng = np.random.default_rng(0)
    heat = rng.integers(29_000, 31_000, (60, 80)).astype(np.uint16)
    low, high = grey_range(heat)
    assert 28_999 < low < 29_100 and 30_900 < high < 31_001
    assert to_8_bits(heat, low, high).std() > 60
    heat[0] = 65535  # not measured
    assert grey_range(heat)[1] < 31_001
    photograph = rng.integers(0, 65536, (60, 80)).astype(np.uint16)
    assert grey_range(photograph) == (0.0, 65535.0)
    assert white_level(np.array([[0, 255]], np.uint16)) == 255.0
    assert white_level(np.zeros((2, 2), np.uint16)) == 65535.0
    assert white_level(np.array([[0.0, np.nan, 0.7]], np.float32)) == 1.0
    assert grey_range(np.full((4, 4), 150, np.uint16)) == (0.0, 255.0)
    assert to_8_bits(np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32), 0, 1)[0, :, 0].tolist() == [0, 0, 255, 128]
