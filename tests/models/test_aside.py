"""Questions asked aside leave cache and later output unchanged; sessions stay within their memory estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.session.memory import session_bytes
from models.session.session import Session
from models.session.steps import Job
from tests.models.streams import moving, picture, small_settings


def watched(engine: Engine, num_frames: int) -> Session:
    session = engine.open_session(small_settings())
    for shown in moving(num_frames):
        engine.run(session.see(shown))
    return session


@pytest.mark.parametrize("pictures", [[], [picture(3)]])
def test_an_answer_aside_leaves_no_trace(engine: Engine, pictures: list[np.ndarray]) -> None:
    asked, other = watched(engine, 4), watched(engine, 4)
    before = asked.usage
    pieces: list[str] = []
    said = engine.run(asked.answer("What is it?", pictures, aside=True), on_piece=pieces.append)
    assert said.token_ids and "".join(pieces) == said.text
    assert asked.usage == before
    for session in (asked, other):
        engine.run(session.see(list(moving(5))[4]))
    first, second = (session.context.last_logits for session in (asked, other))
    assert first is not None and second is not None and torch.equal(first, second)


def test_an_answer_aside_that_is_left_off_leaves_none_either(engine: Engine) -> None:
    session = watched(engine, 3)
    before = session.usage
    job = Job(session.answer("What is it?", aside=True))
    for _ in range(3):
        engine.step([job])
    job.cancel()
    assert engine.run(session.cut()) is None and session.usage == before


def test_aside_and_kept_answers_begin_alike(engine: Engine) -> None:
    first, second = watched(engine, 3), watched(engine, 3)
    aside = engine.run(first.answer("What is it?", aside=True))
    assert aside.token_ids == engine.run(second.answer("What is it?")).token_ids


def test_no_session_outgrows_its_footprint(engine: Engine, checkpoint: Checkpoint) -> None:
    settings = small_settings()
    limit = session_bytes(checkpoint, settings)
    session = engine.open_session(settings)
    for shown in moving(60):
        engine.run(session.see(shown))
    assert session.usage.num_evictions > 0
    assert session.usage.cache_bytes < limit
    assert engine.info.bytes_per_token * session.usage.num_tokens <= session.usage.cache_bytes
