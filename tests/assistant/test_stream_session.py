"""One stream's loop: what is seen, said and told, and in which order."""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from assistant.events import StatusKind
from assistant.stream.question_queue import MOST_WAITING, Question, TooManyQuestions
from assistant.stream.speaking import CalibratedPolicy, ChangePolicy, DecisionCurve, Reason
from assistant.stream.stream_session import StreamSession
from models.checkpoint.settings import SpeakingSettings
from models.eviction import WindowSettings
from streaming.clock import FakeClock
from streaming.types import Frame, NoticeKind
from tests.assistant.fakes import GRID, FakeEngine, FakeModel, FakeSink, Look, eviction, frame, notice

TRAINED = SpeakingSettings(decision="trained")
LOUD = Look(score=20.0)
STILL = Look(score=-20.0)


class Stage:
    """A session with everything round it."""

    def __init__(
        self,
        model: FakeModel,
        *,
        questions: list[Question] | None = None,
        pace: float = 0.0,
        instruction: str | None = None,
        stand_in: bool = False,
        forward_s: float = 0.0,
        speaking: SpeakingSettings = TRAINED,
    ) -> None:
        self.clock = FakeClock()
        self.model, self.sink = model, FakeSink()
        self.engine = FakeEngine(self.clock, forward_s)
        policy = ChangePolicy(SpeakingSettings()) if stand_in else CalibratedPolicy(speaking, fps=2.0)
        self.stream = StreamSession(
            model,
            policy,
            self.clock,
            self.sink.append,
            pace=pace,
            instruction=instruction,
            questions=questions or [],
        )

    def see(self, *frames: Frame) -> None:
        for item in frames:
            self.engine.run(self.stream.on_frame(replace(item, captured_at_s=self.clock.now_s())))


def test_a_comment_carries_its_decision_and_its_frame() -> None:
    stage = Stage(FakeModel({1.0: replace(LOUD, log_p=-0.5)}, deque([" A red ball enters. "])))
    stage.see(frame(0.5), frame(1.0))
    (comment,) = stage.sink.comments()
    assert (comment.text, comment.time_s, comment.frame_index, comment.source) == (
        "A red ball enters.", 1.0, 30, "clip.mp4",
    )  # fmt: skip
    assert comment.reason == "spoke" and comment.score == pytest.approx(19.5)
    assert comment.threshold is not None and comment.probability is not None and comment.probability > 0.5
    assert stage.stream.stats.comments == 1


def test_latency_runs_from_capture_to_the_first_words() -> None:
    stage = Stage(FakeModel({0.0: LOUD}, deque(["one two three"])), forward_s=0.1)
    stage.see(frame(0.0))
    (comment,) = stage.sink.comments()
    assert comment.latency_ms == pytest.approx(200)


def test_silence_is_decided_too() -> None:
    stage = Stage(FakeModel({0.0: STILL, 0.5: Look(changed=0), 1.0: LOUD}))
    stage.see(frame(0.0), frame(0.5), frame(1.0))
    assert [decision.reason for decision in stage.stream.curve] == [
        Reason.BELOW_THRESHOLD, Reason.NOTHING_CHANGED, Reason.SPOKE,
    ]  # fmt: skip


def test_the_policy_tells_the_model_where_log_p_matters() -> None:
    stage = Stage(FakeModel())
    stage.see(frame(0.0))
    assert stage.model.thresholds == [CalibratedPolicy(TRAINED, fps=2.0).speak_above]


def test_who_asks_now_is_answered_from_what_is_there_now() -> None:
    """The square that has just turned blue is seen first."""
    model = FakeModel(answers={"What?": "A blue square."})
    stage = Stage(model)
    stage.see(frame(0.0))
    stage.stream.ask("What?")
    stage.see(frame(1.0))
    assert model.calls == ["see 0", "see 1", "answer What?"]
    (answer,) = stage.sink.answers()
    assert (answer.time_s, answer.frame_index) == (1.0, 30)


