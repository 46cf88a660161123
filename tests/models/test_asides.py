"""Questions on forks in training: each is read as if it alone followed the stream, and attends to its evidence."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from models.checkpoint.loader import Checkpoint
from models.eviction import WindowSettings
from models.session.tokenizer import StreamTokenizer
from models.training.attention_supervision import ATTENTION_KINDS
from models.training.aux_heads import AuxHeads
from models.training.data import Mixture, SceneMaker, TrainingScene
from models.training.examples import ANSWER_WEIGHT, ExampleBuilder, StreamExample, Turn
from models.training.losses import _embed, _read_stream, batch_losses
from models.training.stage import TrainingStage
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene
from tests.models.conftest import TRAINEE


@contextmanager
def _plain_attention(language: PreTrainedModel) -> Iterator[None]:
    """Context in which each head's attention weights can be returned."""
    language.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            yield
    finally:
        language.set_attn_implementation("sdpa")


def _assert_looks(looks: Mapping[str, torch.Tensor | None], **found: list[torch.Tensor]) -> None:
    """Check that the loss of each kind of attention is the mean of −log of the given attention."""
    for name, shares in found.items():
        loss = looks[name]
        assert loss is not None
        torch.testing.assert_close(loss, -torch.stack(shares).log().mean(), atol=1e-4, rtol=0)


def test_each_aside_is_read_as_if_it_alone_followed_the_stream(trainee: Checkpoint) -> None:
    mixture = Mixture(duration_s=(8, 9), asides_per_scene=6.0, evicted_share=0.0)
    maker = SceneMaker(trainee, mixture, 3)
    scene = next(made for number in range(9) if len((made := maker.make(number)).stream.asides.after) >= 3)
    stream, asides = scene.stream, scene.stream.asides
    visual = torch.randn(len(stream.picks), TRAINEE.hidden, generator=torch.Generator().manual_seed(0))
    language = trainee.model.model.language_model
    with torch.no_grad():
        read = _read_stream(trainee.model, scene, visual)
        assert read.asides is not None
        for number, after in enumerate(asides.after):
            own = asides.ids[asides.numbers == number]
            ids = np.concatenate([stream.ids[: after + 1], own])
            seen = int((stream.ids[: after + 1] == trainee.special.image).sum())
            alone = language(inputs_embeds=_embed(trainee.model, ids, visual[:seen])).last_hidden_state[0]
            packed = read.asides[torch.from_numpy(asides.numbers == number)]
            torch.testing.assert_close(packed, alone[after + 1 :], atol=2e-5, rtol=0)
        alone = language(inputs_embeds=_embed(trainee.model, stream.ids, visual)).last_hidden_state[0]
        torch.testing.assert_close(read.stream, alone, atol=2e-5, rtol=0)


def _example(trainee: Checkpoint, window: WindowSettings) -> StreamExample:
    scene = Scene(41, SceneSettings(duration_s=40, view_sizes=((196, 112),), pace=2.0, still_probability=0.0))
    grid = trainee.vision.fit_grid(196, 112, max_cells=trainee.stream.max_cells)
    builder = ExampleBuilder(StreamTokenizer(trainee), trainee.special, trainee.vision, window)
    pictures = [(float(t), scene.frame(float(t))) for t in scene.times(2.0)]
    asides = [Turn(4.0, "Yes.", "Is anything in view?"), Turn(39.5, "No.", "Is anything moving?")]
    return builder.build(pictures, grid, [], asides=asides)


