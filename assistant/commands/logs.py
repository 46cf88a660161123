"""Structured logs: one JSON object per line on standard error, credentials redacted. Set up once, by `watch`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog

from streaming.redact import HIDDEN, redact_text

SHORTEST_SECRET = 4
"""Least length of a password that is redacted, characters: a shorter one would also match inside ordinary words."""


class Secrets:
    """The known passwords, which are redacted in every log line. Any thread may use it."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def add(self, secrets: Iterable[str | None]) -> None:
        """Redact these passwords too; None and short ones are ignored."""
        with self._lock:
            new = {secret for secret in secrets if secret and len(secret) >= SHORTEST_SECRET}
            self._known = tuple(sorted(new | set(self._known), key=len, reverse=True))

    def hide(self, text: str) -> str:
        """`text` with credentials in URLs and known passwords redacted."""
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
    """Write every log record of the process, of our code and of libraries, to `stream` as JSON."""
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