def test_a_picture_taken_before_the_question_is_too_old_to_answer_it() -> None:
    """It waited while the engine had other things to do; but nobody waits for a better one for ever."""
    model = FakeModel(answers={"What?": "A blue square."})
    stage = Stage(model)
    stage.see(frame(0.0))
    old = replace(frame(1.0), captured_at_s=stage.clock.now_s())
    stage.clock.advance(0.4)
    stage.stream.ask("What?")
    stage.engine.run(stage.stream.on_frame(old))
    assert model.calls == ["see 0", "see 1"] and stage.stream.asked_since_s == 0.4
    stage.clock.advance(0.1)
    stage.see(frame(1.5))
    assert model.calls[2:] == ["see 1.5", "answer What?"] and stage.stream.asked_since_s is None
    stage.stream.ask("What?")
    late = replace(frame(2.0), captured_at_s=0.0)
    stage.clock.advance(1.5)
    stage.engine.run(stage.stream.on_frame(late))
    assert model.calls[4:] == ["see 2", "answer What?"]


def test_a_question_that_comes_while_a_frame_is_seen_waits_for_the_next() -> None:
    model = FakeModel({0.0: LOUD}, deque(["one two three"]))
    stage = Stage(model, forward_s=0.1)

    def ask_once() -> None:
        stage.engine.on_forward = lambda: None
        stage.stream.ask("What?")

    stage.engine.on_forward = ask_once
    stage.see(frame(0.0))
    assert not stage.sink.answers()
    stage.see(frame(1.0))
    assert model.calls[-2:] == ["see 1", "answer What?"]


def test_a_planned_question_is_asked_between_the_frames_it_lies_between() -> None:
    model = FakeModel(answers={"Where?": "On the left."})
    stage = Stage(model, questions=[Question(0.7, "Where?")])
    stage.see(frame(0.0), frame(0.5), frame(1.0))
    assert model.calls == ["see 0", "see 0.5", "answer Where?", "see 1"]
    (answer,) = stage.sink.answers()
    assert (answer.text, answer.question, answer.asked_at_s, answer.time_s) == ("On the left.", "Where?", 0.7, 0.5)
    assert answer.reason == "asked" and answer.score is None


def test_a_question_at_a_frames_own_time_has_seen_that_frame_and_comes_before_its_comment() -> None:
    model = FakeModel({0.5: LOUD})
    stage = Stage(model, questions=[Question(0.5, "What?"), Question(0.0, "First?")])
    stage.see(frame(0.0), frame(0.5))
    assert model.calls == ["see 0", "answer First?", "see 0.5", "answer What?", "comment"]


def test_a_question_cuts_a_comment_short_and_both_are_whole_events() -> None:
    model = FakeModel({0.0: LOUD}, deque(["A red ball enters on the left."]))
    stage = Stage(model)
    stage.engine.on_forward = lambda: stage.stream.ask("How many?") if stage.engine.num_forwards == 4 else None
    stage.see(frame(0.0))
    assert model.calls == ["see 0", "comment", "cut", "answer How many?"]
    assert [(event.type, event.text, event.reason) for event in stage.sink.events] == [
        ("comment", "A red ball", "cut_short"),
        ("answer", "Yes.", "asked"),
    ]


def test_a_comment_cut_before_its_first_word_is_no_comment() -> None:
    model = FakeModel({0.0: LOUD}, deque(["A ball."]), num_openings=3)
    stage = Stage(model, pace=1.0, questions=[Question(0.15, "What?")], forward_s=0.1)
    stage.see(frame(0.0))
    assert model.calls == ["see 0", "comment", "cut", "answer What?"]
    assert stage.sink.kinds() == ["answer"]
    assert [decision.reason for decision in stage.stream.curve] == [Reason.CUT_SHORT]


@pytest.mark.parametrize("stand_in", [False, True])
def test_a_comment_cut_before_its_first_word_does_not_silence_the_next(stand_in: bool) -> None:
    model = FakeModel({at_s: Look(score=20.0, changed=5) for at_s in (0.0, 1.5)}, num_openings=3)
    questions = [Question(0.15, "What?")]
    stage = Stage(model, pace=1.0, questions=questions, forward_s=0.1, stand_in=stand_in)
    stage.stream._policy = (
        ChangePolicy(SpeakingSettings()) if stand_in else CalibratedPolicy(replace(TRAINED, refractory_s=5.0), fps=2.0)
    )
    stage.see(frame(0.0), frame(1.5))
    assert [comment.time_s for comment in stage.sink.comments()] == [1.5]


