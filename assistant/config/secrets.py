"""Reads secrets from where a configuration says they are: environment variables and files. Any thread may call it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from assistant.errors import ConfigError

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
"""Pattern of an environment variable's name."""


class Login(Protocol):
    """Where a user and a password come from."""

    @property
    def user(self) -> str | None: ...

    @property
    def user_env(self) -> str | None: ...

    @property
    def password_env(self) -> str | None: ...

    @property
    def password_file(self) -> Path | None: ...


def check_login(login: Login) -> None:
    """Raise `ValueError` for a login with two users or two passwords, or with a password alone."""
    if login.password_env and login.password_file:
        raise ValueError("password_env and password_file: only one of them may be given")
    if login.user and login.user_env:
        raise ValueError("user and user_env: only one of them may be given")
    if (login.password_env or login.password_file) and not (login.user or login.user_env):
        raise ValueError("a password without a user: user or user_env is needed")


def login_of(login: Login, owner: str) -> tuple[str, str | None] | None:
    """User and password; None without a user. owner: as for `secret_of`. Raises `ConfigError` if one cannot be read."""
    user = secret_of_variable(login.user_env, owner) if login.user_env else login.user
    return None if user is None else (user, secret_of(login.password_env, login.password_file, owner, "password"))


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
