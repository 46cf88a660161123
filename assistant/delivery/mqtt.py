"""Publishes alerts to an MQTT broker, as entities that Home Assistant discovers, and takes its commands to mute.

Paho's own thread keeps the connection and calls back; the courier's thread sends. What is retained at the broker is
published again after each connection, so that a broker that forgot it knows it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import platform
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from assistant.config.targets import MqttTarget
from assistant.delivery.errors import NotDelivered
from assistant.delivery.home_assistant import OFF, OFFLINE, ON, ONLINE, Topics, discovery_messages
from assistant.delivery.messages import AlertMessage, as_payload, one_line
from assistant.delivery.senders import AnnouncedRule, MessageFiles, OnMute, SecretWords
from assistant.errors import ConfigError
from assistant.timeline.folder import safe_name

KEEPALIVE_S = 30
QOS = 1
"""At least once: the broker confirms each message."""
MOST_RECONNECT_S = 30

logger = logging.getLogger(__name__)


class MqttSender:
    """Sends to one broker, over one connection that is kept."""

    def __init__(self, name: str, config: MqttTarget, on_mute: OnMute, *, is_for_test: bool = False) -> None:
        """is_for_test: leave availability, commands and old rules to another process. Raises `ConfigError`."""
        self._name = name
        self._config = config
        self._on_mute = on_mute
        self._is_for_test = is_for_test
        self._topics = Topics(config.topic, config.discovery)
        self._login = config.login(name)
        self.secrets = SecretWords(self._login[1] if self._login is not None else None)
        self._tls = _tls_context(name, config)
        self._changed = threading.Condition()
        self._is_connected = False
        self._trouble = ""
        self._client: paho.Client | None = None
        self._rules: dict[str, AnnouncedRule] = {}
        self._retained: dict[str, bytes] = {}

    def open(self) -> None:
        """Start to connect, and to connect again whenever the connection is lost; returns at once."""
        with self._changed:
            if self._client is not None:
                return
            client = self._client = self._new_client()
        # An address that cannot be resolved is tried again as one that does not answer.
        client.connect_async(self._config.host, self._config.port_used, KEEPALIVE_S)
        client.loop_start()

    def send(self, message: AlertMessage, files: MessageFiles) -> str:
        """Publish a message; return once the broker confirmed all of it. Raises `NotDelivered`."""
        self.open()
        client = self._connected()
        rule = message.rule or "Alert"
        if rule not in self._rules:
            self._announce(client, AnnouncedRule(rule))
        payload = as_payload(message)
        retained = {self._topics.of(rule, "attributes"): payload}
        if files.snapshot is not None:
            retained[self._topics.of(rule, "snapshot")] = files.snapshot
        retained[self._topics.of(rule, "state")] = (ON if message.phase == "started" else OFF).encode()
        sent = [self._retain(client, topic, data) for topic, data in retained.items()]
        sent.append(client.publish(self._topics.alerts, payload, qos=QOS))
        self._wait_for(sent)
        return f"the broker confirmed {len(sent)} messages under {self._topics.prefix}"

    def set_rules(self, rules: Sequence[AnnouncedRule]) -> None:
        """Announce these rules, now or once connected, and remove the entities of those that are gone."""
        with self._changed:
            gone = [name for name in self._rules if name not in {rule.name for rule in rules}]
            client = self._client if self._is_connected else None
        for name in gone:
            self._withdraw(client, name)
        for rule in rules:
            self._announce(client, rule)

    def close(self) -> None:
        """Say that this program is away, and disconnect."""
        with self._changed:
            client, self._client = self._client, None
            was_connected, self._is_connected = self._is_connected, False
        if client is None:
            return
        if was_connected and not self._is_for_test:
            with contextlib.suppress(ValueError, RuntimeError):
                client.publish(self._topics.status, OFFLINE, qos=QOS, retain=True).wait_for_publish(2.0)
        client.disconnect()
        client.loop_stop()

    def _new_client(self) -> paho.Client:
        known = f"{platform.node()}\0{self._config.topic}\0{self._name}"
        # The same name after a restart lets the broker end the connection that was lost before it greets the new one.
        name = uuid.uuid4().hex if self._is_for_test else hashlib.sha256(known.encode()).hexdigest()
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"va-{name[:18]}", clean_session=True)
        client.connect_timeout = self._config.timeout_s
        client.reconnect_delay_set(1, MOST_RECONNECT_S)
        if self._login is not None:
            client.username_pw_set(*self._login)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if not self._is_for_test:
            client.will_set(self._topics.status, OFFLINE, qos=QOS, retain=True)
        client.on_connect = self._connected_now
        client.on_connect_fail = self._not_connected
        client.on_disconnect = self._disconnected
        client.on_message = self._heard
        return client

    def _connected(self) -> paho.Client:
        """The client, once it is connected. Raises `NotDelivered` after the time limit."""
        end_s = time.monotonic() + self._config.timeout_s
        with self._changed:
            while not self._is_connected and (left_s := end_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            if self._is_connected and self._client is not None:
                return self._client
            trouble = self._trouble or f"no answer within {self._config.timeout_s:g} s (timeout_s)"
        raise NotDelivered(f"no connection to the broker: {trouble}", is_down=True)

    def _wait_for(self, sent: Sequence[paho.MQTTMessageInfo]) -> None:
        """Wait until the broker has confirmed all; without that, begin anew with nothing left to be sent late."""
        end_s = time.monotonic() + self._config.timeout_s
        with contextlib.suppress(ValueError, RuntimeError):
            for info in sent:
                info.wait_for_publish(max(0.0, end_s - time.monotonic()))
        if all(info.rc in (MQTTErrorCode.MQTT_ERR_SUCCESS,) and info.is_published() for info in sent):
            return
        trouble = self._trouble or f"within {self._config.timeout_s:g} s (timeout_s)"
        self._forget_connection()
        raise NotDelivered(f"the broker did not confirm it: {trouble}", is_down=True)

    def _forget_connection(self) -> None:
        with self._changed:
            client, self._client = self._client, None
            self._is_connected = False
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _announce(self, client: paho.Client | None, rule: AnnouncedRule) -> None:
        with self._changed:
            is_new = rule.name not in self._rules
            self._rules[rule.name] = rule
        messages = discovery_messages(self._topics, rule.name, has_availability=not self._is_for_test)
        messages[self._topics.of(rule.name, "muted")] = (ON if rule.is_muted else OFF).encode()
        if is_new:
            messages[self._topics.of(rule.name, "state")] = OFF.encode()
        for topic, payload in messages.items():
            self._retain(client, topic, payload)

    def _withdraw(self, client: paho.Client | None, rule: str) -> None:
        """Remove a rule's entities, and what the broker keeps of it."""
        with self._changed:
            self._rules.pop(rule, None)
        topics = [*discovery_messages(self._topics, rule)]
        topics += [self._topics.of(rule, what) for what in ("state", "attributes", "snapshot", "muted")]
        for topic in topics:
            self._retained.pop(topic, None)
            if client is not None:
                client.publish(topic, b"", qos=QOS, retain=True)

    def _retain(self, client: paho.Client | None, topic: str, payload: bytes) -> Any:
        with self._changed:
            self._retained[topic] = payload
        return client.publish(topic, payload, qos=QOS, retain=True) if client is not None else None

    def _connected_now(self, client: paho.Client, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        """Paho's thread: the broker answered."""
        if code.is_failure:
            self._say_trouble(f"it was refused: {code}")
            return
        with self._changed:
            retained = dict(self._retained)
        for topic, payload in retained.items():
            client.publish(topic, payload, qos=QOS, retain=True)
        if not self._is_for_test:
            client.subscribe([(self._topics.commands, QOS), (self._topics.announced, QOS)])
            client.publish(self._topics.status, ONLINE, qos=QOS, retain=True)
        with self._changed:
            self._is_connected, self._trouble = client is self._client, ""
            self._changed.notify_all()
        logger.info("%s: connected to the broker", self._name)

    def _not_connected(self, client: paho.Client, data: Any) -> None:
        """Paho's thread: no connection came about; paho tries again by itself."""
        error = sys.exc_info()[1]
        self._say_trouble(one_line(str(error), 200) if error is not None else "it cannot be reached")

    def _disconnected(self, client: paho.Client, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        """Paho's thread: the connection ended; paho connects again by itself."""
        with self._changed:
            if client is not self._client:
                return
            was_connected, self._is_connected = self._is_connected, False
            self._changed.notify_all()
        if was_connected and code != ReasonCode(PacketTypes.DISCONNECT, "Normal disconnection"):
            self._say_trouble(f"the connection was lost: {code}")

    def _say_trouble(self, text: str) -> None:
        text = self.secrets.hide(text)
        with self._changed:
            is_new, self._trouble = text != self._trouble, text
        if is_new:
            logger.warning("%s: no connection to the broker: %s", self._name, text)

    def _heard(self, client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        """Paho's thread: a command to mute, or the announcement of a rule that an earlier run knew."""
        parts = message.topic.split("/")
        with self._changed:
            rules = {safe_name(name): name for name in self._rules}
        if message.topic.endswith("/config"):
            # Only what was there before: another process may be announcing a test alert right now.
            if message.retain and message.payload and parts[-2] not in rules:
                client.publish(message.topic, b"", qos=QOS, retain=True)
            return
        rule, payload = rules.get(parts[-3]), bytes(message.payload)
        if message.retain or rule is None or payload not in (ON.encode(), OFF.encode()):
            logger.warning("%s: a command on %s is ignored: not ON or OFF of a rule", self._name, message.topic)
            return
        self._mute(client, rule, payload == ON.encode())

    def _mute(self, client: paho.Client, rule: str, is_muted: bool) -> None:
        try:
            self._on_mute(rule, is_muted)
        except Exception:
            logger.exception("%s: rule %r could not be muted or heard again", self._name, rule)
            is_muted = self._rules[rule].is_muted
        self._announce(client, AnnouncedRule(rule, is_muted, self._rules[rule].targets))


def _tls_context(name: str, config: MqttTarget) -> ssl.SSLContext | None:
    """What TLS trusts; None without encryption. Raises `ConfigError` if the certificates cannot be read."""
    if config.encryption == "none":
        return None
    try:
        return ssl.create_default_context(cafile=None if config.ca_file is None else config.ca_file.expanduser())
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no certificates"
        raise ConfigError(
            f"{config.ca_file}: {reason}; target {name} needs certificates in PEM there; check it"
        ) from None
