"""What a session's speed is compared with: transformers' own model, fed the whole window again or generating.

The engine's thread calls it; nothing here touches a session's memory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.checkpoint.devices import wait_for

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.session.session import Session
    from streaming.difffp.live import CellGrid


logger = logging.getLogger(__name__)


class WindowAgain:
    """The window of a session at one moment, as transformers' model takes it: every frame encoded, every token
    prefilled."""

    def __init__(self, checkpoint: Checkpoint, session: Session, pictures: Mapping[int, np.ndarray]) -> None:
        """pictures: uint8 RGB at the grid's size, by the frame's index."""
        assert session.grid is not None, "the window of a session that saw nothing"
        self._checkpoint = checkpoint
        spans = list(session.context.ledger)
        seen = [span for span in spans if span.is_seen_frame and span.frame_index is not None]
        shown = [pictures[span.frame_index] for span in seen if span.frame_index is not None]
        self._patches = torch.cat([patches_of(checkpoint, picture, session.grid) for picture in shown])
        num_cells = session.grid.num_cells
        kept = [number * num_cells + span.cells for number, span in enumerate(seen) if span.cells is not None]
        self._kept = torch.cat([torch.from_numpy(cells) for cells in kept]).to(checkpoint.device)
        self._ids = torch.tensor([token for span in spans for token in span.ids], device=checkpoint.device)
        self._grid = session.grid
        self.num_frames = len(seen)
        """Frames with visual tokens in the window."""

    @property
    def num_tokens(self) -> int:
        """Tokens in the window."""
        return len(self._ids)

    def logits(self) -> torch.Tensor:
        """`[1, vocab]`: logits after the window's last token, all computed anew."""
        model = transformers_model(self._checkpoint)
        visual = encoded(self._checkpoint, self._patches, self._grid, self.num_frames)[self._kept]
        language = model.model.language_model
        embeddings = language.embed_tokens(self._ids)
        embeddings[self._ids == self._checkpoint.special.image] = visual
        hidden = language(inputs_embeds=embeddings[None], use_cache=False).last_hidden_state[0]
        logits: torch.Tensor = model.lm_head(hidden[-1:])
        return logits

    def time_ms(self) -> float:
        """Milliseconds that `logits` takes."""
        return timed_ms(self._checkpoint.device, self.logits)


def patches_of(checkpoint: Checkpoint, picture: np.ndarray, grid: CellGrid) -> torch.Tensor:
    """Float32 `[num_patches, values]` of a picture that has the grid's size."""
    return checkpoint.vision.cut(torch.from_numpy(picture), grid)


def transformers_model(checkpoint: Checkpoint) -> Any:
    """The checkpoint as transformers' own class, with its own attention and cache."""
    return checkpoint.model


def encoded(checkpoint: Checkpoint, patches: torch.Tensor, grid: CellGrid, num_frames: int = 1) -> torch.Tensor:
    """Visual tokens by transformers' vision tower and projector: `[num_frames * num_cells, hidden]`."""
    model, device = transformers_model(checkpoint).model, checkpoint.device
    vision = model.vision_model(
        pixel_values=patches.to(device, checkpoint.dtype),
        grid_thw=torch.tensor([[num_frames, grid.rows * grid.merge, grid.cols * grid.merge]], device=device),
        merge_sizes=torch.tensor([grid.merge], device=device),
        return_dict=True,
    )
    tokens: torch.Tensor = model.projector(vision.last_hidden_state)
    return tokens


class _Times:
    """A streamer for `generate` that notes when each token came."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.at_s: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        wait_for(self._device)
        self.at_s.append(time.perf_counter())

    def end(self) -> None:
        pass


def generate_ms(checkpoint: Checkpoint, ids: Sequence[int], num_tokens: int, *, static: bool = False) -> list[float]:
    """Milliseconds a token of transformers' `generate` after `ids`, without the prefill: `num_tokens` - 1 of them.

    static: with transformers' static cache, compiled where torch can, which needs a C compiler.
    """
    if not static:
        return _generated_ms(checkpoint, ids, num_tokens, {})
    options: dict[str, Any] = {"cache_implementation": "static"}
    try:
        return _generated_ms(checkpoint, ids, num_tokens, options)
    except Exception as error:  # torch's compiler raises errors of its own, of Triton and of the system
        logger.warning("transformers' static cache is not compiled (%s)", type(error).__name__)
        return _generated_ms(checkpoint, ids, num_tokens, {**options, "disable_compile": True})


def _generated_ms(checkpoint: Checkpoint, ids: Sequence[int], num_tokens: int, options: dict[str, Any]) -> list[float]:
    model, times = transformers_model(checkpoint), _Times(checkpoint.device)
    prompt = torch.tensor([list(ids)], device=checkpoint.device)
    with torch.inference_mode():
        model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=num_tokens,
            min_new_tokens=num_tokens,
            do_sample=False,
            streamer=times,
            pad_token_id=checkpoint.special.im_end,
            **options,
        )
    came_s = times.at_s[1:]  # the first call passes the prompt
    return [1e3 * (after - before) for before, after in zip(came_s, came_s[1:], strict=False)]


def timed_ms(device: torch.device, work: Any) -> float:
    """Milliseconds that `work()` takes without gradients, the device waited for."""
    wait_for(device)
    began_s = time.perf_counter()
    with torch.inference_mode():
        work()
    wait_for(device)
    return 1e3 * (time.perf_counter() - began_s)
