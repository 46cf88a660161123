"""Opens what several commands share: the checkpoint with its engine, the watched cameras, and the timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.commands.terminal import is_terminal
from assistant.errors import ConfigError

if TYPE_CHECKING:
    from assistant.cameras.cameras import Cameras
    from assistant.config.app import AppConfig, ModelConfig
    from assistant.delivery.delivery import Delivery
    from assistant.serving.scheduler import Scheduler
    from assistant.sinks import EventSink
    from assistant.timeline.folder import TimelineFolder
    from assistant.timeline.store import Timeline
    from models.checkpoint.progress import OnLoading
    from models.engine import Engine


def engine_of(wanted: ModelConfig, on_loading: OnLoading | None = None) -> Engine:
    """Load the configured checkpoint and return its engine. on_loading: called with the progress of loading."""
    from models.checkpoint.loader import load_checkpoint
    from streaming.clock import SystemClock

    checkpoint = load_checkpoint(
        wanted.name,
        device=wanted.device,
        dtype=wanted.dtype,
        threads=wanted.threads,
        progress=is_terminal(),
        on_loading=on_loading,
    )
    from models.engine import Engine  # a slow import, so after the loading that reports progress

    return Engine(checkpoint, now=SystemClock().now_s)


def open_cameras(
    stack: ExitStack,
    config: AppConfig,
    scheduler: Scheduler,
    sink_for: Callable[[str], list[EventSink]],
    on_secrets: Callable[[list[str | None]], None],
) -> Cameras:
    """Create the cameras and their timeline, without watching yet. `stack` closes them in order, within ten seconds."""
    from assistant.cameras.cameras import Cameras
    from assistant.timeline.folder import default_folder
    from assistant.timeline.store import Timeline
    from streaming.recording import ClipWriter

    kept = config.timeline
    stack.callback(scheduler.stop, 1.5)
    timeline = Timeline(kept.folder or default_folder(), retention=kept.retention())
    stack.callback(timeline.close, 1.5)
    clips = None
    if kept.keep_clips_s is not None or kept.alert_clips_s is not None:
        clips = ClipWriter()
        stack.callback(clips.close, 2.5)
    delivery = open_delivery(stack, config, timeline, on_secrets) if config.targets else None
    cameras = Cameras(scheduler, timeline, clips=clips, sink_for=sink_for, on_secrets=on_secrets, delivery=delivery)
    stack.callback(cameras.stop, 4.0)
    return cameras


def open_delivery(
    stack: ExitStack, config: AppConfig, timeline: Timeline, on_secrets: Callable[[list[str | None]], None]
) -> Delivery:
    """Start sending the timeline's alerts to the targets. `stack` ends it. Raises `ConfigError` for a wrong target."""
    from assistant.delivery.delivery import Delivery

    delivery = Delivery(timeline, config.targets)
    on_secrets(list(delivery.secrets))
    delivery.start()
    stack.callback(delivery.stop, 1.5)
    return delivery


def timeline_folder(config: Path | None, data: Path | None) -> TimelineFolder:
    """The folder of an existing timeline: `data`, or that of a configuration. Raises `StoreError` without one."""
    from assistant.config.app import load_config
    from assistant.errors import StoreError
    from assistant.timeline.folder import TimelineFolder, default_folder

    folder = TimelineFolder(data or load_config(config).timeline.folder or default_folder())
    if not folder.database.is_file():
        raise StoreError(f"{folder.database}: no timeline there; watching a camera creates one; check --data")
    return folder


def bytes_of(gib: float | None) -> int | None:
    """`gib` GiB in bytes; None for None."""
    return None if gib is None else int(gib * 2**30)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Within this context, a `VisionError` about a picture's size becomes a `ConfigError` that begins with `name`."""
    from models.errors import VisionError

    try:
        yield
    except VisionError as error:
        raise ConfigError(f"{name}: {error}") from error
