"""The OpenAI-style endpoint: `POST /v1/chat/completions` and `GET /v1/models`. Runs on the server's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from assistant.chat.refusal import ChatRefused
from assistant.chat.replies import ChatEnd, ChatReply, as_event

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from assistant.chat.keys import ClientKeys
    from assistant.chat.requests import ChatRequest
    from assistant.chat.service import ChatService

PREFIX = "/v1/"
EVENTS_HEADERS = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store"),
                  (b"x-accel-buffering", b"no"))  # fmt: skip

_log = logging.getLogger(__name__)


def endpoint_routes(service: ChatService, keys: ClientKeys) -> list[BaseRoute]:
    """The endpoint's routes; they check keys themselves."""
    model = service.as_dict()

    async def models(request: Request) -> Response:
        try:
            await _client(keys, request)
            if "name" not in request.path_params:
                return JSONResponse({"object": "list", "data": [model]})
            service.check_name(request.path_params["name"])
            return JSONResponse(model)
        except ChatRefused as refused:
            return _refusal(refused)

    async def nothing(request: Request) -> Response:
        where = f"{request.method} {request.url.path[:80]}"
        ways = "POST /v1/chat/completions and GET /v1/models are served"
        return _refusal(ChatRefused(f"{where}: there is nothing here; {ways}", 404, code="unknown_url"))

    return [
        Route("/v1/chat/completions", _Completions(service, keys), methods=["POST"]),
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", models, methods=["GET"]),
        Route("/v1/{rest:path}", nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]


class _Completions:
    """Answers one request a call, as an ASGI app: a client that goes away is noticed at any time."""

    def __init__(self, service: ChatService, keys: ClientKeys) -> None:
        self._service = service
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            client = await _client(self._keys, request)
            self._service.check_model()
            place = self._service.turns.enter(client)
        except ChatRefused as refused:
            await _drain(request, self._service.max_bytes)
            await _refusal(refused)(scope, receive, send)
            return
        files = self._service.files()
        try:
            declared = request.headers.get("content-length", "")
            asked = await self._service.read(request.stream(), int(declared) if declared.isdecimal() else None, files)
            reply = ChatReply(self._service.model, int(time.time()))
            answering = _Answer(asked, self._service.answer(place, asked, files), reply)
            await _unless_gone(asyncio.create_task(answering(scope, receive, send)), receive)
        except ChatRefused as refused:
            place.leave()
            await _drain(request, self._service.max_bytes)
            await _refusal(refused)(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            place.leave()
            files.close()


class _Answer:
    """Sends one answer, or why there is none. An ASGI app."""

    def __init__(self, asked: ChatRequest, answer: AsyncGenerator[str | ChatEnd, None], reply: ChatReply) -> None:
        self._asked = asked
        self._answer = answer
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked, reply = self._asked, self._reply
        async with contextlib.aclosing(self._answer) as answer:
            try:
                # The status of a response is known once the model has begun.
                first = await anext(answer)
                if asked.is_streamed:
                    await _stream(reply, asked, first, answer, send)
                    return
                end = first
                async for item in answer:
                    end = item
                assert isinstance(end, ChatEnd), "an answer without an end"
                response: Response = JSONResponse(reply.whole(end), headers={"cache-control": "no-store"})
            except ChatRefused as refused:
                response = _refusal(refused)
            except Exception:
                _log.exception("a request to the endpoint failed")
                response = _refusal(ChatRefused("the answer failed; the server's log says why", 500))
        await response(scope, receive, send)


async def _stream(
    reply: ChatReply, asked: ChatRequest, first: str | ChatEnd, rest: AsyncGenerator[str | ChatEnd, None], send: Send
) -> None:
    """Send an answer as server-sent events."""
    await send({"type": "http.response.start", "status": 200, "headers": list(EVENTS_HEADERS)})

    async def say(values: dict[str, Any] | None, *, more: bool = True) -> None:
        await send({"type": "http.response.body", "body": as_event(values), "more_body": more})

    await say(reply.begun())
    try:
        async for item in _chained(first, rest):
            if isinstance(item, ChatEnd):
                for chunk in reply.ended(item, with_usage=asked.wants_usage):
                    await say(chunk)
            else:
                await say(reply.piece(item))
    except ChatRefused as refused:
        await say(refused.as_dict())
    except OSError:
        raise  # the client went away
    except Exception:
        _log.exception("a streamed answer of the endpoint failed")
        await say(ChatRefused("the answer failed; the server's log says why", 500).as_dict())
    await say(None, more=False)


async def _chained(first: str | ChatEnd, rest: AsyncIterator[str | ChatEnd]) -> AsyncIterator[str | ChatEnd]:
    yield first
    async for item in rest:
        yield item


async def _unless_gone(answering: asyncio.Task[None], receive: Receive) -> None:
    """Wait for an answer; cancel it when the client goes away."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (answering, leaving):
            if not task.done():
                task.cancel()
        results = await asyncio.gather(answering, leaving, return_exceptions=True)
    if isinstance(results[0], Exception) and not isinstance(results[0], OSError):
        raise results[0]


async def _client(keys: ClientKeys, request: Request) -> str:
    address = request.client.host if request.client is not None else "unknown"
    return await asyncio.to_thread(keys.client, request.headers.get("authorization"), address)


async def _drain(request: Request, most_bytes: int) -> None:
    """Read on to the end of a body that is not wanted, so that its sender comes to read the refusal."""
    num_bytes = 0
    with contextlib.suppress(ClientDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(10.0):
            async for piece in request.stream():
                num_bytes += len(piece)
                if num_bytes > 2 * most_bytes:
                    return


def _refusal(refused: ChatRefused) -> Response:
    headers = {"cache-control": "no-store"}
    if refused.retry_after_s is not None:
        headers["retry-after"] = str(refused.retry_after_s)
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(refused.as_dict(), refused.status, headers)
