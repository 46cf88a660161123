"""What is measured of voice: words misheard, delays, false wakes, and its own voice taken for a question."""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assistant.commands.setup import engine_of
from assistant.config.app import ModelConfig
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig
from assistant.serving.scheduler import Scheduler
from assistant.speech.announcements import SpokenKind
from assistant.speech.announcer import Announcer
from assistant.speech.clauses import clauses
from assistant.speech.detector import SileroDetector, SpeechSegmenter
from assistant.speech.listener import QuestionFilter
from assistant.speech.recognisers import RATE_HZ, WhisperRecogniser
from assistant.speech.sound import Sound, joined, silence
from assistant.speech.voices import BuiltInVoice
from tests.speech.espeak import spoken
from tests.speech.fakes import FakeListener
from tests.voice.questions import QUESTIONS, VOICES, rate, word_errors

SNRS_DB = (None, 20.0, 10.0)
"""Signal to noise; None for no noise."""
WAKE_PHRASE = "hey assistant"
NUM_OWN = 50
REMARKS = (
    "A purple square enters at the top.", "The purple square stops on the right.", "Something leaves on the left.",
    "A blue circle enters at the bottom.", "The person walks to the door.", "Two people come in, one of them leaves.",
    "The light goes out.", "The view was covered.", "The green triangle starts moving left.",
    "Somebody is at the gate.",
)  # fmt: skip
TALK = (
    "The history of glass begins with sand, and with fires that were hotter than anyone expected.",
    "In the afternoon the assistants of the museum carried the cases down to the river.",
    "He said that nobody had asked for it, and that the answer would have to wait.",
    "Rain fell for three days, so the road across the hills was closed to everything but carts.",
    "They insist on paying in advance, which is unusual for a market of that size.",
    "Later she wrote that the instruments had been standing in the hall since the winter.",
    "Hay was stacked against the wall, and a system of ropes kept it from falling.",
    "The question of who should lead was left open until the spring.",
)


def with_noise(sound: Sound, snr_db: float | None, seed: int) -> Sound:
    """A sound with pink noise at a signal-to-noise ratio, by their mean power; unchanged for None."""
    if snr_db is None:
        return sound
    count = len(sound.samples)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(count))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), count)
    power = np.mean(sound.samples**2) / 10 ** (snr_db / 10)
    return Sound((sound.samples + noise * np.sqrt(power / np.mean(noise**2))).astype(np.float32), sound.rate_hz)


def asked(question: str, voice: str) -> Sound:
    """A question as one of eSpeak's voices says it, at 16 kHz between two moments of silence."""
    said = spoken(question, voice, 140).at_rate(RATE_HZ)
    return joined([silence(0.3, RATE_HZ), said, silence(0.6, RATE_HZ)])


def word_error_rates(num_questions: int, snrs_db: Sequence[float | None] = SNRS_DB) -> dict[str, Any]:
    """Word error rate by noise and voice, and the median time of the recogniser a question, seconds."""
    recogniser, found, took = WhisperRecogniser(), dict[str, Any](), list[float]()
    recogniser.prepare()
    chosen = QUESTIONS[:num_questions]
    for snr_db in snrs_db:
        by_voice = {}
        every = []
        for voice in VOICES:
            errors = []
            for seed, question in enumerate(chosen):
                sound = with_noise(asked(question, voice), snr_db, seed)
                began_s = time.perf_counter()
                errors.append(word_errors(question, recogniser.transcribe(sound)))
                took.append(time.perf_counter() - began_s)
            by_voice[voice] = round(rate(errors), 4)
            every += errors
        found["clean" if snr_db is None else f"{snr_db:g} dB"] = {"all": round(rate(every), 4), **by_voice}
    return {**found, "questions": len(chosen), "recogniser_s_median": round(statistics.median(took), 2)}


class _SilentOutput:
    """Plays nothing and notes when the first sound came."""

    name = "silent"

    def __init__(self) -> None:
        self.first_at_s: float | None = None

    def play(self, sound: Sound, is_cut: Any) -> bool:
        self.first_at_s = self.first_at_s or time.perf_counter()
        return True

    def rest(self, *, cut: bool) -> None:
        pass

    def close(self) -> None:
        pass


def delays() -> dict[str, float]:
    """Seconds: from the end of speech until it was noticed, and from an answer's first clause to its first sound."""
    pause = []
    for question in QUESTIONS[:10]:
        said = spoken(question, VOICES[0], 140).at_rate(RATE_HZ)
        loud = np.flatnonzero(np.abs(said.samples) > 0.02)
        whole = joined([silence(0.5, RATE_HZ), said, silence(2.0, RATE_HZ)])
        segmenter = SpeechSegmenter(SileroDetector())
        for number, block in enumerate(whole.blocks(0.1), 1):
            if segmenter.feed(block):
                pause.append(0.1 * number - 0.5 - loud[-1] / RATE_HZ)
                break
    noticed_s, first_token_s = statistics.median(pause), statistics.median(_first_tokens())
    return {
        "end_of_speech_noticed_median": round(noticed_s, 3),
        "question_to_first_token_median": round(first_token_s, 3),
        "end_of_speech_to_first_token_beyond_the_recogniser": round(noticed_s + first_token_s, 3),
        "first_clause_to_first_sound_median": round(statistics.median(_first_sounds()), 3),
    }


