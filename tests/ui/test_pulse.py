from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np

from assistant.events import Answer, StatusEvent, StatusKind
from assistant.evidence import EvidenceFrame
from assistant.serving.channel_types import ChannelState
from assistant.viewers.viewer_session import WatchRequest
from streaming.thumbnails import Jpeg
from tests.assistant.streams import decision, remark
from tests.ui.desks import Office
from ui.pulse import SentState, bits, evidence_of, pulse_of

SCENE = WatchRequest("sample", "synthetic:3", "Synthetic scene")


def test_an_idle_tab_says_so() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    pulse = pulse_of(viewer, office.backend.model.news(), SentState())
    assert (pulse["state"], pulse["watching"], pulse["title"]) == ("IDLE", False, "")
    json.dumps(pulse, allow_nan=False)


def test_a_watched_stream_shows_its_state_its_age_and_its_cells() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    office.backend.watch(viewer, SCENE)
    stream = office.streams[0]
    stream.shown = replace(stream.shown, last_comment=remark("A circle enters."))
    pulse = pulse_of(viewer, office.backend.model.news(), SentState())
    assert (pulse["state"], pulse["age_s"], pulse["rows"], pulse["cols"]) == ("REPLAY", 0.2, 2, 4)
    assert pulse["caption"] == {"time_s": 2.5, "text": "A circle enters."}
    assert pulse["duration_s"] == 60.0 and pulse["push_fps"] == 8.0
    assert base64.b64decode(pulse["kept"]) == bytes([0b10000001])
    json.dumps(pulse, allow_nan=False)
    stream.pause()
    assert pulse_of(viewer, office.backend.model.news(), SentState())["state"] == "PAUSED"
    stream.shown = replace(
        stream.shown,
        source=replace(stream.shown.source, is_paused=False, is_live=True),
        state=ChannelState.RECONNECTING,
    )
    pulse = pulse_of(viewer, office.backend.model.news(), SentState())
    assert (pulse["state"], pulse["duration_s"]) == ("RECONNECTING", None)


def test_curve_and_marks_are_told_once_and_anew_for_another_stream() -> None:
    office = Office()
    viewer, told = office.backend.registry.of("a"), SentState()
    office.backend.watch(viewer, SCENE)
    stream, news = office.streams[0], office.backend.model.news()
    stream.curve += [decision(1.0), decision(1.5, None), decision(2.5, 2.0, speak=True)]
    stream.happen(remark("A circle enters."))
    stream.happen(StatusEvent(source="s", time_s=3.0, text="evicted", kind=StatusKind.EVICTED))
    stream.happen(StatusEvent(source="s", time_s=4.0, text="gap", kind=StatusKind.GAP, details={"gap_s": 2.0}))
    first = pulse_of(viewer, news, told)
    assert first["reset"] and first["curve"] == [[1.0, 1.0, 1.4, 0], [1.5, None, 1.4, 0], [2.5, 2.0, 1.4, 1]]
    assert [(mark["kind"], mark["time_s"], mark["length_s"]) for mark in first["marks"]] == [
        ("remark", 2.5, 0.0), ("gap", 4.0, 2.0)
    ]  # fmt: skip
    second = pulse_of(viewer, news, told)
    assert "reset" not in second and second["curve"] == [] and second["marks"] == []
    office.backend.watch(viewer, SCENE)
    third = pulse_of(viewer, news, told)
    assert third["reset"] and third["marks"] == [] and third["run"] == first["run"] + 1


def test_an_answer_is_marked_once_it_has_ended() -> None:
    office = Office()
    viewer, told = office.backend.registry.of("a"), SentState()
    office.backend.watch(viewer, SCENE)
    news = office.backend.model.news()
    office.backend.ask(viewer, "What?")
    office.streams[0].happen(remark("Meanwhile."))
    before = pulse_of(viewer, news, told)
    office.streams[0].asked[0].answer("A cat.", time_s=13.0)
    after = pulse_of(viewer, news, told)
    assert [mark["kind"] for mark in before["marks"]] == ["remark"] and before["open"] == 1
    assert [(mark["kind"], mark["time_s"]) for mark in after["marks"]] == [("answer", 13.0)] and after["open"] == 0


def test_the_words_so_far_of_an_answer_come_with_the_state() -> None:
    office = Office()
    viewer, news = office.backend.registry.of("a"), office.backend.model.news()
    office.backend.watch(viewer, SCENE)
    office.backend.ask(viewer, "What?")
    said = [pulse_of(viewer, news, SentState())["said"]]
    office.streams[0].asked[0].say("A c")
    said.append(pulse_of(viewer, news, SentState())["said"])
    (answer,) = viewer.feed.items()
    office.streams[0].asked[0].answer("A cat.", time_s=13.0)
    said.append(pulse_of(viewer, news, SentState())["said"])
    assert said == [[], [{"id": answer.id, "text": "A c"}], []]


def test_evidence_has_the_frames_with_their_cells_and_why() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    office.backend.watch(viewer, SCENE)
    kept = np.array([1, 0, 0, 1], bool)
    frame = EvidenceFrame(62, 2.5, 1_700_000_000.0, Jpeg(b"jpeg", 4, 2), 2, 2, kept, np.zeros(4, bool))
    item = viewer.feed.add(remark("A circle enters."))
    shown = evidence_of(item, (frame,), moment_s=2.5, can_seek=True)
    assert shown["title"] == "Remark 00:02.5" and shown["seek_s"] == 2.5
    assert "score 2.00" in shown["facts"] and "threshold 1.40" in shown["facts"] and "spoke" in shown["facts"]
    assert shown["frames"][0]["share"].startswith("50%") and shown["frames"][0]["kept"] == bits(kept)
    json.dumps(shown, allow_nan=False)


def test_frames_of_one_stream_are_never_shown_for_anothers_events() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    office.backend.watch(viewer, SCENE)
    item = viewer.feed.add(remark("A circle enters."))
    frame = EvidenceFrame(62, 2.5, 0.0, Jpeg(b"jpeg", 4, 2), 0, 0, np.zeros(0, bool), np.zeros(0, bool))
    office.streams[0].frames = (frame,)
    assert office.backend.evidence(viewer, item, None) == (frame,)
    office.backend.watch(viewer, SCENE)
    office.streams[1].frames = (frame,)
    assert office.backend.evidence(viewer, item, None) == ()


def test_an_answer_of_others_never_reaches_the_feed() -> None:
    office = Office()
    viewer = office.backend.registry.of("a")
    office.backend.watch(viewer, SCENE)
    office.streams[0].happen(Answer(source="s", time_s=1.0, text="secret", question="?", asked_at_s=1.0))
    assert viewer.feed.items() == []
