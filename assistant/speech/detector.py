"""Speech or not: Silero's detector on blocks of 32 ms, and the beginning and end of what somebody says. One thread."""

from __future__ import annotations

import importlib.util
from collections import deque
from pathlib import Path
from typing import Protocol

import numpy as np

from assistant.speech.errors import NoRecogniser
from assistant.speech.recognisers import INSTALL, RATE_HZ
from assistant.speech.sound import Sound

BLOCK = 512
"""Samples that the detector takes at once: 32 ms."""
CONTEXT = 64
"""Samples before a block that it sees again."""
BEGIN, GO_ON = 0.5, 0.35
"""Probabilities of speech: at which it begins, and below which it pauses (Silero's own two)."""
BEFORE_S = 0.3
"""Sound kept from before its beginning was noticed."""
PAUSE_S = 0.5
"""Length of the pause that ends what somebody says."""
LEAST_S = 0.25
"""Shorter sounds are coughs and clicks."""
MOST_S = 20.0
"""Longer speech is a conversation, not a question: what was heard until then is taken."""


class SpeechDetector(Protocol):
    """Tells speech from other sound."""

    def probability(self, block: np.ndarray) -> float:
        """Probability of speech in `BLOCK` samples at 16 kHz that follow on the last ones."""

    def reset(self) -> None:
        """Forget the sound so far."""


class SileroDetector:
    """The network that comes with silero-vad, run by onnxruntime; importing that package would set torch's threads."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._network = onnxruntime.InferenceSession(_network_path(), options, providers=["CPUExecutionProvider"])
        self.reset()

    def reset(self) -> None:
        """Forget the sound so far."""
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def probability(self, block: np.ndarray) -> float:
        """See `SpeechDetector`."""
        seen = np.concatenate([self._context, block])[None].astype(np.float32)
        inputs = {"input": seen, "state": self._state, "sr": np.array(RATE_HZ, np.int64)}
        found, self._state = self._network.run(None, inputs)
        self._context = block[-CONTEXT:]
        return float(found[0, 0])


class SpeechSegmenter:
    """Cuts a stream of sound into what somebody says."""

    def __init__(self, detector: SpeechDetector, pause_s: float = PAUSE_S) -> None:
        self._detector = detector
        self._pause_blocks = round(pause_s * RATE_HZ / BLOCK)
        self._before: deque[np.ndarray] = deque(maxlen=round(BEFORE_S * RATE_HZ / BLOCK))
        self._said: list[np.ndarray] = []
        self._num_speech = 0
        self._num_quiet = 0
        self._rest = np.zeros(0, np.float32)

    @property
    def is_speech(self) -> bool:
        """Whether somebody is speaking, pauses included."""
        return bool(self._said)

    def feed(self, samples: np.ndarray) -> list[Sound]:
        """Add samples at 16 kHz; returns what somebody has finished saying with them."""
        self._rest = np.concatenate([self._rest, samples])
        found = []
        while len(self._rest) >= BLOCK:
            block, self._rest = self._rest[:BLOCK], self._rest[BLOCK:]
            if (said := self._take(block)) is not None:
                found.append(said)
        return found

    def reset(self) -> None:
        """Forget the sound so far."""
        self._detector.reset()
        self._before.clear()
        self._rest = self._rest[:0]
        self._end()

    def _take(self, block: np.ndarray) -> Sound | None:
        probability = self._detector.probability(block)
        if not self._said:
            self._before.append(block)
            if probability < BEGIN:
                return None
            self._said = list(self._before)
            self._num_speech = 1
            return None
        self._said.append(block)
        is_quiet = probability < GO_ON
        self._num_quiet = self._num_quiet + 1 if is_quiet else 0
        self._num_speech += not is_quiet
        is_long = len(self._said) * BLOCK >= MOST_S * RATE_HZ
        if self._num_quiet < self._pause_blocks and not is_long:
            return None
        return self._end()

    def _end(self) -> Sound | None:
        said, num_speech = self._said, self._num_speech
        self._said, self._num_speech, self._num_quiet = [], 0, 0
        self._before.clear()
        if num_speech * BLOCK < LEAST_S * RATE_HZ:
            return None
        return Sound(np.concatenate(said), RATE_HZ)


def _network_path() -> str:
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        raise NoRecogniser(f"hands-free listening needs silero-vad: {INSTALL}")
    return str(Path(found.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx")
