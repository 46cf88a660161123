from __future__ import annotations

from pathlib import Path

import pytest

from assistant.errors import AssistantError, ConfigError
from assistant.sessions import GRACE_S, IDLE_S, PARKED_S, TabRegistry
from assistant.tabs import SessionError, Tab, Wish
from streaming.clock import FakeClock
from tests.assistant.streams import FakeStream, remark

SCENE = Wish("sample", "synthetic:3", "Synthetic scene")
DOOR = Wish("shared", "door", "door")


class Desk:
    """A registry with the streams that it opened."""

    def __init__(self, max_sessions: int | None = None) -> None:
        self.clock = FakeClock()
        self.opened: list[FakeStream] = []
        self.door = FakeStream()
        self.failure: Exception | None = None
        self.tabs = TabRegistry(self.open, clock=self.clock, max_sessions=max_sessions)

    def open(self, tab: Tab, wish: Wish) -> tuple[FakeStream, bool]:
        if wish.kind == "shared":
            return self.door, True
        self.opened.append(FakeStream(failure=self.failure))
        return self.opened[-1], False

    def entered(self, key: str) -> Tab:
        """A tab with its page and its picture connection."""
        tab = self.tabs.enter(None, key)
        self.tabs.connect(tab.token)
        return tab

    def close_page(self, tab: Tab, key: str) -> None:
        self.tabs.disconnect(tab)
        self.tabs.leave(key)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.tabs.sweep()


def test_a_closed_tab_frees_its_stream_within_ten_seconds() -> None:
    desk = Desk()
    tab = desk.entered("a")
    desk.tabs.watch(tab, SCENE)
    folder = tab.folder
    desk.close_page(tab, "a")
    desk.wait(GRACE_S - 0.5)
    assert desk.opened[0].calls == ["start"]
    desk.wait(1.0)
    assert desk.opened[0].calls == ["start", "stop"] and GRACE_S + 1.0 < 10
    desk.wait(PARKED_S)
    assert not desk.tabs.tabs and not folder.exists()


def test_a_reload_finds_its_session_and_its_running_stream() -> None:
    desk = Desk()
    tab = desk.entered("a")
    desk.tabs.watch(tab, SCENE)
    desk.opened[0].happen(remark("A circle enters."))
    desk.close_page(tab, "a")
    desk.wait(5.0)
    again = desk.tabs.enter(tab.token, "b")
    desk.tabs.connect(again.token)
    desk.wait(60.0)
    assert again is tab and desk.opened[0].calls == ["start"]
    assert [item.text for item in again.feed.items()] == ["A circle enters."]


def test_a_page_that_comes_back_later_finds_its_feed_though_the_stream_is_gone() -> None:
    desk = Desk()
    tab = desk.entered("a")
    desk.tabs.watch(tab, SCENE)
    desk.opened[0].happen(remark("A circle enters."))
    desk.close_page(tab, "a")
    desk.wait(9.9)
    again = desk.tabs.enter(tab.token, "b")
    assert again is tab and again.stream is None
    assert [item.text for item in again.feed.items()][0] == "A circle enters."


def test_a_duplicated_tab_gets_a_session_of_its_own() -> None:
    desk = Desk()
    tab = desk.entered("a")
    assert desk.tabs.enter(tab.token, "b") is not tab


def test_what_is_clicked_before_the_page_is_ready_is_not_lost() -> None:
    desk = Desk()
    early = desk.tabs.of("a")
    desk.tabs.watch(early, SCENE)
    assert desk.tabs.enter(None, "a") is early
    other = desk.tabs.of("b")
    assert desk.tabs.enter(early.token, "b") is early and not other.keys


def test_tabs_do_not_see_each_other() -> None:
    desk = Desk()
    one, two = desk.entered("a"), desk.entered("b")
    for tab in (one, two):
        desk.tabs.watch(tab, SCENE)
    desk.opened[0].happen(remark("only for one"))
    one.offer_file("secret.txt", b"x")
    assert one.token != two.token and not two.feed.items()
    assert two.offered(next(iter(path.name for path in one.folder.iterdir()))) is None
    desk.tabs.stop(one)
    assert desk.opened[1].calls == ["start"]


