"""Events survive a round trip and say the same things in the same words every time."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.errors import StoreError
from assistant.events import Alert, Answer, Comment, StatusEvent, StatusKind, StreamEvent, event_from_dict

finite = st.floats(allow_nan=False, allow_infinity=False)
maybe = st.none() | finite
common: dict[str, Any] = {
    "source": st.text(),
    "time_s": finite,
    "text": st.text(),
    "reason": st.text(),
    "score": maybe,
    "probability": maybe,
    "threshold": maybe,
    "latency_ms": maybe,
    "frame_index": st.none() | st.integers(0),
}
events: st.SearchStrategy[StreamEvent] = st.one_of(
    st.builds(Comment, **common),
    st.builds(Alert, **common, rule=st.text(), severity=st.text(), occurrence=st.text(), started_s=st.none() | finite),
    st.builds(Answer, **common, question=st.text(), asked_at_s=finite),
    st.builds(
        StatusEvent,
        **common,
        kind=st.sampled_from(StatusKind),
        details=st.dictionaries(st.text(), finite | st.integers() | st.text() | st.booleans()),
    ),
)

COMMON_KEYS = [
    "type", "source", "time_s", "text", "reason", "score", "probability", "threshold", "latency_ms", "frame_index",
]  # fmt: skip


@given(events)
def test_every_event_survives_json(event: StreamEvent) -> None:
    assert event_from_dict(json.loads(json.dumps(event.as_dict(), allow_nan=False))) == event


def test_events_of_each_type_have_the_promised_keys() -> None:
    basics: dict[str, Any] = {"source": "clip.mp4", "time_s": 1.0, "text": "A ball."}
    assert list(Comment(**basics).as_dict()) == COMMON_KEYS
    assert list(Alert(**basics).as_dict()) == [
        *COMMON_KEYS,
        "rule",
        "severity",
        "occurrence",
        "started_s",
        "question",
        "hits",
        "zone",
    ]
    assert list(Answer(**basics, question="What?", asked_at_s=1.2).as_dict()) == [
        *COMMON_KEYS,
        "question",
        "asked_at_s",
    ]
    assert list(StatusEvent(**basics, kind=StatusKind.GAP).as_dict()) == [*COMMON_KEYS, "kind", "details"]


def test_a_score_that_is_no_number_becomes_null() -> None:
    event = Comment(source="a", time_s=0.0, text="b", score=-math.inf, probability=math.nan)
    assert event.as_dict()["score"] is None and event.as_dict()["probability"] is None
    status = StatusEvent(source="a", time_s=0.0, text="b", kind=StatusKind.GAP, details={"seconds": math.inf})
    assert status.as_dict()["details"] == {"seconds": None}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"type": "rumour", "source": "a", "time_s": 0.0, "text": "b"},
        {"type": ["comment"]},
        {"type": "comment", "source": "a"},
        {"type": "comment", "source": "a", "time_s": 0.0, "text": "b", "volume": 3},
        {"type": "status", "source": "a", "time_s": 0.0, "text": "b", "kind": "bored"},
        {"type": "status", "source": "a", "time_s": 0.0, "text": "b"},
    ],
)
def test_what_is_no_event_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        event_from_dict(values)
