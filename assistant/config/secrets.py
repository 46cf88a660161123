"""Reads secrets from where a configuration says they are: environment variables and files. Any thread may call it."""

from __future__ import annotations

import os
from pathlib import Path

from assistant.errors import ConfigError

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
"""Pattern of an environment variable's name."""


def secret_of_variable(variable: str, owner: str) -> str:
    """The value of an environment variable. owner: who needs it, as `camera door`. Raises `ConfigError` without one."""
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(f"{variable}: the environment variable is not set; {owner} needs it; set it")
    return value


def secret_of_file(path: Path, owner: str, what: str) -> str:
    """The first line of a file. what: what it is, as `password`. Raises `ConfigError` where it cannot be read."""
    try:
        first_line = path.expanduser().read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{path}: {reason}; {owner} needs it for its {what}; check it") from None
    if not first_line:
        raise ConfigError(f"{path}: its first line is empty; it must be {owner}'s {what}; write it there")
    return first_line


def secret_of(variable: str | None, path: Path | None, owner: str, what: str) -> str | None:
    """A secret from a variable or a file; None where neither is named. Raises `ConfigError` if it cannot be read."""
    if variable is not None:
        return secret_of_variable(variable, owner)
    return None if path is None else secret_of_file(path, owner, what)
