"""Parses the URLs of cameras and recordings, and refuses ambiguous ones that programs read differently. Any thread."""

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
    """The parts of a URL that is unambiguous."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query, with the leading slash."""
    login: tuple[str, str] | None
    """User and password, unescaped; None without a login."""
    userinfo: str
    """The login escaped for a URL, with its `@`; empty without a login."""

    @property
    def text(self) -> str:
        """The URL without the login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def parse_url(url: str) -> CameraUrl:
    """The parts of an untrusted `url`. Raises `AddressRefused` unless it is plainly an rtsp(s) or http(s) URL."""
    name = redact_url(url)
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url) or "\\" in url:
        raise AddressRefused(name, "it holds spaces, control characters or backslashes", "leave them out")
    parts = split_url(url)
    parse_host(name, parts.host)
    return parts


def split_url(url: str) -> CameraUrl:
    """The parts of the owner's `url`, which may lead to any host. Raises `AddressRefused` if it names no host."""
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