def test_an_aside_follows_the_frames_of_its_moment_and_leaves_no_trace(trainee: Checkpoint) -> None:
    example = _example(trainee, trainee.stream.window)
    asides, codec = example.asides, StreamTokenizer(trainee)
    question = codec.encode("<|im_start|>user\nIs anything in view?<|im_end|>\n")
    assert asides.ids[: len(question)].tolist() == question and len(asides.after) == 2
    ends = example.frame_ends.tolist()
    assert asides.after[0] in ends and asides.after[0] < asides.after[1] == len(example.ids) - 1
    assert codec.encode("<|im_start|>user\n")[1] not in example.ids
    labelled = asides.labels >= 0
    assert np.allclose([asides.weights[labelled & (asides.numbers == n)].sum() for n in (0, 1)], ANSWER_WEIGHT)
    assert (asides.labels[:-1][labelled[:-1]] == asides.ids[1:][labelled[:-1]]).all()


def test_an_aside_whose_context_an_eviction_cut_is_left_out(trainee: Checkpoint) -> None:
    example = _example(trainee, WindowSettings(vision_low=28 * 8, vision_high=28 * 9, text_low=200, text_high=300))
    assert len(example.asides.after) == 1 and example.asides.after[0] == len(example.ids) - 1


def _scene(trainee: Checkpoint, **mixture: object) -> TrainingScene:
    """The first scene of a mixture that has several questions with evidence."""
    maker = SceneMaker(trainee, Mixture(**{"duration_s": (20, 24), "asides_per_scene": 8.0} | mixture), 3)  # type: ignore[arg-type]
    for number in range(40):
        scene = maker.make(number)
        if len(scene.stream.asides.evidence) >= 4 and len(scene.stream.asides.copies) >= 3:
            return scene
    raise AssertionError("no scene rests on anything")


