"""On the machine, with sound: a question by another engine goes into the microphone, and its answer is recognised."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from assistant.speech.recognisers import RATE_HZ, WhisperRecogniser, why_deaf
from tests.speech.espeak import missing as missing_espeak
from tests.speech.espeak import spoken
from tests.speech.sound_server import heard, missing, sound_server
from tests.voice.questions import plain_words

ROOT = Path(__file__).parents[2]
LACKS = missing() or missing_espeak() or why_deaf()
LIMIT_S = 180


@pytest.mark.slow
@pytest.mark.skipif(bool(LACKS), reason=LACKS)
def test_a_question_asked_into_the_microphone_is_answered_aloud(tmp_path: Path) -> None:
    from assistant.speech.detector import SileroDetector, SpeechSegmenter

    question = spoken("Hey assistant, how many shapes are there?", "en-gb", 140)
    command = [sys.executable, "app.py", "replay", "synthetic:3", "--end", "18", "--voice", "--listen"]
    with sound_server(tmp_path) as server:
        with (
            server.recording() as recorded,
            subprocess.Popen(
                command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as program,
        ):
            too_long = threading.Timer(LIMIT_S, program.kill)
            too_long.start()
            assert program.stdout is not None
            told: list[str] = []
            has_asked = False
            for line in program.stdout:
                told.append(line.strip())
                if line.startswith("[") and "opened" not in line and not has_asked:
                    has_asked = True
                    server.speak_into_the_microphone(question)
            too_long.cancel()
        assert program.returncode == 0, told
    (asked,) = (line for line in told if line.startswith("heard: "))
    assert "shapes" in asked.lower()
    (answer,) = (line.partition("A: ")[2] for line in told if " A: " in line)
    sound, recogniser = heard(recorded).at_rate(RATE_HZ), WhisperRecogniser()
    pieces = [
        plain_words(recogniser.transcribe(piece)) for piece in SpeechSegmenter(SileroDetector()).feed(sound.samples)
    ]
    assert plain_words(answer) in pieces, f"{answer!r} is not in {pieces}"
