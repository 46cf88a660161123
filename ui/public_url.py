"""The address under which a reverse proxy serves the app, and the headers of proxies. Plain values; any thread."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from assistant.errors import ConfigError

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PORTS = {"http": 80, "https": 443}
_SAYS = frozenset({b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server"})
"""Headers that Gradio trusts, no matter who sends them."""


@dataclass(frozen=True, slots=True)
class PublicUrl:
    """The address that people type: scheme, host with port, and the path at which the proxy serves the app."""

    scheme: str
    netloc: str
    """In lower case, without the scheme's default port."""
    path: str
    """Empty, or a path that begins with a slash and does not end with one."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what --public-url was given. Raises `ConfigError`.

        >>> PublicUrl.parse("https://Cam.example.org:443/door/")
        PublicUrl(scheme='https', netloc='cam.example.org', path='/door')
        """
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or "*" in parts.netloc)
        if parts.scheme not in _PORTS or not parts.hostname or not is_plain or not text.isascii():
            raise ConfigError(
                f"--public-url {text}: it is what people type: a scheme, a name and perhaps a path; "
                "give e.g. https://camera.example.org or https://example.org/camera"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
        return cls(parts.scheme, netloc, parts.path.rstrip("/"))

    @property
    def origin(self) -> str:
        """Scheme and host, as a browser sends them in the Origin header."""
        return f"{self.scheme}://{self.netloc}"

    def __str__(self) -> str:
        return self.origin + self.path

    def is_asked_for(self, headers: Mapping[bytes, str]) -> bool:
        """Whether a request came through this address.

        True if the Host header names it, or if Host is this machine and X-Forwarded-Host or Origin names it. For any
        other Host, X-Forwarded-Host is ignored, since a page can set it, too.
        """
        host = _normal(headers.get(b"host", ""), self.scheme)
        if host == self.netloc:
            return True
        if without_port(host) not in LOCAL_HOSTS:
            return False
        forwarded = headers.get(b"x-forwarded-host", "").split(",")[0].strip().lower()
        return _normal(forwarded, self.scheme) == self.netloc or headers.get(b"origin", "").lower() == self.origin

    def lay_on(self, scope: MutableMapping[str, Any]) -> None:
        """Rewrite host, scheme and path of a request that came through the proxy as if there were none."""
        host = self.netloc.encode()
        own = [(b"host", host), (b"x-forwarded-host", host + self.path.encode())]
        own.append((b"x-forwarded-proto", self.scheme.encode()))
        scope["headers"] = [*own, *(pair for pair in scope["headers"] if pair[0] not in _SAYS and pair[0] != b"host")]
        is_socket = scope["type"] == "websocket"
        scope["scheme"] = {"http": "ws", "https": "wss"}[self.scheme] if is_socket else self.scheme
        path = scope["path"]
        if self.path and (path == self.path or path.startswith(self.path + "/")):
            scope["path"] = path[len(self.path) :] or "/"
            raw = scope.get("raw_path")
            if raw and raw.startswith(self.path.encode()):
                scope["raw_path"] = raw[len(self.path) :] or b"/"


def forget_claims(scope: MutableMapping[str, Any]) -> None:
    """Remove headers that claim another name for this app, since no configured one matches."""
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _SAYS - {b"x-forwarded-proto"}]


def without_port(host: str) -> str:
    """The host name without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def _normal(host: str, scheme: str) -> str:
    """`host` in lower case, without its scheme's default port."""
    return host.strip().lower().removesuffix(f":{_PORTS[scheme]}")