def test_who_comes_too_late_waits_in_order_and_begins_by_itself() -> None:
    desk = Desk(max_sessions=1)
    tabs = [desk.entered(key) for key in "abc"]
    assert [desk.tabs.watch(tab, SCENE) for tab in tabs] == [0, 1, 2]
    desk.tabs.stop(tabs[0])
    desk.tabs.sweep()
    assert tabs[1].stream is not None and [tab.place for tab in tabs] == [0, 0, 1]
    desk.close_page(tabs[1], "b")
    desk.wait(GRACE_S + 0.1)
    assert tabs[2].stream is not None and tabs[2].place == 0


def test_a_place_is_given_back_where_a_stream_cannot_start() -> None:
    desk = Desk(max_sessions=1)
    tab = desk.entered("a")
    desk.failure = AssistantError("no room")
    with pytest.raises(AssistantError, match="no room"):
        desk.tabs.watch(tab, SCENE)
    desk.failure = None
    assert tab.stream is None and desk.tabs.watch(desk.entered("b"), SCENE) == 0


def test_another_source_replaces_the_one_before_and_keeps_the_place() -> None:
    desk = Desk(max_sessions=1)
    tab = desk.entered("a")
    desk.tabs.watch(tab, SCENE)
    assert desk.tabs.watch(tab, SCENE) == 0
    assert desk.opened[0].calls == ["start", "stop"] and desk.opened[1].calls == ["start"]
    assert desk.tabs.num_watching == 1


def test_a_client_without_a_page_is_let_go_after_long_silence() -> None:
    desk = Desk()
    tab = desk.tabs.of("client")
    desk.tabs.watch(tab, SCENE)
    desk.wait(IDLE_S - 1)
    assert desk.tabs.of("client") is tab
    desk.wait(IDLE_S + 1)
    assert desk.opened[0].calls == ["start", "stop"]


def test_viewers_of_one_camera_share_it_ask_aside_and_cannot_change_it() -> None:
    desk = Desk(max_sessions=1)
    one, two = desk.entered("a"), desk.entered("b")
    for tab in (one, two):
        assert desk.tabs.watch(tab, DOOR) == 0
    one.ask("Who is there?")
    desk.door.asked[0].answer("Nobody.")
    assert desk.door.asked[0].aside
    assert [item.text for item in one.feed.items()] == ["Nobody."] and not two.feed.items()
    with pytest.raises(SessionError, match="others"):
        two.tune(talkative=1.0)
    desk.tabs.stop(one)
    assert "stop" not in desk.door.calls and len(desk.door.subscribers) == 1


def test_who_joins_a_camera_is_shown_what_happened_before() -> None:
    desk = Desk()
    desk.door.happen(remark("Someone comes in."))
    tab = desk.entered("a")
    desk.tabs.watch(tab, DOOR)
    desk.door.happen(remark("Someone leaves."))
    assert [item.text for item in tab.feed.items()] == ["Someone comes in.", "Someone leaves."]


def test_stopping_answers_reaches_the_question() -> None:
    desk = Desk()
    tab = desk.entered("a")
    desk.tabs.watch(tab, SCENE)
    tab.ask("What?")
    assert tab.stop_answers() == 1 and desk.opened[0].asked[0].is_cancelled


def test_files_stay_inside_the_tabs_own_folder(tmp_path: Path) -> None:
    tab = Desk().entered("a")
    sent = tmp_path / "clip.mp4"
    sent.write_bytes(b"x")
    kept = tab.keep_file(sent, "../../etc/cron.d/clip.mp4")
    assert kept.parent == tab.folder and kept.read_bytes() == b"x" and not sent.exists()
    assert tab.folder.stat().st_mode & 0o077 == 0
    tab.end()
    assert not kept.exists()


def test_a_registry_without_any_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        TabRegistry(Desk().open, max_sessions=0)
