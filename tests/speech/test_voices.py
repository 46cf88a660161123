"""The built-in voice, and checkpoints of transformers by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.speech.errors import VoiceUnavailable
from assistant.speech.sound import Sound, from_wav
from assistant.speech.voices import BUILT_IN, BuiltInVoice, CheckpointVoice, voice_named


def test_the_built_in_voice_says_words_faster_at_a_higher_rate() -> None:
    voice = voice_named(BUILT_IN)
    usual, fast = (voice.speak("A purple square enters at the top.", rate) for rate in (1.0, 1.5))
    assert usual.rate_hz == 24_000 and usual.samples.dtype == np.float32
    assert 1.5 < usual.duration_s < 4.0 and fast.duration_s < 0.8 * usual.duration_s
    assert 0.05 < np.abs(usual.samples).max() <= 1.0


def test_the_same_text_sounds_the_same() -> None:
    voice = BuiltInVoice()
    assert np.array_equal(voice.speak("It stops.", 1.0).samples, voice.speak("It stops.", 1.0).samples)


def test_without_its_package_the_voice_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(VoiceUnavailable, match="pip install -r requirements.txt"):
        BuiltInVoice().prepare()


def test_what_is_no_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(VoiceUnavailable, match="not a text-to-speech checkpoint") as raised:
        CheckpointVoice(str(tmp_path)).prepare()
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_checkpoint_speaks_by_the_same_protocol(tmp_path: Path) -> None:
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    letters = list("_ abcdefghijklmnopqrstuvwxyz'.,-")
    vocabulary = tmp_path / "letters.json"
    vocabulary.write_text(json.dumps({letter: number for number, letter in enumerate(letters)}), encoding="utf-8")
    VitsTokenizer(str(vocabulary), phonemize=False, pad_token="_", unk_token="_").save_pretrained(tmp_path)
    small: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "flow_size": 16,
        "spectrogram_bins": 9, "upsample_initial_channel": 16, "upsample_rates": [4, 4],
        "upsample_kernel_sizes": [8, 8],
        "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1]], "prior_encoder_num_flows": 1,
        "prior_encoder_num_wavenet_layers": 1, "posterior_encoder_num_wavenet_layers": 1, "wavenet_kernel_size": 3,
        "duration_predictor_flow_bins": 4, "duration_predictor_num_flows": 2, "depth_separable_num_layers": 1,
        "duration_predictor_filter_channels": 8,
    }  # fmt: skip
    VitsModel(VitsConfig(vocab_size=len(letters), **small)).save_pretrained(tmp_path)
    voice = voice_named(str(tmp_path))
    voice.prepare()
    sound = voice.speak("hello there.", 1.0)
    assert sound.rate_hz == 16_000 and len(sound.samples) > 0 and sound.samples.ndim == 1


def test_sound_survives_its_wav_form_and_another_rate() -> None:
    wave = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000).astype(np.float32) * np.float32(0.5)
    sound = Sound(wave, 24_000)
    again = from_wav(sound.as_wav())
    assert again.rate_hz == 24_000 and np.abs(again.samples - wave).max() < 1e-4
    lower = sound.at_rate(16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000) * 0.5
    assert lower.rate_hz == 16_000 and np.abs(lower.samples - expected)[200:-200].max() < 1e-3
