"""Turns a camera's configuration into that of its channel, login included. Plain function; any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.config.cameras import CameraConfig
from assistant.serving.channel_types import ChannelConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assistant.rules.rule import Rule


def channel_config(
    name: str,
    camera: CameraConfig,
    *,
    talkative: float,
    instruct: str | None,
    rules: Sequence[Rule] = (),
    **of_model: object,
) -> ChannelConfig:
    """The configuration of a camera's channel. Raises `ConfigError` if its login cannot be read.

    rules: those meant for other cameras are left out. talkative, instruct: values of `speaking`, for cameras without
    their own. of_model: passed to `ChannelConfig`.
    """
    return ChannelConfig(
        name=name,
        spec=camera.spec(name),
        fps=camera.fps,
        masks=camera.masks,
        zones=tuple(camera.zones.items()),
        rules=tuple(rule for rule in rules if rule.watches(name)),
        talkative=talkative if camera.talkative is None else camera.talkative,
        instruct=camera.instruct or instruct,
        keep_trying=camera.is_live,
        frozen_after_s=camera.frozen_after_s if camera.is_live else None,
        open_timeout_s=camera.open_timeout_s,
        read_timeout_s=camera.read_timeout_s,
        picture_timeout_s=camera.picture_timeout_s,
        rtsp_transport=camera.transport,
        **of_model,  # type: ignore[arg-type]
    )
