"""Sends alerts by the apprise library to mail, chats and push services, with pictures where they take them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from assistant.config.targets import AppriseTarget
from assistant.delivery.errors import NotDelivered
from assistant.delivery.messages import (
    AlertMessage,
    as_html,
    as_markdown,
    as_plain,
    lines_of,
    one_line,
    title_of,
)
from assistant.delivery.senders import AnnouncedRule, MessageFiles, SecretWords
from assistant.errors import ConfigError

_OWN_KIND = frozenset({"json", "jsons", "xml", "xmls", "form", "forms", "apprise", "apprises"})
"""Schemes that post to any web address: those have a kind of their own, with signature and network policy."""
_TELLING = ("Exception", "Response Details", "Response:")
"""What apprise's detailed log lines contain if they repeat the receiver's words."""


class AppriseSender:
    """Sends to one service."""

    def __init__(self, name: str, config: AppriseTarget) -> None:
        """Raises `ConfigError` if the URL cannot be read or is none that apprise knows."""
        self._config = config
        self._url = config.url(name)
        scheme = self._url.partition("://")[0].lower()
        if scheme in _OWN_KIND:
            raise ConfigError(f"target {name}: {scheme}:// is not sent by apprise here; name it as kind: webhook")
        _silence_library()
        service = self._service()
        if service is None:
            raise ConfigError(
                f"target {name}: its apprise URL cannot be read; it must be one that apprise knows, such as "
                "mailto:// or ntfy://; correct it"
            )
        self._service_name = str(service.service_name)
        self.secrets = SecretWords(*_secrets_in(self._url))

    def send(self, message: AlertMessage, files: MessageFiles) -> str:
        """Send a message; return that the service took it. Raises `NotDelivered` with what apprise says of it."""
        from apprise import Apprise, NotifyType
        from apprise.attachment.memory import AttachMemory

        memory: Any = AttachMemory  # which has no types
        service = self._service()  # a new one each time: apprise makes one wait between its messages
        if service is None:
            raise NotDelivered("apprise no longer reads its URL")
        body, body_format = _body(service, message, files)
        attached = files.attachments if service.attachment_support else ()
        carrier = Apprise()
        carrier.add(service)
        result = carrier.notify(
            title=as_plain(title_of(message)),
            body=body,
            body_format=body_format,
            notify_type=NotifyType.INFO if message.is_test or message.phase != "started" else NotifyType.WARNING,
            attach=[memory(content=file.data, name=file.name, mimetype=file.media_type) for file in attached] or None,
            log_level=logging.DEBUG,
        )
        if not result:
            raise NotDelivered(self._words([(entry.level, entry.message) for entry in result.logs()]))
        with_files = f" with {', '.join(file.name for file in attached)}" if attached else ""
        return f"{self._service_name} took it{with_files}"

    def set_rules(self, rules: Sequence[AnnouncedRule]) -> None:
        """Do nothing: these services are told about alerts only."""

    def open(self) -> None:
        """Do nothing: each message has its own connection."""

    def close(self) -> None:
        """Do nothing: each message has its own connection."""

    def _service(self) -> Any:
        from apprise import Apprise, AppriseAsset

        # Without a time limit of its own apprise sends on this thread, where its sockets have ours.
        asset = AppriseAsset(
            plugin_paths=[], app_id="video-assistant", app_desc="Streaming video assistant", service_timeout=0
        )
        asset.async_mode = False
        service = Apprise.instantiate(self._url, asset=asset, suppress_exceptions=True)
        if service is not None:
            service.socket_connect_timeout = service.socket_read_timeout = self._config.timeout_s
        return service

    def _words(self, logged: list[tuple[str, str]]) -> str:
        """What apprise and the receiver say of a failure, credentials hidden."""
        said = [text for level, text in logged if level in ("WARNING", "ERROR", "CRITICAL")][-1:]
        said += [text for level, text in logged if level == "DEBUG" and any(mark in text for mark in _TELLING)][-1:]
        words = self.secrets.hide(one_line("; ".join(said), 300))
        return f"{self._service_name}: {words}" if words else f"{self._service_name} did not take it, without a word"


def _body(service: Any, message: AlertMessage, files: MessageFiles) -> tuple[str, Any]:
    """The text for a service in a format that it reads, in which the model's words are no markup."""
    from apprise import NotifyFormat

    lines = lines_of(message)
    lines += [f"no {why}" for why in files.left_out]
    if files.attachments and not service.attachment_support:
        lines.append("this service takes no pictures")
    offered = service.notify_format if isinstance(service.notify_format, tuple) else (service.notify_format,)
    if NotifyFormat.HTML in offered:
        return "<br>\n".join(as_html(line) for line in lines), NotifyFormat.HTML
    if NotifyFormat.MARKDOWN in offered:
        return "\n\n".join(as_markdown(line) for line in lines), NotifyFormat.MARKDOWN
    return "\n".join(as_plain(line) for line in lines), NotifyFormat.TEXT


def _secrets_in(url: str) -> list[str]:
    """The URL, and those of its parts that may be tokens: login, host, path and query values."""
    parts = urlsplit(url)
    queries = [pair.partition("=")[2] for pair in parts.query.split("&")]
    login = parts.netloc.rpartition("@")[0]
    pieces = [*login.split(":"), *parts.path.split("/"), *queries]
    if parts.scheme not in ("mailto", "mailtos", "ntfy", "ntfys"):
        pieces.append(parts.netloc.rpartition("@")[2])
    return [url, *(piece for piece in pieces if len(piece) >= 6), *(unquote(p) for p in pieces if len(p) >= 6)]


def _silence_library() -> None:
    """Keep apprise's own log lines, which may quote tokens, out of ours; what they say is told with each failure."""
    library = logging.getLogger("apprise")
    if library.propagate:
        library.propagate = False
        library.addHandler(logging.NullHandler())
        library.setLevel(logging.DEBUG)
