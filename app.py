"""The command line: reads the configuration and wires the rooms. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.errors import AssistantError, ConfigError, NothingToSee

if TYPE_CHECKING:
    from assistant.config import AppConfig
    from assistant.console import Progress
    from assistant.runner import Runner
    from assistant.session import StreamSession
    from assistant.store import EventSink
    from models.session import Session
    from models.settings import StreamSettings
    from streaming.capture import Capture
    from streaming.sources import Source, SourceOptions

BAD_INPUT = 2
NOTHING_READ = 3
INTERRUPTED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """A streaming video assistant on VideoLLaMA 3: it watches, speaks when something is worth saying, and answers."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(help="A file, an rtsp:// or http(s):// URL, webcam:0, synthetic:1, sample:world.")
    ],
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second given to the model; 2 by default.")] = None,
    speed: Annotated[str | None, typer.Option(help="Media seconds a second: 1, another number, or max.")] = None,
    start: Annotated[float | None, typer.Option(help="Media time to start at, seconds.")] = None,
    end: Annotated[float | None, typer.Option(help="Media time to end at, seconds.")] = None,
    loop: Annotated[int | None, typer.Option(help="How many times to play a recording.")] = None,
    instruct: Annotated[str | None, typer.Option(help='A standing instruction: "Tell me only when …".')] = None,
    ask: Annotated[list[str] | None, typer.Option(help="SECONDS:QUESTION, asked at that time; repeatable.")] = None,
    talkative: Annotated[float | None, typer.Option(help="More speaks more, less speaks less; 0 by default.")] = None,
    mask: Annotated[list[str] | None, typer.Option(help="x,y,width,height in parts of the picture: hidden.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file; options given here come before it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write events to this file, one JSON object a line.")] = None,
    vtt: Annotated[Path | None, typer.Option(help="Write what is said as WebVTT subtitles.")] = None,
    srt: Annotated[Path | None, typer.Option(help="Write what is said as SubRip subtitles.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Events on standard output, one JSON object a line.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
) -> None:
    """Watch a recording or a camera: comments as they happen, answers to questions, a summary at the end."""
    with _clear_errors():
        from assistant.config import load_config, parse_mask, parse_question

        overrides: dict[str, Any] = {
            "source": _given(fps=fps, speed=speed, start_s=start, end_s=end, loop=loop, masks=_each(parse_mask, mask)),
            "model": _given(name=model, device=device, dtype=dtype),
            "speaking": _given(talkative=talkative, instruct=instruct),
            "output": _given(events=out, vtt=vtt, srt=srt),
            "questions": _each(parse_question, ask),
        }
        _replay(source, load_config(config, overrides), as_json=json)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    image: Annotated[list[Path] | None, typer.Option(help="A picture it is about; repeatable.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="A clip it is about; repeatable.")] = None,
    fps: Annotated[float, typer.Option(help="Frames a second taken of a clip.")] = 1.0,
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
) -> None:
    """One question about pictures, clips or both; the answer is printed as it comes."""
    with _clear_errors():
        from assistant.attachments import read_clip, read_picture
        from assistant.config import load_config
        from assistant.samples import resolve_sample

        wanted = {"model": {"name": model, "device": device, "dtype": dtype}, "source": {"fps": fps}}
        config = load_config(None, wanted).model
        if not question.strip():
            raise ConfigError(f'question {question!r}: it is empty; ask in words, as "What is on the left?"')
        pictures = [read_picture(path) for path in image or []]
        clips = [read_clip(resolve_sample(spec), fps) for spec in video or []]
        from models.checkpoint import load_checkpoint
        from models.engine import Engine

        engine = Engine(load_checkpoint(config.name, device=config.device, dtype=config.dtype, progress=_is_terminal()))
        steps = engine.ask(question, pictures, clips)
        engine.run(steps, on_piece=lambda piece: print(piece, end="", flush=True))
        print(flush=True)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder with stream_*.safetensors cases.")],
    json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Check the session code against reference cases: masks, logits and greedy continuations."""
    with _clear_errors():
        from models.verify import verify_folder

        report = verify_folder(folder)
        print(_json(report.as_dict()) if json else report.as_table())
        if not report.passed:
            raise typer.Exit(1)


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name to look for.")] = "embedded",
    json: Annotated[bool, typer.Option("--json", help="The findings as one JSON object.")] = False,
) -> None:
    """What this machine has, what is missing, and how to get it."""
    with _clear_errors():
        from assistant.doctor import examine

        report = examine(model)
        print(_json(report.as_dict()) if json else report.as_text())


@app.command()
def evaluate(
    seeds: Annotated[
        str, typer.Option(help="Scenes to watch, as A-B. Training never uses seeds below 1000000.")
    ] = "0-49",
    noise: Annotated[
        float | None, typer.Option(help="Sensor noise of every scene, grey levels; mixed by default.")
    ] = None,
    families: Annotated[
        str, typer.Option(help="Of shapes,motion,light,view: what may happen.")
    ] = "shapes,motion,light,view",
    seconds: Annotated[float, typer.Option(help="Length of a scene.")] = 60.0,
    clips: Annotated[Path | None, typer.Option(help="Score the clips labelled by events.json in this folder.")] = None,
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name.")] = "embedded",
    talkative: Annotated[float, typer.Option(help="More speaks more, less speaks less.")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw the first scene's score over time to this PNG.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The scores as one JSON object.")] = False,
) -> None:
    """Score the assistant, conditioned on its own words, over rendered scenes or labelled clips."""
    with _clear_errors():
        from assistant.report import run_clips, run_scenes
        from models.checkpoint import load_checkpoint
        from models.engine import Engine

        engine = Engine(load_checkpoint(model, progress=_is_terminal()))
        if clips is not None:
            values, table = run_clips(engine, clips, talkative)
        else:
            values, table = run_scenes(
                engine, seeds, families, noise, seconds, talkative, plot, progress=_is_terminal()
            )
        print(_json(values) if json else table)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder; its stream_config.json is written anew.")],
    seeds: Annotated[str, typer.Option(help="Scenes to watch, as A-B; none that are evaluated.")] = "2000000-2000039",
    seconds: Annotated[float, typer.Option(help="Length of a scene.")] = 40.0,
) -> None:
    """Calibrate when a checkpoint speaks, on rendered scenes, and show how well the odds hold."""
    with _clear_errors():
        from assistant.calibration import calibrate as run_calibration
        from assistant.calibration import reliability_as_table, write_calibration
        from assistant.report import chosen_seeds, scene_settings
        from models.checkpoint import load_checkpoint
        from models.engine import Engine

        settings = scene_settings("shapes,motion,light,view", None, seconds)
        engine = Engine(load_checkpoint(folder, progress=_is_terminal()))
        platt, curve = run_calibration(engine, chosen_seeds(seeds), settings)
        write_calibration(engine.checkpoint.folder, platt)
        print(f"scale {platt.scale:.3f}, shift {platt.shift:.3f}\n{reliability_as_table(curve)}")


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(help="Where training keeps its state and its checkpoint; resumes there.")],
    plan: Annotated[
        Path | None, typer.Option(help="Stages and mixtures in YAML; the embedded model's by default.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; run again to go on.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of the optimiser.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render scenes.")] = 1,
) -> None:
    """Train a small checkpoint on rendered scenes, stage by stage."""
    with _clear_errors():
        from models.training.train import PLAN_PATH
        from models.training.train import train as run_training

        made = run_training(folder, plan or PLAN_PATH, minutes=minutes, threads=threads, workers=workers)
        print(f"checkpoint: {made}")


def _replay(spec: str, config: AppConfig, *, as_json: bool) -> None:
    """Watch one source from its first frame to its last."""
    from assistant.console import WatchedFeed
    from assistant.outputs import Fanout, open_outputs
    from assistant.runner import Runner
    from assistant.samples import resolve_sample
    from assistant.stopping import stopping
    from models.checkpoint import load_checkpoint
    from models.engine import Engine
    from streaming.capture import Capture
    from streaming.clock import SystemClock
    from streaming.sources import open_source

    clock = SystemClock()
    spec, wanted = resolve_sample(spec), config.model
    _check_opens(open_source(spec, options=_source_options(config, config.source.fps), clock=clock))
    with ExitStack() as stack:
        files = open_outputs(config.output, keep=spec)
        stack.callback(Fanout(files).close)
        checkpoint = load_checkpoint(wanted.name, device=wanted.device, dtype=wanted.dtype, progress=_is_terminal())
        settings = wanted.stream_settings(checkpoint.stream, config.source.fps)
        source = open_source(spec, options=_source_options(config, settings.fps), clock=clock)
        capture = stack.enter_context(Capture(source, clock=clock))
        progress = stack.enter_context(_progress(config, capture, shown=_is_terminal() and not as_json))
        sink = Fanout([*files, _console_sink(progress, as_json=as_json)])
        engine = Engine(checkpoint, now=clock.now_s)
        session = engine.open_session(
            settings, system=wanted.system, instruction=config.speaking.instruct, pruning=wanted.pruning
        )
        stream = _stream(config, settings, session, sink, capture)
        runner = Runner(engine, stream, WatchedFeed(capture, progress), sink, clock)
        with stopping(runner):
            runner.run()
        progress.close()
        _conclude(runner, session, capture, as_json=as_json)


def _stream(
    config: AppConfig, settings: StreamSettings, session: Session, sink: EventSink, capture: Capture
) -> StreamSession:
    """The session of one stream, as the configuration wants it."""
    from assistant.session import StreamSession
    from assistant.speak import policy_for
    from streaming.clock import SystemClock

    return StreamSession(
        session,
        policy_for(settings.speaking, fps=settings.fps, talkativeness=config.speaking.talkative),
        SystemClock(),
        sink.append,
        pace=_pace(config, capture),
        instruction=config.speaking.instruct,
        questions=config.planned_questions(),
    )


def _conclude(runner: Runner, session: Session, capture: Capture, *, as_json: bool) -> None:
    """Print the summary. Raises `NothingToSee` where there is nothing to sum up."""
    if not runner.num_seen and not runner.was_stopped:
        raise NothingToSee(f"{capture.name}: no frame could be read; the file or stream holds no picture that decodes")
    summary = ["", *runner.summary(session.usage).lines()]
    print("\n".join(summary), file=sys.stderr if as_json else sys.stdout, flush=True)
    if runner.broken:
        print(f"warning: {capture.name}: {runner.broken}; what was seen until then stands", file=sys.stderr)


def _check_opens(source: Source) -> None:
    """Raise what is wrong with a source before the model is loaded."""
    with source:
        source.open()


def _source_options(config: AppConfig, fps: float | None) -> SourceOptions:
    from streaming.masks import Masks
    from streaming.sources import SourceOptions

    wanted = config.source
    return SourceOptions(
        sample_fps=fps,
        start_s=wanted.start_s,
        end_s=wanted.end_s,
        loop=wanted.loop,
        speed=None if wanted.speed == "max" else float(wanted.speed),
        masks=Masks(wanted.masks) if wanted.masks else None,
    )


def _pace(config: AppConfig, capture: Capture) -> float:
    """Seconds of media a second that pass while nothing is read."""
    if capture.info.is_live:
        return 1.0
    return 0.0 if config.source.speed == "max" else float(config.source.speed)


def _console_sink(progress: Progress, *, as_json: bool) -> EventSink:
    from assistant.console import JsonSink, TextSink

    return JsonSink(sys.stdout.buffer) if as_json else TextSink(sys.stdout, progress)


def _progress(config: AppConfig, capture: Capture, *, shown: bool) -> Progress:
    from assistant.console import Progress

    end_s = config.source.end_s or capture.info.duration_s_declared
    total_s = (end_s - config.source.start_s) * config.source.loop if end_s else None
    return Progress(sys.stderr, shown=shown, start_s=config.source.start_s, total_s=total_s)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What a person can mend is one line on standard error and an exit code, never a traceback."""
    from models.errors import ModelError
    from streaming.errors import StreamingError
    from streaming.redact import redact_text

    try:
        yield
    except NothingToSee as error:
        _fail(redact_text(str(error)), NOTHING_READ)
    except StreamingError as error:  # redacted where it was made
        _fail(str(error), BAD_INPUT)
    except (AssistantError, ModelError) as error:
        _fail(redact_text(str(error)), BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what waits would fail once more at the end
        _fail(f"standard output: {error.strerror}; what is said must be written somewhere; free some room", BAD_INPUT)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(code) from None


def _given(**values: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def _each(parse: Any, values: list[str] | None) -> list[Any] | None:
    return [parse(value) for value in values] if values else None


def _json(values: dict[str, Any]) -> str:
    import json

    return json.dumps(values, ensure_ascii=False)


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; gives the exit code. Mistakes in its form are one line too."""
    from typer.exceptions import TyperException

    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        from streaming.redact import redact_text

        message = " ".join(getattr(error, "format_message", error.__str__)().split()).rstrip(".")
        print(f"error: {redact_text(message)}; see python app.py --help", file=sys.stderr)
        return BAD_INPUT
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(run())
