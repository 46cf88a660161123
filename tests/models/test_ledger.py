"""The ledger and eviction: which units leave first, which stay, and which cells the next eviction removes."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.eviction import WindowSettings
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
        eviction = ledger.evict()
        if eviction is not None:
            cache = [cache[at] for at in eviction.keep]
        assert cache == ids_of(ledger)
        counts = ledger.tokens_by_kind()
        assert counts["vision"] <= WINDOW.vision_high and counts["text"] <= WINDOW.text_high + 4 * 12
        if span is not None:
            lost = covered & ~ledger.cells_in_view(8)
            assert not (lost & ~risk).any()
