"""Redacts credentials in the tracebacks of uncaught errors. Installed once, in app.py."""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType

from streaming.redact import redact_text


def hide_credentials() -> None:
    """Redact credentials in the traceback of every uncaught error, of any thread."""
    sys.excepthook = _print
    threading.excepthook = _print_of_thread


def _print(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(redact_text(text), end="", file=sys.stderr)


def _print_of_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is None or caught.exc_type is SystemExit:
        return
    name = caught.thread.name if caught.thread is not None else "a thread"
    print(f"{redact_text(name)}:", file=sys.stderr)
    _print(caught.exc_type, caught.exc_value, caught.exc_traceback)
