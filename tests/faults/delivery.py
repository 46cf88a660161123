"""Faults of receivers of alerts: what waits is kept and sent later, each alert once, and the watch is never delayed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from assistant.config.targets import AppriseTarget, DeliveryTarget, MqttTarget, WebhookTarget
from assistant.delivery.delivery import Delivery
from assistant.delivery.home_assistant import Topics
from assistant.events import Alert
from tests.assistant.brokers import Broker, Listener
from tests.assistant.receivers import MailReceiver, Reply, WebReceiver
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, hold, wait_until
from tests.kills.killing import kill_often

_SOON_S = 30.0
_QUICK_RECORD_S = 0.5
"""Most seconds that storing an alert may take, whatever its receivers do."""
TOPICS = Topics("video-assistant", "homeassistant")
SECRET = "wrong-horse-battery"


@contextmanager
def _delivering(lab: Lab, **targets: DeliveryTarget) -> Iterator[Delivery]:
    """The lab's alerts being sent, with delays a hundred times as short as usual."""
    delivery = Delivery(lab.timeline, targets, clock=lab.clock, seed=1)
    for courier in delivery._couriers.values():
        courier._retries = replace(courier._retries, first_s=0.02, most_s=0.5)
    delivery.start()
    try:
        yield delivery
    finally:
        hold(delivery.stop(20.0), "the couriers did not end")


def _alert(lab: Lab, number: int) -> float:
    """Store an alert; return the seconds that it took."""
    began_s = time.monotonic()
    lab.timeline.append(Alert(source="door", time_s=float(number), text=f"Alert {number}"))
    took_s = time.monotonic() - began_s
    hold(took_s < _QUICK_RECORD_S, f"storing an alert took {took_s:.2f} s")
    return took_s


def _wait_for(delivery: Delivery, target: str, state: str, count: int) -> float:
    def there() -> bool:
        return delivery.outbox.counts().get(target, {}).get(state, 0) >= count

    return wait_until(there, _SOON_S, f"{count} messages to {target} are {state}")


def _hook(url: str, **more: object) -> WebhookTarget:
    return WebhookTarget.model_validate({"kind": "webhook", "url": url, "attach": "nothing", "timeout_s": 1, **more})


def _mqtt(broker: Broker, **more: object) -> MqttTarget:
    return MqttTarget.model_validate({"kind": "mqtt", "host": "127.0.0.1", "port": broker.port, "timeout_s": 2, **more})


@FAULTS.add("every alert arrives, each key is taken once, and storing one is not delayed", rtsp=False, quick=True)
def webhook_fails(lab: Lab) -> Measured:
    """A web receiver answers 500, then hangs up, then takes what comes."""
    replies = iter([Reply(500, "busy"), Reply(503), Reply(0), Reply(500, "busy")])
    with (
        WebReceiver(lambda post: next(replies, Reply())) as receiver,
        _delivering(lab, hook=_hook(receiver.url)) as delivery,
    ):
        slowest_s = max(_alert(lab, number) for number in range(5))
        took_s = _wait_for(delivery, "hook", "sent", 5)
        hold(set(receiver.accepted.values()) == {1} and len(receiver.accepted) == 5, f"{receiver.accepted} were taken")
    return {"alerts": 5, "posts": len(receiver.posts), "delivered_after_s": round(took_s, 2),
            "slowest_record_ms": round(1000 * slowest_s, 1)}  # fmt: skip


@FAULTS.add(
    "what another target gets is not delayed; what hung is sent again, and taken once although it had arrived",
    rtsp=False,
)
def webhook_hangs(lab: Lab) -> Measured:
    """A web receiver takes a message and answers nothing for longer than it is waited for; another one is well."""
    replies = iter([Reply(hangs=True)])
    with (
        WebReceiver(lambda post: next(replies, Reply())) as slow,
        WebReceiver() as well,
        _delivering(lab, slow=_hook(slow.url), well=_hook(well.url)) as delivery,
    ):
        _alert(lab, 1)
        well_s = _wait_for(delivery, "well", "sent", 1)
        hold(delivery.outbox.counts()["slow"]["waiting"] == 1, "the other receiver had answered before")
        slow_s = _wait_for(delivery, "slow", "sent", 1)
        hold(slow.num_repeated == 1 and set(slow.accepted.values()) == {1}, f"it was taken {slow.accepted}")
        said = [entry.said for entry in delivery.outbox.entries(target="slow")]
    return {"well_after_s": round(well_s, 2), "hung_after_s": round(slow_s, 2), "said": said[0]}


@FAULTS.add("nothing is sent there; the message counts as failed with the reason; the timeline says it", rtsp=False)
def webhook_redirects_inside(lab: Lab) -> Measured:
    """A web receiver leads to an inside address, and to a cloud's metadata service."""
    inside = WebReceiver()
    with inside:
        places = iter([f"http://127.0.0.2:{inside.port}/admin", "http://169.254.169.254/latest"])
        with (
            WebReceiver(lambda post: Reply(307, "", next(places))) as receiver,
            _delivering(lab, hook=_hook(receiver.url, networks=["127.0.0.1/32"])) as delivery,
        ):
            _alert(lab, 1)
            _alert(lab, 2)
            _wait_for(delivery, "hook", "failed", 2)
            said = sorted(entry.said for entry in delivery.outbox.entries(target="hook"))
        hold(not inside.posts, "something was sent to the inside address")
    told = [event for event in lab.timeline.events() if getattr(event, "kind", "") == "undelivered"]
    hold(len(told) == 2, f"the timeline tells of {len(told)} undelivered alerts")
    return {"first": said[0], "second": said[1]}


