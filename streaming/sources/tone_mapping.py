"""High dynamic range and wide colours as ordinary ones: BT.709 colours for a screen of gamma 2.4. Any thread.

ITU-R BT.2100 has the curves, BT.2408 the level of an ordinary picture's white inside them, BT.2087 the primaries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

# Numbers of ITU-T H.273, which every container and codec writes: transfer characteristics, and colour primaries.
_PQ, _HLG = 16, 18
_WIDE_PRIMARIES = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
_BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_D65 = (0.3127, 0.3290)

_WHITE_NITS = 203.0
"""An ordinary picture's white: BT.2408, table 1; 75 % of HLG's signal, 58 % of PQ's."""
_HLG_PEAK_NITS = 1000.0
_SCREEN_GAMMA = 2.4
_KNEE = 0.94
"""Signal from which on highlights are bent together; below it, an ordinary picture comes out as it went in."""
_BRIGHTEST = 2.0
"""Light in whites from which on everything is white."""
_LEVELS = 65535


def is_standard(transfer: int, primaries: int) -> bool:
    """Whether a picture with these numbers of H.273 is shown as it is."""
    return transfer not in (_PQ, _HLG) and primaries not in _WIDE_PRIMARIES


@dataclass(frozen=True, slots=True)
class ToneMap:
    """The way from one kind of picture to ordinary levels: a curve to light, a mixture of colours, a curve back."""

    to_light: np.ndarray = field(repr=False)
    """uint16 `[65536]`: light by signal; 65,535 is `_BRIGHTEST` whites."""
    mixture: np.ndarray = field(repr=False)
    """float32 `[3, 3]`: BT.709's red, green and blue light from the picture's."""
    to_levels: np.ndarray = field(repr=False)
    """uint8 `[65536]`: level by light."""

    def apply(self, image: np.ndarray) -> np.ndarray:
        """uint16 RGB `[height, width, 3]` of full range as uint8 of the same shape."""
        import cv2

        light = cv2.transform(cv2.LUT(image, self.to_light), self.mixture)
        return np.asarray(cv2.LUT(light, self.to_levels), dtype=np.uint8)


@lru_cache(maxsize=16)
def tone_map(transfer: int, primaries: int) -> ToneMap:
    """The way for a picture with these numbers of H.273. HDR whose primaries are not told has BT.2020's."""
    signal = np.arange(_LEVELS + 1) / _LEVELS
    light = _light_of(transfer, signal) / _BRIGHTEST
    is_hdr = transfer in (_PQ, _HLG)
    own = _WIDE_PRIMARIES.get(primaries, _WIDE_PRIMARIES[9] if is_hdr and primaries != 1 else _BT709)
    mixture = np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(own)
    shown = (signal * _BRIGHTEST) ** (1 / _SCREEN_GAMMA)
    if is_hdr:
        shown = _bent(shown)
    return ToneMap(
        to_light=np.round(np.clip(light, 0, 1) * _LEVELS).astype(np.uint16),
        mixture=mixture.astype(np.float32),
        to_levels=np.round(np.clip(shown, 0, 1) * 255).astype(np.uint8),
    )


def _light_of(transfer: int, signal: np.ndarray) -> np.ndarray:
    """Light on the screen, in whites, by signal from 0 to 1: BT.2100, tables 4 and 5."""
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        root = signal ** (1 / m2)
        return 10_000.0 / _WHITE_NITS * (np.maximum(root - c1, 0.0) / (c2 - c3 * root)) ** (1 / m1)
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        # The system gamma of a screen of 1,000 nits, for each colour by itself, as zimg has it ("approximate gamma",
        # the default of FFmpeg's zscale). Taken on luminance, as BT.2100 does, saturated colours of files made so
        # come out up to 30 levels paler; files made on luminance come out as much more vivid here.
        return _HLG_PEAK_NITS / _WHITE_NITS * scene**1.2
    return signal**_SCREEN_GAMMA


def _bent(shown: np.ndarray) -> np.ndarray:
    """Signal with the highlights bent below 1: a hyperbola of slope 1 at the knee that ends at `_BRIGHTEST`.

    BT.2390's own curve would darken an ordinary picture's white by 24 levels; here it loses 7.
    """
    room, width = 1 - _KNEE, _BRIGHTEST ** (1 / _SCREEN_GAMMA) - _KNEE
    scale = room * width / (width - room)
    beyond = np.maximum(shown - _KNEE, 0.0)
    return np.where(shown > _KNEE, _KNEE + scale * beyond / (beyond + scale), shown)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """`[3, 3]` from linear red, green, blue to XYZ, with D65 as white (SMPTE RP 177)."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    columns = np.stack([xyz(*primary) for primary in primaries], axis=1)
    return columns * np.linalg.solve(columns, xyz(*_D65))
