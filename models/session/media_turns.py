"""Pictures and short clips in a question, in the image-sequence and video formats of VideoLLaMA 3.

Images take merge size 1 and one `<image>` each; clips take merge size 2, DiffFP and times. Runs on the engine's thread.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.errors import SessionError
from models.network.work import part_cost
from models.prompt import IMAGE_TOKEN
from models.session.runtime import Runtime
from models.session.steps import Pause, StepGenerator, as_steps
from models.session.tokenizer import StreamTokenizer
from models.spans import Span, SpanKind
from models.vision import VisionSettings
from streaming.difffp.live import CellGrid, PaperDiffFP

MIN_PICTURE_TOKENS = 4
"""Fewest visual tokens at which a picture is recognisable."""
PIXELS_A_PATCH = 2048
"""Pixels that take about as long to resize as a patch takes to encode."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames of a short video with their times."""

    frames: Sequence[np.ndarray]
    """uint8 RGB `[height, width, 3]`, all of one size."""
    times_s: Sequence[float]

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.times_s):
            raise SessionError(
                f"a clip of {len(self.frames)} frames and {len(self.times_s)} times: at least one frame, one time each"
            )
        if len({frame.shape for frame in self.frames}) > 1:
            raise SessionError("a clip's frames have several sizes: resize them to one")


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An attachment with its pictures already encoded."""

    text: str
    """Text of the attachment in a turn, with a marker for each picture."""
    num_tokens: tuple[int, ...]
    """Number of visual tokens of each picture."""
    embeddings: torch.Tensor
    """`[num_visual, hidden]`, all pictures together."""


Attachment = np.ndarray | Clip | Encoded
"""A still image, uint8 RGB `[height, width, 3]`, a clip, or either of them already encoded."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A user turn with its pictures encoded."""

    ids: list[int]
    offsets: np.ndarray
    """int `[num_visual]`: offsets of the visual tokens in `ids`."""
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
    """A picture resized to its grid, before it is encoded."""

    frame: np.ndarray
    """uint8 RGB `[height, width, 3]`, of the grid's size."""
    grid: CellGrid
    keep: np.ndarray
    """Bool `[num_cells]`: cells that become visual tokens."""


@dataclass(frozen=True, slots=True)
class MediaTurn:
    """A user turn with its pictures resized and pruned, before they are encoded."""

    ids: list[int]
    offsets: np.ndarray
    """int `[num_visual]`: offsets of the visual tokens in `ids`."""
    pictures: list[LaidPicture]


@as_steps
def attach(
    runtime: Runtime, question: str, attachments: Sequence[Attachment], max_tokens: int
) -> StepGenerator[Attached]:
    """Build the user turn of a question with attachments of at most `max_tokens` visual tokens together.

    Each picture gets an equal share of the budget; grids shrink to fit. Raises `SessionError` where the share is too
    small for a picture.
    """
    encoded = yield from encode(runtime, attachments, max_tokens)
    kept = [number for item in encoded for number in item.num_tokens]
    text = _asked(runtime.codec, question, [item.text for item in encoded])
    ids, offsets = _joined(runtime.codec, runtime.checkpoint.special.image, text, kept)
    return Attached(ids, offsets, torch.cat([item.embeddings for item in encoded]))


@as_steps
def encode(runtime: Runtime, attachments: Sequence[Attachment], max_tokens: int) -> StepGenerator[tuple[Encoded, ...]]:
    """Encode the pictures of attachments, in steps of a few pictures or of parts of a large one.

    Attachments that are already encoded stay as they are. Raises `SessionError` like `attach`.
    """
    yield Pause()
    vision, encoder = runtime.checkpoint.vision, runtime.encoder
    share, turn = _share(attachments, max_tokens), _Turn(part_cost(runtime.checkpoint.device))
    made: list[Encoded] = []
    for item in attachments:
        if isinstance(item, Encoded):
            made.append(item)
            continue
        visual: list[torch.Tensor] = []
        pictures = _pictures(vision, item, share)
        for _ in range(_num_pictures(item)):
            yield from turn.before(_num_pixels(item) / PIXELS_A_PATCH)
            picture = next(pictures)
            patches = vision.cut(torch.from_numpy(picture.frame), picture.grid)
            tokens = yield from turn.through(encoder.pieces(patches, picture.grid, turn.most))
            visual.append(tokens[torch.from_numpy(picture.keep).to(tokens.device)])
        made.append(Encoded(_text(runtime.codec, item), tuple(map(len, visual)), torch.cat(visual)))
    return tuple(made)


