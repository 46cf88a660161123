"""Fine-tuning on a user's recordings: the loss falls, frozen parameters stay bit-identical, and a stopped run
resumes."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import app
from assistant.commands.terminal import BAD_INPUT
from assistant.errors import AssistantError
from assistant.evaluation.transcripts import read_recordings, read_turns
from assistant.events import Alert, Answer, Comment, StatusEvent, StatusKind, StreamEvent
from assistant.sinks import to_line
from assistant.timeline.records import ClipMark, KeptClip
from assistant.timeline.store import Timeline
from models.checkpoint.fake import make_checkpoint
from models.checkpoint.loader import Checkpoint, load_checkpoint
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.engine import Engine
from models.errors import SettingsError
from models.eviction import WindowSettings
from models.training.examples import Turn
from models.training.loop import part_of
from models.training.lora import (
    FineTuner,
    FineTuning,
    PieceMaker,
    Recording,
    fine_tune,
    piece_at,
    pieces_of,
    stream_loss,
)
from tests.clips import write_clip, write_joined

STREAM = StreamSettings(
    max_cells=16,
    window=WindowSettings(vision_low=1200, vision_high=1500, text_low=300, text_high=400),
    speaking=SpeakingSettings(max_answer_tokens=64, max_comment_tokens=32),
)
SETTINGS = FineTuning(rank=4, alpha=8.0, learning_rate=1e-2, warmup_steps=1, epochs=2, piece_s=5.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base"), layout="released", stream=STREAM)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "one.mp4", num_frames=40, stamps_s=[index / 4 for index in range(40)], size_px=(112, 84))
    events: list[StreamEvent] = [
        StatusEvent(source="one.mp4", time_s=0.0, text="opened", kind=StatusKind.OPENED),
        Comment(source="one.mp4", time_s=2.0, text="A red circle enters on the left."),
        Answer(source="one.mp4", time_s=4.0, text="Yes.", question="Is there a circle?", asked_at_s=3.5),
        Comment(source="one.mp4", time_s=7.0, text="A blue square leaves on the right."),
        Comment(source="one.mp4", time_s=8.0, text="  "),
    ]
    (folder / "one.jsonl").write_bytes(b"".join(to_line(event) for event in events))
    return folder


def _load(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, device="cpu", progress=False)


def test_a_transcript_gives_what_was_said_and_asked(clips: Path) -> None:
    assert read_turns(clips / "one.jsonl") == [
        Turn(2.0, "A red circle enters on the left."),
        Turn(3.5, "Yes.", "Is there a circle?"),
        Turn(7.0, "A blue square leaves on the right."),
    ]


def test_recordings_are_cut_into_even_pieces_and_each_comes_once_an_epoch(clips: Path) -> None:
    pieces = pieces_of(read_recordings(clips), 4.0)
    assert len(pieces) == 2 and pieces[0].end_s == pieces[1].start_s
    assert sorted(piece_at(step, 7, 3) for step in range(7)) == list(range(7))
    assert [piece_at(step, 7, 3) for step in range(7)] != [piece_at(step, 7, 3) for step in range(7, 14)]


def test_a_joined_recording_is_learnt_from_to_its_end_at_the_times_that_replay_gave_it(
    base: Path, tmp_path: Path
) -> None:
    recording = Recording(write_joined(tmp_path / "joined.ts", [60, 60]), ())
    first, second = pieces_of([recording], 2.5)
    assert second.end_s == pytest.approx(4.8, abs=0.2), "the header says 2.4"
    maker = PieceMaker(_load(base))
    times_s = [time_s for piece in (first, second) for time_s, _ in maker._pictures(piece)]
    assert times_s == sorted(times_s) and times_s[-1] > 4.0


def test_the_loss_falls_and_everything_but_the_adapters_stays_equal_to_the_bit(
    base: Path, clips: Path, tmp_path: Path
) -> None:
    checkpoint = _load(base)
    before = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    example = PieceMaker(checkpoint).make(pieces_of(read_recordings(clips), 5.0)[0])
    tuner = FineTuner(checkpoint, tmp_path, SETTINGS, num_steps=30)
    losses = [tuner.take(example) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]
    after = checkpoint.model.state_dict()
    for name, tensor in before.items():
        same = after.get(
            name, after.get(name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"))
        )
        assert same is not None and torch.equal(tensor, same), name


def test_the_result_loads_as_a_checkpoint_that_speaks_by_its_own_decision(
    base: Path, clips: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    made = fine_tune(tmp_path, read_recordings(clips), _load(base), SETTINGS, say=lines.append)
    assert lines[-1] == "all epochs are done" and (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    tuned = _load(made)
    assert tuned.layout == "native" and tuned.vision == _load(base).vision
    speaking = tuned.stream.speaking
    assert speaking.decision == "trained" and speaking.remarks_per_s == pytest.approx(2 / 10, rel=0.05)
    changed = {
        part_of(name)
        for name, tensor in _load(base).model.state_dict().items()
        if not torch.equal(tensor, tuned.model.state_dict()[name])
    }
    assert changed == {"language"}
    assert not any("lora" in name for name in load_file(made / "model.safetensors"))
    engine = Engine(tuned)
    assert isinstance(engine.run(engine.ask("Is there a circle?", max_tokens=3)).text, str)


def test_the_merged_model_gives_the_loss_that_the_adapters_gave(base: Path, clips: Path, tmp_path: Path) -> None:
    checkpoint = _load(base)
    recordings = read_recordings(clips)
    made = fine_tune(tmp_path, recordings, checkpoint, SETTINGS, say=lambda line: None)
    tuned = _load(made)
    example = PieceMaker(tuned).make(pieces_of(recordings, 5.0)[1])
    with torch.no_grad():
        assert float(stream_loss(tuned, example)[0]) == pytest.approx(
            float(stream_loss(checkpoint, example)[0]), rel=1e-3
        )


def test_a_stopped_run_goes_on_to_the_same_weights(base: Path, clips: Path, tmp_path: Path) -> None:
    recordings = read_recordings(clips)
    whole = fine_tune(tmp_path / "whole", recordings, _load(base), SETTINGS, say=lambda line: None)
    lines: list[str] = []
    parts = tmp_path / "parts"
    num_steps = SETTINGS.epochs * 2
    tuner = FineTuner(_load(base), parts, SETTINGS, num_steps)
    maker, pieces = PieceMaker(tuner.checkpoint), pieces_of(recordings, SETTINGS.piece_s)
    for step in range(2):
        tuner.take(maker.make(pieces[piece_at(step, 2, SETTINGS.seed)]))
    tuner.save()
    again = fine_tune(parts, recordings, _load(base), SETTINGS, say=lines.append)
    assert lines[0].endswith(f"step 2 of {num_steps}")
    first, second = load_file(whole / "model.safetensors"), load_file(again / "model.safetensors")
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    with pytest.raises(SettingsError, match="use another folder"):
        FineTuner(_load(base), parts, FineTuning(rank=8), num_steps)


def test_no_time_at_all_gives_the_base_model_and_says_how_to_go_on(base: Path, clips: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    made = fine_tune(tmp_path, read_recordings(clips), _load(base), SETTINGS, minutes=0.0, say=lines.append)
    assert lines[-1] == "stopped at step 0 of 4; run again to continue"
    tuned = _load(made).model.state_dict()
    assert all(torch.equal(tensor, tuned[name]) for name, tensor in _load(base).model.state_dict().items())


def test_without_peft_one_line_says_what_to_install(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(SettingsError, match="pip install 'peft"):
        FineTuner(_load(base), tmp_path, SETTINGS, 1)


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssistantError, match="holds no transcript"):
        read_recordings(tmp_path)
    (tmp_path / "two.jsonl").write_text(json.dumps({"type": "poem"}) + "\n")
    with pytest.raises(AssistantError, match="no clip beside it"):
        read_recordings(tmp_path)
    write_clip(tmp_path / "two.mp4", num_frames=5)
    with pytest.raises(AssistantError, match="line 1"):
        read_recordings(tmp_path)
    wrong = tmp_path / "plan.yaml"
    wrong.write_text("rank: 4\nspeed: 3\n")
    with pytest.raises(SettingsError, match="speed"):
        FineTuning.from_yaml(wrong)
    with pytest.raises(SettingsError, match="all above 0"):
        FineTuning(rank=0)


def test_marked_alerts_are_exported_as_recordings_to_train_on(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "marked"
    with Timeline(data) as timeline:
        path = timeline.folder.clip_path("door", 0.0, "c" * 32)
        write_clip(timeline.folder.inside(path), num_frames=24, stamps_s=[i / 4 for i in range(24)], size_px=(112, 84))
        mark = ClipMark("c" * 32, path, 0.0)
        dark = Alert(source="d", time_s=103.0, text="It is dark.", question="Is it dark?", rule="dark")
        timeline.record(Comment(source="d", time_s=99.0, text="Before the clip."), camera="d", run="r")
        timeline.record(Comment(source="d", time_s=101.0, text="A light goes out."), camera="d", run="r", clip=mark)
        timeline.record(dark, camera="d", run="r", clip=mark)
        timeline.record(replace(dark, time_s=104.5, question="Is the view covered?"), camera="d", run="r", clip=mark)
        timeline.record(replace(dark, time_s=200.0), camera="d", run="r")
        timeline.clip_finished(KeptClip(mark.uid, path, "done", "", 100.0, 105.8, 24, 0, 1))
        for number, verdict in ((3, "right"), (4, "wrong"), (5, "right")):
            timeline.marks.mark(number, verdict, 0.0)
    arguments = ["alerts", "transcripts", str(out), "--data", str(data)]
    assert app.run(arguments) == 0
    caught = capsys.readouterr()
    assert caught.out == f"2 marked alerts in 1 transcripts in {out}\n"
    assert caught.err == "left out: alert 5: no clip of it was recorded\n"
    (recording,) = read_recordings(out)
    assert recording.turns == (
        Turn(1.0, "A light goes out."),
        Turn(3.0, "Yes.", "Is it dark?"),
        Turn(4.5, "No.", "Is the view covered?"),
    )
    (transcript,) = out.glob("*.jsonl")
    transcript.write_text(transcript.read_text().replace("goes out", "goes off"))
    assert app.run(arguments) == 0 and "it is there already and may be corrected" in capsys.readouterr().err
    assert read_recordings(out)[0].turns[0].text == "A light goes off."
    plan = tmp_path / "plan.yaml"
    plan.write_text("{rank: 2, epochs: 1, piece_s: 20}")
    assert (
        app.run(["train", str(tmp_path / "run"), "--finetune", str(out), "--model", str(base), "--plan", str(plan)])
        == 0
    )


def test_the_command_line_fine_tunes_and_names_what_is_missing(
    base: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("{rank: 2, epochs: 1, piece_s: 20}")
    made = tmp_path / "run"
    arguments = ["train", str(made), "--finetune", str(clips), "--model", str(base), "--plan", str(plan)]
    assert app.run(arguments) == 0
    assert f"checkpoint: {made / 'model'}" in capsys.readouterr().out
    assert app.run(["train", str(made), "--finetune", str(tmp_path)]) == BAD_INPUT
    assert "holds no transcript" in capsys.readouterr().err
