from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assistant.errors import AssistantError
from assistant.serving.contracts import ModelState
from assistant.serving.scheduler import Scheduler
from assistant.viewers.backend import Backend
from assistant.viewers.feed import Badge
from assistant.viewers.viewer_session import ViewerSessionError
from models.checkpoint.progress import Loading
from models.session.steps import StepGenerator, as_steps
from models.session.turns import Utterance
from streaming.thumbnails import encode_jpeg
from tests.assistant.host_fakes import FakeModelEngine, saying, turn_until
from tests.assistant.streams import remark
from tests.clips import quadrants, write_resized
from tests.ui.desks import Office


@pytest.mark.parametrize("address", ["/etc/passwd", "webcam:0", "file:///etc/passwd", "synthetic:1", "ftp://a/b", ""])
def test_only_addresses_of_cameras_are_cameras(address: str) -> None:
    with pytest.raises((AssistantError, ValueError)):
        Office().backend.camera(address)


@pytest.mark.parametrize("name", ["/etc/passwd", "webcam:0", "rtsp://a/b", "../x"])
def test_only_samples_are_samples(name: str) -> None:
    with pytest.raises(AssistantError, match="sample"):
        Office().backend.sample(name)


def test_a_cameras_password_is_opened_with_and_never_shown() -> None:
    wanted = Office().backend.camera("rtsp://ada:secret@192.168.1.20/live")
    assert "secret" in wanted.spec and "secret" not in wanted.title


def test_a_trial_says_what_is_there_and_what_is_wrong() -> None:
    backend = Office().backend
    good = backend.test_source(backend.sample("synthetic:3"))
    assert good.ok and "448 x 280 pixels" in good.text and "60.0 s long" in good.text
    bad = backend.test_source(backend.camera("rtsp://ada:secret@127.0.0.1:1/live"))
    assert not bad.ok and "refused" in bad.text and "secret" not in bad.text


def test_settings_are_kept_for_the_next_stream_and_act_on_this_one() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    viewer.tune(talkative=1.5)
    office.backend.instruct(viewer, "Only doors.")
    office.backend.watch(viewer, office.backend.sample("scene"))
    assert (office.wishes[0].talkative, office.wishes[0].instruct) == (1.5, "Only doors.")
    viewer.tune(talkative=-1.0)
    office.backend.instruct(viewer, None)
    office.backend.pause(viewer, paused=True)
    assert office.streams[0].calls == ["start", "talkative -1", "instruct None"]
    assert office.streams[0].snapshot().source.is_paused


def test_an_instruction_that_the_stream_refuses_is_said_where_it_was_typed_and_not_kept() -> None:
    from models.errors import SessionError as Refused

    office = Office()
    viewer = office.backend.registry.of("a")
    office.backend.instruct(viewer, "Only doors.")
    office.backend.watch(viewer, office.backend.sample("scene"))
    office.streams[0].refuses = Refused("instruction of 900 tokens: at most 512 fit the text window; shorten it")
    with pytest.raises(ViewerSessionError, match="at most 512 fit"):
        office.backend.instruct(viewer, "A very long one")
    assert viewer.instruction == "Only doors.", "the next stream is not blinded by it"
    office.streams[0].refuses = None
    office.backend.instruct(viewer, "Only balls.")
    assert viewer.instruction == "Only balls."
    with pytest.raises(AssistantError, match="2001 characters: at most 2000"):
        office.backend.instruct(viewer, "x" * 2001)
    for talkative in (21.0, float("nan")):
        with pytest.raises(AssistantError, match="from -20 to 20"):
            viewer.tune(talkative=talkative)
        with pytest.raises(AssistantError, match="from -20 to 20"):
            office.backend.registry.of("without a stream").tune(talkative=talkative)


def test_controls_without_a_stream_say_so() -> None:
    backend = Office().backend
    viewer = backend.registry.of("a")
    for action in (
        lambda: backend.seek(viewer, 1.0),
        lambda: backend.forget(viewer),
        lambda: backend.pause(viewer, paused=True),
    ):
        with pytest.raises(ViewerSessionError, match="start a source"):
            action()


