"""Where the app listens, for whom, and what it answers to strangers."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route

from assistant.chat.keys import ClientKeys
from assistant.chat.service import ChatService
from assistant.errors import ConfigError
from assistant.inputs.limits import UploadLimits
from assistant.serving.scheduler import Scheduler
from assistant.viewers.passwords import make_line
from ui import tls
from ui.endpoint import endpoint_routes
from ui.launch import CannotListen, RunningApp, Serving, launch

PASSWORD = "correct horse"


@contextmanager
def running(
    serving: Serving, out: io.StringIO | None = None, own_checks: Sequence[BaseRoute] = ()
) -> Iterator[RunningApp]:
    import gradio as gr

    with gr.Blocks() as blocks:
        asked, answered = gr.Textbox(label="Asked"), gr.Textbox(label="Answered")
        asked.submit(str.upper, asked, answered, api_name="shout")
    own = [Route("/own", lambda request: PlainTextResponse("mine"))]
    app = launch(blocks, serving, routes=own, own_checks=own_checks, max_upload_bytes=1000, out=out or io.StringIO())
    try:
        yield app
    finally:
        app.close()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# who may\n{make_line('ada', PASSWORD, rounds=4)}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "camera-box.example"])
def test_beyond_this_machine_it_starts_only_with_a_login_or_a_word(host: str, users: Path) -> None:
    with pytest.raises(ConfigError, match="--auth-file FILE, or --i-know-this-is-open"):
        Serving(host=host).check()
    Serving(host=host, is_open=True).check()
    Serving(host=host, auth_file=users).check()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_on_this_machine_no_login_is_needed(host: str) -> None:
    Serving(host=host).check()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 70000}, "a port is from 0 to 65535"),
        ({"ssl_certfile": Path("a.pem")}, "together with --ssl-keyfile"),
        ({"ssl_certfile": Path("a.pem"), "ssl_keyfile": Path("b.pem")}, "cannot be read"),
        ({"ssl_certfile": Path("a"), "ssl_keyfile": Path("b"), "self_signed": True}, "leave one of them out"),
        ({"auth_file": Path("nowhere")}, "No such file"),
    ],
)
def test_options_that_do_not_go_together_are_told(options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Serving(**options).check()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(CannotListen, match="another program listens there"),
            running(Serving(port=taken.getsockname()[1])),
        ):
            pass


def test_strangers_sites_are_refused_and_files_are_not_served() -> None:
    out = io.StringIO()
    with running(Serving(port=0), out) as app, httpx.Client(base_url=app.url) as client:
        page = client.get("/")
        assert page.status_code == 200 and client.get("/own").text == "mine"
        assert out.getvalue() == f"watching at {app.url}\n"
        assert page.headers["x-frame-options"] == "DENY" and page.headers["x-content-type-options"] == "nosniff"
        assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403
        assert client.get("/own", headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.get("/own", headers={"Origin": app.url}).status_code == 200
        evil = {"Sec-Fetch-Site": "cross-site"}
        assert client.post("/gradio_api/queue/join", headers=evil, json={}).status_code == 403
        for path in ("/etc/passwd", f"{Path(__file__)}", "requirements.txt", "app.py"):
            assert client.get(f"/gradio_api/file={path}").status_code == 403
        for path in ("/monitoring", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/vibe-code/"):
            assert client.get(path).status_code == 403


def test_with_users_everything_asks_for_a_login(users: Path) -> None:
    with running(Serving(port=0, auth_file=users)) as app, httpx.Client(base_url=app.url) as client:
        assert client.get("/config").status_code == 401
        assert client.get("/own").status_code == 403
        wrong = client.post("/login", data={"username": "ada", "password": "wrong horse"})
        assert wrong.status_code == 400
        assert client.post("/login", data={"username": "ada", "password": PASSWORD}).status_code == 200
        assert client.get("/config").status_code == 200
        assert client.get("/own").text == "mine"


def test_the_endpoint_lets_users_in_by_their_password_and_no_foreign_page(users: Path, tmp_path: Path) -> None:
    serving = Serving(port=0, auth_file=users)
    service = ChatService(Scheduler(lambda: None), "embedded", UploadLimits(), tmp_path, max_bytes=1000)  # type: ignore[arg-type, return-value]
    own_checks = endpoint_routes(service, ClientKeys(users=serving.authenticator()))
    with running(serving, own_checks=own_checks) as app, httpx.Client(base_url=app.url) as client:
        assert client.get("/own").status_code == 403 and client.get("/v1/models").status_code == 401
        key = {"Authorization": f"Bearer ada:{PASSWORD}"}
        assert client.get("/v1/models", headers=key).json()["data"][0]["id"] == "embedded"
        foreign = client.get("/v1/models", headers={**key, "Origin": "http://evil.example"})
        assert foreign.status_code == 403 and "another site" in foreign.json()["error"]["message"]
        early = client.post("/v1/chat/completions", headers=key, json={})
        assert early.status_code == 503 and "the model is loading" in early.json()["error"]["message"]


def test_self_signed_prints_where_its_fingerprint_and_a_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    out = io.StringIO()
    with running(Serving(port=0, self_signed=True), out) as app:
        assert app.url.startswith("https://")
        folder = tls.default_folder()
        assert folder.is_relative_to(tmp_path)
        assert (folder / "key.pem").stat().st_mode & 0o077 == 0
        trusting = ssl.create_default_context(cafile=folder / "certificate.pem")
        assert httpx.get(f"{app.url}/own", verify=trusting).text == "mine"
    fingerprint = tls.fingerprint_of(folder / "certificate.pem")
    assert fingerprint is not None and len(fingerprint.split(":")) == 32
    assert {app.url, fingerprint} <= {line.split(" ")[-1] for line in out.getvalue().splitlines()}
    assert "for a phone give --host 0.0.0.0" in out.getvalue() and "█" not in out.getvalue()


def test_browsers_are_sent_nothing_that_they_complain_of() -> None:
    with running(Serving(host="0.0.0.0", port=0, is_open=True)) as app:
        headers = httpx.get(app.url, trust_env=False).headers
    assert "content-security-policy" in headers and "cross-origin-opener-policy" not in headers, "it is http"


def test_a_phone_is_given_a_code_for_an_address_that_it_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    out = io.StringIO()
    with running(Serving(host="0.0.0.0", port=0, self_signed=True, auth_file=users), out) as app:
        assert "//0.0.0.0" not in app.url and "█" in out.getvalue()
        page = httpx.get(app.url, verify=False, trust_env=False)
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    head = page.text.partition("</head>")[0]
    assert head.index("Streaming video assistant</title>") < head.index("gradio_config"), "the login has a name, too"
    assert head.index("requestAnimationFrame") < head.index('type="module"'), "ours comes before Gradio's scripts"


def test_a_certificate_is_kept_while_it_holds(tmp_path: Path) -> None:
    first = tls.self_signed("127.0.0.1", tmp_path)
    assert tls.self_signed("127.0.0.1", tmp_path) == first
    assert tls.self_signed("camera-box.example", tmp_path) != first
