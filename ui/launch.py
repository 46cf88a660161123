"""Starts the browser app: where it listens, who may use it, which settings it refuses. For the main thread."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from assistant.errors import AssistantError, ConfigError
from assistant.inputs.limits import is_loopback
from assistant.viewers.passwords import Authenticator, read_users
from ui.public_url import PublicUrl

if TYPE_CHECKING:
    import gradio as gr
    from starlette.routing import BaseRoute

HEARTBEAT_S = 2.0
"""Interval of Gradio's heartbeat, by which it notices that a tab was closed."""
_NO_LOGIN = (
    "everybody who can reach this machine could watch through it; give --auth-file FILE, "
    "or --i-know-this-is-open if you mean that"
)


class CannotListen(AssistantError):
    """The address is in use, or is not an address of this machine."""


@dataclass(frozen=True, slots=True)
class Serving:
    """Where the app listens, and who may use it. Call `check` before anything is loaded."""

    host: str = "127.0.0.1"
    port: int = 7860
    auth_file: Path | None = None
    is_open: bool = False
    """--i-know-this-is-open"""
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    self_signed: bool = False
    public_url: str | None = None
    """The address that people type where a reverse proxy serves the app."""

    def authenticator(self) -> Authenticator | None:
        """Checks the logins of the users; None where there is no login. Raises `ConfigError`."""
        return None if self.auth_file is None else Authenticator(read_users(self.auth_file))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the app."""
        return is_loopback(self.host) and self.public_url is None

    def check(self) -> None:
        """Raise `ConfigError` if the app must not or cannot start with these settings."""
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port {self.port}: a port is from 0 to 65535; 7860 is usual")
        if self.public_url is not None:
            PublicUrl.parse(self.public_url)
        if not self.is_local and self.auth_file is None and not self.is_open:
            given = f"--host {self.host}" if self.public_url is None else f"--public-url {self.public_url}"
            raise ConfigError(f"{given}: {_NO_LOGIN}")
        if self.auth_file is not None:
            if self.is_open:
                raise ConfigError("--i-know-this-is-open: --auth-file requires a login; leave one of them out")
            read_users(self.auth_file)
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ConfigError("--ssl-certfile: it goes together with --ssl-keyfile; give both")
        if self.self_signed and self.ssl_certfile is not None:
            raise ConfigError("--ssl-self-signed: a certificate was given; leave one of them out")
        for option, path in (("--ssl-certfile", self.ssl_certfile), ("--ssl-keyfile", self.ssl_keyfile)):
            if path is not None and not os.access(path, os.R_OK):
                raise ConfigError(f"{option} {path}: it cannot be read; check its name and permissions")


@dataclass(slots=True)
class RunningApp:
    """The app while it runs."""

    blocks: gr.Blocks
    url: str
    """The address to open in a browser."""

    def close(self) -> None:
        """Stop listening and end open connections."""
        self.blocks.close(verbose=False)


@dataclass(frozen=True, slots=True)
class _Certificate:
    certfile: Path
    keyfile: Path
    fingerprint: str | None


def launch(
    blocks: gr.Blocks,
    serving: Serving,
    *,
    routes: Sequence[BaseRoute] = (),
    own_checks: Sequence[BaseRoute] = (),
    users: Authenticator | None = None,
    max_upload_bytes: int,
    out: TextIO | None = None,
    **page: Any,
) -> RunningApp:
    """Start listening and print the address; return once the page can be loaded.

    routes: the app's own routes, matched before Gradio's. own_checks: such routes that check who asks themselves.
    users: as `Serving.authenticator` returns them. page: arguments of Gradio's `launch`, as `theme`, `css`, `js` and
    `head`.
    Raises `ConfigError` and `CannotListen`.
    """
    from starlette.middleware import Middleware

    from ui.guard import Guard
    from ui.head_injection import HeadInjection
    from ui.theme import TITLE, opening

    serving.check()
    public = None if serving.public_url is None else PublicUrl.parse(serving.public_url)
    certificate = _certificate(serving)
    port = serving.port or _free_port(serving.host)
    _check_free(serving.host, port)
    _settle_environment()
    blocks.launch(
        server_name=serving.host,
        server_port=port,
        share=False,
        inbrowser=False,
        quiet=True,
        prevent_thread_lock=True,
        auth=_doorkeeper(users or serving.authenticator()),
        auth_message=f"<b>{TITLE}</b>Log in to watch and to ask.",
        ssl_certfile=str(certificate.certfile) if certificate else None,
        ssl_keyfile=str(certificate.keyfile) if certificate else None,
        ssl_verify=False,
        max_file_size=max_upload_bytes,
        allowed_paths=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        strict_cors=True,
        app_kwargs={
            "routes": [*own_checks, *routes],
            "middleware": [
                Middleware(
                    Guard,
                    is_local=is_loopback(serving.host),
                    is_known=_known(blocks, serving, routes),
                    public=public,
                ),
                Middleware(HeadInjection, html=opening()),
            ],
            "docs_url": None,
            "redoc_url": None,
        },
        **page,
    )
    url = _url(serving, port, is_secure=certificate is not None)
    _tell(serving, url, certificate, out or sys.stdout)
    return RunningApp(blocks, url)


def _certificate(serving: Serving) -> _Certificate | None:
    from ui import tls

    if serving.self_signed:
        made = tls.self_signed(serving.host)
        return _Certificate(made.certfile, made.keyfile, made.fingerprint)
    if serving.ssl_certfile is None or serving.ssl_keyfile is None:
        return None
    return _Certificate(serving.ssl_certfile, serving.ssl_keyfile, tls.fingerprint_of(serving.ssl_certfile))


def _doorkeeper(keeper: Authenticator | None) -> Callable[[str, str], Any] | None:
    """The function that Gradio calls to check a login. It hashes on a thread, off the server's event loop."""
    if keeper is None:
        return None
    import asyncio

    async def admits(name: str, password: str) -> bool:
        return await asyncio.to_thread(keeper.admits, name, password)

    return admits


