"""Limits on viewers of the browser app: the camera addresses they may open, and the files they may upload."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assistant.errors import AssistantError, ConfigError
from streaming.network_policy import Network, NetworkPolicy

if TYPE_CHECKING:
    from streaming.sources.base import SourceOptions

_PICTURE_KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_MIB = 1024 * 1024


class UploadRefused(AssistantError):
    """An uploaded file is too large, or not a picture or clip."""


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached only from this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    bare = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(bare, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


@dataclass(frozen=True, slots=True)
class CameraPolicy:
    """The network addresses at which viewers may open cameras."""

    reach: NetworkPolicy

    @classmethod
    def bound_to(cls, host: str, networks: Sequence[str] = (), *, is_public: bool = False) -> CameraPolicy:
        """The policy of an app that listens on `host`; is_public: whether a reverse proxy makes it reachable by others.

        On the loopback address the viewer uses this machine and may reach all that it reaches, private networks
        included. Otherwise only `networks` (as 192.168.1.0/24), none by default. Raises `ConfigError`.
        """
        listed = tuple(parse_network(text) for text in networks)
        is_own = is_loopback(host) and not is_public
        return cls(NetworkPolicy(None if is_own and not listed else listed))

    def check(self, url: str) -> None:
        """Raise `streaming.errors.AddressRefused` if `url` is not a camera's URL, or contains a refused IP address.

        Connects to nothing and resolves no name; opening the source checks resolved addresses.
        """
        from streaming.network_policy import PinnedHosts, parse_host
        from streaming.redact import redact_url
        from streaming.sources.addresses import parse_url

        name, parts = redact_url(url), parse_url(url.strip())
        if parse_host(name, parts.host) is not None:
            PinnedHosts(name, self.reach).addresses(parts.host, parts.port)

    def guard(self, options: SourceOptions) -> SourceOptions:
        """`options` restricted to this policy's addresses, for opening a viewer's URL."""
        return replace(options, reach=self.reach, rtsp_transport="tcp")


def parse_network(text: str) -> Network:
    """Parse a network of the configuration. Raises `ConfigError`.

    >>> parse_network("192.168.1.0/24")
    IPv4Network('192.168.1.0/24')
    """
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise ConfigError(f"network {text!r}: {error}; write it as 192.168.1.0/24 or fd12::/64") from None


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """Size, duration and codec of an uploaded clip."""

    width_px: int
    height_px: int
    duration_s: float
    """How long it shows pictures, whatever its header says."""
    codec: str


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of uploaded files; messages name a file as the viewer knows it."""

    max_bytes: int = 512 * _MIB
    max_picture_bytes: int = 24 * _MIB
    max_seconds: float = 4 * 3600.0
    max_pixels: int = 36_000_000
    """Most pixels of one picture, in a clip or alone."""

    def check_clip(self, path: Path, shown: str = "") -> ClipFacts:
        """Check an uploaded clip and return what its header says. Raises `UploadRefused`.

        Only self-contained formats are accepted: a playlist could refer to other files.
        """
        from streaming.errors import StreamingError
        from streaming.sources.guard.upload_header import read_upload_header

        name = shown or path.name
        self._check_size(path, name, self.max_bytes)
        try:
            clip = read_upload_header(path, most_s=self.max_seconds)
        except StreamingError as error:
            remedy = error.remedy or "give a video file, as MP4 or WebM"
            raise UploadRefused(f"{name}: {error.rule}; {remedy}") from None
        if clip.width_px * clip.height_px > self.max_pixels:
            raise UploadRefused(
                f"{name}: its picture is {clip.width_px} x {clip.height_px}; at most {self.max_pixels / 1e6:.0f} "
                "megapixels are allowed; scale it down"
            )
        if clip.duration_s > self.max_seconds:
            raise UploadRefused(
                f"{name}: it is more than {self.max_seconds / 60:.0f} minutes long, which is the limit; cut it"
            )
        return ClipFacts(clip.width_px, clip.height_px, clip.duration_s, clip.codec)

    def check_picture(self, path: Path, shown: str = "") -> tuple[int, int]:
        """Check an uploaded picture and return width and height as its header says. Raises `UploadRefused`."""
        from PIL import Image, UnidentifiedImageError

        from streaming.sources.file_signatures import kind_of

        name = shown or path.name
        self._check_size(path, name, self.max_picture_bytes)
        try:
            with Image.open(path, formats=_PICTURE_KINDS) as header:
                width_px, height_px = header.size
        except Image.DecompressionBombError:
            allowed = f"at most {self.max_pixels / 1e6:.0f} megapixels are allowed"
            raise UploadRefused(
                f"{name}: it is a picture of far more pixels than are read; {allowed}; scale it down"
            ) from None
        except (UnidentifiedImageError, OSError, ValueError):
            kind = kind_of(path)
            reason = (
                f"{kind.description}, not a picture that can be read"
                if kind
                else "it is not a picture that can be read"
            )
            remedy = kind.remedy if kind else "give a JPEG, PNG or WebP file"
            if kind is not None and kind.description.endswith(" picture"):
                reason, remedy = f"{kind.description} whose header cannot be read", "check that the file is complete"
            raise UploadRefused(f"{name}: {reason}; {remedy}") from None
        if width_px * height_px > self.max_pixels:
            raise UploadRefused(
                f"{name}: it is {width_px} x {height_px}; at most {self.max_pixels / 1e6:.0f} megapixels are allowed; "
                "scale it down"
            )
        return width_px, height_px

    def read_picture(self, path: Path, shown: str = "", warn: Callable[[str], None] = lambda line: None) -> np.ndarray:
        """Read an uploaded picture, uint8 RGB `[height, width, 3]`. Raises `UploadRefused`.

        warn: called with a line if the file holds several pictures, of which only the first is read.
        """
        from assistant.inputs.attachments import BadPicture, read_picture

        name = shown or path.name
        self.check_picture(path, name)
        try:
            return read_picture(path, warn, shown=name)
        except BadPicture:
            raise UploadRefused(f"{name}: it cannot be read to its end; check that the file is complete") from None

    def _check_size(self, path: Path, name: str, limit: int) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise UploadRefused(f"{name}: {error.strerror}; send it again") from None
        if size > limit:
            raise UploadRefused(
                f"{name}: it has {size / _MIB:.1f} MiB; at most {limit / _MIB:.0f} are allowed; cut it or scale it down"
            )
        if not size:
            raise UploadRefused(f"{name}: it is empty; send it again")
