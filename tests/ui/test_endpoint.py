"""The endpoint as programs use it: OpenAI's own client, and the requests of Frigate and LLM Vision, over HTTP.

The requests are those of `frigate/genai/plugins/openai.py` of blakeblackshear/frigate and
`custom_components/llmvision/providers.py` of valentinfrlch/ha-llmvision.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.applications import Starlette

from assistant.chat.keys import ClientKeys
from assistant.chat.service import ChatService
from assistant.commands.setup import engine_of
from assistant.config.app import ModelConfig
from assistant.inputs.limits import UploadLimits
from assistant.serving.contracts import ModelState
from assistant.serving.file_questions import FileQuestions
from assistant.serving.scheduler import Scheduler
from models.session.steps import StepGenerator, TextPiece, as_steps
from models.session.tokenizer import StreamTokenizer
from models.session.turns import Utterance
from streaming.clock import FakeClock, SystemClock
from tests.assistant.fakes import A_FORWARD
from tests.assistant.host_fakes import FakeModelEngine
from tests.assistant.test_chat import jpeg, url_of
from tests.clips import write_clip
from ui.endpoint import endpoint_routes

WAIT_S = 60.0
MIB = 2**20


@dataclass
class Endpoint:
    """A server on this machine."""

    url: str
    scheduler: Scheduler
    service: ChatService

    def client(self, key: str = "none", retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=retries, timeout=WAIT_S)

    def post(self, **values: Any) -> httpx.Response:
        body = {"model": "embedded", "messages": [{"role": "user", "content": "What is there?"}], **values}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=WAIT_S, trust_env=False)


@contextmanager
def serving(scheduler: Scheduler, folder: Path, keys: ClientKeys | None = None) -> Iterator[Endpoint]:
    service = ChatService(scheduler, "embedded", UploadLimits(), folder, max_bytes=MIB)
    app = Starlette(routes=endpoint_routes(service, keys or ClientKeys()))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:  # clients may connect at once
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="server")
        thread.start()
        try:
            yield Endpoint(f"http://127.0.0.1:{listening.getsockname()[1]}", scheduler, service)
        finally:
            server.should_exit = True
            thread.join(WAIT_S)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """The embedded model behind the endpoint."""
    loaded = threading.Event()

    def load() -> Any:
        engine = engine_of(ModelConfig())
        loaded.set()
        return engine

    scheduler = Scheduler(load)
    scheduler.start()
    try:
        assert loaded.wait(WAIT_S)
        while scheduler.state is ModelState.LOADING:
            scheduler.submit(_nothing).result(WAIT_S)
        with serving(scheduler, tmp_path_factory.mktemp("chat")) as served:
            yield served
    finally:
        scheduler.stop()


@as_steps
def _nothing(engine: Any) -> StepGenerator[None]:
    yield from ()


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def image(data: bytes, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url_of(data), **more}}


def test_an_answer_is_the_model_s_own_and_its_tokens_are_counted(endpoint: Endpoint) -> None:
    client = endpoint.client()
    (model,) = client.models.list().data
    assert model.id == "embedded" and client.models.retrieve("embedded") == model
    question = "How many shapes are there?"
    reply = client.chat.completions.create(model="embedded", messages=[user(text(question))])  # type: ignore[list-item]
    alone = FileQuestions(endpoint.scheduler, SystemClock())

    @as_steps
    def counted(engine: Any) -> StepGenerator[int]:
        codec = StreamTokenizer(engine.checkpoint)
        prompt = codec.prompt
        yield from ()
        return len(codec.encode(prompt.system() + prompt.turn("user", question) + prompt.opening("assistant")))

    num_prompt = endpoint.scheduler.submit(counted).result(WAIT_S)
    assert reply.choices[0].message.content == alone.ask(question).future.result(WAIT_S).text
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None and reply.usage.prompt_tokens == num_prompt
    assert 0 < reply.usage.completion_tokens <= 48
    assert reply.usage.total_tokens == num_prompt + reply.usage.completion_tokens


def test_a_streamed_answer_is_the_same_in_pieces(endpoint: Endpoint, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", num_frames=50)
    clip = {"type": "video_url", "video_url": {"url": url_of((tmp_path / "clip.mp4").read_bytes(), "video/mp4")}}
    asked: Any = {"model": "embedded", "messages": [user(clip, image(jpeg()), text("What happened?"))]}
    whole = endpoint.client().chat.completions.create(**asked)
    chunks = list(
        endpoint.client().chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces).strip() == whole.choices[0].message.content and len([p for p in pieces if p]) > 1
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage and whole.usage is not None
    assert whole.usage.prompt_tokens > 20, "its pictures are counted"
    assert len({chunk.id for chunk in chunks}) == 1 and not list(endpoint.service.files().folder.iterdir())


def test_what_frigate_sends_is_answered(endpoint: Endpoint) -> None:
    messages: Any = [user(image(jpeg(), detail="low"), image(jpeg(), detail="low"), text("Describe the shapes."))]
    result = endpoint.client().chat.completions.create(model="embedded", messages=messages, timeout=60)
    assert result.choices[0].message.content
    (model,) = endpoint.client().models.list().data
    assert model.model_extra is not None and model.model_extra["max_model_len"] == 16_384


def test_what_llm_vision_sends_is_answered(endpoint: Endpoint) -> None:
    content = [text("Image 1:"), image(jpeg()), text("Image 2:"), image(jpeg(96, 96)), text("What is there?")]
    system = {"role": "system", "content": "Your task is to analyze a series of images."}
    reply = endpoint.post(messages=[system, user(*content)], max_completion_tokens=3000, temperature=0.5, top_p=0.9)
    assert reply.status_code == 200 and reply.json()["choices"][0]["message"]["content"]
    title = endpoint.post(messages=[user(text("Give a title.")), user(text("A red square."))], max_completion_tokens=5)
    assert title.json()["usage"]["completion_tokens"] <= 5
    hello = endpoint.post(messages=[user(text("Hi"))], max_tokens=1, temperature=0.5, stream=False)
    assert hello.json()["choices"][0]["finish_reason"] == "length"


def test_what_went_before_is_remembered_and_seeds_give_the_same(endpoint: Endpoint) -> None:
    before = [user(text("Hello.")), {"role": "assistant", "content": "A circle."}]
    first, second = (endpoint.post(messages=[*turns, user(text("What?"))]).json() for turns in ([], before))
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    drawn = [endpoint.post(temperature=2, seed=3).json()["choices"][0]["message"]["content"] for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_two_clients_at_once_are_answered(endpoint: Endpoint) -> None:
    messages: Any = [user(image(jpeg()), text("What is there?"))]

    def ask(key: str) -> str | None:
        client = endpoint.client(key)
        return client.chat.completions.create(model="embedded", messages=messages).choices[0].message.content

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, ["one", "two", "one", "two"]))
    assert all(answers) and len(set(answers)) == 1


def test_errors_come_as_openai_s(endpoint: Endpoint) -> None:
    client = endpoint.client()
    messages: Any = [user(text("What?"))]
    with pytest.raises(openai.NotFoundError, match="'gpt-4o': it is not served here; name 'embedded'") as unknown:
        client.chat.completions.create(model="gpt-4o", messages=messages)
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="n 2: one answer is given") as several:
        client.chat.completions.create(model="embedded", messages=messages, n=2)
    assert several.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="8 x 8"):
        client.chat.completions.create(model="embedded", messages=[user(image(jpeg(8, 8)), text("?"))], stream=True)  # type: ignore[list-item]
    with pytest.raises(openai.BadRequestError, match="tokens"):
        client.chat.completions.create(model="embedded", messages=[user(text("word " * 6000))])  # type: ignore[list-item]
    too_much = endpoint.post(messages=[user(image(b"\0" * 2 * MIB), text("What?"))])
    assert too_much.status_code == 413 and "at most 1 are read" in too_much.json()["error"]["message"]
    missing = httpx.get(f"{endpoint.url}/v1/embeddings", trust_env=False)
    assert missing.status_code == 404 and "POST /v1/chat/completions" in missing.json()["error"]["message"]
    assert httpx.post(f"{endpoint.url}/v1/chat/completions", content=b"{", trust_env=False).status_code == 400
    assert endpoint.service.turns.num_places == 0


class _Talker(FakeModelEngine):
    """Answers every question with words that do not end until they are cancelled, or until `enough` is set."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.begun, self.closed, self.enough = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    @as_steps
    def ask(self, question: str, pictures: Any, clips: Any, **given: Any) -> StepGenerator[Utterance]:
        self.begun.release()
        try:
            while not self.enough.is_set():
                yield A_FORWARD
                yield TextPiece("word ")
        finally:
            self.closed.release()
        return Utterance("word", (1,), 0.0, False, False, None, 7)


