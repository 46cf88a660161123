"""Infinite or NaN outputs raise an error with its remedy, in every operation of a session."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.engine import Engine
from models.errors import LogitsError
from models.session.session import Session
from models.session.steps import Steps
from streaming.difffp.live import Kind
from tests.models.streams import check_whole, frame, picture, small_settings, watch


@contextmanager
def scaled(checkpoint: Checkpoint, factor: float) -> Iterator[None]:
    """Context in which the values between two layers are multiplied by `factor`."""
    layer = checkpoint.model.model.language_model.layers[0].mlp.down_proj
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(factor)
    try:
        yield
    finally:
        with torch.no_grad():
            layer.weight.copy_(before)


def see(engine: Engine, session: Session, step: int) -> Kind:
    return engine.run(session.see(frame(picture(step), step, float(step)), speak_above=-math.inf)).kind


def test_what_overflows_float16_is_an_error_that_names_bfloat16(
    released_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        half = load_checkpoint(released_folder, device="cpu", dtype="float16")
    assert "float16" in caplog.text and "use bfloat16" in caplog.text
    engine = Engine(half)
    session = engine.open_session(small_settings())
    watch(engine, session, 2)
    length = session.context.cache.length
    with scaled(half, 3e5):
        wrongs: tuple[Steps[Any], ...] = (
            session.see(frame(picture(2), 2, 2.0)),
            session.answer("What is it?"),
            session.answer("What is it?", [picture(3)]),
            session.answer("What is it?", aside=True),
            session.comment(),
            session.check("Is it so?"),
            engine.ask("What is it?", [picture(3)]),
        )
        for wrong in wrongs:
            with pytest.raises(LogitsError, match="float16.*--dtype bfloat16"):
                engine.run(wrong)
        assert session.context.cache.length == length
    assert see(engine, session, 3) is Kind.WHOLE, "what was lost is made up for"
    check_whole_in_half(session)
    engine.close()


def check_whole_in_half(session: Session) -> None:
    assert session.context.cache.length == len(session.context.ledger)
    assert all(torch.isfinite(layer.keys).all() for layer in session.context.cache.layers)


def test_bfloat16_holds_what_float16_does_not(released_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        brain = load_checkpoint(released_folder, device="cpu", dtype="bfloat16")
    assert "float16" not in caplog.text.replace("bfloat16", "")
    engine = Engine(brain)
    session = engine.open_session(small_settings())
    with scaled(brain, 3e5):
        watch(engine, session, 3)
        assert engine.run(session.answer("What is it?")).token_ids
    engine.close()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_damaged_weights_are_told_in_other_words(engine: Engine, checkpoint: Checkpoint, value: float) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 1)
    norm = checkpoint.model.model.language_model.norm.weight
    before = norm.detach().clone()
    try:
        with torch.no_grad():
            norm[3] = value
        with pytest.raises(LogitsError, match="damaged"):
            see(engine, session, 1)
    finally:
        with torch.no_grad():
            norm.copy_(before)
    see(engine, session, 2)
    check_whole(session)


def test_a_picture_that_the_encoder_overflows_on_is_found_out_too(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = engine.open_session(small_settings())
    watch(engine, session, 1)
    encode = engine._runtime.encoder.encode_batch
    with monkeypatch.context() as patched:
        patched.setattr(engine._runtime.encoder, "encode_batch", lambda batch: [encode(batch)[0] * math.nan])
        with pytest.raises(LogitsError):
            see(engine, session, 1)
    see(engine, session, 2)
    check_whole(session)
