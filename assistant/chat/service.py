"""Answers requests of the endpoint: one at a time, by the same model as the streams. The server's event loop.

Bodies are parsed, and pictures decoded, on other threads; while a request waits, its pictures are files.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from assistant.chat.media import MediaFiles
from assistant.chat.refusal import ChatRefused
from assistant.chat.replies import ChatEnd, ChatUsage
from assistant.chat.requests import ChatRequest, WantedSampling, parse_request
from assistant.chat.turns import ChatPlace, FairTurns
from assistant.errors import AssistantError
from assistant.serving.contracts import CapacityExceeded, ModelState, ModelUnavailable
from assistant.serving.file_questions import FileQuestion, FileQuestions
from assistant.stream.question_queue import TooManyQuestions
from models.errors import LogitsError, ModelError
from streaming.clock import SystemClock
from streaming.redact import redact_text

if TYPE_CHECKING:
    from assistant.events import Answer
    from assistant.inputs.limits import UploadLimits
    from assistant.serving.scheduler import Scheduler
    from assistant.stream.spoken_turns import SpokenTurn
    from models.session.token_sampling import TokenSampler
    from streaming.clock import Clock

CONTEXT_TOKENS = 16_384
"""Most tokens of a question, pictures included: the trained context (`models.engine.MAX_ASK_TOKENS`)."""
READ_S = 60.0
"""How long a body may take to arrive."""
RETRY_S = 5
"""Seconds after which a model that loads, or has no memory left, is worth asking again."""


class ChatService:
    """What the endpoint's routes call."""

    def __init__(
        self,
        scheduler: Scheduler,
        model_name: str,
        uploads: UploadLimits,
        folder: Path,
        *,
        max_bytes: int,
        clock: Clock | None = None,
    ) -> None:
        """model_name: of the checkpoint, as it was asked for. folder: for pictures of requests that wait.

        max_bytes: most bytes of a body.
        """
        self.model = PurePath(model_name).name if Path(model_name).is_dir() else model_name
        self.max_bytes = max_bytes
        self.turns = FairTurns()
        self._began_s = int(time.time())
        self._scheduler = scheduler
        self._questions = FileQuestions(scheduler, clock or SystemClock())
        self._uploads = uploads
        self._folder = folder
        self._parsing = asyncio.Lock()

    def as_dict(self) -> dict[str, Any]:
        """The model as `GET /v1/models` lists it. Frigate reads `max_model_len`."""
        return {
            "id": self.model, "object": "model", "created": self._began_s, "owned_by": "video-assistant",
            "max_model_len": CONTEXT_TOKENS,
        }  # fmt: skip

    def check_model(self) -> None:
        """Raise `ChatRefused` where the model cannot answer now."""
        state = self._scheduler.state
        if state is not ModelState.READY:
            failure = self._scheduler.failure
            reason = f": {redact_text(str(failure))}" if failure is not None else ""
            raise ChatRefused(
                f"the model is {state.value}{reason}; ask again later", 503, code="model_unavailable",
                retry_after_s=RETRY_S,
            )  # fmt: skip

    def check_name(self, name: str) -> None:
        """Raise `ChatRefused` for the name of another model."""
        if name != self.model:
            raise ChatRefused(
                f"model {name[:60]!r}: it is not served here; name {self.model!r}, as GET /v1/models does", 404,
                param="model", code="model_not_found",
            )  # fmt: skip

    def files(self) -> MediaFiles:
        """A place for the pictures and clips of one request."""
        return MediaFiles(self._uploads, self._folder)

    async def read(self, body: AsyncIterator[bytes], declared_bytes: int | None, files: MediaFiles) -> ChatRequest:
        """Read a request's body; its pictures and clips become files. Raises `ChatRefused`."""
        if declared_bytes is not None and declared_bytes > self.max_bytes:
            raise self._too_large(declared_bytes)
        data = bytearray()
        try:
            async with asyncio.timeout(READ_S):
                async for piece in body:
                    data += piece
                    if len(data) > self.max_bytes:
                        raise self._too_large(len(data))
        except TimeoutError:
            raise ChatRefused(f"the body did not arrive within {READ_S:g} s; send it at once", 408) from None
        async with self._parsing:  # one at a time: parsed, a body takes a multiple of its bytes
            return await asyncio.to_thread(self._parsed, data, files)

    def _parsed(self, body: bytearray, files: MediaFiles) -> ChatRequest:
        asked = parse_request(bytes(body))
        self.check_name(asked.model)
        files.keep(asked.media)
        return replace(asked, media=())

    async def answer(
        self, place: ChatPlace, asked: ChatRequest, files: MediaFiles
    ) -> AsyncGenerator[str | ChatEnd, None]:
        """The answer in pieces, then its end. Closing it stops the model. Raises `ChatRefused`."""
        pending = None
        try:
            await place.turn()
            attachments = await asyncio.to_thread(files.take)
            # Its import takes seconds the first time.
            sampler = await asyncio.to_thread(_sampler, asked.sampling)
            news = _News(files.warnings)
            question = FileQuestion(asked.question, attachments, asked.system, asked.earlier, asked.max_tokens, sampler)
            pending = self._questions.put(question, news.put, news.said)
            # A client that reads slowly keeps nobody waiting: the turn ends with the answer.
            pending.future.add_done_callback(news.finished(place.leave))
            async for item in news.items():
                yield item
        except (AssistantError, ModelError) as error:
            raise refusal_of(error) from error
        finally:
            place.leave()
            if pending is not None:
                pending.cancel()

    def _too_large(self, num_bytes: int) -> ChatRefused:
        return ChatRefused(
            f"a body of {num_bytes / 2**20:.1f} MiB: at most {self.max_bytes / 2**20:g} are read; scale the pictures "
            "down, or raise endpoint.max_mib", 413, code="request_too_large",
        )  # fmt: skip