def test_questions_are_bounded_and_need_something_to_look_at(tmp_path: Path) -> None:
    backend = Office().backend
    viewer = backend.registry.of("a")
    for text in ("  ", "x" * 2001, "What?"):
        with pytest.raises(AssistantError):
            backend.ask(viewer, text)
    bad = tmp_path / "a.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(AssistantError, match="a.png"):
        backend.ask(viewer, "What?", [(bad, "a.png")])


class Asking(FakeModelEngine):
    """Answers about pictures, a word for each pass."""

    @as_steps
    def ask(self, question: str, images: Sequence[Any] = (), clips: Sequence[Any] = ()) -> StepGenerator[Any]:
        assert len(images) == 1 and not clips
        yield from saying("A ", "big ", "cat.")
        return Utterance("A big cat.", (), 0.0, False, False, None)


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, str]:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "cat.png")
    return tmp_path / "cat.png", "cat.png"


def asking_office(*, ready: bool = True) -> tuple[Backend, Scheduler]:
    office = Office()
    host = Scheduler(lambda: Asking(office.clock), clock=office.clock)
    if ready:
        host.open()
    office.backend.scheduler = host
    return office.backend, host


def test_a_picture_can_be_asked_about_without_a_stream(picture: tuple[Path, str]) -> None:
    backend, host = asking_office()
    viewer = backend.registry.of("a")
    item, asked = backend.ask(viewer, "What is this?", [picture])
    turn_until(host, lambda: bool(viewer.feed.items()[0].text))
    growing = viewer.feed.get(item.id)
    assert growing is not None and growing.text == "A " and growing.attached == "cat.png" and growing.is_open
    turn_until(host, asked.future.done)
    assert asked.future.result(1).text == "A big cat." and viewer.feed.num_open == 0
    assert viewer.stop_answers() == 0


class AskingAboutClips(Asking):
    """Answers with how many frames it was given, and of what size."""

    @as_steps
    def ask(self, question: str, images: Sequence[Any] = (), clips: Sequence[Any] = ()) -> StepGenerator[Any]:
        ((frames, _),) = clips
        text = f"{len(frames)} of {frames[-1].shape}"
        yield from saying(text)
        return Utterance(text, (), 0.0, False, False, None)


def test_what_a_clip_had_to_be_fitted_for_is_said_on_the_page(tmp_path: Path) -> None:
    office = Office()
    host = Scheduler(lambda: AskingAboutClips(office.clock), clock=office.clock)
    host.open()
    office.backend.scheduler = host
    viewer = office.backend.registry.of("a")
    path = write_resized(tmp_path / "x.webm", [(64, 48), (128, 96), (128, 96)], quadrants)
    _, asked = office.backend.ask(viewer, "What is this?", [(path, "call.webm")])
    turn_until(host, asked.future.done)
    assert asked.future.result(1).text == "3 of (96, 128, 3)"
    notes = [item.text for item in viewer.feed.items() if item.badge is Badge.STATUS]
    assert notes == [
        "call.webm: its picture changes from 64 x 48 to 128 x 96 at 1.00 s; all frames were seen, fitted into 128 x 96"
    ]


def test_a_picture_that_moves_is_asked_about_as_a_clip(tmp_path: Path) -> None:
    office = Office()
    host = Scheduler(lambda: AskingAboutClips(office.clock), clock=office.clock)
    host.open()
    office.backend.scheduler = host
    path = tmp_path / "a.gif"
    pictures = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "green")]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=1000)
    _, asked = office.backend.ask(office.backend.registry.of("a"), "What is this?", [(path, "a.gif")])
    turn_until(host, asked.future.done)
    assert asked.future.result(1).text == "3 of (48, 64, 3)"


