"""Changes a channel's configuration while it runs: each is checked, and holds once the session has accepted it.

Steps run on the engine's thread between two frames; `config` and `put` are for any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError, ConfigError
from assistant.events import StatusKind
from assistant.serving.channel_types import ChannelConfig
from models.errors import ModelError
from models.session.steps import StepGenerator, as_steps
from streaming.masks import Masks

if TYPE_CHECKING:
    from assistant.serving.player import Player
    from assistant.serving.rate_control import RateChange
    from assistant.serving.worker import EmitStatus
    from assistant.stream.stream_session import StreamSession
    from models.checkpoint.settings import StreamSettings

OF_SESSION = ("name", "system", "pruning", "stream")
"""Fields that a running session cannot change."""
WITHOUT_OPENING = ("talkative", "instruct", "questions", "fps", "zones", "rules")
"""Fields that change without opening the source anew."""
BY_SESSION = ("fps", "instruct")
"""Fields that the session may refuse: they are set once it has accepted them."""


def zone_problems(config: ChannelConfig, width_px: int, height_px: int) -> list[str]:
    """A sentence for each zone that lies outside a picture of this size."""
    return [
        f"{config.name}: zone {name!r}: it lies outside the picture of {width_px} x {height_px}, where nothing can be "
        "remarked on; use relative coordinates, or pixels of this picture"
        for name, region in config.zones
        if not Masks([region]).hidden(width_px, height_px).any()
    ]


class Changes:
    """The configuration of one channel, and the rate that its session was opened for."""

    def __init__(
        self, config: ChannelConfig, player: Player, emit_status: EmitStatus, reserve: Callable[[StreamSettings], None]
    ) -> None:
        """reserve: sets aside the memory of a session with other settings, or raises `CapacityExceeded`."""
        self._config = config
        self._player = player
        self._emit_status = emit_status
        self._reserve = reserve
        self._lock = threading.Lock()
        self._of_checkpoint: StreamSettings | None = None
        self.session_settings: StreamSettings | None = None
        """Settings that the session was opened with, or changed to since."""
        self.stream_fps = config.fps or 0.0
        self.factor = 1.0

    @property
    def config(self) -> ChannelConfig:
        """The configuration now."""
        return self._config

    def put(self, **values: Any) -> None:
        """Set fields. Raises `ConfigError` for a value outside its bounds."""
        with self._lock:
            self._config = replace(self._config, **values)

    def check(self, config: ChannelConfig) -> None:
        """Raise `ConfigError` for a configuration that cannot follow this one, as far as that is known beforehand."""
        before = self._config
        for name in OF_SESSION:
            if getattr(config, name) != getattr(before, name):
                raise ConfigError(
                    f"{config.name}: {name} {getattr(config, name)!r}: a session keeps what it began with, "
                    f"{getattr(before, name)!r}; leave it, or stop the channel and start another"
                )
        size_px = self._player.size_px
        if config.spec != before.spec or not all(size_px):
            return
        if config.masks != before.masks:
            Masks(config.masks).check(*size_px)
        if config.zones != before.zones:
            for problem in zone_problems(config, *size_px):
                raise ConfigError(problem)

    def settings(self, of_checkpoint: StreamSettings, fps: float | None) -> StreamSettings:
        """The settings of a session at this rate. Raises `ConfigError`."""
        from assistant.config.app import ModelConfig

        self._of_checkpoint = of_checkpoint
        return ModelConfig(stream=self._config.stream).stream_settings(of_checkpoint, fps)

    def opened(self, settings: StreamSettings) -> None:
        """Note the settings with which the session is opened."""
        self.session_settings, self.stream_fps = settings, settings.fps

    @as_steps
    def adopt(self, stream: StreamSession, config: ChannelConfig, before: ChannelConfig) -> StepGenerator[None]:
        """Apply a configuration that differs from the one before. Raises the first refusal; the rest is in force."""
        refused: list[AssistantError | ModelError] = []
        if config.zones != before.zones:
            stream.set_zones([region for _, region in self._config.zones])
        if config.talkative != before.talkative:
            yield from self.tune(stream, "set by a new configuration")
        try:
            if config.fps != self._config.fps:
                yield from self.set_fps(stream, config.fps)
        except (AssistantError, ModelError) as error:
            refused.append(error)
        try:
            if config.instruct != self._config.instruct:
                yield from self.instruct(stream, config.instruct)
        except (AssistantError, ModelError) as error:
            refused.append(error)
        if refused:
            raise refused[0]

    @as_steps
    def instruct(self, stream: StreamSession, text: str | None) -> StepGenerator[None]:
        """Set another standing instruction once the session has accepted it; a refusal is published and raised."""
        try:
            yield from stream.instruct(text)
        except ModelError as error:
            now = self._config.instruct
            stays = f"the standing instruction {now!r} stays" if now else "there is no standing instruction still"
            self._emit_status(StatusKind.REFUSED, f"{stays}: {error}", details={"what": "instruct"})
            raise
        self.put(instruct=text)

    @as_steps
    def set_fps(self, stream: StreamSession, wanted: float | None) -> StepGenerator[None]:
        """Set another rate for the model. What its memory cannot take is published and raised; the old rate stays."""
        assert self._of_checkpoint is not None and self.session_settings is not None, "an order before the session"
        try:
            settings = self.settings(self._of_checkpoint, wanted)
            self._reserve(settings)
            yield from stream.expect(settings.fps)
        except (AssistantError, ModelError) as error:
            self._reserve(self.session_settings)
            self._tell_rate(f"{self.stream_fps:g} frames a second stay: {error}")
            raise
        self.put(fps=wanted)
        self.session_settings, self.stream_fps = settings, settings.fps
        fps = self.stream_fps * self.factor
        self._player.set_fps(fps)
        stream.tune(fps=fps, talkativeness=self._config.talkative)
        self._tell_rate(f"{settings.fps:g} frames a second are wanted now")

    @as_steps
    def tune(self, stream: StreamSession, reason: str) -> StepGenerator[None]:
        """Decide by the configured rate and talkativeness from the next frame on."""
        talkative = self._config.talkative
        stream.tune(fps=self.stream_fps * self.factor, talkativeness=talkative)
        self._emit_status(StatusKind.TALKATIVE, reason, details={"talkative": talkative})
        yield from ()

    def slow(self, stream: StreamSession | None, change: RateChange) -> None:
        """Use a share of the configured rate, as overload asks of all streams."""
        fps = self.stream_fps * change.factor
        self._player.set_fps(fps)
        if stream is not None:
            stream.tune(fps=fps, talkativeness=self._config.talkative)
        self._tell_rate(f"{fps:.3g} of {self.stream_fps:.3g} frames a second are used: {change.reason}")

    def _tell_rate(self, reason: str) -> None:
        fps = self.stream_fps * self.factor
        self._emit_status(StatusKind.RATE, reason, details={"factor": self.factor, "fps": fps})
