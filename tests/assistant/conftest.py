"""Fixtures of the tests of streams and of what serves them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.assistant.channel_stage import Stage


@pytest.fixture
def stages() -> Iterator[Any]:
    """Makes stages, and ends them with no thread left behind."""
    before, made = set(threading.enumerate()), []

    def make(*args: Any, **options: Any) -> Stage:
        made.append(Stage(*args, **options))
        return made[-1]

    yield make
    for stage in made:
        assert stage.host.stop()
        assert stage.channel.stop()
    assert set(threading.enumerate()) <= before
