"""Webhooks against a real server on loopback: signed, tried again, kept from inside addresses, and told once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.config.targets import WebhookTarget
from assistant.delivery.delivery import Delivery, sample_message
from assistant.delivery.errors import DeliveryRefused, NotDelivered
from assistant.delivery.messages import AlertMessage
from assistant.delivery.senders import MessageFiles, sample_attachment
from assistant.delivery.webhook import WebhookSender
from assistant.errors import ConfigError
from assistant.timeline.store import Timeline
from tests.assistant.receivers import Reply, WebReceiver
from tests.assistant.timelines import NOON_S, alert
from tests.kills.killing import kill_often

ROOT = Path(__file__).parent.parent.parent


def message(text: str = "Someone is at the door.") -> AlertMessage:
    return replace(sample_message(NOON_S), text=text, occurrence="o", probability=0.75).for_target("hook")


def hook(url: str, **more: object) -> WebhookTarget:
    return WebhookTarget.model_validate({"kind": "webhook", "url": url, "timeout_s": 0.4, **more})


def test_it_is_signed_json_with_a_key_a_time_and_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + base64.b64encode(b"a secret of bytes").decode())
    with WebReceiver() as receiver:
        sender = WebhookSender("hook", hook(receiver.url, secret_env="HOOK_SECRET", timeout_s=10))
        assert sender.send(message('<b>"quoted"</b>\r\n'), MessageFiles((sample_attachment(),))) == "200 OK: kept"
        (post,) = receiver.posts
    values, headers = post.values, post.headers
    assert (values["text"], values["key"], values["test"], values["probability"]) == (
        '<b>"quoted"</b>\r\n', message().key, True, 0.75
    )  # fmt: skip
    assert (values["at"], values["phase"]) == ("2026-11-22T12:00:00.000+00:00", "started")
    (picture,) = values["attachments"]
    assert (picture["name"], picture["type"]) == ("snapshot.jpg", "image/jpeg")
    assert base64.b64decode(picture["base64"]) == sample_attachment().data
    assert headers["idempotency-key"] == headers["webhook-id"] == message().key
    signed = f"{message().key}.{headers['webhook-timestamp']}.".encode() + post.body
    expected = base64.b64encode(hmac.new(b"a secret of bytes", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("reply", "said", "is_down"),
    [
        (Reply(500, "no space left"), "500 Internal Server Error: no space left", False),
        (Reply(503, ""), "503 Service Unavailable", True),
        (Reply(401, "who are you?"), "401 Unauthorized: who are you?", False),
        (Reply(302, "", "http://127.0.0.1:1/"), "302 Found; a webhook must take the message itself; give the", False),
        (Reply(0), "no answer: Server disconnected without sending a response.", True),
        (Reply(hangs=True), "no answer within 0.4 s (timeout_s)", True),
        (Reply(308, "", "/hook"), "it leads elsewhere more than 3 times", False),
    ],
)  # fmt: skip
def test_it_says_what_the_receiver_said(reply: Reply, said: str, is_down: bool) -> None:
    with WebReceiver(lambda post: reply) as receiver, pytest.raises(NotDelivered) as caught:
        WebhookSender("hook", hook(receiver.url)).send(message(), MessageFiles())
    assert str(caught.value).startswith(said) and caught.value.is_down is is_down


def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with WebReceiver() as receiver:
        url = receiver.url
    with pytest.raises(NotDelivered, match=r"no answer: .*refused") as caught:
        WebhookSender("hook", hook(url)).send(message(), MessageFiles())
    assert caught.value.is_down


def test_one_that_wants_no_more_is_not_tried_again() -> None:
    with WebReceiver(lambda post: Reply(410, "moved out")) as receiver, pytest.raises(DeliveryRefused, match="moved"):
        WebhookSender("hook", hook(receiver.url)).send(message(), MessageFiles())


def test_a_redirect_that_repeats_the_request_is_followed() -> None:
    def answer(post: object) -> Reply:
        return Reply(307, "", "/new") if getattr(post, "path", "") == "/hook" else Reply(200, "here")

    with WebReceiver(answer) as receiver:
        assert WebhookSender("hook", hook(receiver.url)).send(message(), MessageFiles()) == "200 OK: here"
        assert [post.path for post in receiver.posts] == ["/hook", "/new"]
        assert receiver.posts[0].body == receiver.posts[1].body


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://10.0.0.1/admin", "10.0.0.1 is in none of the networks that are listed"),
        ("http://169.254.169.254/latest", "169.254.169.254 is a cloud's metadata service"),
        ("http://[::ffff:169.254.169.254]/", "169.254.169.254 is a cloud's metadata service"),
        ("file:///etc/passwd", "it leads to what is no http:// or https:// address"),
        ("http://2130706433/", "its host is a number in an odd notation"),
    ],
)
def test_a_redirect_inside_is_refused_and_nothing_is_sent_there(location: str, reason: str) -> None:
    with WebReceiver(lambda post: Reply(307, "", location)) as receiver:
        sender = WebhookSender("hook", hook(receiver.url, networks=["127.0.0.0/8"]))
        with pytest.raises(DeliveryRefused) as caught:
            sender.send(message(), MessageFiles())
    assert reason in str(caught.value) and len(receiver.posts) == 1


def test_a_public_name_may_not_lead_inside_whenever_it_is_resolved() -> None:
    addresses = iter([["93.184.216.34", "127.0.0.1"], ["127.0.0.1"], ["127.0.0.1"]])
    with WebReceiver() as receiver:
        url = f"http://hooks.example.org:{receiver.port}/hook"
        sender = WebhookSender("hook", hook(url), resolve=lambda host, port: next(addresses))
        for _ in range(2):
            with pytest.raises(DeliveryRefused, match=r"127\.0\.0\.1 is an inside address; list its network under"):
                sender.send(message(), MessageFiles())
        assert not receiver.posts
        listed = WebhookSender("hook", hook(url, networks=["127.0.0.0/8"]), resolve=lambda host, port: next(addresses))
        assert listed.send(message(), MessageFiles()) == "200 OK: kept"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "its address must begin with http:// or https:// and name a host"),
        ("http://169.254.169.254/latest", "169.254.169.254 is a cloud's metadata service"),
        ("http://0x7f000001/", "its host is a number in an odd notation"),
        ("not an address", "its address must begin with http://"),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_sent(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WebhookSender("hook", hook(url))
    assert str(caught.value).startswith("target hook: ") and said in str(caught.value)


def test_a_token_in_the_address_is_never_told(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://127.0.0.1:9/api/webhook/s3cr3t-t0ken?x=another1\n")
    config = WebhookTarget(kind="webhook", url_file=tmp_path / "url")
    sender = WebhookSender("hook", config)
    with pytest.raises(NotDelivered) as caught:
        sender.send(message(), MessageFiles())
    with WebReceiver(lambda post: Reply(404, f"no such hook: {post.path}")) as receiver:
        (tmp_path / "url").write_text(f"http://127.0.0.1:{receiver.port}/api/webhook/s3cr3t-t0ken\n")
        with pytest.raises(NotDelivered) as answered:
            WebhookSender("hook", config).send(message(), MessageFiles())
    assert all("s3cr3t" not in text for text in (str(caught.value), str(answered.value), repr(config)))
    assert str(answered.value) == "404 Not Found: no such hook: ***"


def test_alerts_go_out_by_themselves_and_a_late_answer_counts_once(tmp_path: Path) -> None:
    replies = iter([Reply(hangs=True), Reply(500, "busy")])
    config = hook("http://127.0.0.1:1/", attach="nothing")
    with WebReceiver(lambda post: next(replies, Reply())) as receiver, Timeline(tmp_path) as timeline:
        config = hook(receiver.url, attach="nothing")
        delivery = Delivery(timeline, {"hook": config}, seed=1)
        for courier in delivery._couriers.values():
            courier._retries = replace(courier._retries, first_s=0.05)
        delivery.start()
        timeline.record(alert("Someone."), camera="door")
        timeline.record(alert("Someone else."), camera="door")
        receiver.wait_for_keys(2)
        assert delivery.stop(10)
    assert set(receiver.accepted.values()) == {1}
    assert {post.values["text"] for post in receiver.posts} == {"Someone.", "Someone else."}


def test_a_process_killed_between_hit_and_delivery_delivers_once_after_its_restart(tmp_path: Path) -> None:
    killed = kill_often(5, tmp_path, seed=3)
    assert killed.held, killed
    assert killed.hits >= 3


def test_the_command_tells_a_kill_that_did_not_hold(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", "--kills", "2"], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0 and done.stdout.startswith("held: 2 kills, "), done.stderr
