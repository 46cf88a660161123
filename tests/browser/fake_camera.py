"""A film for the browser's fake camera: a rendered scene, with its media time painted along the bottom edge.

The code is eight rows of twelve faint patches: two that say how bright dark and light are, and ten bits of a Gray code
in tenths of a second. It is so faint that pruning takes it for noise, and one patch changes at a time.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from streaming.scenes.source import Scene, SceneSettings, TruthEvent

CAMERA_FPS = 30
"""Rate at which Chromium plays files of JPEGs."""
TICKS_PER_S = 10
CODE_ROWS = 8
_NUM_BITS = 10
_NUM_PATCHES = 2 + _NUM_BITS
_DARK, _LIGHT = 124, 132
SETTINGS = SceneSettings(duration_s=60.0, view_sizes=((448, 280),))


@dataclass(frozen=True, slots=True)
class Film:
    """The film that the camera repeats."""

    path: Path
    duration_s: float
    truth: tuple[TruthEvent, ...]

    def away_s(self, time_s: float) -> float:
        """Seconds from `time_s` to what happens next to it; 0 from its beginning until it can be recognised."""
        return min(max(0.0, event.time_s - time_s, time_s - max(event.time_s, event.visible_s)) for event in self.truth)


def paint_time(picture: np.ndarray, time_s: float) -> np.ndarray:
    """`picture` (uint8 RGB `[height, width, 3]`) with its media time along the bottom edge."""
    ticks = round(time_s * TICKS_PER_S)
    code = ticks ^ ticks >> 1
    bits = [0, 1, *(code >> bit & 1 for bit in range(_NUM_BITS))]
    painted = picture.copy()
    for bit, columns in zip(bits, np.array_split(np.arange(picture.shape[1]), _NUM_PATCHES), strict=True):
        painted[-CODE_ROWS:, columns] = _LIGHT if bit else _DARK
    return painted


def read_time(rows: np.ndarray | Sequence[float]) -> float | None:
    """The media time in the mean brightness of the twelve patches; None where there is no code."""
    patches = np.asarray(rows, dtype=np.float64)
    dark, light = patches[0], patches[1]
    if not 3.0 < light - dark < 20.0:
        return None
    bits = (patches[2:] > (dark + light) / 2).astype(int)
    code = sum(int(bit) << place for place, bit in enumerate(bits))
    ticks = 0
    while code:
        ticks ^= code
        code >>= 1
    return ticks / TICKS_PER_S


def patches_of(picture: np.ndarray) -> list[float]:
    """Mean brightness of the twelve patches of a picture of any size, its margins left out."""
    height = picture.shape[0]
    rows = max(1, round(CODE_ROWS * height / SETTINGS.view_sizes[0][1]))
    strip = picture[height - rows :].astype(np.float64).mean(axis=(0, 2))
    found = []
    for columns in np.array_split(np.arange(picture.shape[1]), _NUM_PATCHES):
        inner = columns[len(columns) // 4 : -len(columns) // 4 or None]
        found.append(float(strip[inner].mean()))
    return found


READ_TIME_JS = f"""
(element) => {{
  const CODE_ROWS = {CODE_ROWS}, HEIGHT = {SETTINGS.view_sizes[0][1]}, PATCHES = {_NUM_PATCHES};
  const width = element.videoWidth || element.naturalWidth || element.width;
  const height = element.videoHeight || element.naturalHeight || element.height;
  if (!width || !height) return null;
  const rows = Math.max(1, Math.round(CODE_ROWS * height / HEIGHT));
  const canvas = document.createElement('canvas');
  canvas.width = width; canvas.height = rows;
  const paper = canvas.getContext('2d', {{willReadFrequently: true}});
  paper.drawImage(element, 0, height - rows, width, rows, 0, 0, width, rows);
  const data = paper.getImageData(0, 0, width, rows).data;
  const patches = [];
  for (let patch = 0; patch < PATCHES; patch++) {{
    const left = Math.floor((patch + 0.25) * width / PATCHES), right = Math.floor((patch + 0.75) * width / PATCHES);
    let sum = 0, count = 0;
    for (let y = 0; y < rows; y++) for (let x = left; x < right; x++) {{
      const at = 4 * (y * width + x);
      sum += data[at] + data[at + 1] + data[at + 2]; count += 3;
    }}
    patches.push(sum / count);
  }}
  return patches;
}}
"""
"""The patches of what a video, an image or a canvas shows now."""


def make_film(path: Path, seed: int, duration_s: float = 20.0, settings: SceneSettings = SETTINGS) -> Film:
    """Render the scene of `seed` into a file of JPEGs."""
    scene = Scene(seed, settings)
    with path.open("wb") as file:
        for tick in range(round(duration_s * TICKS_PER_S)):
            time_s = tick / TICKS_PER_S
            held = io.BytesIO()
            picture = paint_time(scene.frame(time_s), time_s)
            Image.fromarray(picture).save(held, "JPEG", quality=92, subsampling=0)
            file.write(held.getvalue() * (CAMERA_FPS // TICKS_PER_S))
    truth = tuple(event for event in scene.truth if event.time_s < duration_s)
    return Film(path, duration_s, truth)
