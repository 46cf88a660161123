"""Training examples equal what a live session holds: the same tokenization, pruner and ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.checkpoint.loader import Checkpoint
from models.checkpoint.settings import StreamSettings
from models.engine import Engine
from models.eviction import WindowSettings
from models.groundtruth.remarks import remarks
from models.session.media_turns import Clip
from models.training.data import Mixture, SceneMaker
from models.training.examples import IGNORED, ExampleBuilder, Turn
from models.training.stores import Batches, SceneStore, StillStore
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene
from streaming.types import Frame

WINDOW = WindowSettings(vision_low=28 * 8, vision_high=28 * 9, text_low=200, text_high=300)
SETTINGS = SceneSettings(duration_s=40, view_sizes=((196, 112),), pace=2.0, still_probability=0.0)


def _builder(trainee: Checkpoint, window: WindowSettings) -> ExampleBuilder:
    from models.session.tokenizer import StreamTokenizer

    return ExampleBuilder(StreamTokenizer(trainee), trainee.special, trainee.vision, window)


def _pictures(scene: Scene) -> list[tuple[float, np.ndarray]]:
    return [(float(t), scene.frame(float(t))) for t in scene.times(2.0)]


def test_an_example_holds_the_ids_that_the_live_session_holds_past_evictions(
    trainee: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(41, SETTINGS)
    pictures = _pictures(scene)
    grid = trainee.vision.fit_grid(196, 112, max_cells=trainee.stream.max_cells)
    example = _builder(trainee, WINDOW).build(pictures, grid, [])
    monkeypatch.setattr(StreamSettings, "check_window", lambda *_: None)
    session = Engine(trainee).open_session(replace(trainee.stream, window=WINDOW))
    engine = Engine(trainee)
    for index, (time_s, picture) in enumerate(pictures):
        engine.run(session.see(Frame(picture, index, time_s, time_s, "scene")))
    live = [token for span in session.context.ledger for token in span.ids]
    assert session.usage.num_evictions > 0
    assert example.ids.tolist() == live


def test_turns_are_tokenized_as_the_session_tokenizes_them(trainee: Checkpoint) -> None:
    scene = Scene(41, SETTINGS)
    pictures = _pictures(scene)[:4]
    grid = trainee.vision.fit_grid(196, 112, max_cells=trainee.stream.max_cells)
    turns = [Turn(0.5, "One.", "How many?"), Turn(1.0, "A red circle enters on the left.")]
    example = _builder(trainee, trainee.stream.window).build(pictures, grid, turns)
    text = trainee.tokenizer.decode(example.ids) if trainee.tokenizer else ""
    answer = "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\nOne.<|im_end|>\n"
    remark = "<|im_start|>assistant\nA red circle enters on the left.<|im_end|>\n"
    assert f"{answer}<|stream_start|>stream\nTime 1.0s" in text
    assert f"<|stream_end|>{remark}<|stream_start|>stream\nTime 1.5s" in text


def test_labels_ask_for_decisions_and_own_words_alone(trainee: Checkpoint) -> None:
    scene = Scene(7, SETTINGS)
    turns = sorted(
        [Turn(r.speak_s, r.text) for r in remarks(scene)] + [Turn(9.0, "One.", "How many?")],
        key=lambda turn: turn.time_s,
    )
    grid = trainee.vision.fit_grid(196, 112, max_cells=trainee.stream.max_cells)
    example = _builder(trainee, trainee.stream.window).build(_pictures(scene), grid, turns)
    special = trainee.special
    asked = example.labels != IGNORED
    decides = asked & (example.ids == special.stream_end)
    assert set(example.labels[decides]) == {special.im_start, special.stream_start}
    speaks, silent = example.labels == special.im_start, example.labels == special.stream_start
    assert example.weights[speaks].sum() == pytest.approx(0.5) == pytest.approx(example.weights[silent].sum())
    rest = asked & ~decides
    assert (example.labels[rest] == np.append(example.ids, -1)[1:][rest]).all()
    before_user = np.flatnonzero(
        (example.ids == special.stream_end) & (np.append(example.ids, [0, 0])[2:] == _user(trainee))
    )
    assert len(before_user) == 1 and example.labels[before_user[0]] == IGNORED
    assert len(example.picks) == (example.ids == special.image).sum()


def _user(trainee: Checkpoint) -> int:
    assert trainee.tokenizer is not None
    return int(trainee.tokenizer.encode("user", add_special_tokens=False)[0])


def test_the_same_number_gives_the_same_example_from_disk_or_anew(trainee: Checkpoint, tmp_path: Path) -> None:
    mixture = Mixture(duration_s=(4, 6), evicted_share=1.0, instructed_share=1.0)
    maker = SceneMaker(trainee, mixture, 3)
    store = SceneStore(tmp_path, maker)
    made, again = store.get(5), SceneMaker(trainee, mixture, 3).make(5)
    read = store.get(5)
    for one in (again, read):
        assert (one.stream.ids == made.stream.ids).all() and (one.stream.labels == made.stream.labels).all()
        assert (one.stream.frames == made.stream.frames).all() and (one.cell_labels == made.cell_labels).all()


def test_batches_depend_on_seed_and_step_alone(trainee: Checkpoint, tmp_path: Path) -> None:
    mixture = Mixture(duration_s=(4, 5))
    first = Batches(SceneStore(tmp_path / "a", SceneMaker(trainee, mixture, 3)), 1, 3, 2, 10)
    second = Batches(SceneStore(tmp_path / "b", SceneMaker(trainee, mixture, 3)), 1, 3, 2, 10)
    first[0], first[1]
    for one, other in zip(first[2], second[2], strict=True):
        assert (one.stream.ids == other.stream.ids).all()


def test_attached_pictures_are_laid_out_as_the_session_lays_them_out(trainee: Checkpoint) -> None:
    scene = Scene(41, SETTINGS)
    pictures = _pictures(scene)[:4]
    grid = trainee.vision.fit_grid(196, 112, max_cells=trainee.stream.max_cells)
    image, clip = scene.frame(3.0), Clip([scene.frame(4.0), scene.frame(5.0)], [0.0, 1.0])
    question = Turn(1.5, "Yes.", "Is it in the video?", (clip, image))
    builder = _builder(trainee, trainee.stream.window)
    builder.picture_tokens = trainee.stream.window.vision_low // 4
    example = builder.build(pictures, grid, [question])
    engine = Engine(trainee)
    session = engine.open_session(trainee.stream)
    for index, (time_s, picture) in enumerate(pictures):
        engine.run(session.see(Frame(picture, index, time_s, time_s, "scene")))
    engine.run(session.answer(question.question or "", (clip, image), keep_attachments=True, max_tokens=1))
    live = [token for span in session.context.ledger for token in span.ids]
    answer = trainee.tokenizer.encode("Yes.<|im_end|>\n", add_special_tokens=False) if trainee.tokenizer else []
    asked = len(example.ids) - len(answer)
    assert example.ids[:asked].tolist() == live[:asked] and example.ids[asked:].tolist() == list(answer)
    num_attached = sum(len(group.picks) for group in example.attached)
    assert [group.grid.merge for group in example.attached] == [2, 1]
    assert len(example.picks) + num_attached == (example.ids == trainee.special.image).sum()
    assert (example.labels[asked - 1 : -2] == example.ids[asked:-1]).all()


def test_scenes_with_pictures_and_h264_come_back_from_disk(trainee: Checkpoint, tmp_path: Path) -> None:
    mixture = Mixture(duration_s=(4, 5), attached_share=1.0, h264_share=1.0, fps=(2.0,))
    store = SceneStore(tmp_path, SceneMaker(trainee, mixture, 4))
    made = [store.get(number) for number in range(4)]
    assert any(scene.stream.attached for scene in made)
    for number, scene in enumerate(made):
        read = store.get(number)
        assert read.number == number and len(read.stream.attached) == len(scene.stream.attached)
        for one, other in zip(read.stream.attached, scene.stream.attached, strict=True):
            assert one.grid == other.grid and (one.frames == other.frames).all() and (one.picks == other.picks).all()


def test_stills_depend_on_seed_and_number_alone_and_old_ones_are_not_painted_again(trainee: Checkpoint) -> None:
    first, second = (StillStore(trainee, Mixture(stills=True), 5) for _ in range(2))
    for number in (0, 1):
        assert (first.get(number).frames == second.get(number).frames).all()
    assert first.get(1) is first.get(1)
    assert first.get(1).grid.num_cells < first.get(0).grid.num_cells


def test_what_is_left_out_or_mistaken_is_neither_learnt_nor_relied_on(trainee: Checkpoint) -> None:
    pictures = _pictures(Scene(41, SETTINGS))[:8]
    grid = trainee.vision.fit_grid(196, 112, max_cells=trainee.stream.max_cells)
    said, mistaken = "The view is covered.", "It gets dark."
    builder, text = _builder(trainee, trainee.stream.window), trainee.tokenizer
    assert text is not None
    ask = [Turn(3.0, "Yes.", "Is the view covered?", rests_on=(1.0,))]
    built = {
        name: builder.build(pictures, grid, [turn], asides=ask)
        for name, turn in (
            ("said", Turn(1.0, said)),
            ("left out", Turn(1.0, said, unsaid=True)),
            ("mistaken", Turn(1.0, said, unsaid=True, instead=mistaken)),
        )
    }
    words = {name: text.decode(example.ids.tolist()) for name, example in built.items()}
    assert [said in words[name] for name in built] == [True, False, False]
    assert [mistaken in words[name] for name in built] == [False, False, True]
    decided = {name: int((example.labels[example.frame_ends] != IGNORED).sum()) for name, example in built.items()}
    assert decided["left out"] == decided["mistaken"] == decided["said"] - 1
    learnt = {name: int((example.labels != IGNORED).sum()) - decided[name] for name, example in built.items()}
    assert learnt["said"] > 0 and learnt["left out"] == learnt["mistaken"] == 0
    frames_alone = [int(np.diff(built[name].asides.evidence[0, 1:])[0]) for name in built]
    assert frames_alone[1] == frames_alone[2] < frames_alone[0]
    assert builder.build(pictures, grid, [Turn(1.0, said)], asides=ask).ids.tolist() == built["said"].ids.tolist()


def test_reticent_scenes_leave_remarks_out(trainee: Checkpoint) -> None:
    talkative = Mixture(duration_s=(20.0, 25.0), families=("shapes", "light", "view"), evicted_share=0.0)
    reticent = replace(talkative, reticent_share=1.0)
    opening = trainee.special.im_start
    counts = []
    for mixture in (talkative, reticent):
        maker = SceneMaker(trainee, mixture, 6)
        counts.append(sum(int((maker.make(index).stream.ids == opening).sum()) for index in range(6)))
    assert counts[1] < counts[0]
