"""Pictures resized to the model's grid in advance: identical to those the session resizes itself, or nearly so live."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from assistant.evidence import with_thumbnail
from models.checkpoint.settings import StreamSettings
from models.errors import VisionError
from models.session.frame_encoder import FrameEncoder
from models.session.grid_fitter import Fitter
from models.vision import VisionSettings
from streaming.types import Frame


def frame(height_px: int, width_px: int) -> Frame:
    pixels = np.random.default_rng(1).integers(0, 255, (height_px, width_px, 3), dtype=np.uint8)
    return Frame(pixels, 0, 0.0, 0.0, "x")


class NoScaling(VisionSettings):
    """Fails when asked to resize, for the engine's thread, which should never do that."""

    def fitted(self, image: np.ndarray, grid: Any) -> np.ndarray:
        raise AssertionError("scaled on the engine's thread")


@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (112, 196), (900, 400)])
@pytest.mark.parametrize("border_px", [0, 2])
def test_a_frame_that_was_fitted_gives_the_same_patches_and_is_scaled_no_more(
    size: tuple[int, int], border_px: int
) -> None:
    vision, settings = VisionSettings(border_px=border_px), StreamSettings(max_cells=28)
    raw = frame(*size)
    fitted = Fitter(vision, settings.max_cells)(raw)
    assert fitted.image is raw.image and fitted.on_grid is not None
    patches = []
    for wanted, shown in ((vision, raw), (NoScaling(border_px=border_px), fitted)):
        view = FrameEncoder(wanted, "paper")
        grid = view.new_grid(shown.image, settings.max_cells)
        assert grid is not None
        view.begin(shown.image, grid, settings)
        patches.append(view.patches(shown.image, shown.on_grid))
    assert torch.equal(*patches)


def test_large_pictures_of_live_streams_are_reduced_before_they_are_resized() -> None:
    resized: list[tuple[int, ...]] = []

    class Noting(VisionSettings):
        def fitted(self, image: np.ndarray, grid: Any) -> np.ndarray:
            resized.append(image.shape[:2])
            return super().fitted(image, grid)

    rows, cols = np.mgrid[:1080, :1920]
    smooth = np.stack([rows % 256, cols // 8, (rows + cols) // 12], axis=-1).astype(np.uint8)
    raw = Frame(smooth, 0, 0.0, 0.0, "x")
    exact, quick = (Fitter(Noting(), 28, is_exact=is_exact)(raw).on_grid for is_exact in (True, False))
    assert resized == [(1080, 1920), (360, 640)]
    assert exact is not None and quick is not None and exact.shape == quick.shape
    assert np.abs(exact[2:-2].astype(int) - quick[2:-2]).mean() < 0.5
    noisy = frame(1080, 1920)
    shared, own = (Fitter(Noting(), 28, is_exact=False)(shown) for shown in (with_thumbnail(noisy), noisy))
    assert shared.on_grid is not None and own.on_grid is not None and np.array_equal(shared.on_grid, own.on_grid)
    assert shared.thumbnail is not None and shared.reduced is None
    small = frame(480, 640)
    exact, quick = (Fitter(VisionSettings(), 28, is_exact=is_exact)(small).on_grid for is_exact in (True, False))
    assert exact is not None and quick is not None and np.array_equal(exact, quick)


def test_a_picture_fitted_to_another_grid_is_scaled_anew() -> None:
    vision, raw = VisionSettings(), frame(480, 640)
    view = FrameEncoder(vision, "paper")
    grid = view.new_grid(raw.image, 28)
    assert grid is not None
    view.begin(raw.image, grid, StreamSettings(max_cells=28))
    other = Fitter(vision, 60)(raw)
    assert torch.equal(view.patches(raw.image, other.on_grid), vision.patches(raw.image, grid))


def test_a_picture_that_no_grid_fits_is_left_for_the_session_to_refuse() -> None:
    raw = frame(2, 500)
    assert Fitter(VisionSettings(), 28)(raw) is raw
    with pytest.raises(VisionError, match="ratio"):
        VisionSettings().fit_grid(500, 2, max_cells=28)