def test_a_question_about_a_picture_alone_can_be_stopped(picture: tuple[Path, str]) -> None:
    backend, host = asking_office()
    viewer = backend.registry.of("a")
    item, asked = backend.ask(viewer, "What is this?", [picture])
    turn_until(host, lambda: bool(viewer.feed.items()[0].text))
    assert viewer.stop_answers() == 1
    turn_until(host, asked.future.done)
    ended = viewer.feed.get(item.id)
    assert ended is not None and ended.text == "A big" and not ended.is_open and not ended.is_error
    assert asked.future.result(0).reason == "cut_short" and not host.turn(), "no pass more is spent on it"


def test_a_question_that_waits_for_the_model_is_stopped_at_once(picture: tuple[Path, str]) -> None:
    backend, host = asking_office(ready=False)
    viewer = backend.registry.of("a")
    item, _ = backend.ask(viewer, "What is this?", [picture])
    assert viewer.stop_answers() == 1
    ended = viewer.feed.get(item.id)
    assert ended is not None and not ended.is_open and "stopped" in ended.text
    host.open()
    while host.turn():
        pass
    assert viewer.feed.get(item.id) == ended


def test_a_question_that_no_model_will_answer_is_told_so(picture: tuple[Path, str]) -> None:
    backend, host = asking_office()
    host.stop()
    viewer = backend.registry.of("a")
    with pytest.raises(AssistantError, match="stopped"):
        backend.ask(viewer, "What is this?", [picture])
    (item,) = viewer.feed.items()
    assert item.is_error and not item.is_open


def test_what_becomes_of_the_model_is_said_in_words() -> None:
    office = Office()
    office.host.state = ModelState.LOADING
    office.backend.model.begin_loading()
    office.backend.model.begin_loading()
    office.clock.advance(3.0)
    news = office.backend.model.news()
    assert (news.state, news.text, news.seconds) == ("loading", "Loading embedded", 3.0) and office.host.started == 1
    office.backend.model.note_loading(Loading("reading the weights, 1 of 10 MiB", 0.75))
    news = office.backend.model.news()
    assert (news.text, news.share) == ("Loading embedded: reading the weights, 1 of 10 MiB", 0.75)
    assert "embedded" in office.backend.model.about().title
    office.host.state, office.host.failure = ModelState.FAILED, RuntimeError("no weights at http://u:secret@hub/x")
    failed = office.backend.model.news().text
    assert "no weights" in failed and "secret" not in failed


def test_what_is_no_picture_is_not_pushed() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    office.backend.watch(viewer, office.backend.webcam())
    stream = office.streams[0]
    office.backend.push(stream, b"junk", 1.0)
    assert not stream.pushed
    import numpy as np

    office.backend.push(stream, encode_jpeg(np.zeros((48, 64, 3), np.uint8)).data, 2.0)
    assert stream.pushed == [((48, 64, 3), 2.0)]


def test_events_of_a_tab_can_be_found_and_exported() -> None:
    from assistant.viewers.event_browser import EventSearch, export_file, find

    office = Office()
    viewer = office.backend.registry.of("a")
    assert (
        office.backend.timeline(viewer, of_cameras=False) is None
        and office.backend.timeline(viewer, of_cameras=True) is None
    )
    viewer.timeline.record(remark("A red circle enters."), camera="scene")
    viewer.timeline.record(remark("It gets dark.", 7.0), camera="scene")
    reader = office.backend.timeline(viewer, of_cameras=False)
    assert reader is not None
    circles = find(reader, EventSearch("circles", "10m"), time.time())
    assert [found.event.text for found in circles] == ["A red circle enters."]
    found = find(reader, EventSearch(types=("Remark",)), time.time())
    name, data = export_file(reader, found, "vtt")
    assert name == "events.vtt" and data.startswith(b"WEBVTT") and data.index(b"circle") < data.index(b"dark")
    assert export_file(reader, found, "md")[1][:2] == b"PK"
    with pytest.raises(AssistantError, match="since|time"):
        find(reader, EventSearch(since="whenever"), time.time())
    viewer.end()