@pytest.fixture
def talker(tmp_path: Path) -> Iterator[tuple[_Talker, Endpoint]]:
    engine = _Talker()
    scheduler = Scheduler(lambda: engine)
    with serving(scheduler, tmp_path) as served:
        waiting = served.post()
        assert waiting.status_code == 503 and waiting.headers["retry-after"] == "5", "the model is not there yet"
        scheduler.start()
        scheduler.submit(_nothing).result(WAIT_S)
        try:
            yield engine, served
        finally:
            engine.enough.set()
            scheduler.stop()


def test_a_client_that_goes_away_stops_its_answer_and_frees_its_place(talker: tuple[_Talker, Endpoint]) -> None:
    engine, endpoint = talker
    body = {"model": "embedded", "messages": [user(text("What?"))], "stream": True}
    with httpx.Client(trust_env=False, timeout=WAIT_S) as client:
        with client.stream("POST", f"{endpoint.url}/v1/chat/completions", json=body) as streamed:
            lines = streamed.iter_lines()
            assert json.loads(next(lines)[6:])["choices"][0]["delta"]["role"] == "assistant"
        assert engine.closed.acquire(timeout=WAIT_S), "it would talk for ever"
    # One that waits for a whole answer is noticed, too.
    with socket.create_connection(("127.0.0.1", int(endpoint.url.rpartition(":")[2]))) as raw:
        data = json.dumps({**body, "stream": False}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
        raw.sendall(head.encode() + data)
        assert engine.begun.acquire(timeout=WAIT_S) and engine.begun.acquire(timeout=WAIT_S)
    assert engine.closed.acquire(timeout=WAIT_S)
    engine.enough.set()
    assert endpoint.post().json()["usage"] == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert endpoint.service.turns.num_places == 0


def test_a_full_queue_says_when_to_come_again(talker: tuple[_Talker, Endpoint]) -> None:
    engine, endpoint = talker
    with ThreadPoolExecutor(9) as pool:
        asked = [pool.submit(endpoint.post) for _ in range(9)]
        done, _ = wait(asked, WAIT_S, return_when=FIRST_COMPLETED)  # none is answered before there is enough
        engine.enough.set()
        assert [each.result(WAIT_S).status_code for each in asked].count(200) == 8
    refused = done.pop().result()
    error = refused.json()["error"]
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert error["type"] == "rate_limit_error" and "8 requests of this client wait; 8 may" in error["message"]
