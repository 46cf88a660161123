"""Questions about attached pictures in training: several about the same pictures, with evidence in those pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.checkpoint.loader import Checkpoint
from models.eviction import WindowSettings
from models.session.media_turns import Clip
from models.session.tokenizer import StreamTokenizer
from models.training.attached import Pictured, asked_with_pictures
from models.training.data import Mixture, SceneMaker
from streaming.scenes.scenario import SceneSettings
from streaming.scenes.source import Scene


def test_an_image_two_a_clip_and_a_clip_with_an_image_are_asked_about() -> None:
    scene = Scene(5, SceneSettings(duration_s=4))
    made = [asked_with_pictures(scene, np.random.default_rng(seed), 1_000_000 + 4 * seed) for seed in range(30)]
    kinds: set[tuple[str, ...]] = set()
    for pictured in made:
        if pictured is not None:
            assert isinstance(pictured, Pictured) and pictured.turn.question == pictured.turn.further[0].question
            kinds.add(tuple(type(given).__name__ for given in pictured.turn.attachments))
    assert kinds == {("ndarray",), ("ndarray", "ndarray"), ("Clip",), ("Clip", "ndarray")}


def test_clips_are_of_many_lengths() -> None:
    scene = Scene(5, SceneSettings(duration_s=4))
    made = [asked_with_pictures(scene, np.random.default_rng(seed), 1_000_000 + 4 * seed) for seed in range(60)]
    clips = [given for one in made if one for given in one.turn.attachments if isinstance(given, Clip)]
    lengths = {len(clip.frames) for clip in clips}
    assert min(lengths) <= 5 and max(lengths) >= 11 and len(lengths) >= 6, "clips of one length teach that length alone"
    assert all(len(clip.frames) == len(clip.times_s) for clip in clips)


def test_further_questions_begin_where_the_words_of_the_first_one_do(trainee: Checkpoint) -> None:
    maker = SceneMaker(trainee, Mixture(attached_share=1.0), 3)
    image, codec, told, compared = trainee.special.image, StreamTokenizer(trainee), 0, 0
    for number in range(12):
        stream = maker.make(number).stream
        if not stream.attached:
            continue
        asides, positions = stream.asides, np.flatnonzero(stream.ids == image)
        after = positions[-1] + 1
        about = np.flatnonzero(asides.after == after)
        assert len(about) and codec.decode([int(stream.ids[after])]) == "\n"
        first = asides.ids[asides.numbers == about[0]]
        assert first.tolist() == stream.ids[after + 1 :].tolist(), "the first is what stands in the stream, too"
        labels = positions[len(stream.picks) :]
        for question, begin, end in asides.evidence:
            if question not in about:
                continue
            told += 1
            assert end == begin + 1 and (begin in labels or begin == 0)
            compared += begin in labels
    assert told > 20 and compared > 10


def test_a_scene_whose_questions_an_eviction_cut_is_made_all_the_same(trainee: Checkpoint) -> None:
    window = WindowSettings(vision_low=28 * 8, vision_high=28 * 9, text_low=200, text_high=300)
    small = replace(trainee, stream=replace(trainee.stream, window=window))
    maker = SceneMaker(small, Mixture(duration_s=(20, 21), asides_per_scene=2.0, evicted_share=0.0, fps=(4.0,)), 3)
    left = [len(maker.make(number).stream.asides.after) for number in range(6)]
    assert 0 in left