@FAULTS.add("what came meanwhile arrives in order once it is back, and it is told everything anew", rtsp=False)
def broker_killed(lab: Lab) -> Measured:
    """An MQTT broker is killed, and comes back knowing nothing."""
    broker = lab.enter(Broker(lab.folder / "broker"))
    with _delivering(lab, home=_mqtt(broker)) as delivery:
        _alert(lab, 1)
        _wait_for(delivery, "home", "sent", 1)
        broker.kill()
        _alert(lab, 2)
        _alert(lab, 3)
        time.sleep(1.0)
        hold(delivery.outbox.counts()["home"]["waiting"] == 2, "something was sent to a broker that is not there")
        broker.start()
        with Listener(broker) as listener:
            took_s = _wait_for(delivery, "home", "sent", 3)
            listener.wait_for(TOPICS.of("Alert", "state"), b"ON")
            listener.wait_for(TOPICS.status, b"online")
            hold(bool(listener.latest(TOPICS.config("binary_sensor", "Alert"))), "it was not told of the rule again")
    return {"waited": 2, "delivered_after_s": round(took_s, 2)}


@FAULTS.add("alerts wait with the broker's words; the password is told nowhere; the right one delivers", rtsp=False)
def broker_wrong_login(lab: Lab) -> Measured:
    """An MQTT broker refuses the login; after a restart with the right one it takes everything."""
    broker = lab.enter(Broker(lab.folder / "broker", login=("ada", SECRET[::-1])))
    os.environ["FAULT_PASSWORD"] = SECRET
    try:
        with _delivering(lab, home=_mqtt(broker, user="ada", password_env="FAULT_PASSWORD")) as delivery:
            _alert(lab, 1)
            wait_until(lambda: bool(delivery.outbox.entries()[0].said), _SOON_S, "the refusal is noted")
            said = delivery.outbox.entries()[0].said
        hold("Not authorized" in said and SECRET not in said, f"it said {said!r}")
        os.environ["FAULT_PASSWORD"] = SECRET[::-1]
        with _delivering(lab, home=_mqtt(broker, user="ada", password_env="FAULT_PASSWORD")) as delivery:
            took_s = _wait_for(delivery, "home", "sent", 1)
    finally:
        del os.environ["FAULT_PASSWORD"]
    return {"said": said, "delivered_after_s": round(took_s, 2)}


@FAULTS.add("with the CA named it delivers; without it, and without encryption, alerts wait and it is said", rtsp=False)
def broker_with_tls(lab: Lab) -> Measured:
    """An MQTT broker has a certificate of a CA that no system knows."""
    broker = lab.enter(Broker(lab.folder / "broker", with_tls=True))
    with _delivering(
        lab,
        named=_mqtt(broker, encryption="tls", ca_file=str(broker.ca_file), topic="named"),
        strange=_mqtt(broker, encryption="tls", topic="strange"),
    ) as delivery:
        _alert(lab, 1)
        took_s = _wait_for(delivery, "named", "sent", 1)
        entries = delivery.outbox
        wait_until(lambda: bool(entries.entries(target="strange")[0].said), _SOON_S, "the refusal is noted")
        said = entries.entries(target="strange")[0].said
        hold("certificate verify failed" in said, f"it said {said!r}")
        hold(entries.counts()["strange"]["sent"] == 0, "it was sent to a broker that nobody vouches for")
    return {"delivered_after_s": round(took_s, 2), "said": said}


@FAULTS.add("the mail waits with the server's words and arrives once the server takes it", rtsp=False)
def mail_server_away(lab: Lab) -> Measured:
    """A mail server refuses a mail, is gone, and then takes mails again."""
    refusing = MailReceiver("451 try later")
    os.environ["FAULT_MAIL"] = refusing.url
    try:
        with _delivering(lab, mail=AppriseTarget(kind="apprise", url_env="FAULT_MAIL", timeout_s=2)) as delivery:
            with refusing:
                _alert(lab, 1)
                wait_until(lambda: bool(delivery.outbox.entries()[0].said), _SOON_S, "the refusal is noted")
                said = delivery.outbox.entries()[0].said
            taking = MailReceiver(port=refusing.port)
            with taking:
                took_s = _wait_for(delivery, "mail", "sent", 1)
                hold(len(taking.mails) == 1, f"{len(taking.mails)} mails arrived")
    finally:
        del os.environ["FAULT_MAIL"]
    hold("try later" in said, f"it said {said!r}")
    return {"said": said, "delivered_after_s": round(took_s, 2)}


@FAULTS.add("every alert that was stored is delivered after a restart, and taken once", rtsp=False)
def killed_before_delivery(lab: Lab) -> Measured:
    """A process is killed at random instants between a hit and its delivery, twenty times."""
    killed = kill_often(20, lab.folder / "killed", seed=5)
    hold(killed.held, f"{killed}")
    return {
        "kills": killed.kills, "before_delivery": killed.before_delivery, "before_the_note": killed.before_the_note,
        "alerts": killed.hits, "delivered": killed.delivered, "repeated": killed.repeated,
    }  # fmt: skip
