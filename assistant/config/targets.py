"""Configuration of the targets that alerts are sent to: apprise services, an MQTT broker, webhooks.

Addresses that hold tokens, passwords and signing secrets come from the environment or a file, so that the configuration
holds none; they are read when the program starts. Immutable values; any thread may hold them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from assistant.config.component import Component, check_distinct, check_names
from assistant.config.secrets import VARIABLE, check_login, login_of, secret_of
from assistant.errors import ConfigError
from assistant.rules.rule import Severity

_VARIABLE = f"^{VARIABLE}$"
_TOPIC = re.compile(r"[^+#\x00/$][^+#\x00]{0,199}")
_HOST = re.compile(r"[A-Za-z0-9_.\-]{1,253}|[0-9A-Fa-f:.]{2,45}")
SEVERITIES = tuple(Severity)
"""Severities of alerts, the least first."""
Phase = Literal["started", "ended"]
Attach = Literal["nothing", "snapshot", "frames", "clip"]
Network = Annotated[str, AfterValidator(lambda text: _network(text))]
Topic = Annotated[str, AfterValidator(lambda text: _topic(text))]
Host = Annotated[str, AfterValidator(lambda text: _host(text))]


class DeliveryTarget(Component):
    """What every kind of target has."""

    kinds: ClassVar[tuple[str, ...]] = ("apprise", "mqtt", "webhook")

    rules: tuple[str, ...] = ()
    """Names of the rules whose alerts go here; empty for all."""
    min_severity: Severity = Severity.INFO
    """The least severity of an alert that is sent here."""
    daily_limit: int | None = Field(default=None, ge=1, le=100_000)
    """Most alerts of one rule in 24 hours; further ones are entered as failed. None for no limit."""
    tries: int = Field(default=20, ge=1, le=1000)
    """How often a message is tried before it counts as failed."""
    give_up_hours: float = Field(default=24.0, gt=0, le=720)
    """Hours after which a message that was not delivered counts as failed."""
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    """Most seconds to wait for the receiver."""

    def is_wanted(self, rule: str, severity: str, phase: str) -> bool:
        """Whether a message of this kind goes here. An unknown severity counts as `warning`."""
        level = SEVERITIES.index(Severity(severity) if severity in SEVERITIES else Severity.WARNING)
        is_of_rule = not self.rules or rule in self.rules
        return is_of_rule and level >= SEVERITIES.index(self.min_severity) and phase in self.told

    @property
    def told(self) -> tuple[str, ...]:
        """The phases of an alert that are sent here."""
        return ("started", "ended")

    @property
    def keeps_state(self) -> bool:
        """Whether the receiver shows for each rule if it is going on, so that starts and ends must keep their order."""
        return False


class AppriseTarget(DeliveryTarget):
    """One service that the apprise library knows: mail, a chat, a push service."""

    kind: Literal["apprise"]
    url_env: str | None = Field(default=None, pattern=_VARIABLE)
    """Environment variable that holds the apprise URL, tokens and all."""
    url_file: Path | None = None
    """A file whose first line is the apprise URL."""
    daily_limit: int | None = Field(default=100, ge=1, le=100_000)
    attach: Attach = "snapshot"
    """What is attached where the service takes it: `frames` adds the other pictures that decided, `clip` the clip to
    the message about the end."""
    phases: tuple[Phase, ...] = Field(default=("started",), min_length=1)

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if (self.url_env is None) == (self.url_file is None):
            raise ValueError("url_env and url_file: one of them must be given, and only one")
        _check_clip(self.attach, self.phases)
        return self

    @property
    def told(self) -> tuple[str, ...]:
        """The phases of an alert that are sent here."""
        return self.phases

    def url(self, name: str) -> str:
        """The apprise URL. Raises `ConfigError` if it cannot be read."""
        return secret_of(self.url_env, self.url_file, f"target {name}", "apprise URL") or ""


class MqttTarget(DeliveryTarget):
    """An MQTT broker, with messages that Home Assistant discovers."""

    kind: Literal["mqtt"]
    host: Host
    port: int | None = Field(default=None, ge=1, le=65535)
    """None for 1883, with TLS for 8883."""
    user: str | None = Field(default=None, min_length=1, repr=False)
    user_env: str | None = Field(default=None, pattern=_VARIABLE)
    password_env: str | None = Field(default=None, pattern=_VARIABLE)
    password_file: Path | None = None
    encryption: Literal["none", "tls"] = "none"
    ca_file: Path | None = None
    """Certificates that sign the broker's, in PEM; None for those of the system. Needs `encryption: tls`."""
    topic: Topic = "video-assistant"
    """Prefix of the topics that are published."""
    discovery: Topic = "homeassistant"
    """Home Assistant's discovery prefix."""
    attach: Literal["nothing", "snapshot"] = "snapshot"

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        check_login(self)
        if self.ca_file is not None and self.encryption == "none":
            raise ValueError("ca_file without encryption: encryption must be tls")
        return self

    @property
    def keeps_state(self) -> bool:
        """True: Home Assistant shows a sensor for each rule."""
        return True

    @property
    def port_used(self) -> int:
        """The broker's port."""
        return self.port or (8883 if self.encryption == "tls" else 1883)

    def login(self, name: str) -> tuple[str, str | None] | None:
        """User and password; None without a configured user. Raises `ConfigError` if they cannot be read."""
        return login_of(self, f"target {name}")