def test_where_answers_look_is_the_attention_of_the_first_head(trainee: Checkpoint) -> None:
    scene = _scene(trainee, evicted_share=0.0)
    stream, asides, model = scene.stream, scene.stream.asides, trainee.model
    visual = torch.randn(len(stream.picks), TRAINEE.hidden, generator=torch.Generator().manual_seed(0))
    depth = 2 * TRAINEE.layers // 3
    language = model.model.language_model
    shares, matched = [], []
    with torch.no_grad():
        read = _read_stream(model, scene, visual)
    with _plain_attention(language):
        for number in range(len(asides.after)):
            after, mine = asides.after[number], asides.numbers == number
            ids = np.concatenate([stream.ids[: after + 1], asides.ids[mine]])
            seen = int((stream.ids[: after + 1] == trainee.special.image).sum())
            made = language(inputs_embeds=_embed(model, ids, visual[:seen]), output_attentions=True)
            looks = made.attentions[depth][0, 0]
            rests = np.zeros(len(ids), dtype=bool)
            for _, first, end in asides.evidence[asides.evidence[:, 0] == number]:
                rests[first:end] = True
            start = int(np.flatnonzero(mine)[0])
            words = made.attentions[TRAINEE.layers // 4][0, -1]
            for token in np.flatnonzero(mine):
                places = asides.matches[asides.matches[:, 0] == token, 1]
                own = places - len(stream.ids) - int(np.flatnonzero(mine)[0]) + int(after) + 1
                places = np.where(places < len(stream.ids), places, own)
                if len(places):
                    row = words[int(after) + 1 + int(token - np.flatnonzero(mine)[0])]
                    matched.append(row[torch.from_numpy(places).long()].sum())
            for token in np.flatnonzero(mine & (asides.labels >= 0)):
                places = asides.copies[asides.copies[:, 0] == token, 1]
                places = places if len(places) else np.flatnonzero(rests)
                if len(places):
                    row = looks[int(after) + 1 + int(token) - start]
                    shares.append(row[torch.from_numpy(np.unique(places)).long()].sum())
    assert len(asides.copies) >= 3 and len(matched) >= 4
    _assert_looks(read.attention_losses, pointing=shares, matching=matched)


def test_what_words_fetch_and_cells_recall_is_the_attention_of_the_second_layer(trainee: Checkpoint) -> None:
    scene = _scene(trainee, evicted_share=0.0)
    stream, model, image = scene.stream, trainee.model, trainee.special.image
    visual = torch.randn(len(stream.picks), TRAINEE.hidden, generator=torch.Generator().manual_seed(0))
    language = model.model.language_model
    with _plain_attention(language):
        read = _read_stream(model, scene, visual)
        attention = language(inputs_embeds=_embed(model, stream.ids, visual), output_attentions=True).attentions[1]
    seen: dict[int, int] = {}
    recalled = []
    for at, pick in zip(np.flatnonzero(stream.ids == image).tolist(), stream.picks.tolist(), strict=True):
        cell = pick % stream.grid.num_cells
        if cell in seen:
            recalled.append(attention[0, -1, at, seen[cell]])
        seen[cell] = at
    fetched = [attention[0, 0, word, digit] for word, digit, _ in stream.carries.tolist()]
    dated = [attention[0, 1, word, digit] for word, digit in stream.dated.tolist()]
    assert len(recalled) >= 10 and len(fetched) >= 4 and len(dated) >= 10
    _assert_looks(read.attention_losses, recalling=recalled, carrying=fetched, dating=dated)


def test_looks_that_a_stage_does_not_weigh_are_not_measured(trainee: Checkpoint) -> None:
    scene = _scene(trainee, told_share=1.0)
    ids = (trainee.special.im_start, trainee.special.stream_start)
    measured = []
    plain = TrainingStage("s", num_steps=1)
    for stage in (plain, replace(plain, carrying_weight=0.5), replace(plain, pointing_weight=0.5, matching_weight=1.0)):
        losses = batch_losses(trainee.model, AuxHeads.of(trainee.model), [scene], stage, ids)
        measured.append({name for name in ATTENTION_KINDS if not math.isnan(getattr(losses, name))})
    assert measured == [set(), {"carrying"}, {"pointing", "matching"}]


@pytest.mark.parametrize("look", ["pointing", "telling"])
def test_a_head_learns_to_look_at_what_answers_rest_on_and_to_say_it(trainee: Checkpoint, look: str) -> None:
    scene = _scene(trainee, told_share=1.0)
    pointing, telling = float(look == "pointing"), float(look == "telling")
    stage = TrainingStage("told", num_steps=1, answers_weight=0.0, pointing_weight=pointing, telling_weight=telling)
    model, ids = copy.deepcopy(trainee.model), (trainee.special.im_start, trainee.special.stream_start)
    model.requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    lost = []
    for _ in range(30):
        losses = batch_losses(model, AuxHeads.of(model), [scene], stage, ids)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        lost.append(getattr(losses, look))
    assert lost[-1] < 0.5 * lost[0]


def test_a_told_scene_holds_the_remarks_and_what_answers_rest_on(trainee: Checkpoint) -> None:
    codec = StreamTokenizer(trainee)
    maker = SceneMaker(trainee, Mixture(duration_s=(20, 40), told_share=1.0, asides_per_scene=10.0, fps=(2.0,)), 5)
    rested = 0
    for number in range(12):
        scene = maker.make(number)
        stream, asides = scene.stream, scene.stream.asides
        assert len(stream.frames) == len(scene.token_labels) == 0 and (stream.labels < 0).all()
        assert trainee.special.image not in stream.ids
        for question, first, end in asides.evidence:
            said = codec.decode(asides.ids[asides.numbers == question].tolist())
            assert end - 1 <= asides.after[question]
            if end == 1:
                assert re.search("No\\.|Nothing|None", said)
                continue
            piece = codec.decode(stream.ids[first:end].tolist())
            assert "Time " in piece
            when = re.findall(r" at (\d+) seconds", said)
            if when:
                assert any(f"Time {second}." in piece for second in when)
                rested += 1
            last = re.search(r"What entered last\?.*\n(?:A|An) (\w+ \w+)\.", said, re.DOTALL)
            if last:
                assert f"{last[1]} enters" in piece
                rested += 1
    assert rested >= 5
