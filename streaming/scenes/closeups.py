"""Makes labelled close-ups from photographs and cut-outs, degraded like camera pictures. Pure functions.

Cut-outs are labelled to the pixel, photographs by boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from streaming.errors import OptionError
from streaming.scenes.footage import Box, Cutout, Footage, Named, Photo

_THING_PX = (22.0, 150.0)
"""Range of the longer side of the main object in a close-up."""
_MOST_ENLARGED = 1.6
_LARGEST_PX = 640
_PASTED_SHARE = 0.35
"""Share of close-ups that show a cut-out on a part of a photograph without labelled objects."""
_NOTHING_SHARE = 0.18
"""Share of close-ups without an object."""
_FEW_ODDS = 0.45
"""How much of the imbalance between words is evened out: 0 none, 1 all."""


@dataclass(frozen=True, slots=True)
class Part:
    """One object in a close-up."""

    box: Box
    """Its box in shares of the close-up; it may extend beyond the close-up."""
    alpha: np.ndarray | None = None
    """Opacity of a cut-out, float32 `[height, width]` of the close-up; None for a photograph's box."""


@dataclass(frozen=True, slots=True)
class CloseUp:
    """A picture and the labelled objects in it."""

    picture: np.ndarray
    """uint8 RGB `[height, width, 3]`."""
    parts: tuple[Part, ...]
    """The objects; later ones lie over earlier ones."""
    main: int | None
    """Index of the main object; None if there is none."""
    seen_whole: bool
    """Whether the labels are complete: no named object lies outside the parts."""


class CloseUps:
    """Draws random close-ups from a folder's footage; rare words are drawn more often than they occur."""

    def __init__(self, footage: Footage) -> None:
        self._photos = [
            (photo, number) for photo in footage.photos for number, box in enumerate(photo.boxes) if box.named
        ]
        self._photo_odds = _odds([photo.boxes[number].named for photo, number in self._photos])
        self._cutouts = footage.cutouts
        self._cutout_odds = _odds([cutout.named for cutout in footage.cutouts])
        self._grounds = [photo for photo in footage.photos if photo.seen_whole]

    def draw(self, rng: np.random.Generator, width: int, height: int) -> CloseUp:
        """A random close-up of this size: of a photograph's box, of a cut-out, or without an object."""
        draw = rng.random()
        if draw < _NOTHING_SHARE and self._grounds:
            made = self.nothing(rng, width, height)
        elif draw < _NOTHING_SHARE + _PASTED_SHARE and self._cutouts and self._grounds:
            made = self._pasted(rng, width, height)
        else:
            photo, number = self._photos[int(rng.choice(len(self._photos), p=self._photo_odds))]
            made = close_up(rng, photo, number, width, height)
        return CloseUp(worn(rng, made.picture), made.parts, made.main, made.seen_whole)

    def nothing(self, rng: np.random.Generator, width: int, height: int) -> CloseUp:
        """A part of a photograph that no box touches, or after 20 tries any part."""
        for _ in range(20):
            photo = self._grounds[int(rng.integers(len(self._grounds)))]
            made = _cut(rng, photo, None, width, height)
            if not any(_touches(part.box) for part in made.parts):
                break
        return made

    def _pasted(self, rng: np.random.Generator, width: int, height: int) -> CloseUp:
        ground = self.nothing(rng, width, height)
        cutout = self._cutouts[int(rng.choice(len(self._cutouts), p=self._cutout_odds))]
        return pasted(rng, ground, cutout)


def _odds(named: list[Named | None]) -> np.ndarray:
    """The probability of drawing each, which raises the share of rare words."""
    if not named:
        return np.zeros(0)
    words = [(one.group, one.word) if one else ("", "") for one in named]
    counts = {word: words.count(word) for word in set(words)}
    odds = np.array([counts[word] ** -_FEW_ODDS for word in words])
    shares: np.ndarray = odds / odds.sum()
    return shares


def _touches(box: Box) -> bool:
    return box.left < 1 and box.right > 0 and box.top < 1 and box.bottom > 0


def close_up(rng: np.random.Generator, photo: Photo, number: int, width: int, height: int) -> CloseUp:
    """A part of a photograph around its box `number`, at a random scale and offset."""
    made = _cut(rng, photo, photo.boxes[number], width, height)
    return CloseUp(made.picture, made.parts, number, made.seen_whole)


def _cut(rng: np.random.Generator, photo: Photo, box: Box | None, width: int, height: int) -> CloseUp:
    import cv2

    whole = opened(photo.path)
    room_h, room_w = whole.shape[:2]
    if box is None:
        scale = max(width / room_w, height / room_h) * np.exp(rng.uniform(0, 1.0))
        x, y = rng.uniform(0, room_w), rng.uniform(0, room_h)
    else:
        longest = max((box.right - box.left) * room_w, (box.bottom - box.top) * room_h, 1.0)
        wanted = np.exp(rng.uniform(np.log(_THING_PX[0]), np.log(min(_THING_PX[1], 1.2 * max(width, height)))))
        scale = min(wanted / longest, _MOST_ENLARGED)
        away = rng.uniform(-0.5, 0.5, 2) * np.maximum(0.9 * np.array([width, height]) - 0.6 * wanted, 4) / scale
        x = (box.left + box.right) / 2 * room_w + away[0]
        y = (box.top + box.bottom) / 2 * room_h + away[1]
    wide, high = max(round(width / scale), 2), max(round(height / scale), 2)
    left, top = _kept_in(x - wide / 2, wide, room_w), _kept_in(y - high / 2, high, room_h)
    mirrored = bool(rng.random() < 0.5)
    part = whole[max(top, 0) : top + high, max(left, 0) : left + wide]
    beyond = (max(-top, 0), max(top + high - room_h, 0), max(-left, 0), max(left + wide - room_w, 0))
    part = cv2.copyMakeBorder(part, *beyond, cv2.BORDER_REPLICATE)
    picture = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    window = np.array([left, top, wide, high]) / (room_w, room_h, room_w, room_h)
    parts = tuple(Part(_within(other, window, mirrored=mirrored)) for other in photo.boxes)
    picture = np.ascontiguousarray(picture[:, ::-1] if mirrored else picture)
    return CloseUp(picture, parts, None, photo.seen_whole)


