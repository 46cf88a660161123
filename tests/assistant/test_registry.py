from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assistant.errors import AssistantError, ConfigError
from assistant.viewers.registry import GRACE_S, IDLE_S, PARKED_S, SessionRegistry
from assistant.viewers.viewer_session import ViewerSession, ViewerSessionError, WatchRequest
from streaming.clock import FakeClock
from tests.assistant.streams import FakeStream, remark

SCENE = WatchRequest("sample", "synthetic:3", "Synthetic scene")
DOOR = WatchRequest("shared", "door", "door")


class Backend:
    """A registry with the streams that it opened."""

    def __init__(self, max_sessions: int | None = None) -> None:
        self.clock = FakeClock()
        self.opened: list[FakeStream] = []
        self.door = FakeStream()
        self.failure: Exception | None = None
        self.registry = SessionRegistry(self.open, clock=self.clock, max_sessions=max_sessions)

    def open(self, viewer: ViewerSession, wanted: WatchRequest) -> tuple[FakeStream, bool]:
        if wanted.kind == "shared":
            return self.door, True
        self.opened.append(FakeStream(failure=self.failure))
        return self.opened[-1], False

    def entered(self, key: str) -> ViewerSession:
        """A tab with its page and its picture connection."""
        viewer = self.registry.enter(None, key)
        self.registry.connect(viewer.token)
        return viewer

    def close_page(self, viewer: ViewerSession, key: str) -> None:
        self.registry.disconnect(viewer)
        self.registry.end_key(key)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.registry.sweep()


def test_a_closed_tab_frees_its_stream_within_ten_seconds() -> None:
    backend = Backend()
    viewer = backend.entered("a")
    backend.registry.watch(viewer, SCENE)
    folder = viewer.folder
    backend.close_page(viewer, "a")
    backend.wait(GRACE_S - 0.5)
    assert backend.opened[0].calls == ["start"]
    backend.wait(1.0)
    assert backend.opened[0].calls == ["start", "stop"] and GRACE_S + 1.0 < 10
    backend.wait(PARKED_S)
    assert not backend.registry.viewers and not folder.exists()


def test_two_requests_of_one_tab_at_one_moment_leave_one_stream() -> None:
    backend, opening, may_open = Backend(), threading.Event(), threading.Event()
    viewer, open_stream = backend.entered("a"), backend.open

    def slowly(viewer: ViewerSession, wanted: WatchRequest) -> tuple[FakeStream, bool]:
        opening.set()
        may_open.wait(30.0)
        return open_stream(viewer, wanted)

    backend.registry = SessionRegistry(slowly, clock=backend.clock)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(backend.registry.watch, viewer, SCENE)
        assert opening.wait(30.0)
        second = pool.submit(backend.registry.watch, viewer, SCENE)
        may_open.set()
        assert (first.result(30.0), second.result(30.0)) == (0, 0)
    assert [stream.calls for stream in backend.opened] == [["start", "stop"], ["start"]]
    assert viewer.stream is backend.opened[1]


def test_a_reload_finds_its_session_and_its_running_stream() -> None:
    backend = Backend()
    viewer = backend.entered("a")
    backend.registry.watch(viewer, SCENE)
    backend.opened[0].happen(remark("A circle enters."))
    backend.close_page(viewer, "a")
    backend.wait(5.0)
    again = backend.registry.enter(viewer.token, "b")
    backend.registry.connect(again.token)
    backend.wait(60.0)
    assert again is viewer and backend.opened[0].calls == ["start"]
    assert [item.text for item in again.feed.items()] == ["A circle enters."]


def test_a_page_that_comes_back_later_finds_its_feed_though_the_stream_is_gone() -> None:
    backend = Backend()
    viewer = backend.entered("a")
    backend.registry.watch(viewer, SCENE)
    backend.opened[0].happen(remark("A circle enters."))
    backend.close_page(viewer, "a")
    backend.wait(9.9)
    again = backend.registry.enter(viewer.token, "b")
    assert again is viewer and again.stream is None
    assert [item.text for item in again.feed.items()][0] == "A circle enters."


def test_a_duplicated_tab_gets_a_session_of_its_own() -> None:
    backend = Backend()
    viewer = backend.entered("a")
    assert backend.registry.enter(viewer.token, "b") is not viewer


def test_what_is_clicked_before_the_page_is_ready_is_not_lost() -> None:
    backend = Backend()
    early = backend.registry.of("a")
    backend.registry.watch(early, SCENE)
    assert backend.registry.enter(None, "a") is early
    other = backend.registry.of("b")
    assert backend.registry.enter(early.token, "b") is early and not other.keys


