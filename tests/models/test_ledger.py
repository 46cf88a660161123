"""The ledger and eviction: which units leave first, which stay, and which cells the next eviction removes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.eviction import WindowSettings, choose_over_watermark
from models.ledger import Ledger
from models.spans import Span, SpanKind, frame_span

IMAGE = 99
WINDOW = WindowSettings(vision_low=60, vision_high=80, text_low=20, text_high=30)


def seen(time_s: float, cells: list[int], num_cells: int = 8) -> Span:
    keep = np.zeros(num_cells, dtype=bool)
    keep[cells] = True
    return frame_span([1, 2, 3], keep, [4], IMAGE, time_s=time_s)


def said(kind: SpanKind, size: int, time_s: float | None = 0.0, *, pinned: bool = False) -> Span:
    return Span(kind, list(range(100, 100 + size)), time_s, pinned=pinned)


def ids_of(ledger: Ledger) -> list[int]:
    return [token for span in ledger for token in span.ids]


def kinds(ledger: Ledger) -> list[str]:
    bare = {id(span) for span in ledger if span.kind is SpanKind.FRAME and not span.is_seen_frame}
    return [f"{span.kind} (bare)" if id(span) in bare else str(span.kind) for span in ledger]


def filled(*spans: Span, window: WindowSettings = WINDOW) -> Ledger:
    ledger = Ledger(window)
    for span in spans:
        ledger.append(span)
    return ledger


def test_the_oldest_frames_leave_down_to_the_low_watermark() -> None:
    ledger = filled(said(SpanKind.SYSTEM, 5, None, pinned=True), *(seen(t, list(range(8))) for t in range(7)))
    before = ids_of(ledger)
    eviction = ledger.evict()
    assert eviction is not None and eviction.num_frames == 2 and eviction.num_evicted == 24
    assert kinds(ledger) == ["system", *["frame"] * 5]
    assert [before[at] for at in eviction.keep] == ids_of(ledger)
    assert ledger.evict() is None


def test_words_outlive_pixels_with_their_time() -> None:
    ledger = filled(seen(0, list(range(8))), said(SpanKind.COMMENT, 4), *(seen(t, list(range(8))) for t in range(1, 7)))
    before = ids_of(ledger)
    eviction = ledger.evict()
    assert eviction is not None
    assert kinds(ledger)[:3] == ["frame (bare)", "comment", "frame"]
    assert ledger.spans[0].ids == [1, 2, 3, 4]
    assert [before[at] for at in eviction.keep] == ids_of(ledger)


def test_a_wrapper_stays_for_the_last_of_its_turns_and_leaves_with_it() -> None:
    frames = [seen(t, list(range(8))) for t in range(1, 7)]
    first = said(SpanKind.COMMENT, 12)
    ledger = filled(seen(0, list(range(8))), first, said(SpanKind.COMMENT, 14), *frames)
    ledger.evict()
    assert kinds(ledger)[:3] == ["frame (bare)", "comment", "comment"]
    ledger.append(said(SpanKind.COMMENT, 6, 6))
    ledger.evict()
    assert first not in ledger.spans
    assert kinds(ledger)[:2] == ["frame (bare)", "comment"]
    ledger.append(said(SpanKind.COMMENT, 15, 6))
    ledger.evict()
    assert kinds(ledger)[0] == "frame"


def test_a_question_leaves_with_its_answer_and_pinned_text_never() -> None:
    instruction = said(SpanKind.INSTRUCTION, 25, None, pinned=True)
    ledger = filled(instruction, said(SpanKind.QUESTION, 8), said(SpanKind.ANSWER, 8), said(SpanKind.COMMENT, 16))
    eviction = ledger.evict()
    assert eviction is not None and eviction.num_turns == 2
    assert kinds(ledger) == ["instruction", "comment"]


def test_what_was_said_last_stays_however_long_it_is() -> None:
    long = said(SpanKind.ANSWER, 50)
    ledger = filled(seen(0, [0]), said(SpanKind.COMMENT, 6), said(SpanKind.QUESTION, 9), long)
    ledger.evict()
    assert kinds(ledger) == ["frame", "question", "answer"] and len(long) == 50
    ledger.append(said(SpanKind.COMMENT, 4))
    ledger.evict()
    assert kinds(ledger) == ["frame", "comment"]


def test_a_kept_attachment_loses_its_pictures_first_and_keeps_its_words_and_answer() -> None:
    offsets = np.r_[1:7, 8:14]
    attachment = Span(
        SpanKind.ATTACHMENT, [5, *[IMAGE] * 6, 6, *[IMAGE] * 6, 7, 8], 0.0, cells=np.arange(12), image_offsets=offsets
    )
    assert attachment.visual_offsets.tolist() == offsets.tolist()
    ledger = filled(attachment, said(SpanKind.ANSWER, 32))
    assert ledger.tokens_by_kind() == {"pinned": 0, "vision": 16, "text": 32}
    assert ledger.evict() is None, "the answer stays while its pictures do"
    ledger.spans[1].ids = ledger.spans[1].ids[:8]
    for t in range(6):
        ledger.append(seen(t, list(range(8))))
    before = ids_of(ledger)
    eviction = ledger.evict()
    assert eviction is not None
    assert [before[at] for at in eviction.keep] == ids_of(ledger)
    assert kinds(ledger)[:2] == ["attachment", "answer"]
    assert attachment.ids == [5, 6, 7, 8]
    ledger.append(said(SpanKind.COMMENT, 20, 5.0))
    ledger.evict()
    assert attachment not in ledger.spans, "without its pictures it is a turn like any other"


def test_time_moves_take_what_is_older() -> None:
    ledger = filled(
        said(SpanKind.SYSTEM, 3, None, pinned=True),
        seen(0, [0]),
        said(SpanKind.COMMENT, 4, 0.0),
        seen(5, [1]),
        said(SpanKind.COMMENT, 4, 5.0),
    )
    eviction = ledger.evict_before(5.0, "test")
    assert eviction is not None and (eviction.num_frames, eviction.num_turns) == (1, 1)
    assert kinds(ledger) == ["system", "frame", "comment"]
    assert ledger.evict_before(5.0, "test") is None


def test_cells_of_an_earlier_view_cover_nothing() -> None:
    ledger = filled(seen(0, list(range(8))))
    assert ledger.cells_in_view(8).all()
    ledger.begin_view()
    assert not ledger.cells_in_view(4).any()
    ledger.append(seen(1, [2], num_cells=4))
    assert ledger.cells_in_view(4).tolist() == [False, False, True, False]
    assert not ledger.at_risk(4, 4).any()


def test_the_count_of_appended_tokens_never_falls() -> None:
    ledger = filled(*(seen(t, list(range(8))) for t in range(9)))
    assert ledger.num_appended == 9 * 12
    ledger.evict()
    assert ledger.num_appended == 9 * 12 and len(ledger) < 9 * 12


def visits_a_frame(monkeypatch: pytest.MonkeyPatch, factor: int) -> float:
    """How often a unit is looked at for a frame, on average over two evictions of windows `factor` times as large."""
    window = WindowSettings(vision_low=600 * factor, vision_high=800 * factor, text_low=200, text_high=300)
    ledger, num_visits, num_frames = filled(window=window), 0, 0
    length = Span.__len__

    def counted(span: Span) -> int:
        nonlocal num_visits
        num_visits += 1
        return length(span)

    monkeypatch.setattr(Span, "__len__", counted)
    num_evictions = -1
    while num_evictions < 2:
        ledger.at_risk(8, 12)
        ledger.cells_in_view(8)
        ledger.append(seen(float(num_frames), [num_frames % 8]))
        num_evictions += ledger.evict() is not None
        ledger.tokens_by_kind()
        num_frames += 1
        if num_evictions < 0:
            num_visits = num_frames = 0
    monkeypatch.undo()
    return num_visits / num_frames


def test_a_frame_costs_the_ledger_the_same_however_many_units_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = visits_a_frame(monkeypatch, 1), visits_a_frame(monkeypatch, 16)
    assert many < 1.2 * few


def test_units_are_visited_only_where_some_may_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled(said(SpanKind.SYSTEM, 5, None, pinned=True), seen(0, [0]), said(SpanKind.COMMENT, 4))
    assert ledger.evict() is None
    chosen: list[int] = []
    monkeypatch.setattr("models.ledger.choose_over_watermark", lambda spans, window: chosen.append(len(spans)))
    for number in range(5):
        ledger.append(seen(1.0 + number, [1]))
        assert ledger.evict() is None
    assert not chosen, "frames alone, and the window holds them"
    ledger.append(said(SpanKind.COMMENT, 4, 6.0))
    ledger.evict()
    ledger.window = WindowSettings(vision_low=10, vision_high=20, text_low=20, text_high=30)
    ledger.evict()
    assert len(chosen) == 2, "a turn may push out others, and so may a smaller window"


def test_counts_follow_every_change() -> None:
    first, second = seen(0, [0, 1]), seen(1, [1, 2])
    ledger = filled(said(SpanKind.SYSTEM, 5, None, pinned=True), first, second, said(SpanKind.COMMENT, 4, 1.0))
    assert len(ledger) == 5 + 6 + 6 + 4 and ledger.seen_s == 1.0
    ledger.rewrite_heads([(second, [1])])
    assert ledger.tokens_by_kind() == {"pinned": 5, "vision": 10, "text": 4}
    assert ledger.cells_in_view(8).tolist() == [True, True, True] + [False] * 5
    assert ledger.cells_in_view(8, since_s=0.5).tolist() == [False, True, True] + [False] * 5
    assert ledger.retract(ledger.spans[-1:]) and len(ledger) == 15
    ledger.remove([first], "test")
    assert ledger.tokens_by_kind() == {"pinned": 5, "vision": 4, "text": 0}
    assert ledger.cells_in_view(8).tolist() == [False, True, True] + [False] * 5


events = st.lists(
    st.one_of(
        st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True).map(lambda cells: ("frame", sorted(cells))),
        st.sampled_from([("comment", 6), ("comment", 15), ("question", 9)]),
        st.just(("view", None)),
    ),
    max_size=40,
)


@example([("frame", list(range(8))), *[("frame", [0])] * 30])
@example([("frame", list(range(8))), ("view", None), ("frame", list(range(8))), *[("frame", [3])] * 30])
@example([("frame", [7]), *[("frame", list(range(7))), ("comment", 15)] * 12])
@given(events)
@settings(max_examples=150, deadline=None)
def test_positions_ids_and_risk_agree_with_what_eviction_does(steps: list[tuple[str, object]]) -> None:
    """`keep` lists the positions of what the ledger still holds, and `at_risk` predicts every lost cell."""
    ledger = filled(said(SpanKind.SYSTEM, 5, None, pinned=True))
    cache = ids_of(ledger)
    for number, (what, value) in enumerate(steps):
        if what == "view":
            ledger.begin_view()
            continue
        if what == "frame":
            assert isinstance(value, list)
            covered = ledger.cells_in_view(8)
            risk = ledger.at_risk(8, 12)
            span = seen(float(number), value)
            spans = [span]
        else:
            assert isinstance(value, int)
            covered, risk, span = np.zeros(8, bool), np.zeros(8, bool), None
            spans = [said(SpanKind(what), value, float(number))]
            if what == "question":
                spans.append(said(SpanKind.ANSWER, 5, float(number)))
        for new in spans:
            ledger.append(new)
            cache += new.ids
        is_over = choose_over_watermark(ledger.spans, WINDOW) is not None
        eviction = ledger.evict()
        assert (eviction is not None) == is_over
        if eviction is not None:
            cache = [cache[at] for at in eviction.keep]
        assert cache == ids_of(ledger) and len(cache) == len(ledger)
        fresh = Ledger(WINDOW, list(ledger.spans), view=ledger.view)
        assert ledger.tokens_by_kind() == fresh.tokens_by_kind()
        assert ledger.cells_in_view(8).tolist() == fresh.cells_in_view(8).tolist()
        assert ledger.at_risk(8, 12).tolist() == fresh.at_risk(8, 12).tolist()
        counts = ledger.tokens_by_kind()
        assert counts["vision"] <= WINDOW.vision_high and counts["text"] <= WINDOW.text_high + 4 * 12
        if span is not None:
            lost = covered & ~ledger.cells_in_view(8)
            assert not (lost & ~risk).any()
