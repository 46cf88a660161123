"""Tone mapping: converts HDR and wide-gamut pictures to BT.709 for a screen of gamma 2.4. For any thread.

Sources: ITU-R BT.2100 (transfer curves), BT.2408 (reference white), BT.2087 (primaries).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

# Code points of ITU-T H.273, which every container and codec uses: transfer characteristics, and colour primaries.
_PQ, _HLG = 16, 18
_WIDE_PRIMARIES = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_D65 = (0.3127, 0.3290)

_WHITE_NITS = 203.0
"""Reference white of an SDR picture: BT.2408, table 1; 75 % of HLG's signal, 58 % of PQ's."""
_HLG_PEAK_NITS = 1000.0
_HLG_GAMMA = 1.2
"""The system gamma of a screen of 1,000 nits: BT.2100, table 5."""
_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
"""Of BT.2020's red, green and blue: BT.2100, table 5."""
_SCREEN_GAMMA = 2.4
_KNEE = 0.94
"""Signal above which highlights are compressed; below it, an SDR picture is unchanged."""
_BRIGHTEST = 2.0
"""Light, as a multiple of reference white, that is shown as full white."""
_LEVELS = 65535


def is_standard(transfer: int, primaries: int) -> bool:
    """Whether a picture with these code points of H.273 needs no tone mapping."""
    return transfer not in (_PQ, _HLG) and primaries not in _WIDE_PRIMARIES


@dataclass(frozen=True, slots=True)
class ToneMap:
    """A conversion to 8-bit BT.709: a curve from signal to light, a colour matrix, and a curve from light to levels."""

    to_light: np.ndarray = field(repr=False)
    """uint16 `[65536]`: linear light for each signal; 65,535 is `_BRIGHTEST` times reference white, or with `gain` the
    brightest light of the scene."""
    mixture: np.ndarray = field(repr=False)
    """float32 `[3, 3]`: BT.709's linear red, green and blue from the picture's."""
    to_levels: np.ndarray = field(repr=False)
    """uint8 `[65536]`: output level for each linear light; 65,535 is `_BRIGHTEST` times reference white."""
    gain: np.ndarray | None = field(repr=False, default=None)
    """float32 `[65536]`: display light divided by scene light, for each scene luminance (HLG's system gamma)."""

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Convert full-range uint16 RGB `[height, width, 3]` to uint8 of the same shape."""
        import cv2

        own = cv2.LUT(image, self.to_light)
        light = cv2.transform(own, self.mixture)
        if self.gain is not None:
            # Apart from the mixture: OpenCV is quick for three rows and for one, three times as slow for four.
            gain = cv2.LUT(cv2.transform(own, _LUMINANCE), self.gain)
            light = cv2.multiply(light, cv2.merge([gain, gain, gain]), dtype=cv2.CV_16U)
        return np.asarray(cv2.LUT(light, self.to_levels), dtype=np.uint8)


def has_gamma_by_colour(container_tags: Mapping[str, str], stream_tags: Mapping[str, str]) -> bool:
    """Whether an HLG file was encoded with the system gamma on each colour channel, by its metadata.

    BT.2100 applies it to luminance, as phones and cameras do. FFmpeg's zscale, which converts SDR to HLG, applies it to
    each channel by default ("approximate gamma"). No field says which, so files that FFmpeg wrote count as encoded per
    channel, unless their metadata names a phone or a camera.
    """
    told = {key.lower(): value for tags in (container_tags, stream_tags) for key, value in tags.items()}
    is_cameras = "core media" in told.get("handler_name", "").lower() or any(
        key.startswith(("com.apple.", "com.android.")) or key in ("make", "model") for key in told
    )
    return not is_cameras and any(
        tags.get(key, "").startswith(("Lavf", "Lavc"))
        for tags in (container_tags, stream_tags)
        for key in ("encoder", "ENCODER")
    )


@lru_cache(maxsize=16)
def tone_map(transfer: int, primaries: int, *, by_colour: bool = False) -> ToneMap:
    """The conversion for these code points of H.273; HDR without declared primaries is taken as BT.2020.

    by_colour: `has_gamma_by_colour`; it matters for HLG alone.
    """
    signal = np.arange(_LEVELS + 1) / _LEVELS
    on_luminance = transfer == _HLG and not by_colour
    light = _scene_light(signal) if on_luminance else _light_of(transfer, signal) / _BRIGHTEST
    is_hdr = transfer in (_PQ, _HLG)
    own = _WIDE_PRIMARIES.get(primaries, _WIDE_PRIMARIES[9] if is_hdr and primaries != 1 else _BT709)
    mixture = np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(own)
    shown = (signal * _BRIGHTEST) ** (1 / _SCREEN_GAMMA)
    if is_hdr:
        shown = _compress_highlights(shown)
    gain = None
    if on_luminance:
        gain = _HLG_PEAK_NITS / _WHITE_NITS / _BRIGHTEST * signal ** (_HLG_GAMMA - 1)
    return ToneMap(
        gain=None if gain is None else gain.astype(np.float32),
        to_light=np.round(np.clip(light, 0, 1) * _LEVELS).astype(np.uint16),
        mixture=mixture.astype(np.float32),
        to_levels=np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8),
    )


def _light_of(transfer: int, signal: np.ndarray) -> np.ndarray:
    """Light on the screen, in multiples of reference white, for a signal from 0 to 1: BT.2100, tables 4 and 5."""
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = signal ** (1 / m2)
        return 10_000.0 / _WHITE_NITS * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
    if transfer == _HLG:
        # Applied to each colour channel: files encoded on luminance come out up to 40 levels too vivid this way, files
        # encoded per channel up to 30 levels too pale on luminance.
        return _HLG_PEAK_NITS / _WHITE_NITS * _scene_light(signal) ** _HLG_GAMMA
    return signal**_SCREEN_GAMMA


def _scene_light(signal: np.ndarray) -> np.ndarray:
    """Scene light from 0 to 1 for each HLG signal from 0 to 1: BT.2100, table 5."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _compress_highlights(shown: np.ndarray) -> np.ndarray:
    """Signal with its highlights compressed below 1, by a hyperbola of slope 1 at the knee that ends at `_BRIGHTEST`.

    BT.2390's own curve would darken an SDR picture's white by 24 levels; this one darkens it by 7.
    """
    room, width = 1 - _KNEE, _BRIGHTEST ** (1 / _SCREEN_GAMMA) - _KNEE
    scale = room * width / (width - room)
    beyond = np.maximum(shown - _KNEE, 0.0)
    return np.where(shown > _KNEE, _KNEE + scale * beyond / (beyond + scale), shown)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix `[3, 3]` from linear red, green and blue to XYZ, with D65 as white (SMPTE RP 177)."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(*primary) for primary in primaries], axis=1)
    return columns * np.linalg.solve(columns, xyz(*_D65))