def _kept_in(start: float, length: int, room: int) -> int:
    """`start` moved so that the window stays within the photograph; a window that is larger is centred on it."""
    return (room - length) // 2 if length >= room else int(np.clip(start, 0, room - length))


def _within(box: Box, window: np.ndarray, *, mirrored: bool) -> Box:
    """A photograph's box in shares of a window. window: left, top, width, height, in shares of the photograph."""
    left, right = ((side - window[0]) / window[2] for side in (box.left, box.right))
    top, bottom = ((side - window[1]) / window[3] for side in (box.top, box.bottom))
    left, right = (1 - right, 1 - left) if mirrored else (left, right)
    return Box(float(left), float(top), float(right), float(bottom), box.named)


def pasted(rng: np.random.Generator, ground: CloseUp, cutout: Cutout) -> CloseUp:
    """A close-up with a cut-out laid over it, at random with a shadow or partly out of view."""
    import cv2

    height, width = ground.picture.shape[:2]
    thing = opened(cutout.path)
    if thing.shape[2] != 4:
        raise OptionError(f"footage: {cutout.path}", "a cut-out has alpha, and it has none", "take out its line")
    longest = np.exp(rng.uniform(np.log(_THING_PX[0]), np.log(min(_THING_PX[1], 1.2 * max(width, height)))))
    scale = min(longest / max(thing.shape[:2]), _MOST_ENLARGED)
    wide, high = max(int(thing.shape[1] * scale), 2), max(int(thing.shape[0] * scale), 2)
    thing = cv2.resize(thing, (wide, high), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    thing = thing[:, ::-1] if rng.random() < 0.5 else thing
    out = 0.4 if rng.random() < 0.25 else 0.0
    left = int(rng.uniform(min(-out * wide, width - wide), max(width - (1 - out) * wide, 0)))
    top = int(rng.uniform(min(-out * high, height - high), max(height - (1 - out) * high, 0)))
    layer = np.zeros((height, width, 4), np.float32)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + wide, width), min(top + high, height)
    if x1 <= x0 or y1 <= y0:
        return ground
    layer[y0:y1, x0:x1] = thing[y0 - top : y1 - top, x0 - left : x1 - left]
    alpha = layer[..., 3] / 255
    under = ground.picture.astype(np.float32)
    if rng.random() < 0.4:
        shade = cv2.GaussianBlur(np.roll(alpha, max(high // 20, 1), axis=0), (0, 0), max(high / 18, 1.0))
        under *= 1 - 0.5 * shade[..., None]
    light = rng.uniform(0.7, 1.2) * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    colour = np.clip(layer[..., :3] * light.astype(np.float32), 0, 255)
    picture = under + alpha[..., None] * (colour - under)
    box = Box(left / width, top / height, (left + wide) / width, (top + high) / height, cutout.named)
    parts = (*ground.parts, Part(box, alpha))
    return CloseUp(np.clip(picture, 0, 255).astype(np.uint8), parts, len(parts) - 1, ground.seen_whole)


def worn(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A picture degraded at random like a camera's: dark or bright, grey at night, blurred, noisy, compressed."""
    import cv2

    worn_out: np.ndarray = picture.astype(np.float32)
    if rng.random() < 0.15:
        grey = worn_out @ np.array([0.299, 0.587, 0.114], np.float32)
        worn_out = np.repeat(grey[..., None], 3, axis=2)
        if rng.random() < 0.4:  # infrared: skin and cloth are pale, shadows deep
            worn_out = 255 * (worn_out / 255) ** rng.uniform(0.5, 0.8)
    contrast = rng.uniform(0.75, 1.2)
    worn_out = (worn_out - 128) * contrast + 128
    if rng.random() < 0.5:
        worn_out *= rng.uniform(0.35, 1.3)
    worn_out *= rng.uniform(0.93, 1.07, 3).astype(np.float32)
    if rng.random() < 0.2:
        worn_out = cv2.GaussianBlur(worn_out, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.6:
        worn_out += rng.standard_normal(worn_out.shape, dtype=np.float32) * rng.uniform(0.5, 6)
    image = np.clip(worn_out + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return image


@lru_cache(maxsize=300)
def opened(path: str) -> np.ndarray:
    """Load a picture, cached: a photograph as uint8 RGB `[height, width, 3]`, a cut-out with alpha as `[…, 4]`."""
    import cv2

    picture = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint8:
        raise OptionError(f"footage: {path}", "it can't be read as a picture", "mend the file, or take out its line")
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    scale = _LARGEST_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    order = [2, 1, 0, 3][: picture.shape[2]]
    return np.ascontiguousarray(picture[..., order])
