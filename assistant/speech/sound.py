"""A piece of sound: its samples, length, volume, rate and WAV form. Immutable; any thread may hold it."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from assistant.speech.errors import SpeechError


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound."""

    samples: np.ndarray
    """Float32 `[num_samples]`, in [-1, 1]."""
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate_hz

    def louder(self, factor: float) -> Sound:
        """The same sound with its samples times `factor`, limited to [-1, 1].

        >>> Sound(np.array([0.5, -0.5], np.float32), 8000).louder(3.0).samples.tolist()
        [1.0, -1.0]
        """
        return replace(self, samples=np.clip(self.samples * np.float32(factor), -1.0, 1.0))

    def blocks(self, block_s: float) -> Iterator[np.ndarray]:
        """The samples in blocks of `block_s` seconds; the last may be shorter."""
        size = max(1, round(block_s * self.rate_hz))
        for start in range(0, len(self.samples), size):
            yield self.samples[start : start + size]

    def at_rate(self, rate_hz: int) -> Sound:
        """The same sound with another sampling rate, by its Fourier transform: without aliases, and as long."""
        if rate_hz == self.rate_hz or not len(self.samples):
            return replace(self, rate_hz=rate_hz)
        wanted = max(1, round(len(self.samples) * rate_hz / self.rate_hz))
        spectrum = np.fft.rfft(self.samples)[: wanted // 2 + 1]
        if len(spectrum) == wanted // 2 + 1 and wanted % 2 == 0 and wanted < len(self.samples):
            spectrum[-1] = spectrum[-1].real  # the bin at half the new rate has no phase
        made = np.fft.irfft(spectrum, wanted) * (wanted / len(self.samples))
        return Sound(made.astype(np.float32), rate_hz)

    def as_wav(self) -> bytes:
        """The sound as a WAV file of 16 bits."""
        file = io.BytesIO()
        with wave.open(file, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(self.rate_hz)
            out.writeframes((np.clip(self.samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
        return file.getvalue()


def silence(seconds: float, rate_hz: int) -> Sound:
    """Silence of a length."""
    return Sound(np.zeros(round(seconds * rate_hz), np.float32), rate_hz)


def joined(sounds: list[Sound]) -> Sound:
    """Sounds of one rate, one after the other. Raises `SpeechError` for different rates."""
    rates = {sound.rate_hz for sound in sounds}
    if len(rates) != 1:
        raise SpeechError(f"sounds of {sorted(rates)} Hz: joined ones need one rate; bring them to it first")
    return Sound(np.concatenate([sound.samples for sound in sounds]), rates.pop())


def from_pcm16(data: bytes, rate_hz: int) -> Sound:
    """The sound of 16-bit little-endian mono samples; an odd last byte is left out."""
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / 32768.0
    return Sound(samples, rate_hz)


def from_wav(data: bytes) -> Sound:
    """The sound of a WAV file of 16 bits; channels are averaged. Raises `SpeechError` for another kind of file."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            if file.getsampwidth() != 2:
                raise SpeechError(f"{8 * file.getsampwidth()} bits a sample: a WAV file must have 16; convert it")
            channels, rate_hz = file.getnchannels(), file.getframerate()
            sound = from_pcm16(file.readframes(file.getnframes()), rate_hz)
    except (wave.Error, EOFError) as error:
        raise SpeechError(f"not a WAV file ({error}): sound is read from WAV of 16 bits; convert it") from None
    return Sound(sound.samples[: len(sound.samples) // channels * channels].reshape(-1, channels).mean(1), rate_hz)
