"""The `rehearse` command: what rules would have raised on a recording. Heavy modules are imported when used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.commands.terminal import as_json_line, clear_errors, options_given
from assistant.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from assistant.config.app import AppConfig
    from assistant.rules.rehearsal import Rehearsal
    from assistant.rules.rule import Rule


def rehearse(
    source: Annotated[str, typer.Argument(help="A recording: a file, an http(s):// URL, synthetic:7, sample:world.")],
    rule: Annotated[
        list[str] | None, typer.Option(help='What to look for, as "the view is covered"; repeatable.')
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file; its rules are rehearsed as well.")] = None,
    sure: Annotated[float | None, typer.Option(help="Probability from which a frame is a hit; 0.9 by default.")] = None,
    confirmations: Annotated[int | None, typer.Option(help="Hits in a row that make an alert; 2 by default.")] = None,
    hold: Annotated[float | None, typer.Option(help="Seconds that the hits must last; 0 by default.")] = None,
    cooldown: Annotated[
        float | None, typer.Option(help="Seconds after one alert without a new one; 30 by default.")
    ] = None,
    start: Annotated[float | None, typer.Option(help="Start at this time of the recording, seconds.")] = None,
    end: Annotated[float | None, typer.Option(help="Stop at this time of the recording, seconds.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second given to the model; 2 by default.")] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the probabilities and alerts to this PNG.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object with curves and alerts.")] = False,
) -> None:
    """Try rules on a recording before arming them: the alerts they would raise, and their probability over time."""
    with clear_errors():
        from assistant.config.app import load_config
        from assistant.rules.rehearsal import plot_rehearsals

        values = options_given(sure=sure, confirmations=confirmations, hold_s=hold, cooldown_s=cooldown)
        overrides = {
            "source": options_given(fps=fps, start_s=start, end_s=end, jumps="follow"),
            "model": options_given(name=model),
            "rules": {f"rule {number}": {"when": words, **values} for number, words in enumerate(rule or (), 1)},
        }
        settings = load_config(config, overrides)
        if not settings.rules:
            raise ConfigError('rehearse: no rule is given; name one, as --rule "the view is covered", or use --config')
        rehearsals = rehearsed(source, settings, settings.armed())
        if plot is not None:
            plot_rehearsals(plot, rehearsals, source)
        if json:
            print(as_json_line({"source": source, "rules": [one.as_dict() for one in rehearsals]}))
        else:
            print("\n".join(line for one in rehearsals for line in one.lines()))


def rehearsed(spec: str, config: AppConfig, rules: Sequence[Rule]) -> list[Rehearsal]:
    """Watch a recording by rules; returns what each would have raised.

    Raises `NothingToSee` if it gave no frame, and the errors of sources, models and rules. Schedules and cameras of
    the rules are left aside: a recording has no time of day.
    """
    from contextlib import ExitStack
    from dataclasses import replace

    from assistant.commands.output_files import Fanout
    from assistant.commands.replay import source_options
    from assistant.commands.setup import engine_of
    from assistant.commands.signals import stopping
    from assistant.errors import NothingToSee
    from assistant.inputs.sample_clips import resolve_sample
    from assistant.rules.arming import armed_rules
    from assistant.rules.rehearsal import Rehearsal
    from assistant.rules.rule_watch import RuleWatch
    from assistant.stream.open_stream import StreamOptions, open_model_session, open_stream
    from assistant.stream.runner import Runner
    from streaming.capture import Capture
    from streaming.clock import SystemClock
    from streaming.open_source import open_source

    spec, clock = resolve_sample(spec), SystemClock()
    with open_source(spec, options=source_options(config, config.source.fps), clock=clock) as checked:
        info = checked.open()
    if info.is_live:
        raise ConfigError(f"{info.name}: a live source has no end; rehearse rules on a recording of it")
    plain = [replace(rule, cameras=(), schedule=None, zone=None, muted=False) for rule in rules]
    armed = armed_rules(plain, {}, info.name, is_small=config.model.is_embedded)
    rehearsals = {rule.name: Rehearsal(rule) for rule in plain}
    with ExitStack() as stack:
        engine = engine_of(config.model)
        stack.callback(engine.close)
        settings = config.model.stream_settings(engine.stream, config.source.fps)
        source = open_source(spec, options=source_options(config, settings.fps), clock=clock)
        capture = stack.enter_context(Capture(source, clock=clock))
        options = StreamOptions(instruction=config.speaking.instruct, pruning=config.model.pruning)
        session = open_model_session(engine, settings, options)
        capture.prepare = session.fitter
        sink = Fanout([])
        watch = RuleWatch(clock, sink.append, lambda rule, judged: rehearsals[rule.name].curve.append(judged))
        watch.set_rules(armed)
        stream = open_stream(session, settings, options, clock, sink.append, rules=watch)
        runner = Runner(engine, stream, capture, sink, clock)
        with stopping(runner):
            runner.run()
    if not runner.num_seen:
        raise NothingToSee(f"{info.name}: no frame could be read; the file holds no picture that decodes")
    return list(rehearsals.values())
