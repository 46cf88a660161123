"""Behind a reverse proxy: what comes by its name is answered, and nobody else passes for it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse

from assistant.errors import ConfigError
from assistant.inputs.limits import CameraPolicy
from tests.ui.test_launch import running
from ui.guard import Guard
from ui.launch import Serving
from ui.public_url import PublicUrl

PUBLIC = "https://camera.example.org/door"
OWN = {"Host": "camera.example.org", "Origin": "https://camera.example.org"}


async def _tell(scope: Any, receive: Any, send: Any) -> None:
    """An app that says what it was asked."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    said = {"path": scope["path"], "scheme": scope["scheme"], "headers": headers}
    await JSONResponse(said)(scope, receive, send)


def ask(public: str | None, path: str = "/", *, method: str = "GET", **headers: str) -> httpx.Response:
    """What a guarded app on the loopback interface answers; `x_forwarded_host` stands for X-Forwarded-Host."""
    guard = Guard(_tell, is_local=True, public=None if public is None else PublicUrl.parse(public))
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7860") as client:
            return await client.request(method, path, headers=named)

    return asyncio.run(request())


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "camera.example.org"},
        {"host": "Camera.Example.org:443"},
        {"host": "camera.example.org", "origin": "https://camera.example.org"},
        {"x_forwarded_host": "camera.example.org"},
        {"x_forwarded_host": "camera.example.org, 10.0.0.1"},
        {"origin": "https://camera.example.org"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/door/config", "/config"], ids=["whole path", "path cut by the proxy"])
def test_what_comes_by_its_name_is_answered(headers: dict[str, str], path: str) -> None:
    answer = ask(PUBLIC, path, method="POST", **headers)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["path"], said["scheme"]) == ("/config", "https")
    assert said["headers"]["host"] == "camera.example.org"
    assert said["headers"]["x-forwarded-host"] == "camera.example.org/door", "Gradio makes its root of it"
    assert said["headers"]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ({"host": "evil.example"}, "Host is evil.example"),
        ({"host": "evil.example", "x_forwarded_host": "camera.example.org"}, "Host is evil.example"),
        ({"host": "evil.example", "origin": "https://camera.example.org"}, "Host is evil.example"),
        ({"host": "camera.example.org.evil.example"}, "Host is camera.example.org.evil.example"),
        ({"host": "camera.example.org:8443"}, "Host is camera.example.org:8443"),
        ({"host": "camera.example.org", "origin": "https://evil.example"}, "Origin is https://evil.example"),
        ({"host": "camera.example.org", "origin": "http://camera.example.org"}, "Origin is http://camera.example.org"),
        ({"host": "camera.example.org", "origin": "null"}, "Origin is null"),
        ({"origin": "https://evil.example", "x_forwarded_host": "evil.example"}, "Origin is https://evil.example"),
        ({"host": "camera.example.org", "sec_fetch_site": "cross-site"}, "Sec-Fetch-Site is cross-site"),
    ],
    ids=str,
)
def test_nobody_else_passes_for_it(headers: dict[str, str], value: str) -> None:
    answer = ask(PUBLIC, method="POST", **headers)
    assert answer.status_code == 403 and value in answer.text and answer.headers["x-refusal"] == "1"


def test_a_refusal_names_what_to_start_with() -> None:
    by_host, by_origin = ask(None, host="camera.example.org"), ask(None, origin="https://camera.example.org")
    for answer in (by_host, by_origin):
        assert answer.status_code == 403
        assert "behind a reverse proxy, start with --public-url https://camera.example.org" in answer.text
    assert "as 127.0.0.1:7860" in by_origin.text, "what it was asked for as"
    assert "\n" not in ask(None, host="evil\t.example" + 300 * "x").text


def test_claims_of_another_name_are_not_passed_on() -> None:
    for public in (None, PUBLIC):
        said = ask(public, x_forwarded_host="evil.example", x_gradio_server="http://evil.example").json()
        assert "evil" not in str(said["headers"])


@pytest.mark.parametrize(
    "text",
    ["camera.example.org", "ftp://a.example", "https://", "https://a:b@c.example", "https://a.example/?b", "https://*.a",
     "https://a.example:99999"],
)  # fmt: skip
def test_what_is_no_public_url_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="--public-url .*: it is what people type.*give e.g. https://"):
        Serving(public_url=text, is_open=True).check()


def test_who_is_shown_to_others_needs_a_login_or_a_word_and_reaches_no_private_network() -> None:
    with pytest.raises(ConfigError, match="--public-url https://a.example: everybody .* --auth-file FILE"):
        Serving(public_url="https://a.example").check()
    shown = Serving(public_url="https://a.example", is_open=True)
    shown.check()
    assert not shown.is_local
    assert CameraPolicy.bound_to("127.0.0.1").reach.networks is None
    assert CameraPolicy.bound_to("127.0.0.1", is_public=True).reach.networks == ()


@pytest.fixture
def app() -> Iterator[tuple[httpx.Client, str]]:
    out = io.StringIO()
    with running(Serving(port=0, public_url=PUBLIC, is_open=True), out) as shown:
        assert f"behind a reverse proxy, at {PUBLIC}\n" in out.getvalue()
        with httpx.Client(base_url=shown.url, trust_env=False) as client:
            yield client, shown.url


def test_the_page_knows_where_it_is(app: tuple[httpx.Client, str]) -> None:
    client, url = app
    assert client.get("/door/config", headers=OWN).json()["root"] == PUBLIC
    assert client.get("/config", headers=OWN).json()["root"] == PUBLIC
    assert client.get("/config").json()["root"] == url, "on this machine it is where it was"
    assert "sva-refusal" in client.get("/door/", headers=OWN).text, "what is refused is shown on the page"
    assert client.get("/door/own", headers=OWN).text == "mine"
    joined = client.post("/door/gradio_api/queue/join", headers=OWN, json={})
    assert joined.status_code == 422, "it reaches Gradio, which misses what is to be done"
