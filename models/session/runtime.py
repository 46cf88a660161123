"""What the sessions of one engine share: the checkpoint, its network and tokenizer, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.checkpoint.devices import wait_for
from models.network.network import FrameEncoding, ModelNetwork
from models.network.slots import Slot

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint
    from models.session.tokenizer import StreamTokenizer


@dataclass(frozen=True, slots=True)
class Runtime:
    """Shared by the sessions of an engine, on the engine's thread."""

    checkpoint: Checkpoint
    network: ModelNetwork
    codec: StreamTokenizer
    now: Callable[[], float]
    """Wall clock of the process, in seconds."""

    def now_done(self) -> float:
        """The clock in seconds after the device has finished its launched work, so that differences measure the work
        itself."""
        wait_for(self.checkpoint.device)
        return self.now()

    @property
    def encoder(self) -> FrameEncoding:
        """The vision encoder."""
        return self.network.encoder

    def new_cache(self, capacity: int) -> Slot:
        """An empty slot for a session of the checkpoint's language model."""
        return self.network.new_slot(capacity)

    def embed(self, ids: Sequence[int]) -> torch.Tensor:
        """`[num_ids, hidden]`: the language model's embeddings of token ids."""
        return self.network.embed(ids)

    def embed_with_vision(
        self, ids: Sequence[int], offsets: Sequence[int] | None, vision: torch.Tensor | None
    ) -> torch.Tensor:
        """`[num_ids, hidden]`: embeddings of token ids, with `vision` `[num_visual, hidden]` in place of the ids at
        `offsets`."""
        embeddings = self.embed(ids)
        if vision is None or offsets is None or len(offsets) == 0:
            return embeddings
        embeddings[torch.as_tensor(offsets, device=embeddings.device)] = vision
        return embeddings
