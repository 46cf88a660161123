"""Pictures and short clips that come with a question, in the image-sequence and video formats of VideoLLaMA 3.

Images take merge size 1 and are `<image>` each; clips take merge size 2, DiffFP and times. Runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.codec import TextCodec
from models.errors import SessionError
from models.prompt import IMAGE_TOKEN
from models.runtime import Runtime
from models.spans import Span, SpanKind
from models.vision import VisionSettings
from streaming.difffp import CellGrid, PaperDiffFP

MIN_PICTURE_TOKENS = 4
"""Below this a picture says nothing."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of a short video, each with its time."""

    frames: Sequence[np.ndarray]
    """uint8 RGB `[height, width, 3]`, all of one size."""
    times_s: Sequence[float]

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.times_s):
            raise SessionError(
                f"a clip of {len(self.frames)} frames and {len(self.times_s)} times: at least one frame, one time each"
            )
        if len({frame.shape for frame in self.frames}) > 1:
            raise SessionError("a clip's frames are of several sizes: scale them to one")


Attachment = np.ndarray | Clip
"""A still image, uint8 RGB `[height, width, 3]`, or a clip."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A user turn with its pictures tokenized."""

    ids: list[int]
    offsets: np.ndarray
    """int `[num_visual]`: where in `ids` visual tokens stand."""
    embeddings: torch.Tensor
    """`[num_visual, hidden]`."""

    def span(self, time_s: float) -> Span:
        """The turn as a unit of the ledger."""
        return Span(
            SpanKind.ATTACHMENT,
            self.ids,
            time_s=time_s,
            cells=np.arange(len(self.offsets)),
            vision=self.embeddings,
            image_offsets=self.offsets,
        )


@dataclass(frozen=True, slots=True)
class LaidPicture:
    """One picture on its grid, before it is encoded."""

    frame: np.ndarray
    """uint8 RGB `[height, width, 3]` of the grid's size, as the encoder sees it."""
    grid: CellGrid
    keep: np.ndarray
    """Bool `[num_cells]`: cells that become visual tokens."""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A user turn with its pictures laid out, before they are encoded."""

    ids: list[int]
    offsets: np.ndarray
    """int `[num_visual]`: where in `ids` visual tokens stand."""
    pictures: list[LaidPicture]


def attach(runtime: Runtime, question: str, attachments: Sequence[Attachment], max_tokens: int) -> Attached:
    """The user turn of a question with attachments, at most `max_tokens` visual tokens together.

    Each picture gets its share of the budget; grids shrink to fit. Raises `SessionError` where a share is below
    what a picture needs.
    """
    checkpoint = runtime.checkpoint
    laid = lay_out(runtime.codec, checkpoint.vision, checkpoint.special.image, question, attachments, max_tokens)
    visual = []
    for picture in laid.pictures:
        patches = checkpoint.vision.cut(torch.from_numpy(picture.frame), picture.grid)
        encoded = runtime.encoder.encode(patches, picture.grid)
        visual.append(encoded[torch.from_numpy(picture.keep).to(encoded.device)])
    return Attached(laid.ids, laid.offsets, torch.cat(visual))


def lay_out(
    codec: TextCodec,
    vision: VisionSettings,
    image_id: int,
    question: str,
    attachments: Sequence[Attachment],
    max_tokens: int,
) -> LaidOut:
    """`attach` without the encoder, as training needs it."""
    num_pictures = sum(len(item.frames) if isinstance(item, Clip) else 1 for item in attachments)
    share = max_tokens // max(1, num_pictures)
    if share < MIN_PICTURE_TOKENS:
        raise SessionError(
            f"{num_pictures} pictures for {max_tokens} visual tokens: at least {MIN_PICTURE_TOKENS} each; attach fewer"
        )
    text, pictures = "", []
    for item in attachments:
        if isinstance(item, Clip):
            text += codec.prompt.clip(item.times_s)
            pictures += _clip_pictures(vision, item, share)
        else:
            text += codec.prompt.image()
            pictures.append(_image_picture(vision, item, share))
    # The question is defused by `turn`; the pictures' own markers go in afterwards.
    turn = codec.prompt.turn("user", question)
    opening = codec.prompt.opening("user")
    return _joined(codec, image_id, opening + text + turn.removeprefix(opening), pictures)


def _joined(codec: TextCodec, image_id: int, text: str, pictures: list[LaidPicture]) -> LaidOut:
    pieces = [codec.encode(piece) for piece in text.split(IMAGE_TOKEN)]
    assert len(pieces) == len(pictures) + 1, "one marker a picture"
    ids, offsets = list(pieces[0]), []
    for picture, piece in zip(pictures, pieces[1:], strict=True):
        num_tokens = int(picture.keep.sum())
        offsets.append(np.arange(len(ids), len(ids) + num_tokens))
        ids += [image_id] * num_tokens + piece
    return LaidOut(ids, np.concatenate(offsets), pictures)


def _image_picture(vision: VisionSettings, image: np.ndarray, max_cells: int) -> LaidPicture:
    vision.check_picture(image.shape[1], image.shape[0], merge=vision.image_merge)
    grid = vision.fit_grid(image.shape[1], image.shape[0], max_cells=max_cells, merge=vision.image_merge)
    return LaidPicture(vision.fitted(image, grid), grid, np.ones(grid.num_cells, dtype=bool))


def _clip_pictures(vision: VisionSettings, clip: Clip, max_cells: int) -> list[LaidPicture]:
    """Each frame, with the cells that the published DiffFP keeps."""
    height, width = clip.frames[0].shape[:2]
    vision.check_picture(width, height)
    grid = vision.fit_grid(width, height, max_cells=max_cells)
    pruner = PaperDiffFP(grid)
    laid = []
    for frame in clip.frames:
        fitted = vision.fitted(frame, grid)
        keep = pruner.push(vision.cut(torch.from_numpy(fitted), grid))
        laid.append(LaidPicture(fitted, grid, keep.cpu().numpy()))
    return laid
