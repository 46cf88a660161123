"""Posts alerts as signed JSON to a web address, which passes the same network policy as camera addresses.

Signed as https://www.standardwebhooks.com describes: `webhook-id`, `webhook-timestamp` and `webhook-signature`, the
base64 of HMAC-SHA256 over `ID.TIMESTAMP.BODY`. Each host name is resolved and checked once a delivery and connected to
by that address, so that neither DNS nor a redirect leads elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from assistant.config.targets import WebhookTarget
from assistant.delivery.errors import DeliveryRefused, NotDelivered
from assistant.delivery.messages import AlertMessage, as_payload, one_line
from assistant.delivery.senders import AnnouncedRule, MessageFiles, SecretWords
from assistant.errors import ConfigError
from streaming.clock import Clock, SystemClock
from streaming.errors import AddressRefused, SourceUnreachable
from streaming.network_policy import NetworkPolicy, PinnedHosts, parse_host
from streaming.sources.guard.pinned_http import PinnedTransport

MOST_REDIRECTS = 3
MOST_ANSWER_BYTES = 2048
"""Bytes of an answer that are read, to be shown."""
_INSIDE = (".local", ".lan", ".home", ".internal", ".localhost", ".home.arpa", ".localdomain")
"""Ends of host names that are not used outside (RFC 6762, RFC 8375, and by custom)."""
_AGAIN = (307, 308)
"""Redirects that repeat the same request elsewhere."""
_DOWN = (502, 503, 504)
_GONE = 410

Resolve = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str
    location: str


class WebhookSender:
    """Sends to one web address."""

    def __init__(
        self, name: str, config: WebhookTarget, *, clock: Clock | None = None, resolve: Resolve | None = None
    ) -> None:
        """resolve: see `PinnedHosts`. Raises `ConfigError` if the address or a secret is wrong."""
        self._name = name
        self._config = config
        self._clock: Clock = clock or SystemClock()
        self._resolve = resolve
        address, secret = config.address(name), config.secret(name)
        self._url = _parsed(name, address)
        self._key = None if secret is None else signing_key(secret)
        tokens = (address, self._url.raw_path.decode("ascii")) if config.url is None else ()
        self.secrets = SecretWords(*tokens, secret)
        self._reach = _reach_of(config, self._url.host)
        self._check_literal()

    def send(self, message: AlertMessage, files: MessageFiles) -> str:
        """Post a message; return status and first line of the answer. Raises `NotDelivered`, `DeliveryRefused`."""
        body = as_payload(message, files.attachments, files.left_out)
        hosts = PinnedHosts(self._name, self._reach, self._resolve)
        try:
            with httpx.Client(
                transport=PinnedTransport(self._name, hosts), timeout=self._config.timeout_s, trust_env=False
            ) as client:
                answer = self._post(client, message.key, body)
        except AddressRefused as error:
            raise DeliveryRefused(f"it may not be connected to: {self._rule_of(error)}") from None
        except SourceUnreachable as error:
            raise NotDelivered(error.rule, is_down=True) from None
        except httpx.TimeoutException:
            raise NotDelivered(f"no answer within {self._config.timeout_s:g} s (timeout_s)", is_down=True) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            said = self.secrets.hide(one_line(str(error), 200)) or type(error).__name__
            raise NotDelivered(f"no answer: {said}", is_down=True) from None
        return self._judged(answer)

    def set_rules(self, rules: Sequence[AnnouncedRule]) -> None:
        """Do nothing: a web address is told about alerts only."""

    def open(self) -> None:
        """Do nothing: each message has its own connection."""

    def close(self) -> None:
        """Do nothing: each message has its own connection."""

    def _post(self, client: httpx.Client, key: str, body: bytes) -> _Answer:
        url = self._url
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._post_once(client, url, key, body)
            if answer.status not in _AGAIN or not answer.location:
                return answer
            url = _led_to(url, answer.location)
        raise NotDelivered(f"it leads elsewhere more than {MOST_REDIRECTS} times")

    def _post_once(self, client: httpx.Client, url: httpx.URL, key: str, body: bytes) -> _Answer:
        end_s = self._clock.now_s() + self._config.timeout_s
        with client.stream("POST", url, content=body, headers=self._headers(key, body)) as response:
            text = b""
            for piece in response.iter_raw():
                text += piece
                if len(text) >= MOST_ANSWER_BYTES or self._clock.now_s() > end_s:
                    break
            shown = text[:MOST_ANSWER_BYTES].decode("utf-8", "replace")
            return _Answer(response.status_code, shown, response.headers.get("location", ""))

    def _headers(self, key: str, body: bytes) -> dict[str, str]:
        at = str(int(self._clock.wall_s()))
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "streaming-video-assistant",
            "idempotency-key": key,
            "webhook-id": key,
            "webhook-timestamp": at,
        }
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, key, at, body)
        return headers

    def _judged(self, answer: _Answer) -> str:
        """What was said about a message that was taken; raises where it was not."""
        said = f"{answer.status} {httpx.codes.get_reason_phrase(answer.status)}".strip()
        first = self.secrets.hide(one_line(answer.text, 200))
        said = f"{said}: {first}" if first else said
        if 200 <= answer.status < 300:
            return said
        if answer.status == _GONE:
            raise DeliveryRefused(f"it wants no more messages: {said}")
        if 300 <= answer.status < 400:
            said = f"{said}; a webhook must take the message itself; give the address that it leads to"
        raise NotDelivered(said, is_down=answer.status in _DOWN)

    def _rule_of(self, error: AddressRefused) -> str:
        rule = error.rule.removeprefix("it may not be connected to: ")
        return f"{rule}; list its network under targets.{self._name}.networks, or give another address"

    def _check_literal(self) -> None:
        """Refuse an address of numbers that the policy forbids before anything is sent."""
        try:
            if parse_host(self._name, self._url.host) is not None:
                PinnedHosts(self._name, self._reach).addresses(self._url.host, self._url.port or 443)
        except AddressRefused as error:
            raise ConfigError(f"target {self._name}: {self._url.host}: {self._rule_of(error)}") from None


def signing_key(secret: str) -> bytes:
    """The key of a secret: the bytes behind `whsec_`, in base64, or else the text itself.

    >>> signing_key("whsec_a2V5"), signing_key("plain")
    (b'key', b'plain')
    """
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode("utf-8")


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")


def is_inside_name(host: str) -> bool:
    """Whether a host is a private address, or a name that only an inside network knows.

    >>> is_inside_name("homeassistant.local"), is_inside_name("10.0.0.5"), is_inside_name("hooks.example.org")
    (True, True, False)
    """
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        bare = host.rstrip(".").lower()
        return "." not in bare or bare.endswith(_INSIDE)


def _parsed(name: str, address: str) -> httpx.URL:
    """The address as a URL. Raises `ConfigError`, which does not repeat the address: it may hold a token."""
    try:
        url = httpx.URL(address.strip())
    except (httpx.InvalidURL, ValueError, UnicodeError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"target {name}: its address must begin with http:// or https:// and name a host; correct it")
    return url


def _led_to(url: httpx.URL, location: str) -> httpx.URL:
    """Where a redirect leads. Raises `DeliveryRefused` for what is no web address, and from https to http."""
    target = url.join(location)
    if target.scheme not in ("http", "https") or not target.host:
        raise DeliveryRefused("it leads to what is no http:// or https:// address")
    if url.scheme == "https" and target.scheme != "https":
        raise DeliveryRefused("it leads from https:// to http://")
    return target


def _reach_of(config: WebhookTarget, host: str) -> NetworkPolicy:
    """The listed networks; else any for an address inside, and only outside ones for all others."""
    if config.networks:
        return NetworkPolicy(tuple(ipaddress.ip_network(text) for text in config.networks))
    return NetworkPolicy(is_outside_only=not is_inside_name(host))
