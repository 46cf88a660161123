"""Rules on real clips: what is planted and labelled is their truth, and what nobody can say counts neither way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from assistant.errors import AssistantError
from assistant.evaluation import planted_rules
from assistant.evaluation.perturbations import Perturbation, PerturbationKind
from assistant.evaluation.planted_rules import rules_of_clip, run_rules_on_clips
from assistant.evaluation.watching import WatchedStream
from assistant.events import Alert
from assistant.rules.rule_watch import ArmedRule
from tests.clips import write_clip

COVER = Perturbation(PerturbationKind.COVER, 10.0, 14.0, 0.5, 0.5, 1.0, 0, 60.0)
LABELS = {"activity": [{"start_s": 2.0, "end_s": 4.0}], "minor": [{"start_s": 4.0, "end_s": 6.0}]}


def test_what_is_planted_and_labelled_is_true_and_what_lies_between_is_not_known() -> None:
    truths = {words: truth for _, words, truth in rules_of_clip([COVER], LABELS)}
    covered, dark, moves = truths["the view is covered"], truths["it is dark"], truths["anything moves"]
    assert [covered(t) for t in (9.0, 10.2, 12.0, 14.2, 15.0)] == [False, None, True, None, False]
    assert [dark(t) for t in (9.0, 12.0)] == [False, None]
    assert [moves(t) for t in (0.5, 1.5, 3.0, 5.0, 6.5, 8.0, 12.0, 16.0, 17.0)] == [
        False, None, True, None, None, False, None, None, False,
    ]  # fmt: skip
    assert truths["a green star"](3.0) is False
    assert "anything moves" not in {words for _, words, _ in rules_of_clip([COVER], None)}


def test_alerts_on_clips_are_scored_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "long.mp4", num_frames=40, stamps_s=[index / 2 for index in range(40)])
    write_clip(tmp_path / "short.mp4", num_frames=5)
    monkeypatch.setattr(planted_rules, "plan_perturbations", lambda seed, duration_s: [COVER])

    def watched(engine: Any, pictures: Any, *, fps: float, rules: Sequence[ArmedRule], name: str) -> WatchedStream:
        assert name == "long.mp4" and len(list(pictures)) == 40
        numbers = {one.rule.when: one.rule.name for one in rules}
        alerts = [("the view is covered", 11.0), ("a green star", 5.0)]
        told = [Alert(source=name, time_s=t, text="", rule=numbers[words], occurrence="o") for words, t in alerts]
        return WatchedStream((), (), (), alerts=tuple(told))

    monkeypatch.setattr(planted_rules, "watch", watched)
    engine = cast(Any, SimpleNamespace(info=SimpleNamespace(embedded=True)))
    found = run_rules_on_clips(engine, tmp_path, (3,))
    covered = found["by_kind"]["covered"]
    assert (covered["precision"]["value"], covered["recall"]["value"]) == (1.0, 1.0)
    assert (found["precision"]["right"], found["precision"]["asked"]) == (1, 2)
    assert found["wrong"] == [{"clip": "long.mp4", "seed": 3, "rule": "a green star", "time_s": 5.0, "what": "false"}]
    (tmp_path / "long.mp4").unlink()
    with pytest.raises(AssistantError, match="holds no clip of 15 s or more"):
        run_rules_on_clips(engine, tmp_path, ())
