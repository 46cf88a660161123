from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from assistant.viewers.viewer_session import WatchRequest
from streaming.thumbnails import decode_jpeg, encode_jpeg
from streaming.types import Frame
from tests.assistant.streams import remark
from tests.ui.desks import Office
from ui.media import PICTURE_HEAD, media_routes

SCENE = WatchRequest("sample", "synthetic:3", "Synthetic scene")
WEBCAM = WatchRequest("webcam", "push:webcam", "Webcam")


def client_of(office: Office) -> TestClient:
    return TestClient(Starlette(routes=media_routes(office.backend)), base_url="http://127.0.0.1:7860")


def frame(number: int) -> Frame:
    return Frame(np.full((40, 60, 3), number, np.uint8), number, number / 25, 0.0, "scene")


def until(socket: Any, kind: str, most: int = 60) -> dict[str, Any]:
    """The next message of a kind; what comes before it is left out."""
    for _ in range(most):
        message = socket.receive()
        if message.get("text") is not None:
            import json

            values = json.loads(message["text"])
            if values["type"] == kind:
                return values
    raise AssertionError(f"no {kind}")


def next_picture(socket: Any) -> tuple[float, int, np.ndarray]:
    for _ in range(60):
        message = socket.receive()
        if message.get("bytes") is not None:
            time_s, number = PICTURE_HEAD.unpack_from(message["bytes"])
            return time_s, number, decode_jpeg(message["bytes"][PICTURE_HEAD.size :])
    raise AssertionError("no picture")


def test_a_tab_gets_its_pictures_at_their_own_times_and_its_state() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, SCENE)
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        assert until(socket, "pulse")["state"] == "REPLAY"
        stream = office.streams[0]
        assert stream.viewed.wait(5)
        stream.viewers[0](frame(50))
        time_s, number, picture = next_picture(socket)
        assert time_s == 2.0 and number == 1 and abs(int(picture.mean()) - 50) < 3
    assert not stream.viewers and not viewer.num_connections


def test_on_a_slow_line_the_newest_picture_wins() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, SCENE)
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        until(socket, "pulse")
        stream = office.streams[0]
        assert stream.viewed.wait(5)
        sent = []
        for number in (1, 2):
            stream.viewers[0](frame(number))
            sent.append(next_picture(socket)[1])
        for number in range(3, 40):  # none of the two was drawn yet, so these wait and replace each other
            stream.viewers[0](frame(number))
        until(socket, "pulse")
        socket.send_json({"drawn": sent[-1]})
        assert next_picture(socket)[0] == 39 / 25


def test_a_hidden_page_is_sent_no_pictures() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, SCENE)
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token, "shown": False})
        for _ in range(3):
            until(socket, "pulse")
        assert not office.streams[0].viewers
        socket.send_json({"shown": True})
        assert office.streams[0].viewed.wait(5)


def test_webcam_pictures_reach_the_stream_with_the_browsers_time() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, WEBCAM)
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        until(socket, "pulse")
        socket.send_bytes(struct.pack("<d", 17.25) + encode_jpeg(np.zeros((48, 64, 3), np.uint8)).data)
        socket.send_bytes(struct.pack("<d", 17.25) + b"no picture")
        for _ in range(4):
            until(socket, "pulse")
        assert office.streams[0].pushed[0] == ((48, 64, 3), 17.25)
        assert not office.streams[0].viewers  # the browser shows its own camera itself


def test_pictures_are_not_pushed_into_other_streams() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, SCENE)
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_bytes(struct.pack("<d", 1.0) + encode_jpeg(np.zeros((48, 64, 3), np.uint8)).data)
        until(socket, "pulse")
        until(socket, "pulse")
    assert not office.streams[0].pushed


def test_seeking_and_evidence_go_over_the_same_connection() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, SCENE)
    item = viewer.feed.add(remark("A circle enters."))
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_json({"seek": 30.0})
        socket.send_json({"evidence": item.id})
        found = until(socket, "evidence")
        assert found["text"] == "A circle enters." and office.streams[0].calls == ["start", "seek 30"]
        socket.send_json({"moment": 7.5})
        assert until(socket, "evidence")["title"] == "Around 00:07.5"


def test_a_shared_camera_is_not_sought_and_the_page_hears_why() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_json({"seek": 30.0})
        assert "nothing is being watched" in until(socket, "say")["text"]


@pytest.mark.parametrize("hello", [{"token": "guess"}, {"token": None}, {}, []])
def test_nobody_gets_in_without_a_token(hello: Any) -> None:
    office = Office()
    office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json(hello)
        assert socket.receive_json() == {"type": "gone"}
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_pages_of_other_sites_are_refused() -> None:
    office = Office()
    client = client_of(office)
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/sva/ws", headers={"origin": "http://evil.example"}),
    ):
        pass


def test_junk_on_the_connection_changes_nothing() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    office.backend.watch(viewer, WEBCAM)
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        for junk in ("", "{", "[1]", '"x"', '{"evidence": "1"}', '{"seek": null}', '{"drawn": []}', "x" * 5000):
            socket.send_text(junk)
        socket.send_bytes(b"")
        socket.send_bytes(b"1234567")
        assert until(socket, "pulse")["watching"]


def test_a_file_is_served_to_its_own_tab_alone() -> None:
    office = Office()
    viewer, other = office.backend.registry.enter(None, "a"), office.backend.registry.enter(None, "b")
    name = viewer.offer_file("events.jsonl", b"{}\n")
    client = client_of(office)
    got = client.get(f"/sva/files/{viewer.token}/{name}")
    assert got.status_code == 200 and got.content == b"{}\n" and "attachment" in got.headers["content-disposition"]
    for address in (
        f"{other.token}/{name}",
        f"x/{name}",
        f"{viewer.token}/..%2F{name}",
        f"{viewer.token}/%2Fetc%2Fpasswd",
    ):
        assert client.get(f"/sva/files/{address}").status_code == 404


def test_the_grid_of_cameras_is_sent_while_it_is_seen() -> None:
    from assistant.cameras.views import CameraCard, Region

    class Cameras:
        def cards(self) -> list[CameraCard]:
            mask = Region("mask", "clock", ((0.0, 0.0), (0.3, 0.0), (0.3, 0.1)))
            return [CameraCard("door", "live", "", "ok", True, "Someone comes in.", b"jpeg", (mask,))]

        def reader(self) -> None:
            """No events are stored."""

        def camera_rules(self) -> Cameras:
            return self

        def standing(self) -> list[object]:
            return []

    office = Office(views=Cameras())
    viewer = office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        socket.send_json({"grid": True})
        (camera,) = until(socket, "cameras")["cameras"]
    assert camera["name"] == "door" and camera["alert"] and camera["state"] == "LIVE"
    assert camera["regions"][0]["points"][1] == [0.3, 0.0]


def test_the_model_news_reach_the_page() -> None:
    office = Office()
    viewer = office.backend.registry.enter(None, "a")
    with client_of(office).websocket_connect("/sva/ws") as socket:
        socket.send_json({"token": viewer.token})
        pulse = until(socket, "pulse")
    assert pulse["model"]["state"] == "ready" and "embedded" in pulse["model"]["text"]
