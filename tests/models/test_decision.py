"""Measuring whether a checkpoint was trained to decide when to speak; reading its processor configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint.fake import make_checkpoint
from models.checkpoint.loader import load_checkpoint
from models.checkpoint.settings import StreamSettings
from models.decision import DecisionMass, decision_mass
from models.engine import Engine
from models.errors import CheckpointDamaged
from tests.models.streams import each, picture, single


def pictures(number: int = 3) -> Iterator[tuple[float, np.ndarray]]:
    return ((float(index), picture(index)) for index in range(number))


def test_untrained_weights_give_the_decision_nearly_nothing(tmp_path: Path) -> None:
    engine = Engine(load_checkpoint(make_checkpoint(tmp_path / "made"), progress=False))
    mass = decision_mass(engine, pictures())
    assert max(mass.live, mass.training_code) < 0.1
    assert mass.problem() is not None and "at least 0.5 shows a trained decision" in str(mass.problem())


@pytest.mark.parametrize("wording", ["live", "training code"])
def test_each_wording_is_asked_where_it_has_its_decision(tmp_path: Path, wording: str) -> None:
    """A head that gives the decision all probability after the tokens of one wording only."""
    checkpoint = load_checkpoint(make_checkpoint(tmp_path / "made"), progress=False)
    engine = Engine(checkpoint)
    step = single(engine)
    assert checkpoint.tokenizer is not None
    newline = checkpoint.tokenizer.encode("\n", add_special_tokens=False)[-1]
    last = checkpoint.special.stream_end if wording == "live" else newline
    last_embedding = checkpoint.model.get_input_embeddings()(torch.tensor([last], device=checkpoint.device))[0]

    def forward(request):
        output = step(request)
        if torch.equal(request.embeddings[-1], last_embedding) and len(output.logits):
            output.logits[-1] = 0.0
            output.logits[-1, [checkpoint.special.im_start, checkpoint.special.stream_start]] = 30.0
        return output

    engine._forward = each(forward)  # type: ignore[assignment, method-assign]
    mass = decision_mass(engine, pictures())
    if wording == "live":
        assert mass.live > 0.99 and mass.problem() is None
    else:
        assert mass.live < 0.1 and mass.training_code > 0.99
        assert "in the wording of the training code" in str(mass.problem())


def test_the_embedded_checkpoint_was_trained_to_decide() -> None:
    engine = Engine(load_checkpoint("embedded", progress=False))
    assert decision_mass(engine, pictures(2)).live > 0.99


def test_without_pictures_nothing_was_measured(tmp_path: Path) -> None:
    engine = Engine(load_checkpoint(make_checkpoint(tmp_path / "made"), progress=False))
    assert decision_mass(engine, []) == DecisionMass(0.0, 0.0)


def test_rate_and_longest_time_come_from_the_processor_configuration(tmp_path: Path) -> None:
    path = tmp_path / "processor_config.json"
    assert StreamSettings.of_checkpoint(tmp_path) == StreamSettings()
    for values, fps, longest_s, keep_s in (
        ({"fps": 1, "max_frames": 180}, 1.0, 180.0, 60.0),
        ({"fps": 2, "max_frames": 60}, 2.0, 30.0, 22.5),
        ({"fps": 4}, 4.0, 180.0, 60.0),
        ({"max_frames": 100}, 2.0, 50.0, 37.5),
        ({"video_merge_size": 2}, 2.0, 180.0, 60.0),
    ):
        path.write_text(json.dumps(values), encoding="utf-8")
        found = StreamSettings.of_checkpoint(tmp_path)
        assert (found.fps, found.max_shown_time_s, found.rebase_keep_s) == (fps, longest_s, keep_s)
    for values, said in (({"fps": 0}, "fps 0; above 0"), ({"fps": 1, "max_frames": 0}, "max_frames 0; at least 1")):
        path.write_text(json.dumps(values), encoding="utf-8")
        with pytest.raises(CheckpointDamaged, match=said):
            StreamSettings.of_checkpoint(tmp_path)
    (tmp_path / "stream_config.json").write_text('{"fps": 3.0}', encoding="utf-8")
    assert StreamSettings.of_checkpoint(tmp_path).fps == 3.0
