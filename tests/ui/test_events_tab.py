from __future__ import annotations

import html
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from assistant.timeline.folder import TimelineFolder
from assistant.timeline.records import FoundEvent, KeptClip
from tests.assistant.streams import remark
from ui.events_tab import detail_html, found_html

if TYPE_CHECKING:
    from assistant.timeline.search import TimelineReader
    from assistant.viewers.viewer_session import ViewerSession


@pytest.mark.parametrize(
    ("state", "reason", "told"),
    [("recording", "", "it is being recorded; try again soon"), ("lost", "the disk was <full>", "the disk was <full>")],
)
def test_an_event_says_why_its_clip_cannot_be_played(tmp_path: Path, state: str, reason: str, told: str) -> None:
    clip = KeptClip("c", "clips/c.mp4", state, reason, 1.0, None, 0, 0, 0)
    found = FoundEvent(7, "e", remark("A red circle enters on the left."), "door", "run", 0.0, 0.0, (), clip)
    reader = cast("TimelineReader", SimpleNamespace(folder=TimelineFolder(tmp_path)))
    shown = detail_html(cast("ViewerSession", None), reader, found)  # a tab has no part in it
    assert f"The clip around it: {told}." in html.unescape(shown)
    assert "<video" not in shown and "<full>" not in shown


def test_an_empty_list_says_why_it_is_empty() -> None:
    def said(**how: bool) -> str:
        return html.unescape(found_html([], **{"has_any": True, "of_cameras": False, "is_filtered": False, **how}))

    assert "they appear as they happen" in said()
    assert "No event matches" in said(is_filtered=True)
    assert "Nothing was watched in this tab yet" in said(has_any=False)
    assert "--config" in said(has_any=False, of_cameras=True)
