"""Draws the pictures of a synthetic scene; each depends only on the scenario and the time.

A `Renderer` caches grounds and sprites, so only one thread at a time may use it.
"""

from __future__ import annotations

import numpy as np

from streaming.scenes.cutouts import painted
from streaming.scenes.scenario import Cover, Scenario, Thing
from streaming.scenes.scenery import fractal_field, ground_margin_px, paint_alpha, paint_ground, paint_texture, shifted

_PHASES = 8
"""Number of poses of a swinging limb."""
_SPRITES_KEPT = 96
_DIGITS = ("757", "262", "717", "747", "551", "474", "475", "711", "777", "577")
"""Coarse 3 × 5 digits: the bits of rows 0, 2 and 4; rows 1 and 3 are interpolated."""


class Renderer:
    """Renders the pictures of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._width, self._height = scenario.width_px, scenario.height_px
        self._margin = ground_margin_px(scenario.scale)
        self._grounds: dict[int, np.ndarray] = {}
        self._sprites: dict[tuple[int, int], np.ndarray] = {}
        self._textures: dict[int, np.ndarray] = {}
        self._covers: dict[int, np.ndarray] = {}
        size = self._height * self._width * 3
        grain = np.random.default_rng([scenario.seed, 0x6A1]).standard_normal(2 * size, dtype=np.float32)
        self._grain = grain * np.float32(scenario.sensor.noise_sigma)

    def frame(self, t_s: float) -> np.ndarray:
        """The picture at a time: uint8 RGB `[height, width, 3]`."""
        picture = self._view(t_s)
        for index, cover in enumerate(self.scenario.covers):
            level = cover.ramp.at(t_s)
            if level > 0:
                self._draw_cover(picture, index, cover, level)
        picture = self._expose(picture, t_s)
        sigma = self.scenario.blur_px.at(t_s)
        if sigma > 0.2:
            import cv2

            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        return self._develop(picture, t_s)

    def clean_frame(self, t_s: float) -> np.ndarray:
        """The ground and things only, without light, effects, noise or artefacts: uint8 RGB `[height, width, 3]`."""
        return np.clip(self._view(t_s) + 0.5, 0, 255).astype(np.uint8)

    def _view(self, t_s: float) -> np.ndarray:
        shot = self.scenario.shot_at(t_s)
        if shot not in self._grounds:
            spec = self.scenario.shots[shot].ground
            self._grounds = {shot: paint_ground(spec, self._height + 2 * self._margin, self._width + 2 * self._margin)}
        ground = self._grounds[shot]
        camera_x, camera_y = self.scenario.camera.at(t_s)
        left, top = self._margin + camera_x, self._margin + camera_y
        x, y = int(np.floor(left)), int(np.floor(top))
        fx, fy = left - x, top - y
        height, width = self._height, self._width
        picture = ground[y : y + height, x : x + width]
        if fx > 1e-3 or fy > 1e-3:
            block = ground[y : y + height + 1, x : x + width + 1]
            rows = block[:-1] * np.float32(1 - fy) + block[1:] * np.float32(fy)
            picture = rows[:, :-1] * np.float32(1 - fx) + rows[:, 1:] * np.float32(fx)
        else:
            picture = picture.copy()
        for thing in self.scenario.things:
            if thing.born_s <= t_s < thing.gone_s:
                self._draw_thing(picture, thing, t_s, camera_x, camera_y)
        return picture

    def _draw_thing(self, picture: np.ndarray, thing: Thing, t_s: float, camera_x: float, camera_y: float) -> None:
        x, y = thing.way.at(t_s)
        phase = 0
        if thing.colour is None and thing.outline.form not in ("ellipse", "cutout"):
            stride = 0.35 * thing.size_px if thing.outline.form == "person" else 14.0 * self.scenario.scale
            phase = int(thing.way.length_px(t_s) / stride * _PHASES) % _PHASES
        alpha = self._alpha(thing, phase)
        side = alpha.shape[0]
        left, top = x - camera_x - side / 2, y - camera_y - side / 2
        x0, y0 = int(np.floor(left)), int(np.floor(top))
        ax, ay = max(x0, 0), max(y0, 0)
        bx, by = min(x0 + side + 1, self._width), min(y0 + side + 1, self._height)
        if ax >= bx or ay >= by:
            return
        part = (slice(ay - y0, by - y0), slice(ax - x0, bx - x0))
        cover = shifted(alpha, top - y0, left - x0)[part][..., None]
        if thing.colour is None:
            paint = shifted(self._texture(thing, side), top - y0, left - x0)[part]
        else:
            paint = thing.rgb_at(t_s)
        target = picture[ay:by, ax:bx]
        target += cover * (paint - target)

    def _alpha(self, thing: Thing, phase: int) -> np.ndarray:
        key = (thing.thing_id, phase)
        if key not in self._sprites:
            if len(self._sprites) > 96:
                self._sprites.clear()
                self._textures.clear()
            self._sprites[key] = paint_alpha(thing.outline, thing.size_px, 2 * np.pi * phase / _PHASES)
        return self._sprites[key]

    def _texture(self, thing: Thing, side: int) -> np.ndarray:
        if thing.thing_id not in self._textures:
            outline = thing.outline
            if outline.form == "cutout":
                texture = painted(outline.picture, outline.mirrored, thing.size_px, side)
            else:
                texture = paint_texture(np.random.default_rng(thing.seed), side, thing.rgb)
            self._textures[thing.thing_id] = texture
        return self._textures[thing.thing_id]

    def _draw_cover(self, picture: np.ndarray, index: int, cover: Cover, level: float) -> None:
        height, width = self._height, self._width
        if index not in self._covers:
            field = fractal_field(np.random.default_rng(cover.seed), height, width, 2.0)
            self._covers = {index: np.asarray(cover.rgb, np.float32) + 3.0 * field[..., None]}
        extent = width if cover.edge in ("left", "right") else height
        line = np.clip((level * (extent + cover.softness_px) - np.arange(extent) - 0.5) / cover.softness_px, 0, 1)
        line = (line if cover.edge in ("left", "top") else line[::-1]).astype(np.float32)
        alpha = line[None, :, None] if cover.edge in ("left", "right") else line[:, None, None]
        picture += alpha * (self._covers[index] - picture)

    def _expose(self, picture: np.ndarray, t_s: float) -> np.ndarray:
        """Apply light, slow drift, exposure reaction, flicker, wandering shadow and shimmer to `picture`."""
        sensor = self.scenario.sensor
        gain = self.scenario.gain.at(t_s) * sensor.drift.at(t_s)
        if sensor.reaction:
            gain *= 1.0 - sensor.reaction * self._filled(t_s)
        factor = np.float32(gain) * np.asarray(sensor.balance, np.float32)
        picture *= factor
        if sensor.flicker_levels:
            level = sensor.flicker_levels * np.sin(2 * np.pi * sensor.flicker_hz * t_s)
            picture += np.float32(level * min(gain, 1.0))
        if sensor.shadow_levels:
            xs = np.arange(self._width) / self._width - 0.5 - 0.5 * np.sin(t_s / 23.0)
            ys = np.arange(self._height) / self._height - 0.5 - 0.4 * np.cos(t_s / 31.0)
            spot = np.exp(-(ys[:, None] ** 2) / 0.12) * np.exp(-(xs[None] ** 2) / 0.12)
            picture -= (sensor.shadow_levels * gain * spot[..., None]).astype(np.float32)
        if sensor.shimmer_levels:
            left, top, wide, high = sensor.shimmer_box
            x, y = int(left * (1 - wide) * self._width), int(top * (1 - high) * self._height)
            wave = np.sin(4.1 * t_s) + np.sin(11.3 * t_s + 1.0)
            part = picture[y : y + int(high * self._height), x : x + int(wide * self._width)]
            part += np.float32(0.5 * sensor.shimmer_levels * wave * min(gain, 1.0))
        return picture

    def _filled(self, t_s: float) -> float:
        """Share of the view that things cover, averaged over the last second."""
        area = 0.0
        for delay in (0.2, 0.6, 1.0):
            for thing in self.scenario.things:
                if thing.born_s <= t_s - delay < thing.gone_s:
                    share = self.scenario.seen_part(thing, t_s - delay)[0]
                    area += share * thing.full_share * thing.area_px / 3
        return min(area / (self._width * self._height), 1.0)

    def _develop(self, picture: np.ndarray, t_s: float) -> np.ndarray:
        """Convert to uint8, with sensor noise, the burnt-in clock and compression."""
        sensor = self.scenario.sensor
        if sensor.noise_sigma > 0:
            size = picture.size
            rng = np.random.default_rng([self.scenario.seed, int(round(t_s * 1000)) + 1_000_000])
            start = int(rng.integers(size))
            picture += self._grain[start : start + size].reshape(picture.shape)
        picture += np.float32(0.5)
        np.clip(picture, 0, 255, out=picture)
        image = picture.astype(np.uint8)
        if sensor.clock_corner:
            _draw_clock(image, sensor.clock_corner, int(t_s), max(int(round(self.scenario.scale)), 1))
        if sensor.jpeg_quality:
            import cv2

            key_frame = sensor.pulse_s is not None and t_s % sensor.pulse_s < 0.12
            quality = 95 if key_frame else sensor.jpeg_quality
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return image


def _draw_clock(image: np.ndarray, corner: str, second: int, zoom: int) -> None:
    """Draw the seconds into a corner, two digits, white on black."""
    board = np.zeros((7, 9), np.uint8)
    for place, digit in enumerate(f"{second % 100:02d}"):
        top, middle, bottom = (int(row) for row in _DIGITS[int(digit)])
        rows = (top, top & middle or top, middle, middle & bottom or bottom, bottom)
        for row, bits in enumerate(rows):
            for column in range(3):
                board[1 + row, 1 + 4 * place + column] = 235 * (bits >> (2 - column) & 1)
    board = np.kron(board, np.ones((zoom, zoom), np.uint8))
    height, width = board.shape
    y = 3 if "top" in corner else image.shape[0] - height - 3
    x = 3 if "left" in corner else image.shape[1] - width - 3
    image[y : y + height, x : x + width] = board[..., None]