class WebhookTarget(DeliveryTarget):
    """A web address that takes alerts as JSON, signed if a secret is given."""

    kind: Literal["webhook"]
    url: str | None = Field(default=None, min_length=1, repr=False)
    """Address without secrets; an address with a token in it comes from `url_env` or `url_file`."""
    url_env: str | None = Field(default=None, pattern=_VARIABLE)
    url_file: Path | None = None
    secret_env: str | None = Field(default=None, pattern=_VARIABLE)
    """Environment variable that holds the secret that messages are signed with."""
    secret_file: Path | None = None
    networks: tuple[Network, ...] = ()
    """Networks that it may lead to, as 192.168.1.0/24; empty: outside ones, and inside ones if it is inside."""
    attach: Attach = "snapshot"
    """`clip` adds the clip to the message about the end."""
    phases: tuple[Phase, ...] = Field(default=("started", "ended"), min_length=1)

    @model_validator(mode="after")
    def _check_sources(self) -> Self:
        if sum(given is not None for given in (self.url, self.url_env, self.url_file)) != 1:
            raise ValueError("url, url_env and url_file: one of them must be given, and only one")
        if self.secret_env and self.secret_file:
            raise ValueError("secret_env and secret_file: only one of them may be given")
        if self.url is not None and "@" in urlsplit(self.url).netloc:
            raise ValueError("a login in url: it must not stand in this file; give the address by url_env or url_file")
        _check_clip(self.attach, self.phases)
        return self

    @property
    def told(self) -> tuple[str, ...]:
        """The phases of an alert that are sent here."""
        return self.phases

    def address(self, name: str) -> str:
        """The web address. Raises `ConfigError` if it cannot be read."""
        owner = f"target {name}"
        return self.url or secret_of(self.url_env, self.url_file, owner, "address") or ""

    def secret(self, name: str) -> str | None:
        """The secret that messages are signed with; None for unsigned ones. Raises `ConfigError`."""
        return secret_of(self.secret_env, self.secret_file, f"target {name}", "signing secret")


def _kind_of(values: Any) -> str | None:
    kind = values.get("kind") if isinstance(values, dict) else getattr(values, "kind", None)
    return kind if isinstance(kind, str) else None


AnyTarget = Annotated[
    Annotated[AppriseTarget, Tag("apprise")]
    | Annotated[MqttTarget, Tag("mqtt")]
    | Annotated[WebhookTarget, Tag("webhook")],
    Discriminator(_kind_of),
]
TARGETS: dict[str, type[Component]] = {"apprise": AppriseTarget, "mqtt": MqttTarget, "webhook": WebhookTarget}
"""The class of each kind of target."""


def check_targets(targets: dict[str, Any]) -> dict[str, Any]:
    """Return `targets`. Raises `ValueError` for a name with odd characters."""
    check_names("target", targets)
    check_distinct("targets", targets)
    return targets


def _check_clip(attach: str, phases: tuple[str, ...]) -> None:
    if attach == "clip" and "ended" not in phases:
        raise ValueError("attach clip: the clip comes with the message about the end; phases must name ended")


def _network(text: str) -> str:
    from assistant.inputs.limits import parse_network

    try:
        return str(parse_network(text))
    except ConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def _topic(text: str) -> str:
    if not _TOPIC.fullmatch(text):
        raise ValueError("it must be a topic of at most 200 characters without + and #, not beginning with / or $")
    return text


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError("it must be a host name or an IP address, without scheme and port")
    return text
