"""A real MQTT broker, Debian's mosquitto, on loopback: killed and restarted, with logins and with TLS."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from tests.assistant.receivers import free_port

BROKER_PACKAGES = "mosquitto"
MOSQUITTO = "/usr/sbin/mosquitto"
_START_S = 20.0


class Broker:
    """A broker in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, *, login: tuple[str, str] | None = None, with_tls: bool = False) -> None:
        """login: the only user, with a password; None lets everybody in. with_tls: with a certificate of its own CA."""
        self.port = free_port()
        self.ca_file = folder / "ca.pem"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if login else 'true'}"]
        lines += ["user root"]
        if login is not None:
            passwords = folder / "passwords"
            subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), *login], check=True, capture_output=True)
            lines.append(f"password_file {passwords}")
        if with_tls:
            make_certificates(folder)
            lines += [f"certfile {folder / 'broker.pem'}", f"keyfile {folder / 'broker.key'}"]
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end_s = time.monotonic() + _START_S
        while not _is_open(self.port):
            assert time.monotonic() < end_s and self._process.poll() is None, "the broker did not start"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it at once; it forgets everything."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class Listener:
    """Hears everything that a broker publishes, as Home Assistant would, and can publish commands."""

    def __init__(self, broker: Broker, *, login: tuple[str, str] | None = None, with_tls: bool = False) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        """Topic, payload, and whether it was retained, in order of arrival."""
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener")
        if login is not None:
            self._client.username_pw_set(*login)
        if with_tls:
            self._client.tls_set(str(broker.ca_file))
        self._client.on_connect = lambda client, *rest: client.subscribe("#", 1)
        self._client.on_message = self._hear
        self._port = broker.port

    def latest(self, topic: str) -> bytes | None:
        """The latest payload of a topic; None before the first."""
        with self._changed:
            found = [payload for heard, payload, _ in self.heard if heard == topic]
        return found[-1] if found else None

    def all_of(self, topic: str) -> list[bytes]:
        """Every payload of a topic."""
        with self._changed:
            return [payload for heard, payload, _ in self.heard if heard == topic]

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Wait until what was heard meets a condition."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"{what}; heard {[topic for topic, *_ in self.heard]}"

    def wait_for(self, topic: str, payload: bytes) -> None:
        """Wait until a topic's latest payload is this one."""
        self.wait(lambda: self._latest(topic) == payload, f"{topic} did not become {payload!r}")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish a message."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def _latest(self, topic: str) -> bytes | None:
        found = [payload for heard, payload, _ in self.heard if heard == topic]
        return found[-1] if found else None

    def _hear(self, client: Any, data: Any, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.heard.append((message.topic, bytes(message.payload), message.retain))
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def make_certificates(folder: Path) -> None:
    """Write a CA of our own, and a certificate of it for 127.0.0.1 and localhost."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("A CA of our own")
    ca = _certificate(ca_name, ca_name, ca_key.public_key(), ca_key, [x509.BasicConstraints(True, None)])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    broker = _certificate(_name("broker"), ca_name, key.public_key(), ca_key, [names])
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "broker.pem").write_bytes(broker.public_bytes(serialization.Encoding.PEM))
    (folder / "broker.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip


def _certificate(subject: x509.Name, issuer: x509.Name, key: Any, signer: Any, more: list[Any]) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    for extension in more:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(signer, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _is_open(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
