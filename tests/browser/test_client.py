"""Tests of the page's actions through `gradio_client`: names, types, documentation, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.browser.serving import Served, connected, wait_until
from tests.clips import write_clip

if TYPE_CHECKING:
    from gradio_client import Client

ACTIONS = {
    "watch", "watch_file", "test_source", "stop", "state", "pause", "resume", "seek", "speed", "forget", "talkative",
    "instruct", "ask", "stop_answers", "events", "search", "export", "cameras", "watch_camera", "draw",
    "rules", "put_rule", "mute_rule", "remove_rule",
}  # fmt: skip


@pytest.fixture
def client(app: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """With a session of its own."""
    with connected(app.url, tmp_path_factory.mktemp("downloads")) as client:
        yield client
        client.predict(api_name="/stop")


def call(client: Client, name: str, *values: Any, **named: Any) -> Any:
    return client.predict(*values, **named, api_name=f"/{name}")


def test_actions_are_named_typed_and_documented(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {name.removeprefix("/") for name in endpoints} == ACTIONS, "and nothing else is open"
    for name, endpoint in endpoints.items():
        assert endpoint["description"], f"{name} says what it does"
        for parameter in endpoint["parameters"]:
            assert parameter["python_type"]["type"] not in ("", "Any"), f"{name}: {parameter['parameter_name']}"


def test_a_stream_is_watched_asked_about_and_exported(client: Client) -> None:
    assert call(client, "test_source", "synthetic:3")["ok"] is True
    state = call(client, "watch", "synthetic:3", speed=4.0)
    assert state["source"] == "synthetic:3"
    wait_until(lambda: any(e["badge"] == "Remark" for e in call(client, "events")), 20, "a remark")
    job = client.submit("What is on the left?", api_name="/ask")
    assert job.result(timeout=20)
    assert len(job.outputs()) >= 1
    assert call(client, "pause")["state"] == "paused"
    assert call(client, "resume")["state"] != "paused"
    assert call(client, "instruct", "Tell me only when something enters.")["instruction"].startswith("Tell me")
    assert call(client, "talkative", 1.5)["talkative"] == 1.5
    call(client, "seek", 40.0)
    wait_until(lambda: call(client, "state")["media_s"] >= 38.0, 10, "the seek")
    assert '"type": "answer"' in call(client, "export") or '"answer"' in call(client, "export")
    assert call(client, "search", "left OR right OR enters OR stops") is not None
    assert call(client, "stop")["state"] == "idle"


def test_a_clip_that_is_sent_plays(client: Client, tmp_path: Path) -> None:
    from gradio_client import handle_file

    clip = write_clip(tmp_path / "mine.mp4", num_frames=50, size_px=(320, 240))
    state = call(client, "watch_file", handle_file(str(clip)), speed=0.0)
    assert state["source"] == "mine.mp4"
    wait_until(lambda: call(client, "state")["state"] == "ended", 20, "the end of the clip")


def test_a_client_cannot_name_the_servers_files(client: Client, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "theirs.mp4", num_frames=50, size_px=(320, 240))
    for value in ({"path": str(clip)}, {"path": str(clip), "meta": {"_type": "gradio.FileData"}}, str(clip)):
        body = {"data": [value, 1.0], "session_hash": client.session_hash}
        begun = httpx.post(f"{client.src}gradio_api/call/watch_file", json=body)
        told = httpx.get(f"{client.src}gradio_api/call/watch_file/{begun.json()['event_id']}", timeout=30).text
        assert "event: error" in told, told
        assert clip.exists(), "a file of the server was taken away"
    for spec in (str(clip), f"file://{clip}", "webcam:0", "http://169.254.169.254/"):
        with pytest.raises(Exception, match="camera|metadata"):
            call(client, "watch", spec)
    assert call(client, "state")["state"] == "idle"
