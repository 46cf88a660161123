"""What is measured of voice: words misheard, delays, false wakes, and its own voice taken for a question."""

from __future__ import annotations

import itertools
import os
import random
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
from assistant.speech.errors import DeviceLost, SpeechError
from assistant.speech.heard import Heard
from assistant.speech.listener import Listener, QuestionFilter
from assistant.speech.recognisers import RATE_HZ, WhisperRecogniser
from assistant.speech.sound import Sound, joined, silence
from assistant.speech.voices import BuiltInVoice
from tests.speech.espeak import missing_flite, spoken, spoken_by_flite
from tests.speech.fakes import FakeListener
from tests.voice.questions import FLITE_VOICES, QUESTIONS, VOICES, rate, word_errors

ROOT = Path(__file__).parents[2]
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


Speaker = tuple[str, Callable[[str, int], Sound]]
"""A voice's name, and what says a text with it, in so many words a minute where its engine can."""


def speakers() -> dict[str, list[Speaker]]:
    """The voices that are here, by engine."""
    found: dict[str, list[Speaker]] = {"espeak": [(voice, _by_espeak(voice)) for voice in VOICES]}
    if not missing_flite():
        found["flite"] = [(voice, _by_flite(voice)) for voice in FLITE_VOICES]
    return found


def _by_espeak(voice: str) -> Callable[[str, int], Sound]:
    return lambda text, pace: spoken(text, voice, pace)


def _by_flite(voice: str) -> Callable[[str, int], Sound]:
    return lambda text, pace: spoken_by_flite(text, voice)


def asked(question: str, say: Callable[[str, int], Sound]) -> Sound:
    """A question as a voice says it, at 16 kHz between two moments of silence."""
    return joined([silence(0.3, RATE_HZ), say(question, 140).at_rate(RATE_HZ), silence(0.6, RATE_HZ)])


def word_error_rates(
    num_questions: int, snrs_db: Sequence[float | None] = SNRS_DB, *, pairs: bool = False
) -> dict[str, Any]:
    """Word error rate by engine, noise and voice, and the median time of the recogniser a question, seconds.

    pairs: what was said and heard in each question with an error, too.
    """
    recogniser, found, took = WhisperRecogniser(), dict[str, Any](), list[float]()
    recogniser.prepare()
    chosen, misheard = QUESTIONS[:num_questions], list[list[str]]()
    for engine, snr_db in itertools.product(speakers(), snrs_db):
        by_voice: dict[str, float] = {}
        every = []
        for voice, say in speakers()[engine]:
            errors = []
            for seed, question in enumerate(chosen):
                sound = with_noise(asked(question, say), snr_db, seed)
                began_s = time.perf_counter()
                heard = recogniser.transcribe(sound)
                took.append(time.perf_counter() - began_s)
                errors.append(word_errors(question, heard))
                if errors[-1][0]:
                    misheard.append([voice, "clean" if snr_db is None else f"{snr_db:g} dB", question, heard])
            by_voice[voice] = round(rate(errors), 4)
            every += errors
        kind = "clean" if snr_db is None else f"{snr_db:g} dB"
        found.setdefault(engine, {})[kind] = {"all": round(rate(every), 4), **by_voice}
    found |= {"questions": len(chosen), "recogniser_s_median": round(statistics.median(took), 2)}
    return {**found, "misheard": misheard} if pairs else found


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
            sizes.append(resident_mib())
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


class _Talk:
    """A microphone in a room where people talk, as fast as it is read; it is pulled out at the end.

    They read this project's own documents, which often speak of the assistant, in all voices by turns.
    """

    name = "talk"

    def __init__(self, minutes: float) -> None:
        self._left_s = 60 * minutes
        voices = [speaker for every in speakers().values() for speaker in every]
        self._said = zip(itertools.cycle(voices), itertools.cycle([*TALK, *sentences()]), strict=False)
        self._blocks: Iterator[np.ndarray] = iter(())
        self.heard_s = 0.0
        self.resident_mib: list[float] = []
        """Once a minute of talk."""

    def read(self) -> np.ndarray:
        for block in self._blocks:
            return block
        if self.heard_s >= self._left_s:
            raise DeviceLost("talk: it is over")
        if self.heard_s >= 60 * len(self.resident_mib):
            self.resident_mib.append(resident_mib())
        (_, say), sentence = next(self._said)
        sound = joined([say(sentence, 160).at_rate(RATE_HZ), silence(0.9, RATE_HZ)])
        self.heard_s += sound.duration_s
        self._blocks = sound.blocks(0.1)
        return np.zeros(0, np.float32)

    def close(self) -> None:
        pass


class _Wakes:
    """Notes what a listener took for a question."""

    def __init__(self) -> None:
        self.woke: list[str] = []
        self.num_ignored = 0
        self.is_over = threading.Event()

    def on_heard(self, heard: Heard) -> None:
        self.woke.append(heard.text)

    def on_ignored(self, transcript: str, why: str) -> None:
        self.num_ignored += 1

    def on_deaf(self, error: SpeechError) -> None:
        self.is_over.set()


def sentences() -> list[str]:
    """Sentences of this project's documents in plain words, without code, tables and links."""
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = re.sub(r"```.*?```|^(?: {4}|\||#|!).*$", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        for sentence in re.split(r"(?<=[.:;])\s+", " ".join(text.split())):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", sentence)
            if re.fullmatch(r"[A-Za-z',.:;“”() -]{25,240}", words):
                found.append(words)
    return found


def resident_mib() -> float:
    """The memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def false_wakes(minutes: float) -> dict[str, Any]:
    """How often talk without the wake phrase was taken for it, and the memory that listening to it took."""
    talk, taker = _Talk(minutes), _Wakes()
    judge = QuestionFilter(WAKE_PHRASE, WhisperRecogniser(), None, time.monotonic)
    listener = Listener(talk, SpeechSegmenter(SileroDetector()), judge, taker)
    listener.start()
    while not taker.is_over.wait(1.0) and listener.failure is None:
        pass
    listener.stop()
    if listener.failure is not None:
        raise listener.failure
    sizes = talk.resident_mib
    return {
        "minutes": round(talk.heard_s / 60, 1),
        "pieces": len(taker.woke) + taker.num_ignored,
        "wakes": len(taker.woke),
        "taken_for_questions": taker.woke,
        "resident_after_a_tenth_mib": round(sizes[len(sizes) // 10], 1),
        "resident_after_all_mib": round(sizes[-1], 1),
    }


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
