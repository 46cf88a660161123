"""Questions on forks in training: each is read as if it alone followed the stream, and looks at what it rests on."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import Checkpoint, load_checkpoint
from models.codec import TextCodec
from models.spans import WindowSettings
from models.training.blueprint import Sizes, new_model
from models.training.data import Mixture, SceneMaker, TrainingScene
from models.training.examples import ANSWER_WEIGHT, ExampleBuilder, StreamExample, Turn
from models.training.loop import Stage
from models.training.losses import Heads, _embed, _read_stream, batch_losses
from models.training.remarks import all_remarks
from streaming.sources.scenario import SceneSettings
from streaming.sources.synthetic import Scene

SMALL = Sizes(vision_hidden=24, vision_layers=1, vision_heads=2, hidden=32, layers=3, heads=4, kv_heads=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder: Path = tmp_path_factory.mktemp("blueprint")
    new_model(folder, list(all_remarks())[::40], SMALL, seed=0).save_pretrained(folder)
    return load_checkpoint(folder, device="cpu", progress=False)


def test_each_aside_is_read_as_if_it_alone_followed_the_stream(checkpoint: Checkpoint) -> None:
    mixture = Mixture(duration_s=(8, 9), asides_per_scene=6.0, evicted_share=0.0)
    maker = SceneMaker(checkpoint, mixture, 3)
    scene = next(made for number in range(9) if len((made := maker.make(number)).stream.asides.after) >= 3)
    stream, asides = scene.stream, scene.stream.asides
    visual = torch.randn(len(stream.picks), SMALL.hidden)
    language = checkpoint.model.model.language_model
    with torch.no_grad():
        read = _read_stream(checkpoint.model, scene, visual, with_asides=True)
        assert read.asides is not None
        for number, after in enumerate(asides.after):
            own = asides.ids[asides.numbers == number]
            ids = np.concatenate([stream.ids[: after + 1], own])
            seen = int((stream.ids[: after + 1] == checkpoint.special.image).sum())
            alone = language(inputs_embeds=_embed(checkpoint.model, ids, visual[:seen])).last_hidden_state[0]
            packed = read.asides[torch.from_numpy(asides.numbers == number)]
            torch.testing.assert_close(packed, alone[after + 1 :], atol=2e-5, rtol=0)
        without = _read_stream(checkpoint.model, scene, visual, with_asides=False)
        torch.testing.assert_close(read.stream, without.stream, atol=2e-5, rtol=0)


def _example(checkpoint: Checkpoint, window: WindowSettings) -> StreamExample:
    scene = Scene(41, SceneSettings(duration_s=40, view_sizes=((196, 112),), pace=2.0, still_probability=0.0))
    grid = checkpoint.vision.fit_grid(196, 112, max_cells=checkpoint.stream.max_cells)
    builder = ExampleBuilder(TextCodec(checkpoint), checkpoint.special, checkpoint.vision, window)
    pictures = [(float(t), scene.frame(float(t))) for t in scene.times(2.0)]
    asides = [Turn(4.0, "Yes.", "Is anything in view?"), Turn(39.5, "No.", "Is anything moving?")]
    return builder.build(pictures, grid, [], asides=asides)


def test_an_aside_follows_the_frames_of_its_moment_and_leaves_no_trace(checkpoint: Checkpoint) -> None:
    example = _example(checkpoint, checkpoint.stream.window)
    asides, codec = example.asides, TextCodec(checkpoint)
    question = codec.encode("<|im_start|>user\nIs anything in view?<|im_end|>\n")
    assert asides.ids[: len(question)].tolist() == question and len(asides.after) == 2
    ends = example.frame_ends.tolist()
    assert asides.after[0] in ends and asides.after[0] < asides.after[1] == len(example.ids) - 1
    assert codec.encode("<|im_start|>user\n")[1] not in example.ids
    labelled = asides.labels >= 0
    assert np.allclose([asides.weights[labelled & (asides.numbers == n)].sum() for n in (0, 1)], ANSWER_WEIGHT)
    assert (asides.labels[:-1][labelled[:-1]] == asides.ids[1:][labelled[:-1]]).all()


def test_an_aside_whose_context_an_eviction_cut_is_left_out(checkpoint: Checkpoint) -> None:
    example = _example(checkpoint, WindowSettings(vision_low=28 * 8, vision_high=28 * 9, text_low=200, text_high=300))
    assert len(example.asides.after) == 1 and example.asides.after[0] == len(example.ids) - 1


def _scene(checkpoint: Checkpoint, **mixture: object) -> TrainingScene:
    """The first scene of a mixture with several questions that rest on something."""
    maker = SceneMaker(checkpoint, Mixture(**{"duration_s": (20, 24), "asides_per_scene": 8.0} | mixture), 3)  # type: ignore[arg-type]
    return next(scene for number in range(20) if len((scene := maker.make(number)).stream.asides.evidence) >= 4)


def test_where_answers_look_is_the_attention_of_the_first_head(checkpoint: Checkpoint) -> None:
    scene = _scene(checkpoint, evicted_share=0.0)
    stream, asides, model = scene.stream, scene.stream.asides, checkpoint.model
    visual = torch.randn(len(stream.picks), SMALL.hidden)
    depth = 2 * SMALL.layers // 3
    language = model.model.language_model
    language.set_attn_implementation("eager")
    shares, matched = [], []
    try:
        with torch.no_grad():
            read = _read_stream(model, scene, visual, with_asides=True)
            for number in range(len(asides.after)):
                after, mine = asides.after[number], asides.numbers == number
                ids = np.concatenate([stream.ids[: after + 1], asides.ids[mine]])
                seen = int((stream.ids[: after + 1] == checkpoint.special.image).sum())
                made = language(inputs_embeds=_embed(model, ids, visual[:seen]), output_attentions=True)
                looks = made.attentions[depth][0, 0]
                rests = np.zeros(len(ids), dtype=bool)
                for _, first, end in asides.evidence[asides.evidence[:, 0] == number]:
                    rests[first:end] = True
                asking = after + 1 + np.flatnonzero(asides.labels[mine] >= 0)
                words = made.attentions[SMALL.layers // 4][0, -1]
                for token in np.flatnonzero(mine):
                    places = asides.matches[asides.matches[:, 0] == token, 1]
                    own = places - len(stream.ids) - int(np.flatnonzero(mine)[0]) + int(after) + 1
                    places = np.where(places < len(stream.ids), places, own)
                    if len(places):
                        row = words[int(after) + 1 + int(token - np.flatnonzero(mine)[0])]
                        matched.append(row[torch.from_numpy(places).long()].sum())
                if rests.any():
                    shares.append(looks[torch.from_numpy(asking)][:, torch.from_numpy(rests)].sum(dim=-1))
    finally:
        language.set_attn_implementation("sdpa")
    assert read.pointing is not None
    torch.testing.assert_close(read.pointing, -torch.cat(shares).log().mean(), atol=1e-4, rtol=0)
    assert read.matching is not None and len(matched) >= 4
    torch.testing.assert_close(read.matching, -torch.stack(matched).log().mean(), atol=1e-4, rtol=0)


def test_a_head_learns_to_look_at_what_answers_rest_on(checkpoint: Checkpoint) -> None:
    scene = _scene(checkpoint, told_share=1.0)
    stage = Stage("told", num_steps=1, answers_weight=0.0, pointing_weight=1.0)
    model, ids = copy.deepcopy(checkpoint.model), (checkpoint.special.im_start, checkpoint.special.stream_start)
    model.requires_grad_(True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    lost = []
    for _ in range(30):
        losses = batch_losses(model, Heads.of(model), [scene], stage, ids)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        lost.append(losses.pointing)
    assert lost[-1] < 0.5 * lost[0]


def test_a_told_scene_holds_the_remarks_and_what_answers_rest_on(checkpoint: Checkpoint) -> None:
    codec = TextCodec(checkpoint)
    maker = SceneMaker(checkpoint, Mixture(duration_s=(20, 40), told_share=1.0, asides_per_scene=10.0, fps=(2.0,)), 5)
    rested = 0
    for number in range(12):
        scene = maker.make(number)
        stream, asides = scene.stream, scene.stream.asides
        assert len(stream.frames) == len(scene.token_labels) == 0 and (stream.labels < 0).all()
        assert checkpoint.special.image not in stream.ids
        for question, first, end in asides.evidence:
            said = codec.decode(asides.ids[asides.numbers == question].tolist())
            assert end - 1 <= asides.after[question]
            if end == 1:
                assert re.search("No\\.|Nothing|None", said)
                continue
            piece = codec.decode(stream.ids[first:end].tolist())
            assert "Time " in piece
            when = re.search(r"\nAt (\d+) seconds", said)
            if when:
                assert f"Time {when[1]}." in piece
                rested += 1
            last = re.search(r"What entered last\?.*\n(?:A|An) (\w+ \w+)\.", said, re.DOTALL)
            if last:
                assert f"{last[1]} enters" in piece
                rested += 1
    assert rested >= 5
