"""Who may use the endpoint: keys of a file, and the page's own users. Any thread.

A key file has one `name:hash` a line, the SHA-256 of a key in hex; `video-assistant key NAME` makes a key and its line.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from pathlib import Path

from assistant.chat.refusal import ChatRefused
from assistant.errors import ConfigError
from assistant.program import called_as
from assistant.viewers.passwords import Authenticator, hashes_of_names

_PREFIX = "sva-"
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"\w[\w .\-]{0,63}")
_MOST_HEADER = 1024


def make_key(name: str) -> tuple[str, str]:
    """A new key, and its line for the key file. Raises `ConfigError` for a name that is not allowed."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"name {name!r}: it must be at most 64 letters, digits, spaces, dots and dashes; choose another"
        )
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, f"{name}:{_hash_of(key)}"


def read_keys(path: Path) -> dict[str, str]:
    """Names by hash. Raises `ConfigError` if the file is unreadable, malformed, empty or writable by others."""
    remedy = f"write it with {called_as()} key NAME >> {path}"
    keys: dict[str, str] = {}
    for number, name, hashed in hashes_of_names(path, f"key file {path}", remedy):
        if not _NAME.fullmatch(name) or not _HASH.fullmatch(hashed):
            raise ConfigError(f"key file {path}, line {number}: it must be name:hash; {remedy}")
        keys[hashed] = name
    if not keys:
        raise ConfigError(f"key file {path}: it holds no key; {remedy}")
    return keys


class ClientKeys:
    """Tells clients by their `Authorization` header. Hashes passwords, so call it off the server's event loop."""

    def __init__(self, keys: dict[str, str] | None = None, users: Authenticator | None = None) -> None:
        """keys: as `read_keys` returns them. users: of the page's own login. Without both, everybody is admitted."""
        self._keys = keys or {}
        self._users = users

    @property
    def is_open(self) -> bool:
        """Whether no key is asked for."""
        return not self._keys and self._users is None

    def client(self, authorization: str | None, address: str) -> str:
        """The name of who asks: of a key or a user, or the address where no key is asked for. Raises `ChatRefused`.

        A user of the page's login sends `name:password` as Basic authorization or as the key.
        """
        if self.is_open:
            return f"address {address}"
        scheme, _, given = (authorization or "")[:_MOST_HEADER].strip().partition(" ")
        given = given.strip()
        if not given or scheme.lower() not in ("bearer", "basic"):
            raise self._refusal("no key was sent")
        hashed = _hash_of(given)
        for known, name in self._keys.items():
            if hmac.compare_digest(known, hashed):
                return f"key {name}"
        name, colon, password = (_basic(given) if scheme.lower() == "basic" else given).partition(":")
        if self._users is not None and colon and self._users.admits(name, password):
            return f"user {name}"
        raise self._refusal("the key is none of this app's")

    def _refusal(self, what: str) -> ChatRefused:
        ways = [
            *(["a key of the key file"] if self._keys else []),
            *(["name:password of a user of the page"] if self._users is not None else []),
        ]
        remedy = f"send Authorization: Bearer with {' or '.join(ways)}"
        return ChatRefused(f"{what}; {remedy}", 401, code="invalid_api_key")


def _hash_of(key: str) -> str:
    # A key is random and long, so that a fast hash does.
    return hashlib.sha256(key.encode()).hexdigest()


def _basic(given: str) -> str:
    try:
        return base64.b64decode(given, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return ""