def _first_tokens() -> list[float]:
    """Seconds from a question to the first piece of its answer, on a scene that is watched in real time."""
    host = Scheduler(lambda: engine_of(ModelConfig()))
    channel = Channel(ChannelConfig("scene", "synthetic:3"), host)
    found: list[float] = []
    host.start()
    try:
        channel.start()
        channel.ask("What is there?").future.result(120.0)  # the model is loaded then
        for question in QUESTIONS[:10]:
            pieces: list[float] = []
            began_s = time.perf_counter()
            asked = channel.ask(question, on_piece=lambda piece, at=pieces: at.append(time.perf_counter()))  # type: ignore[misc]
            asked.future.result(60.0)
            found += [pieces[0] - began_s] if pieces else []
    finally:
        channel.stop()
        host.stop()
    return found


def memory(utterances: int = 300) -> dict[str, float]:
    """Resident memory, MiB, after the first tenth of many remarks and after all of them."""
    announcer = Announcer(BuiltInVoice(), _SilentOutput(), FakeListener())
    announcer.start()
    sizes = []
    for number in range(utterances):
        announcer.say(SpokenKind.REMARK, REMARKS[number % 10])
        announcer.drain(20.0)
        if number in (utterances // 10, utterances - 1):
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    announcer.stop()
    return {"utterances": utterances, "after_a_tenth_mib": round(sizes[0], 1), "after_all_mib": round(sizes[1], 1)}


def _first_sounds() -> list[float]:
    found = []
    for remark in REMARKS:
        voice, output = BuiltInVoice(), _SilentOutput()
        voice.prepare()
        announcer = Announcer(voice, output, FakeListener())
        announcer.start()
        answer = announcer.await_answer()
        time.sleep(0.05)
        began_s = time.perf_counter()
        answer.add(f"{clauses(remark)[0]} ")
        answer.end()
        announcer.drain(20.0)
        announcer.stop()
        assert output.first_at_s is not None
        found.append(output.first_at_s - began_s)
    return found


def false_wakes(minutes: float) -> dict[str, float]:
    """How often talk without the wake phrase was taken for it, in a lecture by three of eSpeak's voices."""
    recogniser = WhisperRecogniser()
    judge = QuestionFilter(WAKE_PHRASE, recogniser, None, time.monotonic)
    segmenter = SpeechSegmenter(SileroDetector())
    heard_s, num_wakes, num_pieces = 0.0, 0, 0
    for voice, sentence in itertools.cycle(itertools.product(VOICES, TALK)):
        if heard_s >= 60 * minutes:
            break
        sound = joined([spoken(sentence, voice, 160).at_rate(RATE_HZ), silence(0.9, RATE_HZ)])
        heard_s += sound.duration_s
        for piece in segmenter.feed(sound.samples):
            num_pieces += 1
            num_wakes += judge.judge(piece, while_speaking=False)[0] is not None
    return {"minutes": round(heard_s / 60, 1), "pieces": num_pieces, "wakes": num_wakes}


class _JustSaid:
    """Has just said something."""

    is_speaking = True

    def __init__(self, said: str) -> None:
        self._said = said

    def said_lately(self) -> str:
        return self._said


def own_voice() -> dict[str, int]:
    """How often the assistant's own voice, heard back quieter and with noise, was taken for a question, of 50."""
    voice, recogniser, chance = BuiltInVoice(), WhisperRecogniser(), random.Random(0)
    taken = noticed = 0
    for number in range(NUM_OWN):
        remark = f"{WAKE_PHRASE}, {REMARKS[number % 10]}" if number % 5 == 4 else REMARKS[number % 10]
        sound = voice.speak(remark, chance.uniform(0.9, 1.2)).at_rate(RATE_HZ).louder(chance.uniform(0.3, 1.0))
        room = with_noise(joined([silence(0.5, RATE_HZ), sound, silence(1.2, RATE_HZ)]), 20.0, number)
        judge = QuestionFilter(WAKE_PHRASE, recogniser, _JustSaid(remark), time.monotonic)
        for piece in SpeechSegmenter(SileroDetector()).feed(room.samples):
            noticed += 1
            taken += judge.judge(piece, while_speaking=True)[0] is not None
    return {"said": NUM_OWN, "pieces_heard": noticed, "taken_for_a_question": taken}
