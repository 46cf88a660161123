"""URLs of cameras and recordings, taken apart so that no two programs read them differently. For any thread."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from streaming.errors import AddressRefused
from streaming.network_policy import parse_host
from streaming.redact import escape_userinfo, redact_url, split_userinfo

DEFAULT_PORTS = MappingProxyType({"rtsp": 554, "rtsps": 322, "http": 80, "https": 443})
KINDS = "give an rtsp://, rtsps://, http:// or https:// address"


@dataclass(frozen=True, slots=True)
class CameraUrl:
    """A URL taken apart; whatever two programs may read differently was refused."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, from the slash on."""
    login: tuple[str, str] | None
    """User and password, unescaped."""
    userinfo: str
    """The same, escaped for a URL and with its `@`; empty where there is none."""

    @property
    def text(self) -> str:
        """Written out, without the login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def parse_url(url: str) -> CameraUrl:
    """A stranger's `url` in its parts. Raises `AddressRefused` where it is not plainly one of the four kinds."""
    name = redact_url(url)
    if any(ord(sign) <= 0x20 or ord(sign) == 0x7F for sign in url) or "\\" in url:
        raise AddressRefused(name, "it holds spaces, control characters or backslashes", "leave them out")
    parts = split_url(url)
    parse_host(name, parts.host)
    return parts


def split_url(url: str) -> CameraUrl:
    """The owner's `url` in its parts, to whatever host it leads. Raises `AddressRefused` where it names none."""
    name = redact_url(url)
    bare, userinfo = split_userinfo(url)
    try:
        parts = urlsplit(bare)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise AddressRefused(name, "its host or port cannot be read", KINDS) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise AddressRefused(name, f"{parts.scheme or 'no scheme'}:// is not a camera's", KINDS)
    if not host or "@" in parts.netloc:
        raise AddressRefused(name, "it names no host", KINDS)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    user, _, password = (userinfo or "").partition(":")
    login = None if userinfo is None else (unquote(user), unquote(password))
    escaped = "" if userinfo is None else escape_userinfo(url).partition("://")[2].rpartition("@")[0] + "@"
    return CameraUrl(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], target, login, escaped)