def test_media_time_goes_on_during_a_comment_where_the_source_does_not_wait() -> None:
    model = FakeModel({0.0: LOUD}, deque(["one two three four five six seven eight"]))
    stage = Stage(model, pace=1.0, questions=[Question(0.45, "Now?")], forward_s=0.1)
    stage.see(frame(0.0))
    assert stage.sink.comments()[0].text == "one two three four"
    assert stage.sink.answers()[0].asked_at_s == 0.45
    waiting = Stage(FakeModel({0.0: LOUD}), pace=0.0, questions=[Question(0.45, "Now?")], forward_s=0.1)
    waiting.see(frame(0.0))
    assert waiting.sink.kinds() == ["comment"]


def test_people_are_answered_while_no_frame_comes() -> None:
    stage = Stage(FakeModel())
    stage.stream.ask("Hello?")
    stage.engine.run(stage.stream.on_idle())
    assert stage.sink.events == []
    stage.see(frame(0.0))
    stage.stream.ask("And now?")
    stage.engine.run(stage.stream.on_idle())
    assert [answer.question for answer in stage.sink.answers()] == ["Hello?", "And now?"]


def test_too_many_waiting_questions_are_refused() -> None:
    stage = Stage(FakeModel())
    for number in range(MOST_WAITING):
        stage.stream.ask(str(number))
    with pytest.raises(TooManyQuestions):
        stage.stream.ask("one more")


def test_the_same_words_of_one_occurrence_are_held_back_with_a_reason() -> None:
    model = FakeModel({0.0: LOUD, 2.0: LOUD}, deque(["A ball.", "a ball"]))
    stage = Stage(model)
    stage.see(frame(0.0), frame(2.0))
    assert stage.sink.kinds() == ["comment", "vetoed"]
    assert stage.model.calls.count("retract") == 1 and stage.model.calls[-1] == "retract", "the model never said it"
    assert stage.sink.statuses()[0].details == {"remark": "a ball"}
    assert [decision.reason for decision in stage.stream.curve] == [Reason.SPOKE, Reason.REPEAT]


def test_a_standing_instruction_is_checked_for_a_policy_that_does_not_know_it() -> None:
    model = FakeModel(checks=deque([False, True]))
    stage = Stage(model, instruction="Tell me only when a cat comes.", stand_in=True)
    stage.see(frame(0.0), frame(1.0))
    assert [call.split()[0] for call in model.calls] == ["see", "check", "see", "check", "comment"]
    assert "Tell me only when a cat comes." in model.calls[1]
    assert [decision.reason for decision in stage.stream.curve] == [Reason.INSTRUCTED_SILENCE, Reason.SPOKE]


def test_a_trained_decision_knows_its_instruction_and_is_not_checked() -> None:
    model = FakeModel({0.0: LOUD})
    Stage(model, instruction="Only cats.").see(frame(0.0))
    assert model.calls == ["see 0", "comment"]


def test_a_model_that_judges_its_drafts_holds_back_what_the_instruction_does_not_let_through() -> None:
    model = FakeModel({0.0: LOUD, 0.5: LOUD}, deque(["A dog comes.", "A cat comes."]), checks=deque([False, True]))
    speaking = replace(TRAINED, remark_check="{instruction} {remark} Answer yes or no.")
    stage = Stage(model, speaking=speaking, instruction="Only cats.")
    stage.see(frame(0.0), frame(0.5))
    assert model.calls == [
        "see 0", "comment", "check Only cats. A dog comes. Answer yes or no.", "retract",
        "see 0.5", "comment", "check Only cats. A cat comes. Answer yes or no.",
    ]  # fmt: skip
    assert stage.sink.kinds() == ["vetoed", "comment"]
    assert stage.sink.statuses()[0].details == {"remark": "A dog comes."}
    assert [decision.reason for decision in stage.stream.curve] == [Reason.INSTRUCTED_SILENCE, Reason.SPOKE]


def test_without_an_instruction_drafts_are_not_judged() -> None:
    model = FakeModel({0.0: LOUD}, deque(["A dog comes."]))
    Stage(model, speaking=replace(TRAINED, remark_check="{instruction} {remark}")).see(frame(0.0))
    assert model.calls == ["see 0", "comment"]


def test_a_new_instruction_is_told_to_the_model_and_to_the_reader() -> None:
    stage = Stage(FakeModel())
    stage.engine.run(stage.stream.instruct("Only dogs."))
    assert stage.model.calls == ["instruct Only dogs."] and stage.sink.kinds() == ["instructed"]


