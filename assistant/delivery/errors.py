"""Why a message was not delivered.

AssistantError
├── NotDelivered     it was not taken this time, and may be tried again
└── DeliveryRefused  it is never taken as it is
"""

from __future__ import annotations

from assistant.errors import AssistantError


class NotDelivered(AssistantError):
    """The receiver did not take a message this time. The text is what it said, credentials hidden."""

    def __init__(self, said: str, *, is_down: bool = False) -> None:
        """is_down: whether nothing can be sent to it now, so that other messages need not be tried either."""
        super().__init__(said)
        self.is_down = is_down


class DeliveryRefused(AssistantError):
    """A message that is not sent, now or later: its address is forbidden, or the receiver wants nothing more."""
