"""A repeated picture is not encoded again, and its session equals that of a camera that shows the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.engine import Engine
from models.network.network import VisionEncoder
from models.network.tower import FrameBatch
from models.session.results import Sight
from models.session.session import Session
from streaming.difffp.live import Kind
from tests.models.streams import check_whole, frame, last, picture, small_settings


def seen(engine: Engine, session: Session, *, repeated: bool) -> list[Sight]:
    """One picture for a minute, another for a second."""
    still, other = picture(0), picture(3)
    sights = []
    for second in range(62):
        image = still if second < 60 else other
        shown = frame(image if repeated else image.copy(), second, float(second))
        is_again = repeated and second not in (0, 60)
        sights.append(engine.run(session.see(replace(shown, is_repeated=is_again))))
    return sights


def test_a_standing_picture_is_encoded_once_and_seen_like_any_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    encode = VisionEncoder.encode_batch

    def counted(self: VisionEncoder, batch: Sequence[FrameBatch]) -> list[torch.Tensor]:
        nonlocal passes
        passes += len(batch)
        return encode(self, batch)

    monkeypatch.setattr(VisionEncoder, "encode_batch", counted)
    usual, standing = engine.open_session(small_settings()), engine.open_session(small_settings())
    wanted = seen(engine, usual, repeated=False)
    assert passes > 10, "heartbeats carry tokens that grow old"
    passes = 0
    sights = seen(engine, standing, repeated=True)
    assert passes == 2
    assert [sight.kind for sight in sights] == [sight.kind for sight in wanted]
    assert all(np.array_equal(a.pruning.keep, b.pruning.keep) for a, b in zip(sights, wanted, strict=True))
    assert Kind.SKIPPED in {sight.kind for sight in sights} and sights[60].kind is Kind.CHANGED
    assert torch.equal(last(standing), last(usual))
    check_whole(standing)
