"""Why a request to the endpoint is refused, in the shape of OpenAI's errors. Plain values; any thread."""

from __future__ import annotations

from typing import Any

from assistant.errors import AssistantError

BUSY_STATUS = (429, 503)
"""Statuses after which a client may try again."""


class ChatRefused(AssistantError):
    """A request is refused, or its answer failed; the message is one line with the value, the rule and the remedy."""

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """param: the field of the request that is wrong. code: OpenAI's word for the error.

        retry_after_s: seconds after which it is worth trying again.
        """
        super().__init__(" ".join(message.split()))
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """OpenAI's type of the error."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def as_dict(self) -> dict[str, Any]:
        """The body of the response."""
        return {"error": {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}}
