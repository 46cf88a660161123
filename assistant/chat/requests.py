"""Reads the body of `POST /v1/chat/completions`: what is asked, and about which pictures and clips. Any thread.

Nothing of a body is trusted. What this program does not do is refused in words, never left out silently.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from assistant.chat.refusal import ChatRefused
from models.spans import SpanKind

MOST_VALUES = 20_000
"""Most values of a body, by its commas, colons and brackets: parsed, each takes many times its bytes."""
MOST_MESSAGES = 64
MOST_PARTS = 256
"""Most parts of the messages of one request."""
MOST_MEDIA = 32
"""Most pictures and clips of one request."""
MOST_CHARACTERS = 32_000
"""Most characters of all texts of one request; the model's own limit is lower."""
SHOWN = 60
"""Characters of a wrong value that a message shows."""

_SERVED = ("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature",
           "top_p", "top_k", "seed")  # fmt: skip
_WITHOUT_EFFECT = frozenset({
    "user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier", "parallel_tool_calls", "verbosity",
    "reasoning_effort",
})  # fmt: skip
"""Fields that concern other services, or how a model thinks that does not; they change nothing here."""


@dataclass(frozen=True, slots=True)
class MediaUrl:
    """A picture or clip of a request, still encoded."""

    is_clip: bool
    url: str
    where: str
    """Its place in the request, as `messages[0].content[1]`."""
    name: str
    """Its name in messages, as `picture 2`."""


@dataclass(frozen=True, slots=True)
class WantedSampling:
    """How tokens are sampled. The default takes the likeliest."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A question with all that belongs to it."""

    model: str
    question: str
    media: tuple[MediaUrl, ...] = ()
    """Pictures and clips of all messages, in their order; they are shown with the question."""
    system: str | None = None
    earlier: tuple[tuple[SpanKind, str], ...] = ()
    """Questions and answers that went before."""
    max_tokens: int | None = None
    sampling: WantedSampling = WantedSampling()
    is_streamed: bool = False
    wants_usage: bool = False
    """Whether a streamed answer ends with its usage."""


def parse_request(body: bytes) -> ChatRequest:
    """Read a body. Raises `ChatRefused`."""
    num_values = sum(body.count(mark) for mark in (b",", b":", b"[", b"{"))
    if num_values > MOST_VALUES:
        raise ChatRefused(f"a body of {num_values:,} values: at most {MOST_VALUES:,} are read; send fewer parts")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ChatRefused(f"the body: it must be JSON ({reason[:SHOWN]}); correct it") from None
    if not isinstance(values, dict):
        raise ChatRefused(f"the body, {_shown(values)}: it must be an object with model and messages; send one")
    _refuse_unserved(values)
    conversation = _read_messages(values.get("messages"))
    options = values.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise _wrong("stream_options", options, "it may hold include_usage alone", "correct it")
    limits = [_number(values, name, 1, 1_000_000, whole=True) for name in ("max_completion_tokens", "max_tokens")]
    return ChatRequest(
        model=_text(values, "model"),
        question=conversation.question,
        media=tuple(conversation.media),
        system="\n".join(conversation.system) or None,
        earlier=tuple(conversation.earlier),
        max_tokens=next((int(limit) for limit in limits if limit is not None), None),
        sampling=_read_sampling(values),
        is_streamed=_flag(values, "stream"),
        wants_usage=_flag(options, "include_usage"),
    )


@dataclass(slots=True)
class _Conversation:
    """The messages, as they are read."""

    system: list[str] = field(default_factory=list)
    earlier: list[tuple[SpanKind, str]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Texts of the user that no answer followed yet."""
    media: list[MediaUrl] = field(default_factory=list)
    num_parts: int = 0
    num_characters: int = 0

    @property
    def question(self) -> str:
        return "\n".join(self.asked)

    def add(self, role: str, texts: list[str]) -> None:
        """Add a message. Messages of the user that follow one another are one question."""
        if role in ("system", "developer"):
            self.system += texts
        elif role == "user":
            self.asked += texts
        else:
            if self.asked:
                self.earlier.append((SpanKind.QUESTION, self.question))
                self.asked = []
            self.earlier.append((SpanKind.ANSWER, "\n".join(texts)))


def _read_messages(values: Any) -> _Conversation:
    if not isinstance(values, list) or not 1 <= len(values) <= MOST_MESSAGES:
        raise _wrong("messages", values, f"it must be a list of 1 to {MOST_MESSAGES} messages", "send a question")
    read = _Conversation()
    for number, message in enumerate(values):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise _wrong(where, message, "it must be an object with role and content", "correct it")
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant"):
            raise _wrong(f"{where}.role", role, "it must be system, user or assistant; tools are not called here",
                         "leave the message out")  # fmt: skip
        if message.get("tool_calls") or message.get("function_call"):
            raise ChatRefused(f"{where}.tool_calls: tools are not called here; leave the message out", param=where)
        read.add(role, _read_content(message.get("content"), f"{where}.content", role, read))
    if role != "user":
        raise _wrong(f"{where}.role", role, "the last message must be the user's question", "add one")
    if not read.question.strip():
        raise ChatRefused("messages: the question has no words; add a text part that asks something", param="messages")
    return read


def _read_content(content: Any, where: str, role: str, read: _Conversation) -> list[str]:
    """The texts of a message; its pictures and clips are added to `read`."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not parts:
        raise _wrong(where, content, "it must be a text, or a list of parts", "send what is asked there")
    read.num_parts += len(parts)
    if read.num_parts > MOST_PARTS:
        raise ChatRefused(f"{where}: at most {MOST_PARTS} parts are read in one request; send fewer", param=where)
    texts = []
    for number, part in enumerate(parts):
        place = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "input_text"):
            texts.append(_text(part, "text", f"{place}.text"))
            read.num_characters += len(texts[-1])
        elif kind in ("image_url", "video_url") and role == "user":
            read.media.append(_read_media(part, str(kind), place, read))
        elif kind in ("image_url", "video_url"):
            raise _wrong(f"{place}.type", kind, "pictures and clips belong to messages of the user", "move it there")
        else:
            rule = "parts of type text, image_url and video_url are read"
            raise _wrong(f"{place}.type", kind if isinstance(part, dict) else part, rule, "leave it out")
    if read.num_characters > MOST_CHARACTERS:
        raise ChatRefused(f"messages: at most {MOST_CHARACTERS:,} characters are read; shorten them", param="messages")
    return texts


