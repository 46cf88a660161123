"""Alerts over a real broker: entities, states, commands, availability; the broker killed, wrong logins, TLS."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.commands.alerts import send_test
from assistant.config.targets import MqttTarget
from assistant.delivery.delivery import Delivery, sample_message
from assistant.delivery.errors import NotDelivered
from assistant.delivery.home_assistant import Topics
from assistant.delivery.messages import AlertMessage
from assistant.delivery.mqtt import MqttSender
from assistant.delivery.senders import AnnouncedRule, MessageFiles, sample_attachment
from assistant.errors import ConfigError
from assistant.timeline.store import Timeline
from tests.assistant.brokers import Broker, Listener
from tests.assistant.timelines import NOON_S, alert, evidence

TOPICS = Topics("video-assistant", "homeassistant")
LOGIN = ("ada", "correct horse")


def target(broker: Broker, **more: object) -> MqttTarget:
    return MqttTarget.model_validate({"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "timeout_s": 8, **more})


def started(text: str = "Someone is at the door.") -> AlertMessage:
    return replace(sample_message(NOON_S), rule="Door", text=text, is_test=False, occurrence="o").for_target("home")


def ended() -> AlertMessage:
    return replace(started(), phase="ended", ended_s=3.0).for_target("home")


def unheard(rule: str, is_muted: bool) -> None:
    raise AssertionError(f"{rule} was to be muted")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.mark.needs_broker
def test_a_rule_becomes_a_sensor_a_camera_and_a_switch(broker: Broker) -> None:
    muted: list[tuple[str, bool]] = []
    heard = threading.Event()

    def on_mute(rule: str, is_muted: bool) -> None:
        muted.append((rule, is_muted))
        heard.set()

    with Listener(broker) as listener:
        sender = MqttSender("home", target(broker), on_mute)
        sender.set_rules([AnnouncedRule("Door"), AnnouncedRule("Yard", is_muted=True)])
        sender.open()
        listener.wait_for(TOPICS.status, b"online")
        listener.wait_for(TOPICS.of("Yard", "muted"), b"ON")
        assert listener.latest(TOPICS.of("Door", "state")) == b"OFF"
        said = sender.send(started('{"x": 1}'), MessageFiles((sample_attachment(),)))
        assert said == "the broker confirmed 4 messages under video-assistant"
        listener.wait_for(TOPICS.of("Door", "state"), b"ON")
        assert listener.latest(TOPICS.of("Door", "snapshot")) == sample_attachment().data
        attributes = json.loads(listener.latest(TOPICS.of("Door", "attributes")) or b"")
        assert (attributes["text"], attributes["key"]) == ('{"x": 1}', started().key)
        sender.send(ended(), MessageFiles())
        listener.wait_for(TOPICS.of("Door", "state"), b"OFF")
        assert [json.loads(payload)["phase"] for payload in listener.all_of(TOPICS.alerts)] == ["started", "ended"]
        listener.publish(TOPICS.of("Nobody", "mute/set"), b"ON")
        listener.publish(TOPICS.of("Door", "mute/set"), b"rm -rf /")
        listener.publish(TOPICS.of("Door", "mute/set"), b"ON")
        assert heard.wait(30)
        listener.wait_for(TOPICS.of("Door", "muted"), b"ON")
        assert muted == [("Door", True)]
        sender.set_rules([AnnouncedRule("Yard")])
        listener.wait_for(TOPICS.config("camera", "Door"), b"")
        listener.wait_for(TOPICS.of("Yard", "muted"), b"OFF")
        sender.close()
        listener.wait_for(TOPICS.status, b"offline")


@pytest.mark.needs_broker
def test_a_rule_that_an_earlier_run_announced_is_removed(broker: Broker) -> None:
    with Listener(broker) as listener:
        listener.publish(TOPICS.config("switch", "Long gone"), b"{}", retain=True)
        sender = MqttSender("home", target(broker), unheard)
        sender.set_rules([AnnouncedRule("Door")])
        sender.open()
        listener.wait_for(TOPICS.config("switch", "Long gone"), b"")
        assert listener.latest(TOPICS.config("switch", "Door")) not in (None, b"")
        sender.close()


@pytest.mark.needs_broker
def test_a_broker_that_was_killed_is_found_again_and_told_everything_anew(broker: Broker) -> None:
    sender = MqttSender("home", target(broker, timeout_s=1), unheard)
    sender.set_rules([AnnouncedRule("Door")])
    sender.send(started(), MessageFiles())
    broker.kill()
    with pytest.raises(NotDelivered) as caught:
        sender.send(ended(), MessageFiles())
    assert caught.value.is_down and "broker" in str(caught.value)
    broker.start()
    patient = MqttSender("home", target(broker, timeout_s=40), unheard)
    sender._config = patient._config
    with Listener(broker) as listener:
        sender.send(ended(), MessageFiles())
        listener.wait_for(TOPICS.of("Door", "state"), b"OFF")
        listener.wait_for(TOPICS.status, b"online")
        assert listener.latest(TOPICS.config("camera", "Door")), "it forgot all, and was told again"
        sender.close()


@pytest.mark.needs_broker
def test_a_wrong_login_is_said_and_the_password_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RIGHT", LOGIN[1])
    monkeypatch.setenv("WRONG", "not a secret any more")
    with Broker(tmp_path, login=LOGIN) as broker:
        wrong = MqttSender("home", target(broker, user=LOGIN[0], password_env="WRONG", timeout_s=1), unheard)
        with pytest.raises(NotDelivered, match="no connection to the broker: it was refused: Not authorized") as caught:
            wrong.send(started(), MessageFiles())
        wrong.close()
        right = MqttSender("home", target(broker, user=LOGIN[0], password_env="RIGHT"), unheard)
        assert right.send(started(), MessageFiles()).startswith("the broker confirmed 3")
        right.close()
    assert caught.value.is_down and "not a secret" not in caplog.text + str(caught.value)


@pytest.mark.needs_broker
# Paho does not close the socket of a handshake that failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
def test_tls_trusts_the_named_certificates_only(tmp_path: Path) -> None:
    with Broker(tmp_path, with_tls=True) as broker:
        trusting = MqttSender("home", target(broker, encryption="tls", ca_file=str(broker.ca_file)), unheard)
        assert trusting.send(started(), MessageFiles()).startswith("the broker confirmed")
        trusting.close()
        strange = MqttSender("home", target(broker, encryption="tls", timeout_s=1), unheard)
        with pytest.raises(NotDelivered, match="certificate verify failed"):
            strange.send(started(), MessageFiles())
        strange.close()
        plain = MqttSender("home", target(broker, timeout_s=1), unheard)
        with pytest.raises(NotDelivered, match="no connection to the broker"):
            plain.send(started(), MessageFiles())
        plain.close()
    gc.collect()


def test_certificates_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    values = {"kind": "mqtt", "host": "h", "encryption": "tls", "ca_file": str(tmp_path / "none.pem")}
    with pytest.raises(ConfigError, match=r"none\.pem: No such file.*; target home needs certificates in PEM there"):
        MqttSender("home", MqttTarget.model_validate(values), unheard)
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="target home needs certificates"):
        MqttSender("home", MqttTarget.model_validate(values), unheard)


def test_a_broker_that_is_not_there_is_waited_for_only_so_long() -> None:
    config = MqttTarget.model_validate({"kind": "mqtt", "host": "127.0.0.1", "port": 1, "timeout_s": 0.3})
    sender = MqttSender("home", config, unheard)
    with pytest.raises(NotDelivered, match=r"no connection to the broker: .*refused") as caught:
        sender.send(started(), MessageFiles())
    sender.close()
    assert caught.value.is_down


@pytest.mark.needs_broker
def test_alerts_of_the_timeline_reach_the_broker_with_their_picture(broker: Broker, tmp_path: Path) -> None:
    with Listener(broker) as listener, Timeline(tmp_path / "timeline") as timeline:
        delivery = Delivery(timeline, {"home": target(broker)}, on_mute=unheard)
        delivery.start()
        timeline.record(alert("Someone."), camera="door", evidence=[evidence(1)])
        listener.wait_for(TOPICS.of("Alert", "state"), b"ON")
        assert listener.latest(TOPICS.of("Alert", "snapshot")) == evidence(1).picture.data
        key = delivery.test("home")
        listener.wait(
            lambda: any(key.encode() in payload for topic, payload, _ in listener.heard if topic == TOPICS.alerts),
            "the test alert did not come",
        )
        assert delivery.stop(10)


@pytest.mark.needs_broker
def test_a_test_leaves_a_running_program_alone(broker: Broker) -> None:
    with Listener(broker) as listener:
        running = MqttSender("home", target(broker), unheard)
        running.open()
        listener.wait_for(TOPICS.status, b"online")
        said, was_taken = send_test("home", target(broker))
        assert was_taken and said.startswith("the broker confirmed 4")
        listener.wait_for(TOPICS.of("Test", "state"), b"OFF")
        assert listener.all_of(TOPICS.of("Test", "state")) == [b"OFF", b"ON", b"OFF"]
        assert listener.latest(TOPICS.status) == b"online"
        assert listener.latest(TOPICS.config("camera", "Test")) not in (None, b"")
        running.close()
