"""Configuration of the OpenAI-style endpoint. Immutable; any thread may hold it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from assistant.config.component import Component


class EndpointConfig(Component):
    """The OpenAI-style endpoint of the browser app."""

    enabled: bool = False
    keys_file: Path | None = None
    """Keys of its clients; without any, users of the page's login, or all who reach a page without one."""
    max_mib: float = Field(default=32, gt=0, le=1024)
    """Most MiB of one request, pictures and clips included."""

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.keys_file is not None and not self.enabled:
            raise ValueError("keys_file is for an endpoint that is enabled, with enabled: true or --endpoint")
        return self
