"""Who decides when to speak: a checkpoint that was found trained to, or a simple rule; and what is said of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

import app
from assistant.commands.doctor import examine
from assistant.errors import AssistantError, ConfigError
from assistant.evaluation import calibration
from assistant.evaluation.calibration import NotTrained, calibrate, measure, write_calibration, write_refusal
from assistant.evaluation.watching import WatchedStream
from assistant.viewers.model_about import about_model, decision_in_words
from models.checkpoint.fake import make_checkpoint
from models.checkpoint.loader import EMBEDDED_FOLDER, load_checkpoint
from models.checkpoint.settings import StreamSettings
from models.decision import DecisionMass
from models.engine import Engine
from models.groundtruth.calibrate import Platt
from models.groundtruth.remarks import remarks
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene

SETTINGS = SceneSettings(duration_s=30.0)
SEED = 11


def watched(sign: float) -> WatchedStream:
    """Scores that rise (or fall) where a remark is due."""
    due = [remark.speak_s for remark in remarks(Scene(SEED, SETTINGS))]
    times = [index / SETTINGS.fps for index in range(int(SETTINGS.duration_s * SETTINGS.fps))]
    is_due = [any(0 <= time_s - at < 1 / SETTINGS.fps for at in due) for time_s in times]
    scores = tuple((time_s, sign * (3.0 if found else -3.0)) for time_s, found in zip(times, is_due, strict=True))
    return WatchedStream((), (), scores)


def run(monkeypatch: pytest.MonkeyPatch, mass: DecisionMass, sign: float) -> Any:
    monkeypatch.setattr(calibration, "measure", lambda engine: mass)
    monkeypatch.setattr(calibration, "watch", lambda *given, **options: watched(sign))
    return calibrate(cast(Engine, None), [SEED], SETTINGS)


def test_a_decision_that_is_there_and_rises_at_events_is_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    platt, curve, reason = run(monkeypatch, DecisionMass(0.98, 0.1), 1.0)
    assert platt.scale > 0 and curve
    assert reason.startswith("the decision has 0.9800 of the probability after a frame, and its score is 3.0 at events")


@pytest.mark.parametrize(
    ("mass", "sign", "said"),
    [
        (DecisionMass(0.002, 0.003), 1.0, "has 0.0030 of the probability after a frame; at least 0.5"),
        (DecisionMass(0.002, 0.97), 1.0, "0.9700 in the wording of the training code"),
        (DecisionMass(0.98, 0.1), -1.0, "its score is -3.0 at events and 3.0 in quiet; it must be higher at events"),
    ],
)
def test_a_decision_that_is_not_is_refused(
    monkeypatch: pytest.MonkeyPatch, mass: DecisionMass, sign: float, said: str
) -> None:
    with pytest.raises(NotTrained, match=said):
        run(monkeypatch, mass, sign)


def test_scenes_in_which_nothing_is_due_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "measure", lambda engine: DecisionMass(0.98, 0.1))
    monkeypatch.setattr(calibration, "watch", lambda *given, **options: WatchedStream((), (), ((0.0, -3.0),)))
    with pytest.raises(ConfigError, match="1 scene of 30 s: a remark is due at 0 of 1 decisions.*give more --seeds"):
        calibrate(cast(Engine, None), [SEED], SETTINGS)


def test_a_folder_that_cannot_be_written_is_said_with_what_was_measured(tmp_path: Path) -> None:
    with pytest.raises(AssistantError, match=r"the decision has 0.002.*copy the checkpoint"):
        write_refusal(tmp_path / "gone", "the decision has 0.002")


def told_by_doctor(folder: Path) -> str:
    (finding,) = (found for found in examine(str(folder)).findings if found.name == "speaking")
    return finding.found


def test_calibrate_refuses_random_weights_and_all_say_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gradio")
    folder = make_checkpoint(tmp_path / "made")
    assert app.run(["calibrate", str(folder), "--seeds", "7-7"]) == 2
    said = capsys.readouterr()
    assert (
        said.out == "" and "at least 0.5 shows a trained decision; its stream_config.json now says stand_in" in said.err
    )
    speaking = StreamSettings.of_checkpoint(folder).speaking
    assert speaking.decision == "stand_in" and speaking.decision_reason in said.err
    assert speaking.decision_reason in told_by_doctor(folder)
    engine = Engine(load_checkpoint(folder, progress=False))
    banner = about_model(
        "made", embedded=False, decision="stand_in", reason=engine.checkpoint.stream.speaking.decision_reason
    )
    assert speaking.decision_reason in banner.cannot


@pytest.mark.slow
def test_calibrate_sets_trained_on_weights_that_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of the embedded checkpoint whose settings say nothing of its decision."""
    pytest.importorskip("gradio")
    folder = Path(shutil.copytree(EMBEDDED_FOLDER, tmp_path / "copy"))
    path = folder / "stream_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["speaking"]["decision"], values["speaking"]["platt_scale"], values["speaking"]["platt_shift"]
    path.write_text(json.dumps(values), encoding="utf-8")
    assert told_by_doctor(folder).startswith("stand_in: ")
    assert app.run(["calibrate", str(folder), "--seeds", "2000000-2000000", "--seconds", "15"]) == 0
    said = capsys.readouterr().out
    speaking = StreamSettings.of_checkpoint(folder).speaking
    assert speaking.decision == "trained" and said.startswith(f"trained: {speaking.decision_reason}")
    assert "of the probability after a frame, and its score is" in speaking.decision_reason
    assert speaking.platt_scale > 0 and told_by_doctor(folder).startswith("trained: It decides itself")


def test_what_was_found_is_kept_beside_the_weights_and_told(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "made")

    def told() -> str:
        return told_by_doctor(folder)

    assert told().startswith("stand_in: ") and "was not measured; video-assistant calibrate" in told()
    write_calibration(folder, Platt(0.5, -1.25), "the decision has 0.98")
    speaking = StreamSettings.of_checkpoint(folder).speaking
    assert (speaking.decision, speaking.platt_scale, speaking.platt_shift) == ("trained", 0.5, -1.25)
    assert told() == "trained: It decides itself when to speak (the decision has 0.98)."
    write_refusal(folder, "the decision has 0.002")
    speaking = StreamSettings.of_checkpoint(folder).speaking
    assert (speaking.decision, speaking.platt_scale) == ("stand_in", 0.5)
    assert told().startswith("stand_in: A simple rule") and "the decision has 0.002" in told()


def test_the_page_says_who_decides_and_why() -> None:
    assert "video-assistant calibrate" in about_model("x", embedded=False, decision="stand_in").cannot
    assert "(0.002)" in about_model("x", embedded=False, decision="stand_in", reason="0.002").cannot
    assert "It decides itself" in about_model("x", embedded=False, decision="trained", reason="0.98").cannot
    assert "its settings say" in decision_in_words("trained", "")


@pytest.mark.slow
def test_packaged_clips_show_that_untrained_weights_were_not_trained_to_decide(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    mass = measure(Engine(load_checkpoint(make_checkpoint(tmp_path / "made"), progress=False)))
    assert max(mass.live, mass.training_code) < 0.1
