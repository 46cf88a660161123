"""A rule is rehearsed on the last minutes of a running stream; words that were not taught are armed after that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from assistant.errors import ConfigError
from assistant.evidence import EvidenceKeeper
from assistant.rules.rule import Rule
from assistant.serving.contracts import CapacityExceeded
from assistant.serving.rehearsing import LAST_S, last_frames, on_thumbnails
from assistant.viewers.viewer_rules import NeedsRehearsal
from models.session.results import Check
from models.session.steps import StepGenerator, as_steps
from streaming.masks import MaskRegion
from tests.assistant.channel_stage import PUSHED, Stage
from tests.assistant.fakes import A_FORWARD, FakeModel
from tests.assistant.test_evidence import CELLS, OLD
from tests.assistant.timelines import frame
from tests.ui.desks import Office
from ui.rule_link import RuleLink
from ui.rule_rows import rehearsal_of

UNTAUGHT = "a circle stops"
RED = Rule("red", "a red shape", confirmations=1)


@dataclass
class SeesItLater(FakeModel):
    """A model that says yes from its fourth frame on."""

    num_asked: int = 0

    @as_steps
    def check_and_choose(
        self, questions: Sequence[str], choices: Sequence[tuple[str, Sequence[str]]]
    ) -> StepGenerator[tuple[list[Check], list[list[float]]]]:
        self.num_asked += 1
        yield A_FORWARD
        odds = 0.93 if self.num_asked > 3 else 0.2
        return [Check(odds > 0.5, math.log(odds / (1 - odds))) for _ in questions], []


def test_a_rehearsal_watches_what_is_kept_and_leaves_the_stream_alone() -> None:
    live, tried = FakeModel(), SeesItLater()
    stage = Stage(PUSHED, live, tried)
    stage.channel.start()
    with pytest.raises(ConfigError, match="not watched yet"):
        stage.channel.rehearse(RED)
    stage.push(2)
    with pytest.raises(ConfigError, match="2 pictures are kept of door; a rehearsal needs 4; try again"):
        stage.channel.rehearse(RED)
    stage.push(6)
    before = list(live.calls)
    under_way = stage.channel.rehearse(RED)
    stage.until(under_way.future.done)
    under_way.future.result()
    seen_s = [float(call.split()[1]) for call in before if call.startswith("see")]
    assert [judged.time_s for judged in under_way.rehearsal.curve] == seen_s == [
        float(call.split()[1]) for call in tried.calls
    ]  # fmt: skip
    assert live.calls == before and not stage.channel.rules() and not stage.sink.alerts()
    told = rehearsal_of(under_way, {})
    assert told is not None and (told["state"], told["num_done"]) == ("done", 8)
    assert [alert["raised_s"] for alert in told["alerts"]] == [seen_s[3]]
    surer = rehearsal_of(under_way, {"sure": 0.95})
    assert surer is not None and surer["alerts"] == []
    for wrong, problem in (
        ({"sure": 2.0}, "must be a probability"),
        ({"hold_s": "x"}, "hold_s 'x': it must be a number"),
    ):
        with pytest.raises(ConfigError, match=problem):
            rehearsal_of(under_way, wrong)
    stage.channel.stop(0.1)


def test_a_rehearsal_can_be_ended_and_says_where_there_is_no_room_for_it() -> None:
    stage = Stage(PUSHED, FakeModel(), SeesItLater(), max_memory_bytes=11 << 20)
    stage.channel.start()
    stage.push(5)
    refused = stage.channel.rehearse(RED)
    stage.until(refused.future.done)
    with pytest.raises(CapacityExceeded, match="a rehearsal: its cache may come to 10.0 MiB"):
        refused.future.result()
    stage.engine.bytes_a_session = 0
    ended = stage.channel.rehearse(RED)
    ended.cancel()
    stage.until(ended.future.done)
    assert ended.num_done == 0 and rehearsal_of(ended, {}) is None
    stage.channel.stop(0.1)


def test_what_is_rehearsed_goes_back_to_where_the_stream_was_sought_and_no_further_than_its_last_minutes() -> None:
    keeper = EvidenceKeeper()
    for time_s in (50.0, 51.0, 1.0, 2.0, 2.0 + LAST_S, 3.0 + LAST_S):
        keeper.add(frame(int(2 * time_s), level=9), CELLS, OLD, 0.0)
    assert [kept.time_s for kept in last_frames(keeper)] == [2.0 + LAST_S, 3.0 + LAST_S]
    stage = Stage(PUSHED, FakeModel())
    (armed,) = stage.channel.check_rules([Rule("a", "it is dark", zone=MaskRegion.rectangle(8, 0, 8, 4, "pixels"))])
    region = on_thumbnails(armed, 16, 8).region
    assert region is not None and region == MaskRegion(((0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5)))


def test_words_that_the_model_was_not_taught_are_armed_only_after_their_rehearsal() -> None:
    office = Office()
    viewer = office.backend.registry.of("tab")
    office.backend.watch(viewer, office.backend.sample("scene"))
    link, order = RuleLink(office.backend, viewer), {"place": "own", "rule": {"when": UNTAUGHT}}
    told = link.answer({"do": "put", **order})
    assert told["needs_rehearsal"] and "was not taught to judge 'a circle stops'" in told["wrong"]
    assert link.answer({"do": "rehearse", **order}) == {"type": "ruled", "do": "rehearse"}
    rehearsal = link.state()["rehearsal"]
    assert (rehearsal["state"], rehearsal["taught"]) == ("running", False)
    with pytest.raises(NeedsRehearsal):
        office.backend.rules.put(viewer, "own", {"when": UNTAUGHT})
    office.streams[0].rehearsals[0].future.set_result(None)
    assert link.answer({"do": "put", **order})["name"] == UNTAUGHT
    changed = {"when": UNTAUGHT, "name": UNTAUGHT, "cooldown_s": 5}
    viewer.rehearsed.clear()
    office.backend.rules.put(viewer, "own", changed, replaces=UNTAUGHT)  # its words were armed already
    (row,) = link.state()["rules"]
    assert (row["cooldown_s"], row["awaited_on"], row["may_change"]) == (5, ["Synthetic scene"], True)


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({"do": "fly"}, "order 'fly': it must be one of put, mute,"),
        ({"do": "put", "place": "own", "rule": "x"}, "rule 'x': it must be an object"),
        ({"do": "put", "place": "own", "rule": {"when": ["a"]}}, "it should be a valid string"),
        ({"do": "remove", "place": "own", "name": "x"}, "rule 'x': no rule of this tab has this name"),
        ({"do": "test", "name": "x"}, "no cameras are configured"),
        (
            {"do": "rehearse", "place": "own", "rule": {"when": "it is dark"}},
            "nothing is being watched",
        ),
    ],
)
def test_orders_that_make_no_sense_are_answered_with_what_is_wrong(order: dict[str, object], problem: str) -> None:
    office = Office()
    told = RuleLink(office.backend, office.backend.registry.of("tab")).answer(order)
    assert problem in told["wrong"] and "\n" not in told["wrong"]
