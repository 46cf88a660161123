"""The page's voice: what is said in order with captions, a question by microphone, and who may connect."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from assistant.config.voice import VoiceConfig
from assistant.events import Comment
from assistant.speech import sound as sounds
from assistant.speech.announcer import Announcer
from assistant.speech.browser import BrowserOutput
from assistant.speech.sound import Sound
from assistant.viewers.feed import Feed
from assistant.viewers.feed_aloud import FeedAloud
from streaming.clock import FakeClock
from tests.speech.fakes import FakeListener, FakeOutput, FakeVoice
from tests.ui.desks import Office
from ui import voice as page_voice
from ui.voice import MOST_LISTEN_S, voice_routes

WAIT_S = 20.0
RATE_HZ = 16_000


class FakeRecogniser:
    """Hears `text`, and notes how long what it was given was."""

    name = "fake"

    def __init__(self, text: str) -> None:
        self.text = text
        self.seconds: list[float] = []

    def prepare(self) -> None:
        pass

    def transcribe(self, sound: Sound) -> str:
        self.seconds.append(sound.duration_s)
        return self.text


def remark(text: str) -> Comment:
    return Comment(source="scene", time_s=1.0, text=text)


@pytest.fixture
def recogniser(monkeypatch: pytest.MonkeyPatch) -> FakeRecogniser:
    made = FakeRecogniser("What is on the left?")
    monkeypatch.setattr(page_voice, "recogniser_named", lambda name: made)
    monkeypatch.setattr(page_voice, "why_deaf", lambda name: "")
    monkeypatch.setattr(page_voice, "voice_named", lambda name: FakeVoice())
    return made


def client_of(office: Office) -> TestClient:
    return TestClient(Starlette(routes=voice_routes(office.backend, VoiceConfig())), base_url="http://127.0.0.1:7860")


def until(socket: Any, kind: str, **wanted: Any) -> dict[str, Any]:
    """The next message of a kind that has these values."""
    for _ in range(100):
        message = socket.receive()
        if message.get("text") is not None:
            values: dict[str, Any] = json.loads(message["text"])
            if values["type"] == kind and wanted.items() <= values.items():
                return values
    raise AssertionError(f"no {kind}")


def test_remarks_come_as_sound_with_captions_after_unmuting_only(recogniser: FakeRecogniser) -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    viewer.feed.add(remark("Before."))
    with client_of(office).websocket_connect("/sva/voice") as socket:
        socket.send_json({"token": viewer.token})
        assert until(socket, "hello")["deaf"] == ""
        socket.send_json({"aloud": True})
        assert until(socket, "aloud")["on"] is True
        viewer.feed.add(remark("One came."))
        assert until(socket, "caption")["text"] == "One came."
        seconds = until(socket, "sound")["seconds"]
        wav = socket.receive()["bytes"]
        assert sounds.from_wav(wav).duration_s == pytest.approx(seconds, abs=1e-3)
        assert until(socket, "caption")["text"] == ""
        socket.send_json({"aloud": False})
        assert until(socket, "aloud")["on"] is False
        viewer.feed.add(remark("After."))


def test_a_spoken_question_is_shown_and_not_yet_asked(recogniser: FakeRecogniser) -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/voice") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_json({"listen": RATE_HZ})
        for _ in range(4):
            socket.send_bytes(np.zeros(RATE_HZ // 2, "<i2").tobytes())
        socket.send_json({"heard": True})
        assert until(socket, "transcript", whole=True)["text"] == "What is on the left?"
    assert recogniser.seconds[-1] == pytest.approx(2.0) and viewer.feed.num_open == 0


def test_a_question_that_is_too_long_is_ended_and_none_is_kept_beyond_it(recogniser: FakeRecogniser) -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/voice") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_json({"listen": RATE_HZ})
        for _ in range(int(MOST_LISTEN_S) + 3):
            socket.send_bytes(bytes(2 * RATE_HZ))
        assert "30 s" in until(socket, "full")["text"]
        socket.send_json({"heard": True})
        until(socket, "transcript", whole=True)
    assert recogniser.seconds[-1] == MOST_LISTEN_S


def test_without_a_recogniser_the_page_says_what_to_install(
    recogniser: FakeRecogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_voice, "why_deaf", lambda name: "listening needs faster-whisper: pip install '.[speech]'")
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/voice") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_json({"listen": RATE_HZ})
        assert "pip install" in until(socket, "deaf")["text"]


def test_a_stranger_and_another_site_are_not_served(recogniser: FakeRecogniser) -> None:
    client = client_of(Office())
    with client.websocket_connect("/sva/voice") as socket, pytest.raises(WebSocketDisconnect):
        socket.send_json({"token": "wrong"})
        socket.receive_json()
    with pytest.raises(WebSocketDisconnect):
        client.websocket_connect("/sva/voice", headers={"origin": "http://evil.example"}).__enter__()


def test_an_answer_is_said_while_it_grows_and_a_failed_one_is_not() -> None:
    clock, voice, feed = FakeClock(), FakeVoice(), Feed()
    announcer = Announcer(voice, FakeOutput(clock), FakeListener())
    aloud = FeedAloud(feed, announcer)
    feed.listen(aloud.update)
    item = feed.begin_answer("Where is it?", 1.0)
    for piece in ("It is on ", "the left, near ", "the door."):
        feed.say(item.id, piece)
    failed = feed.begin_answer("And now?", 1.0)
    feed.fail_answer(failed.id, "the model does not answer")
    feed.fail_answer(item.id, "")
    feed.add(remark("One came."))
    announcer.start()
    assert announcer.drain(WAIT_S) and announcer.stop(WAIT_S)
    assert voice.texts == ["It is on the left,", "near the door.", "One came."]


def test_the_browser_is_waited_for_and_a_cut_is_told() -> None:
    clock = FakeClock()
    sent: list[str] = []

    def send(values: dict[str, Any], sound: bytes | None) -> bool:
        sent.append(values["type"])
        return True

    output = BrowserOutput(send, clock)
    sound = Sound(np.zeros(1000, np.float32), 1000)
    assert output.play(sound, lambda: False) and 0.8 <= clock.now_s() <= 1.0
    assert output.play(sound, lambda: False) and 1.8 <= clock.now_s() <= 2.0
    output.rest(cut=False)
    assert clock.now_s() == pytest.approx(2.0, abs=0.1) and sent == ["sound", "sound"]
    assert not output.play(sound, lambda: True)
    output.rest(cut=True)
    assert sent[-1] == "cut"
