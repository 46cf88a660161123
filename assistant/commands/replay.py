"""The `replay` command: watches one source from its first frame to its last."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from assistant.commands.console import JsonSink, Progress, TextSink, WatchedFeed
from assistant.commands.listening import listening
from assistant.commands.output_files import Fanout, check_outputs, open_outputs
from assistant.commands.setup import engine_of, named
from assistant.commands.signals import stopping
from assistant.commands.speaking import FINISH_S, speaking_aloud
from assistant.commands.terminal import is_terminal, warn
from assistant.config.app import AppConfig
from assistant.errors import NothingToSee
from assistant.inputs.sample_clips import resolve_sample
from assistant.sinks import EventSink
from assistant.stream.open_stream import StreamOptions, open_model_session, open_stream
from assistant.stream.question_queue import PendingQuestion
from assistant.stream.runner import Runner
from models.session.session import Session
from streaming.capture import Capture
from streaming.clock import SystemClock
from streaming.masks import Masks
from streaming.open_source import open_source
from streaming.sources.base import Source, SourceOptions


def replay_source(spec: str, config: AppConfig, *, as_json: bool) -> None:
    """Watch `spec` from its first frame to its last; print events and a summary.

    Raises `NothingToSee` if it gave no frame, and the errors of sources, models and outputs.
    """
    clock = SystemClock()
    spec, wanted = resolve_sample(spec), config.model
    # A first opening checks the source before the model is loaded; the second one then skips the check for jumps.
    checked = replace(source_options(config, config.source.fps), jumps=config.source.jumps)
    _check_opens(open_source(spec, options=checked, clock=clock))
    check_outputs(config.output, keep=spec)
    with ExitStack() as stack:
        engine = engine_of(wanted)
        settings = wanted.stream_settings(engine.stream, config.source.fps)
        source = open_source(spec, options=source_options(config, settings.fps), clock=clock)
        capture = stack.enter_context(Capture(source, clock=clock))
        options = _stream_options(config, capture)
        session = open_model_session(engine, settings, options)
        capture.prepare = session.fitter
        if capture.info.width_px:
            with named(capture.name):
                session.check_size(capture.info.width_px, capture.info.height_px)
        # Opened last, because opening empties them: a failed start must not destroy the output of an earlier run.
        files = open_outputs(config.output)
        stack.callback(Fanout(files).close)
        progress = stack.enter_context(_progress(config, capture, shown=is_terminal() and not as_json))
        sink = Fanout([*files, _console_sink(progress, as_json=as_json)])
        aloud = stack.enter_context(speaking_aloud(config.voice, clock))
        if aloud is not None:
            sink = Fanout([sink, aloud.sink(sink.append)])
        stream = open_stream(session, settings, options, clock, sink.append)
        runner = Runner(engine, stream, WatchedFeed(capture, progress), sink, clock)

        def put(text: str, on_piece: Callable[[str], None]) -> PendingQuestion:
            asked = PendingQuestion(text, on_piece)
            stream.ask(text, asked=asked)
            return asked

        stack.enter_context(listening(config.voice, put, aloud, clock, progress.warn))
        with stopping(runner):
            runner.run()
            if aloud is not None:
                aloud.finish(0.0 if runner.was_stopped else FINISH_S)
        progress.close()
        _conclude(runner, session, capture, as_json=as_json)


def _stream_options(config: AppConfig, capture: Capture) -> StreamOptions:
    return StreamOptions(
        talkative=config.speaking.talkative,
        instruction=config.speaking.instruct,
        questions=tuple(config.planned_questions()),
        pace=_pace(config, capture),
        system=config.model.system,
        pruning=config.model.pruning,
    )


def _conclude(runner: Runner, session: Session, capture: Capture, *, as_json: bool) -> None:
    """Print the summary. Raises `NothingToSee` if no frame was seen and nobody stopped the run."""
    if not runner.num_seen and not runner.was_stopped:
        raise NothingToSee(f"{capture.name}: no frame could be read; the file or stream holds no picture that decodes")
    summary = ["", *runner.summary(session.usage).lines()]
    print("\n".join(summary), file=sys.stderr if as_json else sys.stdout, flush=True)
    for line in runner.warnings:
        warn(f"{capture.name}: {line}")


def _check_opens(source: Source) -> None:
    """Open and close a source; raises a `StreamingError` if that fails."""
    with source:
        source.open()


def source_options(config: AppConfig, fps: float | None) -> SourceOptions:
    """The options of a source as it is configured, at a number of frames a second."""
    wanted = config.source
    return SourceOptions(
        sample_fps=fps,
        start_s=wanted.start_s,
        end_s=wanted.end_s,
        loop=wanted.loop,
        speed=_speed(config),
        masks=Masks(wanted.masks) if wanted.masks else None,
        open_timeout_s=wanted.open_timeout_s,
        read_timeout_s=wanted.read_timeout_s,
        picture_timeout_s=wanted.picture_timeout_s,
    )


def _pace(config: AppConfig, capture: Capture) -> float:
    """Media seconds that pass per second of real time while no frame is read; 0 at full speed."""
    if capture.info.is_live:
        return 1.0
    return _speed(config) or 0.0


def _speed(config: AppConfig) -> float | None:
    """Playing speed of a recording; None for as fast as the model can. Speech needs real time unless told otherwise."""
    wanted = config.source.speed
    if config.voice.speak and "speed" not in config.source.model_fields_set:
        return 1.0
    return None if wanted == "max" else float(wanted)


def _console_sink(progress: Progress, *, as_json: bool) -> EventSink:
    return JsonSink(sys.stdout.buffer) if as_json else TextSink(sys.stdout, progress)


def _progress(config: AppConfig, capture: Capture, *, shown: bool) -> Progress:
    end_s = config.source.end_s or capture.info.duration_s_declared
    total_s = (end_s - config.source.start_s) * config.source.loop if end_s else None
    return Progress(sys.stderr, shown=shown, start_s=config.source.start_s, total_s=total_s)
