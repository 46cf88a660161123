"""Still pictures are converted as screens show them, whatever their bit depth, pixel aspect and transparency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from streaming.sources.still_photos import photo_to_rgb
from tests.clips import quadrants
from tests.streaming.test_pixels import seen as replayed


def saved(path: Path, image: Image.Image, **options: Any) -> np.ndarray:
    image.save(path, **options)
    with Image.open(path) as opened:
        return photo_to_rgb(opened)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_keeps_its_levels(tmp_path: Path, name: str) -> None:
    grey = np.linspace(0, 255, 64).astype(np.uint16)[None].repeat(48, axis=0) * 257
    image = saved(tmp_path / name, Image.fromarray(grey))
    assert image.shape == (48, 64, 3) and np.abs(image[0, :, 0] - grey[0] / 257).max() <= 1


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_floating_point_grey_is_scaled(tmp_path: Path, scale: float) -> None:
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(48, axis=0) * scale
    image = saved(tmp_path / "a.tif", Image.fromarray(ramp))
    assert image[0, 0, 0] == 0 and image[0, -1, 0] == round(255 * scale / (1 if scale == 1 else 255))
    assert len(np.unique(image)) > 50


def test_heat_and_depth_are_not_one_flat_grey(tmp_path: Path) -> None:
    heat = np.full((48, 64), 29_500, np.uint16)
    heat[:, :32] += np.linspace(0, 900, 32).astype(np.uint16)
    heat[20:30, 40:50] = 31_000
    image = saved(tmp_path / "heat.png", Image.fromarray(heat))
    assert image[25, 45, 0] == 255 and image[0, 60, 0] < 10
    depth = np.linspace(0, 4000, 64).astype(np.uint16)[None].repeat(48, axis=0)
    assert 240 <= int(saved(tmp_path / "depth.png", Image.fromarray(depth)).max()) <= 255


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("a.png", {"dpi": (50, 100)}, (128, 48)),
        ("a.png", {"dpi": (100, 50)}, (64, 96)),
        ("a.jpg", {"dpi": (50, 100), "quality": 95}, (128, 48)),
        ("a.tif", {"dpi": (50, 100)}, (128, 48)),
        ("a.png", {"dpi": (72, 72)}, (64, 48)),
        ("a.png", {"dpi": (7200, 1)}, (64, 48)),
    ],
)
def test_pixels_that_are_not_square_are_scaled(
    tmp_path: Path, name: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    image = saved(tmp_path / name, Image.fromarray(quadrants(0, 64, 48)), **options)
    assert image.shape == (size[1], size[0], 3)


def test_a_turned_picture_has_its_pixels_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(quadrants(0, 64, 48))
    assert saved(tmp_path / "a.jpg", image, dpi=(50, 100), exif=exif).shape == (128, 48, 3)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGBA", "a.png"), ("LA", "a.png"), ("P", "a.png"), ("P", "a.gif"), ("RGBA", "a.webp"), ("RGBA", "a.tif")],
)
def test_see_through_parts_are_white_in_stills_as_in_recordings(tmp_path: Path, mode: str, name: str) -> None:
    rgba = np.full((48, 64, 4), (90, 90, 90, 255), np.uint8)
    rgba[:, :32, 3] = 0
    image = Image.fromarray(rgba)
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    if mode == "P":
        indexed = np.ones((48, 64), np.uint8)
        indexed[:, :32] = 0
        image = Image.fromarray(indexed, mode="P")
        image.putpalette([0, 0, 0, 90, 90, 90])
        options["transparency"] = 0
    else:
        image = image.convert(mode)
    still = saved(tmp_path / name, image, **options)
    assert still[5, 5].tolist() == [255] * 3 and still[5, 60].tolist() == [90] * 3
    _, (film, *_), _ = replayed(tmp_path / name)
    assert np.array_equal(still, film)


def test_what_png_says_of_nothing_changes_nothing(tmp_path: Path) -> None:
    info = PngInfo()
    info.add(b"pHYs", b"\0" * 9)
    assert saved(tmp_path / "a.png", Image.fromarray(quadrants(0, 64, 48)), pnginfo=info).shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_with_exif_is_upright_as_a_recording_too(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    still = saved(tmp_path / name, Image.fromarray(quadrants(0, 64, 48)), exif=exif)
    size, (film, *_), _ = replayed(tmp_path / name)
    assert film.shape == still.shape == (size[1], size[0], 3)
    assert all(np.abs(film[y, x].astype(int) - still[y, x]).max() < 12 for y in (8, -8) for x in (8, -8))
