"""Reads a folder of labelled photographs and cut-outs for training with `--footage`, and splits off a test part.

`docs/footage.md` describes its files. Pure functions of paths, for any thread.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming.errors import OptionError
from streaming.scenes.object_names import NAMES, group_of

PHOTOS_NAME = "labels.jsonl"
CUTOUTS_NAME = "cutouts.jsonl"
KEPT_BACK = 10
"""One in this many clips, or single pictures, is kept back for evaluation."""
OTHER = "other"
"""The word of a label that belongs to a group, but has no word of its own."""
_WORDS = {
    "cell phone": "phone",
    "backpack": "bag",
    "handbag": "bag",
    "suitcase": "bag",
    "sports ball": "ball",
    **{name: name for name in NAMES},
}
_OTHERS = {
    "vehicles": ("vehicle", "airplane", "train", "boat", "lcv", "three-wheeler", "two-wheelers"),
    "animals": ("animal", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    "things": (
        *("thing", "umbrella", "tie", "frisbee", "skis", "snowboard", "kite", "baseball bat", "baseball glove"),
        *("skateboard", "surfboard", "tennis racket", "wine glass", "fork", "knife", "spoon", "bowl", "banana"),
        *(
            "apple",
            "sandwich",
            "orange",
            "broccoli",
            "carrot",
            "hot dog",
            "pizza",
            "donut",
            "cake",
            "potted plant",
            "mouse",
        ),
        *("remote", "keyboard", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "wallet"),
    ),
}
_WITHOUT_WORD = {label: group for group, labels in _OTHERS.items() for label in labels}


@dataclass(frozen=True, slots=True)
class Named:
    """The name of an object: its group, and its word, which is `OTHER` for objects with a group only."""

    group: str
    word: str


@dataclass(frozen=True, slots=True)
class Box:
    """The box of an object in a photograph, in shares of the photograph's width and height."""

    left: float
    top: float
    right: float
    bottom: float
    named: Named | None
    """What the object is; None if that is in doubt, or it belongs to no group."""

    def covered_by(self, other: Box) -> float:
        """The share of this box that `other` covers."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0.0) * max(high, 0.0) / max((self.right - self.left) * (self.bottom - self.top), 1e-9)


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph and its labelled boxes."""

    path: str
    source: str
    boxes: tuple[Box, ...]
    """The certain boxes, then the doubtful ones."""
    seen_whole: bool
    """Whether its labels are complete: no named object lies outside the boxes."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no certain and no doubtful object."""
        return self.seen_whole and not self.boxes


@dataclass(frozen=True, slots=True)
class Cutout:
    """A picture of one object, with alpha."""

    path: str
    named: Named


@dataclass(frozen=True, slots=True)
class Footage:
    """The photographs and cut-outs of a folder, of its training part or its test part."""

    photos: tuple[Photo, ...]
    cutouts: tuple[Cutout, ...]


def named_of(label: str) -> Named | None:
    """The group and word for a detector's or a person's label; None for a label without a group.

    >>> named_of("cell phone"), named_of("sheep"), named_of("bed")
    (Named(group='things', word='phone'), Named(group='animals', word='other'), None)
    """
    plain = label.casefold()
    word = _WORDS.get(plain)
    if word is not None:
        return Named(group_of(word) or "", word)
    group = _WITHOUT_WORD.get(plain)
    return Named(group, OTHER) if group is not None else None


def is_kept_back(record: Mapping[str, Any], held_sources: Sequence[str] = ()) -> bool:
    """Whether a record is kept back for evaluation; all frames of a clip, or cut-outs of a photograph, go together."""
    key = str(record.get("clip") or record.get("photo") or record["file"])
    return record.get("source") in held_sources or zlib.crc32(key.encode()) % KEPT_BACK == 0


def read_footage(folder: Path, *, kept_back: bool = False, held_sources: Sequence[str] = ()) -> Footage:
    """Read the training part of a folder, or the part kept back. Raises `OptionError` if it has no labelled photo."""
    photos = [
        _photo(folder, record)
        for record in _records(folder / PHOTOS_NAME)
        if is_kept_back(record, held_sources) == kept_back
    ]
    cutouts = [
        Cutout(str(folder / record["file"]), named)
        for record in _records(folder / CUTOUTS_NAME)
        if is_kept_back(record, held_sources) == kept_back and (named := named_of(record["label"])) is not None
    ]
    if not any(box.named for photo in photos for box in photo.boxes):
        raise OptionError(
            f"footage={folder}",
            f"no photograph with a known label is left to {'judge by' if kept_back else 'train on'} in {PHOTOS_NAME}",
            "give a folder with more of them, as docs/footage.md describes",
        )
    return Footage(tuple(photos), tuple(cutouts))


def _records(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise OptionError(
            f"footage={path.parent}", f"{path.name} can't be read: {error.strerror}", "give a folder that has one"
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            _ = record["file"] + record["source"]
        except (ValueError, KeyError, TypeError) as error:
            rule = f"{type(error).__name__}: {error}; file and source are wanted"
            raise OptionError(f"{path}, line {number}", rule, "mend the line") from error
        records.append(record)
    return records


def _photo(folder: Path, record: Mapping[str, Any]) -> Photo:
    """A photograph with its boxes: those of people and of both detectors are certain, those of one are doubtful."""
    sure = [_box(corners, named_of(label)) for label, corners in record.get("human_boxes", [])]
    sure += _further(record.get("agreed", []), sure)
    doubtful = _further([*record.get("coco_ssd", []), *record.get("nanodet", [])], sure)
    if "hand" in str(record.get("hint", "")):  # detectors call a hand close up a person, as well as its owner
        sure = [_in_doubt(box) if _is_person(box) else box for box in sure]
    boxes = (*sure, *(_in_doubt(box, keep_group=False) for box in doubtful))
    seen_whole = bool(sure) or "hint" not in record
    return Photo(str(folder / record["file"]), record["source"], boxes, seen_whole)


def _is_person(box: Box) -> bool:
    return box.named is not None and box.named.word == "person"


def _in_doubt(box: Box, *, keep_group: bool = True) -> Box:
    named = Named(box.named.group, "") if keep_group and box.named else None
    return Box(box.left, box.top, box.right, box.bottom, named)


def _further(found: Sequence[Mapping[str, Any]], known: Sequence[Box]) -> list[Box]:
    """The boxes of `found` that do not overlap a known one by more than half."""
    boxes = [_box(one["box"], named_of(one["label"])) for one in found]
    return [box for box in boxes if not any(min(box.covered_by(k), k.covered_by(box)) > 0.5 for k in known)]


def _box(corners: Sequence[float], named: Named | None) -> Box:
    left, top, right, bottom = (min(max(float(value), 0.0), 1.0) for value in corners)
    return Box(left, top, right, bottom, named)
