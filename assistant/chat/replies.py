"""The shapes of OpenAI's chat completions, whole and in pieces. Plain values; any thread."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """Tokens of a question, pictures and system turn included, and of its answer."""

    num_prompt: int
    num_completion: int

    def as_dict(self) -> dict[str, int]:
        """The counts under OpenAI's names."""
        total = self.num_prompt + self.num_completion
        return {
            "prompt_tokens": self.num_prompt,
            "completion_tokens": self.num_completion,
            "total_tokens": total,
        }


@dataclass(frozen=True, slots=True)
class ChatEnd:
    """The end of an answer."""

    text: str
    usage: ChatUsage
    is_truncated: bool = False
    """Whether the limit of its length ended it."""
    warnings: Sequence[str] = ()
    """What was not seen whole, a line each."""

    @property
    def reason(self) -> str:
        """OpenAI's word for why it ended."""
        return "length" if self.is_truncated else "stop"


@dataclass(frozen=True, slots=True)
class ChatReply:
    """Writes one answer as a client reads it."""

    model: str
    created_s: int
    """Unix time."""
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")

    def whole(self, end: ChatEnd) -> dict[str, Any]:
        """The answer as one object; `warnings`, which OpenAI does not have, only where there are some."""
        message = {"role": "assistant", "content": end.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.reason}
        values = {**self._head("chat.completion"), "choices": [choice], "usage": end.usage.as_dict()}
        return {**values, "warnings": list(end.warnings)} if end.warnings else values

    def begun(self) -> dict[str, Any]:
        """The first chunk of a streamed answer."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk with a piece of the answer."""
        return self._chunk({"content": text}, None)

    def ended(self, end: ChatEnd, *, with_usage: bool) -> list[dict[str, Any]]:
        """The last chunks of a streamed answer."""
        last = self._chunk({}, end.reason)
        if end.warnings:
            last["warnings"] = list(end.warnings)
        if not with_usage:
            return [last]
        usage = {**self._head("chat.completion.chunk"), "choices": [], "usage": end.usage.as_dict()}
        return [last, usage]

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model}


def as_event(values: dict[str, Any] | None) -> bytes:
    """A server-sent event; None for the last one.

    >>> as_event({"a": 1}), as_event(None)
    (b'data: {"a":1}\\n\\n', b'data: [DONE]\\n\\n')
    """
    data = "[DONE]" if values is None else json.dumps(values, separators=(",", ":"))
    return f"data: {data}\n\n".encode()
