"""Alerts above the feed: the newest first, with their picture told once, their end, their clip and what people mark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assistant.events import Alert, Comment, StatusEvent, StatusKind
from assistant.timeline.store import Timeline
from assistant.viewers.viewer_marks import RATED_S
from tests.assistant.timelines import keeper_with
from tests.ui.desks import Office
from ui.alert_link import MOST_SHOWN, SINCE_S, AlertLink
from ui.rule_rows import rules_of

NASTY = "A <b>red</b> shape."


@dataclass
class Views:
    """Cameras of which only the timeline is there."""

    timeline: Timeline

    def reader(self) -> Any:
        return self.timeline.reader

    def marks(self) -> Any:
        return self.timeline.marks

    def camera_rules(self) -> Any:
        return self

    def standing(self) -> list[Any]:
        return []


class Story:
    def __init__(self, folder: Path) -> None:
        self.timeline = Timeline(folder / "data")
        self.office = Office(views=Views(self.timeline))
        self.viewer = self.office.backend.registry.of("tab")
        self.link = AlertLink(self.office.backend, self.viewer)
        self.wall_s = self.office.clock.wall_s()

    def raise_alert(self, name: str, *, age_s: float = 0.0, timeline: Timeline | None = None) -> None:
        event = Alert(source="door", time_s=1.0, text=NASTY, rule=name, occurrence=f"of {name}", reason="why")
        evidence = keeper_with(2, self.office.clock).for_event(event)
        (timeline or self.timeline).record(event, camera="door", wall_s=self.wall_s - age_s, evidence=evidence)

    def end(self, name: str) -> None:
        details: dict[str, Any] = {"occurrence": f"of {name}", "rule": name}
        reason, kind = "over after 2.0 s", StatusKind.ALERT_ENDED
        self.timeline.append(
            StatusEvent(source="door", time_s=3.0, text="x", reason=reason, kind=kind, details=details)
        )

    def news(self) -> dict[str, Any] | None:
        return self.link.news(self.wall_s)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(tmp_path)
    yield story
    story.viewer.end()
    story.timeline.close()


def test_alerts_come_newest_first_with_their_end_and_each_picture_once(story: Story) -> None:
    story.raise_alert("old", age_s=SINCE_S + 60)
    story.raise_alert("first", age_s=30)
    first = story.news()
    assert first is not None and [row["rule"] for row in first["alerts"]] == ["first"], "a day old at most"
    (row,) = first["alerts"]
    assert (row["text"], row["goes_on"], row["verdict"], row["clip"]) == (NASTY, True, "", "") and row["jpeg"]
    assert story.news() is None, "nothing is told twice"
    story.timeline.append(Comment(source="door", time_s=2.0, text="Something moves."))
    assert story.news() is None
    story.end("first")
    story.raise_alert("own", timeline=story.viewer.timeline)
    story.raise_alert("second", age_s=10)
    told = story.news()
    assert told is not None and [(row["rule"], row["place"]) for row in told["alerts"]] == [
        ("own", "own"), ("second", "cameras"), ("first", "cameras"),
    ]  # fmt: skip
    assert ["jpeg" in row for row in told["alerts"]] == [True, True, False]
    assert (told["alerts"][2]["goes_on"], told["alerts"][2]["over"]) == (False, "over after 2.0 s")
    for number in range(MOST_SHOWN):
        story.raise_alert(f"more {number}")
    told = story.news()
    assert told is not None and len(told["alerts"]) == MOST_SHOWN + 1


def test_alerts_are_confirmed_or_marked_wrong_and_each_rules_record_follows(story: Story) -> None:
    story.raise_alert("door")
    (row,) = (story.news() or {})["alerts"]
    assert "wrong" not in story.link.answer({"do": "mark", "key": row["key"], "verdict": "right"})
    assert (story.news() or {})["alerts"][0]["verdict"] == "right"
    assert story.timeline.marks.ratings()[0].num_right == 1
    rated = story.office.backend.marks.ratings(story.viewer, "cameras")
    story.timeline.marks.mark(1, "wrong", 0.0)
    assert (story.news() or {})["alerts"][0]["verdict"] == "wrong", "another process marked it"
    assert story.office.backend.marks.ratings(story.viewer, "cameras") is rated
    story.office.clock.advance(RATED_S)
    assert story.office.backend.marks.ratings(story.viewer, "cameras")["door"].num_wrong == 1
    story.link.answer({"do": "mark", "key": row["key"], "verdict": None})
    assert (story.news() or {})["alerts"][0]["verdict"] == ""
    assert rules_of(story.office.backend, story.viewer) == []


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({"do": "clip", "key": "cameras-1"}, "clip: none is recorded; set timeline.keep_clips_s"),
        ({"do": "clip", "key": "cameras-9"}, "alert 'cameras-9': it is shown here no more"),
        ({"do": "mark", "key": "cameras-1", "verdict": "maybe"}, "it must be one of right, wrong"),
        ({"do": "mark", "key": "cameras-1", "verdict": 3}, "verdict 3: it must be right, wrong or nothing"),
        ({"do": "fly"}, "order 'fly': it must be clip or mark"),
    ],
)
def test_orders_that_cannot_be_followed_say_why(story: Story, order: dict[str, Any], problem: str) -> None:
    story.raise_alert("door")
    story.news()
    assert problem in story.link.answer(order)["wrong"]


def test_in_an_open_app_nobody_marks_the_cameras_alerts(story: Story) -> None:
    story.office.backend.marks._may_change_cameras = False
    story.raise_alert("door")
    story.news()
    told = story.link.answer({"do": "mark", "key": "cameras-1", "verdict": "right"})
    assert "viewers cannot mark alerts of shared cameras; use alerts mark" in told["wrong"]
