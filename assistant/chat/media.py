"""Pictures and clips of requests: data URLs become files, and in their turn pixels. For worker threads."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from assistant.chat.refusal import ChatRefused
from assistant.chat.requests import MediaUrl
from assistant.errors import AssistantError
from assistant.inputs.limits import UploadLimits
from streaming.errors import StreamingError
from streaming.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from models.session.media_turns import Attachment

CLIP_FPS = 1.0
"""Frames per second read from a clip."""
MOST_PIXELS_IN_ALL = 400_000_000
"""Most pixels of all pictures and frames of one request: decoded, each takes three bytes."""
_DATA_URL = re.compile(r"data:([\w.+/-]*)((?:;[\w.+=-]+)*?)(;base64)?,", re.ASCII)
_MOST_HEAD = 200


@dataclass(slots=True)
class MediaFiles:
    """The media of one request as files of its own; `close` deletes them."""

    uploads: UploadLimits
    folder: Path
    warnings: list[str] = field(default_factory=list)
    """What was not seen whole, a line each."""
    _kept: list[tuple[MediaUrl, Path]] = field(default_factory=list)

    def keep(self, media: Sequence[MediaUrl]) -> None:
        """Write what the data URLs hold to files. Raises `ChatRefused`."""
        for each in media:
            data = decoded(each)
            with NamedTemporaryFile(dir=self.folder, prefix="chat-", delete=False) as file:
                self._kept.append((replace(each, url=""), Path(file.name)))
                file.write(data)

    def read(self) -> list[Attachment]:
        """The pixels of all of them. Raises `ChatRefused`, before anything is decoded where they are too large."""
        num_pixels = 0
        for each, path in self._kept:
            with _said_of(each):
                num_pixels += self._num_pixels(each, path)
            if num_pixels > MOST_PIXELS_IN_ALL:
                raise ChatRefused(
                    f"{each.name}: pictures and frames of one request come to {num_pixels / 1e6:.0f} megapixels "
                    f"with it; at most {MOST_PIXELS_IN_ALL / 1e6:.0f} are read; scale them down or send fewer",
                    param=each.where,
                )
        read: list[Attachment] = []
        for each, path in self._kept:
            with _said_of(each):
                read.append(self._pixels(each, path))
        return read

    def take(self) -> list[Attachment]:
        """The pixels of all of them; the files are deleted. Raises `ChatRefused`."""
        try:
            return self.read()
        finally:
            self.close()

    def close(self) -> None:
        """Delete the files."""
        for _, path in self._kept:
            with suppress(OSError):
                path.unlink()
        self._kept.clear()

    def _num_pixels(self, each: MediaUrl, path: Path) -> int:
        """How many pixels it has once decoded, from what its header says and, for a clip, its length."""
        from assistant.inputs.attachments import MOST_FRAMES, is_animated

        if each.is_clip or is_animated(path):
            clip = self.uploads.check_clip(path, each.name)
            num_frames = min(MOST_FRAMES, 1 + int(clip.duration_s * CLIP_FPS))
            return clip.width_px * clip.height_px * num_frames
        width_px, height_px = self.uploads.check_picture(path, each.name)
        return width_px * height_px

    def _pixels(self, each: MediaUrl, path: Path) -> np.ndarray | Attachment:
        from assistant.inputs.attachments import is_animated, read_clip
        from models.session.media_turns import Clip

        if each.is_clip or is_animated(path):
            return Clip(*read_clip(str(path), CLIP_FPS, self.warnings.append, shown=each.name))
        return self.uploads.read_picture(path, each.name, self.warnings.append)


def decoded(media: MediaUrl) -> bytes:
    """The bytes of a data URL. Raises `ChatRefused`; other URLs are not fetched.

    >>> decoded(MediaUrl(False, "data:image/png;base64,AAEC", "messages[0].content[0]", "picture 1"))
    b'\\x00\\x01\\x02'
    """
    match = _DATA_URL.match(media.url[:_MOST_HEAD])
    if match is None:
        scheme = media.url[:12].partition(":")[0]
        rule = "a data URL is read, and nothing is fetched from elsewhere"
        raise ChatRefused(
            f"{media.name}, a URL that begins with {scheme!r}: {rule}; send data:image/jpeg;base64,…", param=media.where
        )
    if match[3] is None:
        raise ChatRefused(f"{media.name}: its data must be base64; send data:…;base64,…", param=media.where)
    is_video = match[1].lower().startswith("video/")
    if match[1] and is_video != media.is_clip and match[1].lower().startswith(("video/", "image/", "audio/", "text/")):
        wanted = "video_url takes video/…" if media.is_clip else "image_url takes image/…"
        # An animated picture may be sent as a clip.
        if not (media.is_clip and match[1].lower() in ("image/gif", "image/webp", "image/png", "image/apng")):
            raise ChatRefused(f"{media.name}, {match[1][:60]}: {wanted}; send it there", param=media.where)
    try:
        return base64.b64decode(media.url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise ChatRefused(f"{media.name}: its base64 is damaged; encode it again", param=media.where) from None


@contextmanager
def _said_of(media: MediaUrl) -> Iterator[None]:
    """What is wrong with a picture or clip, as a refusal that names its place in the request."""
    try:
        yield
    except ChatRefused:
        raise
    except (AssistantError, StreamingError) as error:
        raise ChatRefused(redact_text(str(error)), param=media.where) from error
