"""Listeners called so that what one of them raises is its own fault: counted and logged, never passed on. Any thread.

Without this, a page's listener that raised on the engine's thread would count as a step of the model that went wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

logger = logging.getLogger(__name__)


class ListenerGuard:
    """Calls the listeners of one stream, feed or question."""

    def __init__(self, name: str) -> None:
        """name: whose listeners they are, for the log."""
        self._name = name
        self.num_faults = 0
        """Calls in which a listener raised, so far."""

    def tell(self, listener: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call a listener; whether it returned. What it raises is counted; the first time, its traceback is logged."""
        try:
            listener(*args, **kwargs)
        except Exception as error:
            self.num_faults += 1
            is_first = self.num_faults == 1
            # One that fails for each word or picture would fill the log with tracebacks.
            logger.error("%s: a listener failed: %r", self._name, error, exc_info=error if is_first else None)
            return False
        return True

    def guarded(self, listener: Callable[P, object]) -> Callable[P, None]:
        """The same listener, which never raises."""

        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            self.tell(listener, *args, **kwargs)

        return call
