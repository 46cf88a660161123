"""Configuration of the watched cameras (addresses, logins, masks, zones), the timeline and the monitor.

Passwords come from the environment or a file, so that the configuration holds none; they are read when a camera is
opened. Immutable values; any thread may hold them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from assistant.config.bounds import OPEN_TIMEOUT_S, PICTURE_TIMEOUT_S, READ_TIMEOUT_S
from assistant.config.component import (
    Component,
    FramesASecond,
    OpenTimeout,
    PictureTimeout,
    ReadTimeout,
    ShortText,
    Talkative,
    check_distinct,
    check_names,
    mask_regions,
    named_regions,
)
from assistant.config.secrets import VARIABLE, check_login, login_of
from assistant.inputs.source_names import SourceKind, source_kind
from assistant.timeline.records import MOST_KEPT_S
from streaming.masks import MaskRegion
from streaming.redact import with_userinfo

if TYPE_CHECKING:
    from assistant.timeline.upkeep import Retention

FROZEN_AFTER_S = 60.0
"""Seconds of exactly equal pictures after which a live camera counts as frozen; sensor noise never repeats so long."""


class CameraConfig(Component):
    """One camera."""

    url: str = Field(min_length=1, repr=False)
    """Address: rtsp(s)://, http(s)://, webcam:0; a file or synthetic:1 plays once, in real time."""
    user: str | None = Field(default=None, min_length=1, repr=False)
    user_env: str | None = Field(default=None, pattern=VARIABLE)
    """Environment variable that holds the user name."""
    password_env: str | None = Field(default=None, pattern=VARIABLE)
    password_file: Path | None = None
    """A file whose first line is the password."""
    fps: FramesASecond | None = None
    """Frames per second given to the model; None for the checkpoint's own rate."""
    talkative: Talkative | None = None
    """Replaces `speaking.talkative` for this camera."""
    instruct: ShortText | None = None
    """Replaces `speaking.instruct` for this camera."""
    masks: Annotated[tuple[MaskRegion, ...], BeforeValidator(mask_regions)] = ()
    """Regions that are painted over before anything sees them."""
    zones: Annotated[dict[str, MaskRegion], BeforeValidator(named_regions)] = Field(default_factory=dict)
    """Regions in which something must change before a remark is made; without zones, the whole picture."""
    transport: Literal["tcp", "udp"] = "tcp"
    open_timeout_s: OpenTimeout = OPEN_TIMEOUT_S
    read_timeout_s: ReadTimeout = READ_TIMEOUT_S
    picture_timeout_s: PictureTimeout = PICTURE_TIMEOUT_S
    frozen_after_s: float = Field(default=FROZEN_AFTER_S, ge=5, le=86400)

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        check_login(self)
        return self

    @property
    def is_live(self) -> bool:
        """Whether it is a live source, watched without end."""
        return source_kind(self.url) in (SourceKind.NETWORK, SourceKind.WEBCAM)

    def login(self, name: str) -> tuple[str, str | None] | None:
        """User and password, read from environment or file; None without a configured user. Raises `ConfigError`."""
        return login_of(self, f"camera {name}")

    def spec(self, name: str) -> str:
        """The URL to open, with the login inserted. Raises `ConfigError` if the login cannot be read."""
        login = self.login(name)
        return self.url if login is None else with_userinfo(self.url, *login)


class TimelineConfig(Component):
    """Where events are stored, and for how long."""

    folder: Path | None = None
    """Folder of the timeline; None for the user's state folder."""
    keep_clips_s: float | None = Field(default=None, gt=0, le=MOST_KEPT_S)
    """Seconds recorded before and after each event; None records no clips but those of alerts."""
    alert_clips_s: float | None = Field(default=5.0, gt=0, le=MOST_KEPT_S)
    """Seconds recorded before and after each alert, if that is more; None for as many as for other events."""
    max_age_days: float | None = Field(default=None, gt=0)
    max_gib: float | None = Field(default=None, ge=0.001)

    def retention(self) -> Retention:
        """The limits in the form that the timeline applies."""
        from assistant.timeline.upkeep import Retention

        max_bytes = None if self.max_gib is None else int(self.max_gib * 2**30)
        return Retention(max_age_days=self.max_age_days, max_bytes=max_bytes)


class MonitorConfig(Component):
    """The HTTP server of metrics and health."""

    port: int | None = Field(default=None, ge=0, le=65535)
    """Port of /metrics and /healthz; None for no server, 0 for any free port."""
    host: str = "127.0.0.1"


def check_cameras(cameras: dict[str, CameraConfig]) -> dict[str, CameraConfig]:
    """Return `cameras`. Raises `ValueError` if a name has odd characters, or two names differ only in capitals."""
    check_names("camera", cameras)
    check_distinct("cameras", cameras)
    return cameras
