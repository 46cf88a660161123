"""Sessions and questions stay within the memory set aside for them, for any input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint.devices import free_bytes
from models.checkpoint.loader import Checkpoint
from models.engine import Engine
from models.errors import SessionError
from models.eviction import window_tokens
from models.session.media_turns import Attachment, Clip
from models.session.memory import FREE_SHARE, cache_bytes, default_limit, session_bytes
from models.session.session import Session
from models.session.steps import Forward, Steps
from tests.models.streams import Script, check_whole, each, frame, picture, single, small_settings, watch


class Highest:
    """Records the largest memory of a session, measured before every forward pass."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.num_bytes = 0

    def look(self) -> None:
        context = self._session.context
        visual = [span.vision for span in context.ledger if isinstance(span.vision, torch.Tensor)]
        of_embeddings = sum(vision.numel() * vision.element_size() for vision in visual)
        self.num_bytes = max(self.num_bytes, context.cache.num_bytes + of_embeddings)


@pytest.fixture
def looked_at(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Any:
    def arrange(session: Session) -> Highest:
        highest, forward = Highest(session), single(engine)

        def looking(request: Forward) -> Any:
            output = forward(request)
            highest.look()
            return output

        monkeypatch.setattr(engine, "_forward", each(looking))
        return highest

    return arrange


def fitting(session: Session, most: int) -> str:
    """A question of about `most` tokens, and no more."""
    text = "What is it? "
    while len(session._codec.encode(session._codec.prompt.turn("user", text * 2))) <= most:
        text *= 2
    return text


def test_no_session_outgrows_what_was_set_aside_for_it(engine: Engine, checkpoint: Checkpoint, looked_at: Any) -> None:
    settings = small_settings()
    script = Script(checkpoint, *["circle " * 20] * 40)
    session = engine.open_session(settings, sampler=script, system="Be brief. " * 10)
    highest = looked_at(session)
    longest = fitting(session, 160)
    clip = Clip([picture(step, (300, 400)) for step in range(20)], [float(step) for step in range(20)])
    pictures: list[Attachment] = [picture(3, (300, 400)), clip]
    engine.run(session.instruct(longest))
    for step in range(60):
        engine.run(session.see(frame(picture(step), step, float(step)), speak_above=-1e9))
        if step % 6 == 3:
            engine.run(session.answer(longest, keep_attachments=True, max_tokens=100))
            engine.run(session.answer("What?", pictures, max_tokens=100))
            engine.run(session.answer("What?", pictures, aside=True, max_tokens=100))
            engine.run(session.answer("What?", pictures, keep_attachments=True, max_tokens=100))
            engine.run(session.check(longest))
            engine.run(session.instruct(longest))
            engine.run(session.note_gap(5.0))
    assert session.usage.num_evictions > 5
    assert session.context.cache.num_bytes <= cache_bytes(checkpoint, window_tokens(settings.window, 16))
    assert highest.num_bytes <= session_bytes(checkpoint, settings)
    check_whole(session)


@pytest.mark.parametrize("what", ["check", "system", "words"])
def test_what_was_not_set_aside_is_refused(engine: Engine, what: str) -> None:
    session = engine.open_session(small_settings(), system="Be brief. " * 400 if what == "system" else None)
    steps: dict[str, Steps[Any]] = {
        "check": session.check("What is it? " * 2000),
        "system": session.see(frame(picture(0), 0, 0.0)),
        "words": session.answer("What is it? " * 100, [picture(0)]),
    }
    with pytest.raises(SessionError, match="at most"):
        engine.run(steps[what])
    if what != "system":
        watch(engine, session, 2)
        check_whole(session)


@pytest.mark.parametrize("pictures", [0, 1, 40])
def test_a_question_outside_any_session_holds_to_its_size(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, pictures: int
) -> None:
    opened: list[Session] = []
    open_session = engine.open_session

    def noted(*given: Any, **more: Any) -> Session:
        opened.append(open_session(*given, **more))
        return opened[-1]

    monkeypatch.setattr(engine, "open_session", noted)
    frames = [picture(step, (60, 80)) for step in range(pictures)]
    clips = [(frames, [float(step) for step in range(pictures)])] if pictures else []
    limit = engine.ask_bytes("What is it?", (), clips)
    engine.run(engine.ask("What is it?", (), clips, max_tokens=8))
    cache = opened[0].context.cache
    assert cache.num_bytes <= limit and cache.capacity * engine.info.bytes_per_token <= limit
    assert limit >= sum(image.nbytes for image in frames), "pictures lie in the same memory here"


class _Card:
    """A GPU on which other processes hold a part of the memory, and torch another part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, reserved: int, allocated: int) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)


def test_on_a_gpu_the_limit_comes_from_what_is_free_after_loading(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Card(monkeypatch, free=10 << 30, reserved=5 << 30, allocated=4 << 30)
    there = replace(checkpoint, device=torch.device("cuda:0"))
    assert free_bytes(there.device) == 11 << 30
    assert default_limit(there) == int(FREE_SHARE * (11 << 30))
    assert default_limit(checkpoint) is None and free_bytes(torch.device("cpu")) is None


def test_pictures_of_a_question_count_with_it(engine: Engine) -> None:
    image = np.zeros((1000, 1000, 3), np.uint8)
    assert engine.ask_bytes("What?", [image, image]) - engine.ask_bytes("What?", [image]) >= image.nbytes