class _News:
    """What the engine's thread tells of one answer, for the event loop."""

    def __init__(self, warnings: list[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | ChatEnd | BaseException] = asyncio.Queue()
        self._warnings = warnings
        self._end: ChatEnd | None = None

    def put(self, piece: str) -> None:
        """Take a piece of the answer."""
        self._call(self._queue.put_nowait, piece)

    def said(self, turn: SpokenTurn) -> None:
        """Take the whole answer."""
        said = turn.utterance
        if said is not None:
            usage = ChatUsage(said.num_before, len(said.token_ids))
            self._end = ChatEnd(turn.text, usage, said.truncated, tuple(self._warnings))

    def finished(self, then: Callable[[], None]) -> Callable[[Future[Answer]], None]:
        """A callback for the answer's future. then: called on the event loop."""

        def on_done(future: Future[Answer]) -> None:
            error = future.exception()
            self._call(then)
            self._call(self._queue.put_nowait, error or self._end or ChatRefused("the answer was stopped", 503))

        return on_done

    async def items(self) -> AsyncIterator[str | ChatEnd]:
        """The pieces and the end. Raises what the answer came to."""
        while True:
            item = await self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if isinstance(item, ChatEnd):
                return

    def _call(self, action: Callable[..., None], *values: Any) -> None:
        with suppress(RuntimeError):  # the server is shutting down
            self._loop.call_soon_threadsafe(action, *values)


def _sampler(wanted: WantedSampling) -> TokenSampler | None:
    if wanted.temperature == 0:
        return None
    from models.session.token_sampling import SamplingSettings, TokenSampler

    seed = secrets.randbits(63) if wanted.seed is None else wanted.seed
    return TokenSampler(SamplingSettings(wanted.temperature, wanted.top_p, wanted.top_k, seed=seed))


def refusal_of(error: Exception) -> ChatRefused:
    """What a client is told of an error."""
    if isinstance(error, ChatRefused):
        return error
    words = redact_text(str(error))
    if isinstance(error, TooManyQuestions | CapacityExceeded | ModelUnavailable):
        return ChatRefused(words, 503, code="busy", retry_after_s=RETRY_S)
    if isinstance(error, ModelError) and not isinstance(error, LogitsError):
        return ChatRefused(words, param="messages")
    return ChatRefused(words, 500)
