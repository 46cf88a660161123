"""What sends messages to one target: the protocol of senders, and the files that go along."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from assistant.delivery.messages import AlertMessage, Attachment
from assistant.timeline.folder import TimelineFolder
from streaming.errors import OptionError
from streaming.redact import HIDDEN, redact_text
from streaming.thumbnails import encode_jpeg, with_outline

MOST_ATTACHED_BYTES = 10 << 20
"""Size above which a file is not attached; most mail and chat services take no more."""
SHORTEST_SECRET = 4
"""Least length of a secret that is hidden, characters: a shorter one would also match inside ordinary words."""
TEST_RULE = "Test"
"""Name of the rule that test alerts are about."""

OnMute = Callable[[str, bool], None]
"""Called with a rule's name, and whether it is to be muted."""


@dataclass(frozen=True, slots=True)
class AnnouncedRule:
    """A rule as receivers are told about it before it fires."""

    name: str
    is_muted: bool = False
    targets: tuple[str, ...] | None = None
    """Names of the targets that its alerts go to; None for all."""


@dataclass(frozen=True, slots=True)
class MessageFiles:
    """The files that go along with a message."""

    attachments: tuple[Attachment, ...] = ()
    left_out: tuple[str, ...] = ()
    """Why a file that was wanted is missing, one line each."""

    @property
    def snapshot(self) -> bytes | None:
        """The picture, as JPEG; None without one."""
        return next((file.data for file in self.attachments if file.media_type == "image/jpeg"), None)


class Sender(Protocol):
    """Sends messages to one target, on the thread of its courier."""

    @property
    def secrets(self) -> SecretWords:
        """What must stand in no log, its own or a library's."""

    def open(self) -> None:
        """Start connections that are kept; returns at once."""

    def send(self, message: AlertMessage, files: MessageFiles) -> str:
        """Send a message and return what the receiver said. Raises `NotDelivered` or `DeliveryRefused`."""

    def set_rules(self, rules: Sequence[AnnouncedRule]) -> None:
        """Tell the receiver which rules there are, where it can show them; any thread may call it."""

    def close(self) -> None:
        """Close connections; may be called twice."""


def files_of(message: AlertMessage, attach: str, folder: TimelineFolder) -> MessageFiles:
    """The files that a target wants with a message, read from the timeline's folder."""
    if attach == "nothing":
        return MessageFiles()
    found: list[Attachment] = []
    left_out: list[str] = []
    wanted = [("snapshot", "image/jpeg", "snapshot.jpg", message.snapshot)]
    if attach == "frames" and message.phase == "started":
        wanted += [(f"frame {n}", "image/jpeg", f"frame-{n}.jpg", path) for n, path in enumerate(message.frames, 1)]
    if attach == "clip" and message.phase == "ended":
        wanted.append(("clip", "video/mp4", "clip.mp4", message.clip))
    for what, media_type, name, path in wanted:
        data = folder.read(path) if path else None
        if what == "snapshot" and message.is_test:
            found.append(sample_attachment())
        elif data is None:
            left_out.append(f"{what}: " + ("its file is gone or not finished" if path else "none was kept"))
        elif len(data) > MOST_ATTACHED_BYTES:
            left_out.append(f"{what}: {len(data)} bytes; at most {MOST_ATTACHED_BYTES} are attached")
        else:
            if message.zone and media_type == "image/jpeg":
                data = _zoned(data, message, what, left_out)
            found.append(Attachment(name, media_type, data))
    return MessageFiles(tuple(found), tuple(left_out))


def _zoned(data: bytes, message: AlertMessage, what: str, left_out: list[str]) -> bytes:
    """A picture with the rule's zone drawn on it; as it was, and why, where that cannot be."""
    try:
        return with_outline(data, message.zone)
    except OptionError as error:
        left_out.append(f"zone on {what}: {error}")
        return data


def sample_attachment() -> Attachment:
    """The picture of test alerts, a JPEG: a grey ramp with a bright square in its middle."""
    image = np.repeat(np.linspace(40, 160, 320).astype(np.uint8)[None, :, None], 180, axis=0).repeat(3, axis=2)
    image[70:110, 140:180] = (240, 200, 60)
    return Attachment("snapshot.jpg", "image/jpeg", encode_jpeg(image).data)


class SecretWords:
    """The secrets of one target, which are hidden in everything that is logged, stored or shown about it."""

    def __init__(self, *secrets: str | None) -> None:
        known = {secret for secret in secrets if secret and len(secret) >= SHORTEST_SECRET}
        self.words = tuple(sorted(known, key=len, reverse=True))

    def hide(self, text: str) -> str:
        """`text` without the secrets, and without credentials in any other URL."""
        for word in self.words:
            text = text.replace(word, HIDDEN)
        return redact_text(text)
