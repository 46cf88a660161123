"""A source that is closed by one thread while another opens it."""

from __future__ import annotations

import threading

from streaming.errors import SourceError
from streaming.sources.base import Source


def closed_while_opening(source: Source, begun: threading.Event, may_go_on: threading.Event) -> list[str]:
    """Close `source` once its opening has set `begun`, then let that go on. Returns the rules of its errors."""
    failures: list[str] = []

    def open_it() -> None:
        try:
            source.open()
        except SourceError as error:
            failures.append(error.rule)

    opener = threading.Thread(target=open_it)
    opener.start()
    begun.wait()
    source.close()
    may_go_on.set()
    opener.join()
    return failures
