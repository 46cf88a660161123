"""When the assistant speaks: the calibrated rule and the stand-in, as properties over any stream of scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.stream.speaking import (
    CalibratedPolicy,
    ChangePolicy,
    Decision,
    DecisionCurve,
    Observation,
    Reason,
    SpeakingPolicy,
    policy_for,
)
from models.checkpoint.settings import SpeakingSettings

FPS = 2.0
TRAINED = SpeakingSettings(decision="trained")

scores = st.lists(st.floats(-30, 30), min_size=1, max_size=60)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=120)


def watch(policy: SpeakingPolicy, frames: list[Observation]) -> list[Decision]:
    """Decide about frames; each remark has words of its own."""
    decisions = []
    for number, seen in enumerate(frames):
        decisions.append(policy.decide(seen))
        if decisions[-1].speak:
            assert policy.veto(f"Remark {number}") is None
    return decisions


def scored(values: list[float], *, log_p: float | None = None) -> list[Observation]:
    return [Observation(n / FPS, True, 0.5, score, log_p) for n, score in enumerate(values)]


def changing(values: list[float]) -> list[Observation]:
    return [Observation(n / FPS, share > 0, share) for n, share in enumerate(values)]


def times_spoken(decisions: list[Decision]) -> list[float]:
    return [decision.time_s for decision in decisions if decision.speak]


def test_the_rule_is_the_designs() -> None:
    """s + log P(assistant | im_start) > log((1−π)/π) − talkativeness, with π = remarks a second / frames a second."""
    settings = replace(TRAINED, remarks_per_s=0.2)
    policy = CalibratedPolicy(settings, fps=FPS, talkativeness=0.5)
    needed = math.log(0.9 / 0.1) - 0.5
    assert policy.threshold == pytest.approx(needed)
    (below,) = watch(policy, scored([needed + 0.3 - 1e-6], log_p=-0.3))
    (above,) = watch(policy, scored([needed + 0.3 + 1e-6], log_p=-0.3))
    assert (below.speak, below.reason) == (False, Reason.BELOW_THRESHOLD)
    assert (above.speak, above.reason) == (True, Reason.SPOKE)
    assert above.score == pytest.approx(needed) and above.threshold == policy.threshold


def test_the_probability_is_the_posterior_under_the_prior() -> None:
    """Where balanced classes are at even odds, a remark is as likely as the prior says."""
    (decision,) = watch(CalibratedPolicy(replace(TRAINED, remarks_per_s=0.2), fps=FPS), scored([0.0]))
    assert decision.probability == pytest.approx(0.1)


def test_platt_scaling_is_applied_to_the_score_alone() -> None:
    settings = replace(TRAINED, platt_scale=0.5, platt_shift=1.0)
    (decision,) = watch(CalibratedPolicy(settings, fps=FPS), scored([4.0], log_p=-0.25))
    assert decision.score == pytest.approx(0.5 * 4.0 + 1.0 - 0.25)


@given(scores, st.floats(-5, 5), st.floats(0, 5))
def test_what_speaks_passed_its_threshold_and_kept_the_refractory_time(
    values: list[float], talkativeness: float, refractory_s: float
) -> None:
    policy = CalibratedPolicy(replace(TRAINED, refractory_s=refractory_s), fps=FPS, talkativeness=talkativeness)
    decisions = watch(policy, scored(values))
    for decision in decisions:
        assert decision.score is not None and decision.probability is not None and 0 <= decision.probability <= 1
        assert not decision.speak or decision.score > decision.threshold
        assert (decision.reason is Reason.BELOW_THRESHOLD) == (not decision.score > decision.threshold)
    spoken = times_spoken(decisions)
    assert all(later - earlier >= refractory_s for earlier, later in zip(spoken, spoken[1:], strict=False))


@given(scores, st.floats(-5, 5), st.floats(0, 5))
def test_more_talkative_never_speaks_later(values: list[float], base: float, more: float) -> None:
    quiet = times_spoken(watch(CalibratedPolicy(TRAINED, fps=FPS, talkativeness=base), scored(values)))
    chatty = times_spoken(watch(CalibratedPolicy(TRAINED, fps=FPS, talkativeness=base + more), scored(values)))
    assert not quiet or chatty[0] <= quiet[0]


@given(scores, st.data())
def test_what_comes_later_never_changes_what_was_decided(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    whole = watch(CalibratedPolicy(TRAINED, fps=FPS), scored(values))
    assert watch(CalibratedPolicy(TRAINED, fps=FPS), scored(values[:cut])) == whole[:cut]


@given(scores)
def test_log_p_matters_only_above_the_score_that_the_policy_names(values: list[float]) -> None:
    """The session measures it only there: decisions and occurrences stay the same without it."""
    settings = replace(TRAINED, platt_scale=0.7, platt_shift=-0.4)
    everywhere, where_asked = CalibratedPolicy(settings, fps=FPS), CalibratedPolicy(settings, fps=FPS)
    assert where_asked.speak_above is not None
    for seen in scored(values, log_p=-0.5):
        assert seen.score is not None
        lean = seen if seen.score > where_asked.speak_above else replace(seen, log_p_assistant=None)
        full, sparse = everywhere.decide(seen), where_asked.decide(lean)
        assert (full.speak, full.reason) == (sparse.speak, sparse.reason)
        assert everywhere.veto("Same words.") == where_asked.veto("Same words.")


def test_the_same_words_are_said_once_while_the_occurrence_goes_on() -> None:
    policy = CalibratedPolicy(TRAINED, fps=FPS)
    high = policy.threshold + 1
    assert policy.decide(scored([high])[0]).speak
    assert policy.veto("A red ball enters.") is None
    assert policy.decide(Observation(2.0, True, 0.5, high)).speak
    assert policy.veto("a RED ball  enters") is Reason.REPEAT
    assert policy.veto("A blue ball enters.") is None


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (lambda policy: Observation(2.0, True, 0.5, policy.threshold - 0.5), Reason.REPEAT),
        (lambda policy: Observation(2.0, True, 0.5, policy.threshold - 1.5), None),
        (lambda policy: Observation(2.0, False, 0.0), None),
        (lambda policy: Observation(2.0, True, 0.5, math.nan), None),
    ],
    ids=["within the hysteresis", "below it", "nothing changed", "no number"],
)
def test_quiet_between_makes_the_same_words_news(
    between: Callable[[CalibratedPolicy], Observation], expected: Reason | None
) -> None:
    policy = CalibratedPolicy(TRAINED, fps=FPS)
    policy.decide(Observation(0.0, True, 0.5, policy.threshold + 1))
    assert policy.veto("A ball.") is None
    assert not policy.decide(between(policy)).speak
    assert policy.decide(Observation(4.0, True, 0.5, policy.threshold + 1)).speak
    assert policy.veto("A ball.") is expected


def test_empty_words_are_never_given_out() -> None:
    for policy in (CalibratedPolicy(TRAINED, fps=FPS), ChangePolicy(SpeakingSettings())):
        assert policy.veto(" … ") is Reason.EMPTY


def test_frames_that_were_not_appended_are_not_decided_about() -> None:
    decision = CalibratedPolicy(TRAINED, fps=FPS).decide(Observation(0.0, False, 0.0))
    assert (decision.speak, decision.reason, decision.score) == (False, Reason.NOTHING_CHANGED, None)


def test_time_that_jumps_back_does_not_silence() -> None:
    policy = CalibratedPolicy(replace(TRAINED, refractory_s=5.0), fps=FPS)
    assert policy.decide(Observation(100.0, True, 0.5, 20.0)).speak
    assert policy.decide(Observation(0.0, True, 0.5, 20.0)).speak
    change = ChangePolicy(SpeakingSettings())
    assert change.decide(Observation(100.0, True, 0.5)).speak
    change.decide(Observation(100.5, True, 0.0))
    assert change.decide(Observation(0.0, True, 0.5)).speak


def test_a_wanted_for_more_remarks_than_frames_is_bounded() -> None:
    policy = CalibratedPolicy(replace(TRAINED, remarks_per_s=5.0), fps=1.0)
    assert policy.threshold == pytest.approx(0.0)


@given(shares, st.floats(-2, 2))
def test_the_stand_in_speaks_of_change_and_not_too_often(values: list[float], talkativeness: float) -> None:
    settings = SpeakingSettings(remarks_per_s=0.2)
    decisions = watch(ChangePolicy(settings, talkativeness=talkativeness), changing(values))
    spoken = times_spoken(decisions)
    least_s = max(2.5 * math.exp(-talkativeness), settings.refractory_s)
    assert all(later - earlier >= least_s for earlier, later in zip(spoken, spoken[1:], strict=False))
    for share, decision in zip(values, decisions, strict=True):
        assert not decision.speak or share >= ChangePolicy.LEVEL


def test_the_stand_in_speaks_when_a_change_begins_after_quiet_and_at_intervals_while_it_lasts() -> None:
    values = [0.3] + [0.0] * 19 + [0.3] * 60
    assert times_spoken(watch(ChangePolicy(SpeakingSettings()), changing(values))) == [0.0, 10.0, 20.0, 30.0]


def test_the_stand_in_is_silent_before_a_still_picture() -> None:
    assert not times_spoken(watch(ChangePolicy(SpeakingSettings()), changing([0.001] * 100)))


def test_a_remark_called_off_may_still_come_during_the_same_change() -> None:
    policy = ChangePolicy(SpeakingSettings())
    assert policy.decide(Observation(0.0, True, 0.3)).speak
    policy.withdraw()
    assert policy.decide(Observation(0.5, True, 0.3)).reason is Reason.REFRACTORY
    assert policy.decide(Observation(1.0, True, 0.3)).speak


def test_the_settings_choose_the_policy() -> None:
    assert isinstance(policy_for(TRAINED, fps=FPS), CalibratedPolicy)
    assert isinstance(policy_for(SpeakingSettings(decision="stand_in"), fps=FPS), ChangePolicy)


def test_the_curve_keeps_silences_too_and_stays_bounded() -> None:
    curve = DecisionCurve(length=3)
    decisions = watch(CalibratedPolicy(TRAINED, fps=FPS), scored([-5.0] * 4 + [20.0]))
    for decision in decisions:
        curve.add(decision)
    assert list(curve) == decisions[-3:] and len(curve) == 3
    assert curve.reasons == {Reason.BELOW_THRESHOLD: 4, Reason.SPOKE: 1}
    amended = curve.amend(decisions[-1], Reason.REPEAT)
    assert list(curve)[-1] == amended and not amended.speak
    assert +curve.reasons == {Reason.BELOW_THRESHOLD: 4, Reason.REPEAT: 1}


WAITING = replace(TRAINED, wait_below=0.5, remarks_per_s=0.2)
SURE, UNSURE = math.log(0.9), math.log(0.2)


def test_an_unsure_draft_is_put_off_to_the_next_frame_which_has_a_remark_whatever_its_score() -> None:
    policy = CalibratedPolicy(WAITING, fps=FPS)
    first, *later = scored([20.0, -20.0, -20.0])
    decision = policy.decide(first)
    assert decision.speak and policy.waits(decision, UNSURE)
    second = policy.decide(later[0])
    assert second.speak and (second.time_s, second.score) == (0.5, 20.0)
    assert not policy.waits(second, UNSURE), "a draft is put off once"
    assert not policy.decide(later[1]).speak and policy.take_put_off() is None


def test_the_frame_after_an_unsure_draft_may_have_shown_nothing() -> None:
    policy = CalibratedPolicy(WAITING, fps=FPS)
    assert policy.waits(policy.decide(scored([20.0])[0]), UNSURE)
    assert policy.decide(Observation(0.5, False, 0.0)).speak


def test_a_sure_draft_is_not_put_off_nor_any_where_nothing_is_set() -> None:
    for settings, chance in ((WAITING, SURE), (TRAINED, UNSURE)):
        policy = CalibratedPolicy(settings, fps=FPS)
        decision = policy.decide(scored([20.0])[0])
        assert decision.speak and not policy.waits(decision, chance)
    assert not ChangePolicy(WAITING).waits(decision, UNSURE) and ChangePolicy(WAITING).take_put_off() is None


@pytest.mark.parametrize("after_s", [-3.0, 30.0])
def test_what_was_put_off_is_dropped_where_time_has_leapt(after_s: float) -> None:
    policy = CalibratedPolicy(WAITING, fps=FPS)
    assert policy.waits(policy.decide(Observation(10.0, True, 0.5, 20.0)), UNSURE)
    assert not policy.decide(Observation(10.0 + after_s, True, 0.5, -20.0)).speak
