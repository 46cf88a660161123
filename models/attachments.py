"""Pictures and short clips that come with a question, in the image-sequence and video formats of VideoLLaMA 3.

Images take merge size 1 and are `<image>` each; clips take merge size 2, DiffFP and times. Runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.errors import SessionError
from models.prompt import IMAGE_TOKEN
from models.runtime import Runtime
from models.spans import Span, SpanKind
from streaming.difffp import PaperDiffFP

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


def attach(runtime: Runtime, question: str, attachments: Sequence[Attachment], max_tokens: int) -> Attached:
    """The user turn of a question with attachments, at most `max_tokens` visual tokens together.

    Each picture gets its share of the budget; grids shrink to fit. Raises `SessionError` where a share is below
    what a picture needs.
    """
    num_pictures = sum(len(item.frames) if isinstance(item, Clip) else 1 for item in attachments)
    share = max_tokens // max(1, num_pictures)
    if share < MIN_PICTURE_TOKENS:
        raise SessionError(
            f"{num_pictures} pictures for {max_tokens} visual tokens: at least {MIN_PICTURE_TOKENS} each; attach fewer"
        )
    prompt = runtime.codec.prompt
    text, visual = "", []
    for item in attachments:
        if isinstance(item, Clip):
            text += prompt.clip(item.times_s)
            visual += _clip_tokens(runtime, item, share)
        else:
            text += prompt.image()
            visual.append(_image_tokens(runtime, item, share))
    # The question is defused by `turn`; the pictures' own markers go in afterwards.
    turn = prompt.turn("user", question)
    opening = prompt.opening("user")
    return _joined(runtime, opening + text + turn.removeprefix(opening), visual)


def _joined(runtime: Runtime, text: str, visual: Sequence[torch.Tensor]) -> Attached:
    pieces = [runtime.codec.encode(piece) for piece in text.split(IMAGE_TOKEN)]
    assert len(pieces) == len(visual) + 1, "one marker a picture"
    ids, offsets = list(pieces[0]), []
    for tokens, piece in zip(visual, pieces[1:], strict=True):
        offsets.append(np.arange(len(ids), len(ids) + len(tokens)))
        ids += [runtime.checkpoint.special.image] * len(tokens) + piece
    return Attached(ids, np.concatenate(offsets), torch.cat(list(visual)))


def _image_tokens(runtime: Runtime, image: np.ndarray, max_cells: int) -> torch.Tensor:
    vision = runtime.checkpoint.vision
    grid = vision.fit_grid(image.shape[1], image.shape[0], max_cells=max_cells, merge=vision.image_merge)
    return runtime.encoder.encode(vision.patches(image, grid), grid)


def _clip_tokens(runtime: Runtime, clip: Clip, max_cells: int) -> list[torch.Tensor]:
    """Visual tokens of each frame that the published DiffFP keeps."""
    vision = runtime.checkpoint.vision
    height, width = clip.frames[0].shape[:2]
    grid = vision.fit_grid(width, height, max_cells=max_cells)
    pruner = PaperDiffFP(grid)
    tokens = []
    for frame in clip.frames:
        patches = vision.patches(frame, grid)
        keep = pruner.push(patches)
        encoded = runtime.encoder.encode(patches, grid)
        tokens.append(encoded[keep.to(encoded.device)])
    return tokens
