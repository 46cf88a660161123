"""The `watch` command: watches the cameras of a configuration, without a browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from assistant.cameras.daemon import WatchDaemon, reloading
from assistant.cameras.monitor import Monitor
from assistant.commands.console import JsonSink
from assistant.commands.listening import listening
from assistant.commands.logs import Secrets, configure_logs
from assistant.commands.setup import bytes_of, engine_of, open_cameras
from assistant.commands.signals import stopping
from assistant.commands.speaking import speaking_aloud
from assistant.commands.watch_sinks import LogSink, SpokenSink
from assistant.config.app import AppConfig
from assistant.errors import ConfigError, NothingToSee
from assistant.serving.channel import Channel
from assistant.serving.scheduler import Scheduler
from assistant.sinks import EventSink
from assistant.speech.aloud import SpeechNews
from assistant.speech.heard import words_of
from assistant.stream.question_queue import PendingQuestion
from streaming.clock import SystemClock


def watch_cameras(
    read: Callable[[], AppConfig], *, max_memory_gib: float | None, as_json: bool, log_level: str
) -> None:
    """Watch the cameras of a configuration until a signal, or until every camera has ended or failed.

    read: reads the configuration, at the start and on each reload. Raises `NothingToSee` if every camera failed.
    """
    config, clock, secrets = read(), SystemClock(), Secrets()
    if not config.cameras:
        raise ConfigError("cameras: none are configured; one is needed; name it as `cameras: {door: {url: rtsp://…}}`")
    configure_logs(sys.stderr, secrets, level=log_level)
    scheduler = Scheduler(lambda: engine_of(config.model), clock=clock, max_memory_bytes=bytes_of(max_memory_gib))

    def sink_for(name: str) -> list[EventSink]:
        shown = JsonSink(sys.stdout.buffer) if as_json else SpokenSink(sys.stdout, name, clock)
        return [shown, LogSink(name), *([aloud.sink()] if aloud is not None else [])]

    def tell(news: SpeechNews) -> None:
        for channel in cameras.channels:
            if news.source in ("", channel.name):
                channel.report(news.kind, news.text, news.details)

    with ExitStack() as stack:
        aloud = stack.enter_context(speaking_aloud(config.voice, clock, tell))
        cameras = open_cameras(stack, config, scheduler, sink_for, secrets.add)
        daemon = WatchDaemon(scheduler, cameras, lambda: cameras.load(read()))
        stack.enter_context(reloading(daemon))
        stack.enter_context(stopping(daemon))
        if config.monitor.port is not None:
            monitor = Monitor(
                scheduler, cameras, cameras.timeline, port=config.monitor.port, address=config.monitor.host
            )
            stack.enter_context(monitor)
            print(f"metrics and health on http://{config.monitor.host}:{monitor.port}", file=sys.stderr, flush=True)
        scheduler.start()
        refused = cameras.load(config).refused
        if not cameras.channels:
            raise ConfigError("; ".join(refused))

        def put(text: str, on_piece: Callable[[str], None]) -> PendingQuestion:
            return asked_camera(text, cameras.channels).ask(text, on_piece=on_piece, aside=True)

        stack.enter_context(listening(config.voice, put, aloud, clock, lambda line: print(line, file=sys.stderr)))
        daemon.run()
        if scheduler.failure is not None:
            raise scheduler.failure
        failures = [channel.failure for channel in cameras.channels]
        if failures and all(failures):
            raise NothingToSee("; ".join(f"{c.name}: {_of(c.name, c.failure)}" for c in cameras.channels))


def asked_camera(question: str, channels: Sequence[Channel]) -> Channel:
    """The camera that a question names; the first one where it names none. Raises `ConfigError` without cameras."""
    if not channels:
        raise ConfigError("spoken question: no camera is watched; add one to the configuration")
    words = f" {' '.join(words_of(question))} "
    return next((each for each in channels if f" {' '.join(words_of(each.name))} " in words), channels[0])


def _of(name: str, failure: BaseException | None) -> str:
    """The failure's message without a leading camera name."""
    return str(failure).removeprefix(f"{name}: ")