def _known(
    blocks: gr.Blocks, serving: Serving, routes: Sequence[BaseRoute]
) -> Callable[[MutableMapping[str, Any]], bool] | None:
    """A check whether a request for one of `routes` comes from a user logged in at Gradio; None without logins."""
    if serving.auth_file is None:
        return None
    from starlette.requests import HTTPConnection
    from starlette.routing import Match

    def is_known(scope: MutableMapping[str, Any]) -> bool:
        if all(route.matches(scope)[0] is Match.NONE for route in routes):
            return True  # one of Gradio's own routes, which check the login themselves
        cookies, app = HTTPConnection(scope).cookies, blocks.app
        tokens = (cookies.get(f"access-token-{kind}{app.cookie_id}") for kind in ("", "unsecure-"))
        return any(token in app.tokens for token in tokens if token)

    return is_known


def _settle_environment() -> None:
    """Remove environment variables that Gradio reads in place of empty arguments and that would open the app."""
    for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_ROOT_PATH", "GRADIO_NUM_WORKERS", "GRADIO_MCP_SERVER"):
        os.environ.pop(name, None)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_HEARTBEAT_INTERVAL"] = str(HEARTBEAT_S)
    # Gradio asks matplotlib for its backend at each call; if none is set, that imports all of it, on the server's loop.
    os.environ.setdefault("MPLBACKEND", "agg")


def _check_free(host: str, port: int) -> None:
    try:
        with _bound(host, port):
            pass
    except OSError as error:
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise CannotListen(f"{host} port {port}: {reason.lower()}; give another --port or --host") from None


def _free_port(host: str) -> int:
    """A free port, for --port 0."""
    try:
        with _bound(host, 0) as probe:
            return int(probe.getsockname()[1])
    except OSError as error:
        raise CannotListen(f"{host}: {error.strerror or error}; give an address of this machine to --host") from None


def _bound(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    family, kind, _, _, address = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    probe = socket.socket(family, kind)
    try:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    except BaseException:
        probe.close()
        raise
    return probe


def _url(serving: Serving, port: int, *, is_secure: bool) -> str:
    from ui import tls

    host = serving.host.strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None and address.is_unspecified:
        host = tls.own_address() or "127.0.0.1"
    elif address is not None and address.version == 6:
        host = f"[{host}]"
    return f"{'https' if is_secure else 'http'}://{host}:{port}"


def _tell(serving: Serving, url: str, certificate: _Certificate | None, out: TextIO) -> None:
    """Print the app's address, and how a phone reaches it."""
    from ui import tls

    print(f"watching at {url}", file=out)
    if serving.public_url is not None:
        print(f"behind a reverse proxy, at {serving.public_url}", file=out)
    if serving.is_open and not serving.is_local:
        print("open: everybody who can reach this machine may use it", file=out)
    if certificate is not None and certificate.fingerprint is not None:
        print(f"certificate SHA-256 {certificate.fingerprint}", file=out)
    if serving.self_signed:
        print("browsers warn about it once: compare the fingerprint, then continue", file=out)
        if serving.is_local:
            print("only this machine can reach it; for a phone give --host 0.0.0.0 and --auth-file, too", file=out)
        else:
            print(tls.qr_code(url), file=out)
    elif not serving.is_local and certificate is None and serving.public_url is None:
        print("phones allow camera access over https only: give --ssl-self-signed", file=out)
    out.flush()
