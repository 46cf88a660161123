"""Users of the browser app: a file of names and bcrypt hashes, the format of Apache's `htpasswd -B`. Any thread.

One `name:hash` per line; empty lines and lines that begin with # are ignored.
"""

from __future__ import annotations

import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from assistant.errors import ConfigError
from assistant.program import called_as

_HASH = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_ROUNDS = 12
_MOST_BYTES = 72
"""Most bytes of a password: bcrypt reads no more."""
_PAUSE_S = 1.0
_MAX_PAUSE_S = 30.0


def _remedy() -> str:
    return f"write it with {called_as()} password NAME, or htpasswd -B"


def read_users(path: Path) -> dict[str, bytes]:
    """Hashes by user name. Raises `ConfigError` if the file is unreadable, malformed, empty or writable by others."""
    users: dict[str, bytes] = {}
    for number, name, hashed in hashes_of_names(path, f"--auth-file {path}", _remedy()):
        if not name or not _HASH.fullmatch(hashed):
            raise ConfigError(f"--auth-file {path}, line {number}: it must be name:bcrypt-hash; {_remedy()}")
        users[name] = hashed.encode()
    if not users:
        raise ConfigError(f"--auth-file {path}: it holds no user; {_remedy()}")
    return users


def hashes_of_names(path: Path, shown: str, remedy: str) -> list[tuple[int, str, str]]:
    """The lines `name:hash` of a file: number, name and hash, unchecked; blank lines and comments are left out.

    shown: what messages call the file. Raises `ConfigError` if it is unreadable, or writable by others.
    """
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{shown}: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{shown}: it is not text; {remedy}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{shown}: other users may write to it; only its owner should; run chmod go-w {path}")
    parts = [(number, line.strip().partition(":")) for number, line in enumerate(lines, 1) if not line.startswith("#")]
    return [(number, name, hashed) for number, (name, colon, hashed) in parts if name or colon]


def make_line(name: str, password: str, rounds: int = _ROUNDS) -> str:
    """The user's line for the file. Raises `ConfigError` for a name or a password that is not allowed."""
    import bcrypt

    if not name.strip() or name != name.strip() or ":" in name or not name.isprintable():
        raise ConfigError(f"name {name!r}: it must have no colon, and no space at its ends; choose another")
    if len(password) < 8 or len(password.encode()) > _MOST_BYTES:
        raise ConfigError(
            f"password: it must have at least 8 characters and at most {_MOST_BYTES} bytes; choose another"
        )
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()}"


class Authenticator:
    """Checks passwords. After each wrong one, a growing pause refuses the name, up to 30 s. Any thread may call it."""

    def __init__(self, users: dict[str, bytes], now: Callable[[], float] = time.monotonic) -> None:
        """users: as `read_users` returns them. now: a clock in seconds."""
        import bcrypt

        self._users = users
        self._now = now
        # Compared for unknown names, so that they take as long as known ones.
        rounds = max(int(hashed[4:6]) for hashed in users.values())
        self._nobody = bcrypt.hashpw(b"nobody", bcrypt.gensalt(rounds))
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, float]] = {}

    def admits(self, name: str, password: str) -> bool:
        """Whether this is the user's password; False during the pause after a wrong one."""
        import bcrypt

        known = name if name in self._users else ""
        with self._lock:
            count, until_s = self._failures.get(known, (0, 0.0))
            if self._now() < until_s:
                return False
            # Counted before the check, so that simultaneous attempts are all counted.
            pause_s = min(_MAX_PAUSE_S, _PAUSE_S * 2.0 ** min(count, 10)) if count else 0.0
            self._failures[known] = (count + 1, self._now() + pause_s)
        given = password.encode()
        good = bcrypt.checkpw(given[:_MOST_BYTES], self._users.get(name, self._nobody)) and bool(known)
        if good and len(given) <= _MOST_BYTES:
            with self._lock:
                self._failures.pop(known, None)
            return True
        return False
