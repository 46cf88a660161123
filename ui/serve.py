"""Builds the browser app from its configuration and runs it until it is stopped. For the main thread."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from assistant.commands.logs import Secrets, configure_logs
from assistant.commands.setup import bytes_of, engine_of, open_cameras
from assistant.commands.signals import StopWaiter, stopping
from assistant.commands.terminal import warn
from assistant.config.app import AppConfig, load_config
from assistant.inputs.limits import CameraPolicy
from assistant.serving.scheduler import Scheduler
from assistant.viewers.backend import Backend
from ui.launch import Serving, launch

if TYPE_CHECKING:
    from assistant.chat.keys import ClientKeys
    from assistant.chat.service import ChatService
    from assistant.viewers.passwords import Authenticator


def serve_page(
    path: Path | None,
    overrides: dict[str, Any],
    serving: Serving,
    *,
    max_memory_gib: float | None,
    browser: bool,
) -> None:
    """Run the browser app until it is stopped. The page can be loaded before the model is."""
    files = TemporaryDirectory(prefix="watch-files-")  # readable by this user only, deleted at the end
    os.environ["GRADIO_TEMP_DIR"] = str(Path(files.name, "uploads"))  # the only folder that Gradio serves
    from ui.build import build_page
    from ui.endpoint import endpoint_routes
    from ui.media import media_routes
    from ui.theme import looks
    from ui.voice import voice_routes

    config, secrets = load_config(path, overrides), Secrets()
    configure_logs(sys.stderr, secrets, level="warning")
    backend: Backend
    scheduler = Scheduler(
        lambda: engine_of(config.model, backend.model.note_loading), max_memory_bytes=bytes_of(max_memory_gib)
    )
    uploads = config.page.uploads.limits()
    until = StopWaiter()
    with ExitStack() as stack:
        stack.enter_context(files)
        stack.callback(scheduler.stop, 5.0)
        cameras = open_cameras(stack, config, scheduler, lambda name: [], secrets.add) if config.cameras else None
        backend = Backend(
            scheduler,
            config.model.name,
            policy=CameraPolicy.bound_to(serving.host, config.page.networks, is_public=serving.public_url is not None),
            uploads=uploads,
            max_sessions=config.page.max_sessions,
            views=cameras,
            alerts=cameras.delivery if cameras is not None else None,
            clips_s=config.timeline.keep_clips_s if cameras is not None else None,
            alert_clips_s=config.timeline.alert_clips_s if cameras is not None else None,
            folder=Path(files.name),
            may_draw=serving.is_local or serving.auth_file is not None,
        )
        stack.callback(backend.close)
        users = serving.authenticator()
        service = _chat_service(config, backend, Path(files.name)) if config.endpoint.enabled else None
        own_checks = endpoint_routes(service, _client_keys(config, users)) if service is not None else []
        page = build_page(backend)
        routes = [*media_routes(backend), *voice_routes(backend, config.voice)]
        running = launch(
            page, serving, routes=routes, own_checks=own_checks, users=users, max_upload_bytes=uploads.max_bytes,
            **looks(),
        )  # fmt: skip
        if service is not None:
            print(f"OpenAI-style endpoint at {running.url}/v1, model {service.model}", flush=True)
        stack.callback(running.close)
        stack.enter_context(stopping(until))
        backend.registry.start()
        backend.model.begin_loading()
        if cameras is not None:
            for reason in cameras.load(config).refused:
                warn(reason)
        if browser and serving.is_local and _has_screen():
            import webbrowser

            webbrowser.open(running.url)
        until.wait(cameras.look_at_mutes) if cameras is not None else until.wait()


def _chat_service(config: AppConfig, backend: Backend, folder: Path) -> ChatService:
    from assistant.chat.service import ChatService

    max_bytes = int(config.endpoint.max_mib * 2**20)
    return ChatService(backend.scheduler, config.model.name, backend.uploads, folder, max_bytes=max_bytes)


def _client_keys(config: AppConfig, users: Authenticator | None) -> ClientKeys:
    """Who may use the endpoint. Raises `ConfigError` for a key file that is wrong."""
    from assistant.chat.keys import ClientKeys, read_keys

    path = config.endpoint.keys_file
    return ClientKeys(read_keys(path) if path is not None else None, users)


def _has_screen() -> bool:
    """Whether a person can see a window here: the output is a terminal and there is a display."""
    shows = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and shows