class _Turn:
    """Budget of the current step, in patches of work."""

    def __init__(self, most: float) -> None:
        self.most = most
        self._spent = 0.0

    @as_steps
    def before(self, cost: float) -> StepGenerator[None]:
        """Call before work of the given cost: ends the current step first where the cost exceeds the rest of its
        budget."""
        if self._spent and self._spent + cost > self.most:
            yield Pause()
            self._spent = 0.0
        self._spent += cost

    @as_steps
    def through(self, pieces: Generator[float, None, torch.Tensor]) -> StepGenerator[torch.Tensor]:
        """Run work in pieces, each of which yields its cost first; returns the result of the work."""
        while True:
            try:
                cost = next(pieces)
            except StopIteration as done:
                encoded: torch.Tensor = done.value
                return encoded
            yield from self.before(cost)


def lay_out(
    codec: StreamTokenizer,
    vision: VisionSettings,
    image_id: int,
    question: str,
    attachments: Sequence[Attachment],
    max_tokens: int,
) -> MediaTurn:
    """`attach` without the encoder, as training needs it."""
    share = _share(attachments, max_tokens)
    pictures = [picture for item in attachments for picture in _pictures(vision, item, share)]
    text = _asked(codec, question, [_text(codec, item) for item in attachments])
    ids, offsets = _joined(codec, image_id, text, [int(picture.keep.sum()) for picture in pictures])
    return MediaTurn(ids, offsets, pictures)


def _share(attachments: Sequence[Attachment], max_tokens: int) -> int:
    """The number of visual tokens that each picture may take."""
    num_pictures = sum(map(_num_pictures, attachments))
    share = max_tokens // max(1, num_pictures)
    if share < MIN_PICTURE_TOKENS:
        raise SessionError(
            f"{num_pictures} pictures for {max_tokens} visual tokens: at least {MIN_PICTURE_TOKENS} each; attach fewer"
        )
    return share


def _num_pictures(item: Attachment) -> int:
    if isinstance(item, Encoded):
        return len(item.num_tokens)
    return len(item.frames) if isinstance(item, Clip) else 1


def _num_pixels(item: np.ndarray | Clip) -> int:
    """Number of pixels of one picture, before resizing."""
    height: int
    width: int
    height, width = (item.frames[0] if isinstance(item, Clip) else item).shape[:2]
    return height * width


def _text(codec: StreamTokenizer, item: Attachment) -> str:
    if isinstance(item, Encoded):
        return item.text
    return codec.prompt.clip(item.times_s) if isinstance(item, Clip) else codec.prompt.image()


def _asked(codec: StreamTokenizer, question: str, texts: Sequence[str]) -> str:
    # `turn` escapes markers in the question, so the pictures' own markers are inserted afterwards.
    turn = codec.prompt.turn("user", question)
    opening = codec.prompt.opening("user")
    return opening + "".join(texts) + turn.removeprefix(opening)


def _joined(codec: StreamTokenizer, image_id: int, text: str, kept: Sequence[int]) -> tuple[list[int], np.ndarray]:
    """Token ids and the offsets of the visual tokens. kept: number of visual tokens of each picture."""
    pieces = [codec.encode(piece) for piece in text.split(IMAGE_TOKEN)]
    assert len(pieces) == len(kept) + 1, "one marker a picture"
    ids, offsets = list(pieces[0]), []
    for num_tokens, piece in zip(kept, pieces[1:], strict=True):
        offsets.append(np.arange(len(ids), len(ids) + num_tokens))
        ids += [image_id] * num_tokens + piece
    return ids, np.concatenate(offsets)


def _pictures(vision: VisionSettings, item: Attachment, max_cells: int) -> Iterator[LaidPicture]:
    """An attachment's pictures resized to their grids, one at a time."""
    if isinstance(item, Encoded):
        raise SessionError("an attachment that is already encoded cannot be laid out again: pass its pictures")
    if isinstance(item, Clip):
        yield from _clip_pictures(vision, item, max_cells)
    else:
        yield _image_picture(vision, item, max_cells)


def _image_picture(vision: VisionSettings, image: np.ndarray, max_cells: int) -> LaidPicture:
    vision.check_picture(image.shape[1], image.shape[0], merge=vision.image_merge)
    grid = vision.fit_grid(image.shape[1], image.shape[0], max_cells=max_cells, merge=vision.image_merge)
    return LaidPicture(vision.fitted(image, grid), grid, np.ones(grid.num_cells, dtype=bool))


def _clip_pictures(vision: VisionSettings, clip: Clip, max_cells: int) -> Iterator[LaidPicture]:
    """Each frame, with the cells that the published DiffFP keeps."""
    height, width = clip.frames[0].shape[:2]
    vision.check_picture(width, height)
    grid = vision.fit_grid(width, height, max_cells=max_cells)
    pruner = PaperDiffFP(grid)
    for frame in clip.frames:
        fitted = vision.fitted(frame, grid)
        keep = pruner.push(vision.cut(torch.from_numpy(fitted), grid))
        yield LaidPicture(fitted, grid, keep.cpu().numpy())
