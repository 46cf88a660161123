"""Pictures to tokens: grids and pixels equal transformers', and frames give the same tokens alone and together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import (
    VideoLlama3ImageProcessorPil,
    smart_resize,
)

from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.checkpoint.types import SpecialIds
from models.engine import Engine
from models.errors import VisionError
from models.network.network import VisionEncoder
from models.prompt import IMAGE_TOKEN
from models.session.steps import Output
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid
from tests.models.streams import noting

GOLDEN = Path(__file__).parent.parent / "golden"


def some_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([1, 2]), st.integers(16, 5000))
@hypothesis_settings(max_examples=300, deadline=None)
def test_grids_are_transformers_and_never_over_budget(height: int, width: int, merge: int, budget: int) -> None:
    if max(height, width) / min(height, width) > 200:
        with pytest.raises(VisionError, match="200"):
            VisionSettings().fit_grid(width, height, max_cells=budget, merge=merge)
        return
    grid = VisionSettings().fit_grid(width, height, max_cells=budget, merge=merge)
    assert 1 <= grid.num_cells <= budget
    factor = 14 * merge
    if min(height, width) < factor:
        return  # transformers rounds such a side to zero
    theirs = smart_resize(height, width, factor, min_pixels=16 * factor**2, max_pixels=budget * factor**2)
    if theirs[0] * theirs[1] <= budget * factor**2:
        assert (grid.rows * factor, grid.cols * factor) == theirs


@pytest.mark.parametrize(("height", "width"), [(112, 112), (90, 130), (50, 200), (333, 77), (20, 20)])
def test_still_images_have_transformers_pixels_and_logits(checkpoint: Checkpoint, height: int, width: int) -> None:
    """The image format, compared with transformers' own processor and forward pass."""
    image = some_picture(height, width)
    vision = checkpoint.vision
    processor = VideoLlama3ImageProcessorPil(
        size={"shortest_edge": vision.min_tokens * 14**2, "longest_edge": vision.max_tokens * 14**2},
        image_mean=vision.mean,
        image_std=vision.std,
    )
    theirs = processor(images=[image], return_tensors="pt")
    grid = vision.fit_grid(width, height, merge=1)
    patches = vision.patches(image, grid)
    assert theirs["image_grid_thw"].tolist() == [[1, grid.rows, grid.cols]]
    torch.testing.assert_close(patches, theirs["pixel_values"], atol=1e-4, rtol=0)

    ids = _image_prompt(checkpoint, grid.num_cells)
    with torch.inference_mode():
        expected = checkpoint.model(input_ids=torch.tensor([ids]), **theirs).logits[0]
    engine = Engine(checkpoint)
    outputs: list[Output] = []
    said = engine.run(noting(engine.ask("What is it?", [image], max_tokens=1), outputs))
    engine.close()
    # The last forward pass closes the turn, where anything was said.
    logits = outputs[-2 if said.token_ids else -1].logits
    torch.testing.assert_close(logits, expected[-1:], atol=1e-4, rtol=0)


def _image_prompt(checkpoint: Checkpoint, num_tokens: int) -> list[int]:
    text = checkpoint.prompt.render(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
        add_generation_prompt=True,
    )
    assert checkpoint.tokenizer is not None
    return list(checkpoint.tokenizer.encode(text.replace(IMAGE_TOKEN, IMAGE_TOKEN * num_tokens)))


@pytest.mark.parametrize("merge", [1, 2])
def test_frame_by_frame_equals_the_clip(checkpoint: Checkpoint, merge: int) -> None:
    grid = CellGrid(rows=3, cols=5, merge=merge)
    encoder = VisionEncoder.of(checkpoint.model)
    patches = [checkpoint.vision.patches(some_picture(84, 140, seed), grid) for seed in range(4)]
    with torch.inference_mode():
        whole = encoder.encode(torch.cat(patches), grid, num_frames=4)
        apart = torch.cat([encoder.encode(frame, grid) for frame in patches])
    torch.testing.assert_close(apart, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_pixels_and_features_are_the_references(name: str) -> None:
    checkpoint = load_checkpoint(GOLDEN / name, device="cpu", special=SpecialIds(200, 201, 202, 203, 204))
    encoder = VisionEncoder.of(checkpoint.model)
    for case in ("exact", "resized"):
        tensors = load_file(GOLDEN / name / f"stream_{case}.safetensors")
        grid = checkpoint.vision.fit_grid(*tensors["frames"].shape[2:0:-1])
        assert (2 * grid.rows, 2 * grid.cols) == tuple(tensors["grid_thw"][1:])
        patches = torch.cat([checkpoint.vision.patches(frame, grid) for frame in tensors["frames"]])
        stored = torch.from_numpy(tensors["pixel_values"]).float()
        torch.testing.assert_close(patches[: len(stored)], stored, atol=1e-3, rtol=0)
        with torch.inference_mode():
            features = encoder.encode(patches, grid, len(tensors["frames"]))
        torch.testing.assert_close(features, torch.from_numpy(tensors["visual_features"]), atol=1e-4, rtol=0)


def test_a_border_covers_the_edge_of_the_fitted_picture() -> None:
    grid = CellGrid(rows=2, cols=2)
    fitted = VisionSettings(border_px=2).fitted(np.full((90, 90, 3), 200, dtype=np.uint8), grid)
    assert fitted.shape == (56, 56, 3)
    assert not fitted[:2].any() and not fitted[:, -2:].any() and (fitted[2:-2, 2:-2] == 200).all()


def test_read_only_pictures_are_taken() -> None:
    image = some_picture(56, 56)
    image.flags.writeable = False
    grid = CellGrid(rows=2, cols=2)
    assert VisionSettings().patches(image, grid).shape == (16, 588)