def test_what_happens_to_the_memory_is_told() -> None:
    looks = {0.0: Look(evictions=[eviction(7)]), 0.5: Look(rebased=True, grid_changed=True)}
    stage = Stage(FakeModel(looks))
    stage.see(frame(0.0), frame(0.5))
    assert stage.sink.kinds() == ["evicted", "grid_changed", "rebased"]
    assert stage.sink.statuses()[0].details == {"tokens": 7, "frames": 2, "turns": 1}
    assert (stage.stream.stats.evictions, stage.stream.stats.rebases) == (1, 1)


def test_windows_that_were_widened_are_told() -> None:
    stage = Stage(FakeModel({0.0: Look(widened=WindowSettings(vision_low=3456, vision_high=4200))}))
    stage.see(frame(0.0), frame(0.5))
    (told,) = stage.sink.statuses()
    assert told.kind is StatusKind.WIDENED and told.details == {"vision_low": 3456} and "3456 tokens" in told.text


def test_what_left_memory_after_the_last_frame_is_told_before_the_end() -> None:
    stage = Stage(FakeModel())
    stage.see(frame(0.0))
    stage.model.late_evictions = [eviction(40)]
    stage.engine.run(stage.stream.on_notice(notice(NoticeKind.ENDED, 0.5, count=1)))
    assert stage.sink.kinds() == ["evicted", "ended"] and stage.stream.stats.evictions == 1


def test_a_truncated_remark_is_given_out_and_told() -> None:
    stage = Stage(FakeModel({0.0: LOUD}, deque(["on and on"]), truncates=True))
    stage.see(frame(0.0))
    assert stage.sink.kinds() == ["comment", "truncated"]


@pytest.mark.parametrize("kind", list(NoticeKind))
def test_every_notice_of_a_source_is_an_event(kind: NoticeKind) -> None:
    stage = Stage(FakeModel())
    stage.engine.run(stage.stream.on_notice(notice(kind, 3.0, count=2, speed=1.5)))
    (status,) = stage.sink.statuses()
    assert (status.kind.value, status.time_s, status.reason) == (kind.value, 3.0, f"it {kind.value}")
    assert status.details == {"count": 2, "speed": 1.5}


def test_a_gap_is_told_to_the_model_once_it_has_seen_something() -> None:
    stage = Stage(FakeModel())
    gap = notice(NoticeKind.GAP, 1.0, gap_s=12.5)
    stage.engine.run(stage.stream.on_notice(gap))
    stage.see(frame(0.0))
    stage.engine.run(stage.stream.on_notice(gap))
    stage.engine.run(stage.stream.on_notice(notice(NoticeKind.GAP, 1.0, jump_s=-3.0)))
    assert stage.model.calls == ["see 0", "gap 12.5"]


def test_a_grid_change_told_by_the_source_is_not_told_twice() -> None:
    stage = Stage(FakeModel({0.5: Look(grid_changed=True)}))
    stage.see(frame(0.0))
    stage.engine.run(stage.stream.on_notice(notice(NoticeKind.GRID_CHANGED, 0.0)))
    stage.see(frame(0.5))
    assert stage.sink.kinds() == ["grid_changed"]


def test_questions_after_the_end_are_owned_up_to_before_it() -> None:
    stage = Stage(FakeModel(), questions=[Question(0.9, "Near?"), Question(5.0, "Far?")])
    stage.see(frame(0.0), frame(0.5))
    stage.engine.run(stage.stream.on_notice(notice(NoticeKind.ENDED, 0.97)))
    stage.engine.run(stage.stream.on_end())
    assert stage.sink.kinds() == ["answer", "unasked", "ended"]
    assert stage.sink.answers()[0].question == "Near?"
    assert stage.sink.statuses()[0].details == {"question": "Far?", "asked_at_s": 5.0}


def test_what_a_person_asked_carries_the_time_it_reached_the_assistant() -> None:
    stage = Stage(FakeModel())
    stage.see(frame(0.0))
    stage.stream.ask("What?")
    stage.see(frame(0.3))
    assert stage.sink.answers()[0].asked_at_s == 0.3


def test_questions_that_a_stop_leaves_unanswered_are_owned_up_to() -> None:
    stage = Stage(FakeModel(), questions=[Question(0.5, "Due?"), Question(9.0, "Later?")])
    stage.see(frame(0.0))
    stage.stream.ask("And I?")
    stage.stream.stop()
    stage.see(frame(1.0))
    stage.engine.run(stage.stream.on_end())
    stage.engine.run(stage.stream.on_end())
    told = [(status.details["question"], status.reason) for status in stage.sink.statuses()]
    assert told == [
        ("Due?", "it was stopped before the answer"),
        ("Later?", "the stream ended before 9 s"),
        ("And I?", "it was stopped before the answer"),
    ]