def _read_media(part: Mapping[str, Any], kind: str, place: str, read: _Conversation) -> MediaUrl:
    given = part.get(kind)
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str) or not url:
        raise _wrong(f"{place}.{kind}.url", url, "it must be a data URL", "send data:image/jpeg;base64,…")
    if len(read.media) >= MOST_MEDIA:
        raise ChatRefused(f"{place}: at most {MOST_MEDIA} pictures and clips are read; send fewer", param=place)
    is_clip = kind == "video_url"
    number = 1 + sum(each.is_clip == is_clip for each in read.media)
    return MediaUrl(is_clip, url, place, f"{'clip' if is_clip else 'picture'} {number}")


def _read_sampling(values: Mapping[str, Any]) -> WantedSampling:
    usual = WantedSampling()
    temperature = _number(values, "temperature", 0, 2)
    top_p = _number(values, "top_p", 0, 1)
    top_k = _number(values, "top_k", 0, 1_000_000, whole=True)
    seed = _number(values, "seed", -(2**63), 2**63 - 1, whole=True)
    return WantedSampling(
        usual.temperature if temperature is None else float(temperature),
        usual.top_p if top_p is None else max(float(top_p), 1e-6),
        usual.top_k if top_k is None else int(top_k),
        None if seed is None else int(seed),
    )


def _is_one(value: Any) -> bool:
    return value is not True and value == 1


def _is_plain_text(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "text"


_ACCEPTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (_is_one, "one answer is given"),
    "tools": (lambda value: value == [], "tools are not called here"),
    "functions": (lambda value: value == [], "tools are not called here"),
    "tool_choice": (lambda value: value in ("none", "auto"), "tools are not called here"),
    "function_call": (lambda value: value in ("none", "auto"), "tools are not called here"),
    "response_format": (_is_plain_text, "answers are plain text"),
    "logprobs": (lambda value: value is False, "probabilities of tokens are not given"),
    "top_logprobs": (lambda value: value == 0, "probabilities of tokens are not given"),
    "logit_bias": (lambda value: value == {}, "tokens are not weighted"),
    "frequency_penalty": (lambda value: value == 0, "tokens are not weighted"),
    "presence_penalty": (lambda value: value == 0, "tokens are not weighted"),
    "stop": (lambda value: value == [], "an answer ends where the model ends it, or at max_tokens"),
    "modalities": (lambda value: value == ["text"], "answers are plain text"),
    "store": (lambda value: value is False, "nothing is stored"),
}
"""What is accepted of fields that are known and not served, and the rule."""


def _refuse_unserved(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name in _SERVED or name in _WITHOUT_EFFECT or value is None:
            continue
        if name not in _ACCEPTED:
            raise ChatRefused(
                f"{name[:SHOWN]}: an unknown field; known are {', '.join(_SERVED)}; leave it out", param=name[:SHOWN]
            )
        is_accepted, rule = _ACCEPTED[name]
        if not is_accepted(value):
            raise _wrong(name, value, rule, "leave it out")


def _text(values: Mapping[str, Any], name: str, where: str = "") -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value and not where:
        raise _wrong(where or name, value, "it must be a text", "give it")
    return value


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, value, "it must be true or false", "correct it")
    return bool(value)


def _number(values: Mapping[str, Any], name: str, least: float, most: float, *, whole: bool = False) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not least <= value <= most:
        kind = "whole number" if whole else "number"
        raise _wrong(name, value, f"it must be a {kind} from {least:g} to {most:g}", "correct it or leave it out")
    return value  # type: ignore[no-any-return]


def _wrong(where: str, value: Any, rule: str, remedy: str) -> ChatRefused:
    return ChatRefused(f"{where} {_shown(value)}: {rule}; {remedy}", param=where)


def _shown(value: Any) -> str:
    """A wrong value for a message, shortened."""
    if isinstance(value, dict | list):
        return f"({'an object' if isinstance(value, dict) else 'a list'} of {len(value)})"
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
