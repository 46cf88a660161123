"""The browser app, from its configuration to its end."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from assistant.commands.opening import bytes_of, engine_of, open_cameras
from assistant.commands.terminal import warn
from assistant.config import load_config
from assistant.desk import Desk
from assistant.host import Host
from assistant.logs import Secrets, configure_logs
from assistant.safety import CameraPolicy
from assistant.stopping import UntilStopped, stopping
from ui.launch import Serving, launch


def serve_page(
    path: Path | None,
    overrides: dict[str, Any],
    serving: Serving,
    *,
    max_memory_gib: float | None,
    browser: bool,
) -> None:
    """The browser app, until it is stopped. The page is up before anything of the model is read."""
    files = TemporaryDirectory(prefix="watch-files-")  # nobody else's, and gone at the end
    os.environ["GRADIO_TEMP_DIR"] = str(Path(files.name, "uploads"))  # Gradio serves this one alone
    from ui.build import build_page
    from ui.looks import looks
    from ui.media import media_routes

    config, secrets = load_config(path, overrides), Secrets()
    configure_logs(sys.stderr, secrets, level="warning")
    host = Host(lambda: engine_of(config.model, desk.note_loading), max_memory_bytes=bytes_of(max_memory_gib))
    uploads = config.page.uploads.limits()
    until = UntilStopped()
    with ExitStack() as stack:
        stack.enter_context(files)
        stack.callback(host.stop, 5.0)
        cameras = open_cameras(stack, config, host, lambda name: [], secrets.add) if config.cameras else None
        desk = Desk(
            host,
            config.model.name,
            policy=CameraPolicy.bound_to(serving.host, config.page.networks, is_public=serving.public_url is not None),
            uploads=uploads,
            max_sessions=config.page.max_sessions,
            gallery=cameras,
            clips_s=config.timeline.keep_clips_s if cameras is not None else None,
            folder=Path(files.name),
            may_draw=serving.is_local or serving.auth_file is not None,
        )
        stack.callback(desk.close)
        page = build_page(desk)
        running = launch(page, serving, routes=media_routes(desk), max_upload_bytes=uploads.max_bytes, **looks())
        stack.callback(running.close)
        stack.enter_context(stopping(until))
        desk.tabs.start()
        desk.begin_loading()
        if cameras is not None:
            for reason in cameras.load(config).refused:
                warn(reason)
        if browser and serving.is_local and _has_screen():
            import webbrowser

            webbrowser.open(running.url)
        until.wait()


def _has_screen() -> bool:
    """Whether a person sits here: a terminal, and somewhere to show a window."""
    shows = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and shows