def test_nothing_grows_between_the_first_hours_and_day_three() -> None:
    """Everything a stream keeps but its last decisions, which are a fixed number."""
    stage = Stage(FakeModel({}, deque()), stand_in=True)
    sizes = []
    for hour in (0, 1, 71):
        stage.stream.curve = DecisionCurve(length=100)
        for number in range(300):
            if number % 7 == 0:
                stage.stream.ask("What?")
            stage.see(frame(3600.0 * hour + number / 2))
        stage.sink.events.clear()
        stage.model.calls.clear()
        stage.model.thresholds.clear()
        stage.stream.stats._frame_ms.clear()
        sizes.append(len(pickle.dumps([vars(stage.stream._policy), stage.stream.stats, list(stage.stream.curve)])))
    assert max(sizes) - min(sizes) < 100


def test_stop_closes_what_is_being_said() -> None:
    model = FakeModel({0.0: LOUD}, deque(["one two three four"]))
    stage = Stage(model, questions=[Question(0.0, "Too late?")])
    stage.stream.stop()
    stage.see(frame(0.0))
    assert model.calls == ["see 0", "comment", "cut"]
    long = FakeModel({0.0: Look()}, answers={"What?": "one two three four"})
    stage = Stage(long, questions=[Question(0.0, "What?")])
    stage.engine.on_forward = lambda: stage.stream.stop() if stage.engine.num_forwards == 3 else None
    stage.see(frame(0.0))
    assert long.calls == ["see 0", "answer What?", "cut"]
    assert [(answer.text, answer.reason) for answer in stage.sink.answers()] == [("one two", "cut_short")]


def test_masks_are_proposed_once_after_a_minute() -> None:
    hot = np.zeros(GRID.num_cells, bool)
    hot[4] = True
    stage = Stage(FakeModel({n / 2: STILL for n in range(400)}, hot=hot))
    stage.see(*(frame(n / 2) for n in range(120)))
    assert stage.sink.kinds() == []
    stage.see(*(frame(n / 2) for n in range(120, 400)))
    (status,) = stage.sink.statuses()
    assert status.kind.value == "mask_proposed" and status.details == {"masks": "0.8,0,0.2,0.5"}


def test_the_figures_count_what_was_seen() -> None:
    stage = Stage(FakeModel({0.0: Look(changed=10), 0.5: Look(changed=0), 1.0: Look(changed=1, refreshed=2)}))
    stage.see(frame(0.0), frame(0.5), frame(1.0))
    stats = stage.stream.stats
    assert (stats.read, stats.sampled, stats.used) == (31, 3, 2)
    assert (stats.cells, stats.cells_changed, stats.cells_refreshed) == (30, 11, 2)


def test_a_draft_that_is_unsure_is_taken_back_and_said_after_the_next_frame() -> None:
    model, sink, clock = FakeModel({0.0: Look(score=20.0), 0.5: Look(score=-20.0)}), FakeSink(), FakeClock()
    settings = SpeakingSettings(decision="trained", wait_below=0.5)  # the fake's words have a chance of 0.37
    stream = StreamSession(model, CalibratedPolicy(settings, fps=2.0), clock, sink.append)
    FakeEngine(clock).run(stream.on_frame(frame(0.0)))
    assert not sink.comments() and model.calls[-1] == "retract"
    FakeEngine(clock).run(stream.on_frame(frame(0.5)))
    assert [(comment.time_s, comment.reason) for comment in sink.comments()] == [(0.5, "spoke")]
    assert [decision.reason for decision in stream.curve] == [Reason.UNSURE, Reason.SPOKE]


def test_a_draft_that_is_unsure_is_said_when_no_frame_comes_any_more() -> None:
    model, sink, clock = FakeModel({0.0: Look(score=20.0)}), FakeSink(), FakeClock()
    settings = SpeakingSettings(decision="trained", wait_below=0.5)
    stream = StreamSession(model, CalibratedPolicy(settings, fps=2.0), clock, sink.append)
    FakeEngine(clock).run(stream.on_frame(frame(0.0)))
    FakeEngine(clock).run(stream.on_end())
    assert [comment.time_s for comment in sink.comments()] == [0.0]
    assert stream.curve.reasons[Reason.SPOKE] == stream.stats.comments == 1
