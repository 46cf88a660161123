"""Structured logs: one JSON object a line on standard error, with no credential in it. Set up once, in `app.py`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog

from streaming.redact import HIDDEN, redact_text

SHORTEST_SECRET = 4
"""A shorter password would be hidden inside ordinary words."""


class Secrets:
    """Passwords that are known, so that they are hidden wherever they turn up. Any thread may use it."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def add(self, secrets: Iterable[str | None]) -> None:
        """Hide these too."""
        with self._lock:
            new = {secret for secret in secrets if secret and len(secret) >= SHORTEST_SECRET}
            self._known = tuple(sorted(new | set(self._known), key=len, reverse=True))

    def hide(self, text: str) -> str:
        """`text` with no credential in it."""
        text = redact_text(text)
        for secret in self._known:
            text = text.replace(secret, HIDDEN)
        return text


class _Redactor:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def __call__(self, logger: Any, method: str, values: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in values.items():
            if not key.startswith("_"):
                values[key] = self._hidden(value)
        return values

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._secrets.hide(value)
        if isinstance(value, dict):
            return {key: self._hidden(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self._hidden(entry) for entry in value]
        return value if value is None or isinstance(value, bool | int | float) else self._secrets.hide(str(value))


def configure_logs(stream: TextIO, secrets: Secrets, *, level: str = "INFO") -> None:
    """Send every log line of the process, ours and the libraries', to `stream` as JSON."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _Redactor(secrets),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
