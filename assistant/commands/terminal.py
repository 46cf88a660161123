"""Shared by all commands: options as settings, errors as one line and an exit code. Imports only light modules."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from assistant.errors import AssistantError, NothingToSee

BAD_INPUT = 2
NOTHING_READ = 3
INTERRUPTED = 130


@contextmanager
def clear_errors() -> Iterator[None]:
    """Within this context, an error that a user can correct is printed in one line and exits with its code."""
    from models.errors import ModelError
    from streaming.errors import StreamingError
    from streaming.redact import redact_text

    try:
        yield
    except NothingToSee as error:
        _fail(redact_text(str(error)), NOTHING_READ)
    except StreamingError as error:  # redacted where it was raised
        _fail(str(error), BAD_INPUT)
    except (AssistantError, ModelError) as error:
        _fail(redact_text(str(error)), BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else flushing at exit would fail again
        _fail(f"standard output: {error.strerror}; events need disk space to be written; free some", BAD_INPUT)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(code) from None


def options_given(**values: Any) -> dict[str, Any]:
    """The options that were given, those of value None left out."""
    return {name: value for name, value in values.items() if value is not None}


def parse_each(parse: Any, values: list[str] | None) -> list[Any] | None:
    """Each value of a repeatable option, parsed; None if the option was not given."""
    return [parse(value) for value in values] if values else None


def as_json_line(values: dict[str, Any]) -> str:
    """`values` as one line of JSON."""
    return json.dumps(values, ensure_ascii=False)


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def usage_error_message(error: Exception, arguments: list[str]) -> str:
    """The message of a command-line error, with the wrong option and its value."""
    message = " ".join(getattr(error, "format_message", error.__str__)().split()).rstrip(".")
    for name in getattr(getattr(error, "param", None), "opts", ()):
        for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
            value = following if option == name else option.removeprefix(f"{name}=") if "=" in option else option
            if value != option:
                return f"{name} {value!r}: {message.partition(': ')[2] or message}"
    return message


def warn(line: str) -> None:
    """Print a warning to standard error."""
    print(f"warning: {line}", file=sys.stderr, flush=True)