def test_tabs_do_not_see_each_other() -> None:
    backend = Backend()
    one, two = backend.entered("a"), backend.entered("b")
    for viewer in (one, two):
        backend.registry.watch(viewer, SCENE)
    backend.opened[0].happen(remark("only for one"))
    one.offer_file("secret.txt", b"x")
    assert one.token != two.token and not two.feed.items()
    assert two.offered(next(iter(path.name for path in one.folder.iterdir()))) is None
    backend.registry.stop(one)
    assert backend.opened[1].calls == ["start"]


def test_who_comes_too_late_waits_in_order_and_begins_by_itself() -> None:
    backend = Backend(max_sessions=1)
    tabs = [backend.entered(key) for key in "abc"]
    assert [backend.registry.watch(viewer, SCENE) for viewer in tabs] == [0, 1, 2]
    backend.registry.stop(tabs[0])
    backend.registry.sweep()
    assert tabs[1].stream is not None and [viewer.place for viewer in tabs] == [0, 0, 1]
    backend.close_page(tabs[1], "b")
    backend.wait(GRACE_S + 0.1)
    assert tabs[2].stream is not None and tabs[2].place == 0


def test_a_place_is_given_back_where_a_stream_cannot_start() -> None:
    backend = Backend(max_sessions=1)
    viewer = backend.entered("a")
    backend.failure = AssistantError("no room")
    with pytest.raises(AssistantError, match="no room"):
        backend.registry.watch(viewer, SCENE)
    backend.failure = None
    assert viewer.stream is None and backend.registry.watch(backend.entered("b"), SCENE) == 0


def test_another_source_replaces_the_one_before_and_keeps_the_place() -> None:
    backend = Backend(max_sessions=1)
    viewer = backend.entered("a")
    backend.registry.watch(viewer, SCENE)
    assert backend.registry.watch(viewer, SCENE) == 0
    assert backend.opened[0].calls == ["start", "stop"] and backend.opened[1].calls == ["start"]
    assert backend.registry.num_watching == 1


def test_a_client_without_a_page_is_let_go_after_long_silence() -> None:
    backend = Backend()
    viewer = backend.registry.of("client")
    backend.registry.watch(viewer, SCENE)
    backend.wait(IDLE_S - 1)
    assert backend.registry.of("client") is viewer
    backend.wait(IDLE_S + 1)
    assert backend.opened[0].calls == ["start", "stop"]


def test_viewers_of_one_camera_share_it_ask_aside_and_cannot_change_it() -> None:
    backend = Backend(max_sessions=1)
    one, two = backend.entered("a"), backend.entered("b")
    for viewer in (one, two):
        assert backend.registry.watch(viewer, DOOR) == 0
    one.ask("Who is there?")
    backend.door.asked[0].answer("Nobody.")
    assert backend.door.asked[0].aside
    assert [item.text for item in one.feed.items()] == ["Nobody."] and not two.feed.items()
    with pytest.raises(ViewerSessionError, match="others"):
        two.tune(talkative=1.0)
    backend.registry.stop(one)
    assert "stop" not in backend.door.calls and len(backend.door.subscribers) == 1


def test_who_joins_a_camera_is_shown_what_happened_before() -> None:
    backend = Backend()
    backend.door.happen(remark("Someone comes in."))
    viewer = backend.entered("a")
    backend.registry.watch(viewer, DOOR)
    backend.door.happen(remark("Someone leaves."))
    assert [item.text for item in viewer.feed.items()] == ["Someone comes in.", "Someone leaves."]


def test_stopping_answers_reaches_the_question() -> None:
    backend = Backend()
    viewer = backend.entered("a")
    backend.registry.watch(viewer, SCENE)
    viewer.ask("What?")
    assert viewer.stop_answers() == 1 and backend.opened[0].asked[0].is_cancelled


def test_files_stay_inside_the_tabs_own_folder(tmp_path: Path) -> None:
    viewer = Backend().entered("a")
    sent = tmp_path / "clip.mp4"
    sent.write_bytes(b"x")
    kept = viewer.keep_file(sent, "../../etc/cron.d/clip.mp4")
    assert kept.parent == viewer.folder and kept.read_bytes() == b"x" and not sent.exists()
    assert viewer.folder.stat().st_mode & 0o077 == 0
    viewer.end()
    assert not kept.exists()


def test_a_registry_without_any_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_sessions 0: it must be at least 1"):
        SessionRegistry(Backend().open, max_sessions=0)
