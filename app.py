"""The command line: reads the configuration and wires the rooms. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.errors import AssistantError, ConfigError, NothingToSee
from assistant.tracebacks import hide_credentials

if TYPE_CHECKING:
    from assistant.cameras import Cameras
    from assistant.config import AppConfig, ModelConfig
    from assistant.console import Progress
    from assistant.host import Host
    from assistant.runner import Runner
    from assistant.session import StreamSession
    from assistant.store import EventSink
    from assistant.timeline.search import Query, TimelineReader
    from models.engine import Engine
    from models.loading import OnLoading
    from models.session import Session
    from models.settings import StreamSettings
    from streaming.capture import Capture
    from streaming.clock import Clock
    from streaming.sources import Source, SourceOptions
    from ui.launch import Serving

BAD_INPUT = 2
NOTHING_READ = 3
INTERRUPTED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
timeline_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help="What was seen and said, kept.")
app.add_typer(timeline_app, name="timeline")


THREADS = typer.Option(help="Processor threads; one for a small model, else as many as torch likes.")
JUMPS = typer.Option(help="A recording whose timestamps jump back: refuse (default), or follow with a warning.")


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """A streaming video assistant on VideoLLaMA 3: it watches, speaks when something is worth saying, and answers."""
    if context.invoked_subcommand is None:
        context.invoke(ui)


@app.command()
def ui(
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; elsewhere than here needs a login.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any that is free.")] = 7860,
    browser: Annotated[bool, typer.Option(help="Open a browser window where there is a screen.")] = True,
    auth_file: Annotated[Path | None, typer.Option(help="Who may log in; see `password`.")] = None,
    open_to_all: Annotated[
        bool, typer.Option("--i-know-this-is-open", help="Listen elsewhere than here without a login.")
    ] = False,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate, for https.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    ssl_self_signed: Annotated[
        bool, typer.Option("--ssl-self-signed", help="A certificate of its own, shown with a QR code for phones.")
    ] = False,
    max_sessions: Annotated[int | None, typer.Option(min=1, help="How many viewers may watch at once.")] = None,
    max_memory: Annotated[float | None, typer.Option(help="GiB that all streams' memory may come to.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file: model, speaking, page, cameras.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the cameras' timeline.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
) -> None:
    """Watch and ask in the browser: samples, a webcam, cameras, files. What `python app.py` alone does, too."""
    with _clear_errors():
        from ui.launch import Serving

        overrides: dict[str, Any] = {
            "model": _given(name=model, device=device, dtype=dtype),
            "page": _given(max_sessions=max_sessions),
            "timeline": _given(folder=data),
        }
        serving = Serving(host, port, auth_file, open_to_all, ssl_certfile, ssl_keyfile, ssl_self_signed)
        serving.check()
        _serve_page(config, overrides, serving, max_memory_gib=max_memory, browser=browser)


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
    jumps: Annotated[str | None, JUMPS] = None,
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
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Watch a recording or a camera: comments as they happen, answers to questions, a summary at the end."""
    with _clear_errors():
        from assistant.config import load_config, parse_mask, parse_question

        overrides: dict[str, Any] = {
            "source": _given(
                fps=fps,
                speed=speed,
                start_s=start,
                end_s=end,
                loop=loop,
                jumps=jumps,
                masks=_each(parse_mask, mask),
            ),
            "model": _given(name=model, device=device, dtype=dtype, threads=threads),
            "speaking": _given(talkative=talkative, instruct=instruct),
            "output": _given(events=out, vtt=vtt, srt=srt),
            "questions": _each(parse_question, ask),
        }
        _replay(source, load_config(config, overrides), as_json=json)


@app.command()
def watch(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Cameras: rtsp:// or http(s):// URLs, webcam:0; or those of --config.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file: model, cameras, timeline and more.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the timeline; the user's own by default.")] = None,
    keep_clips: Annotated[
        float | None, typer.Option(help="Record so many seconds round each event; nothing is recorded else.")
    ] = None,
    max_memory: Annotated[float | None, typer.Option(help="GiB that all cameras' memory may come to.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve /metrics and /healthz here; 0 for any free port.")
    ] = None,
    metrics_host: Annotated[str | None, typer.Option(help="Address for them; this machine alone by default.")] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second for the model, of cameras named here.")] = None,
    instruct: Annotated[str | None, typer.Option(help="A standing instruction for all that have none.")] = None,
    talkative: Annotated[float | None, typer.Option(help="More speaks more, less speaks less; 0 by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Events on standard output, one JSON object a line.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error, on standard error.")] = "info",
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Watch cameras for days, without a browser: remarks as they happen, everything kept in a timeline."""
    with _clear_errors():
        from assistant.config import load_config

        if bool(sources) == bool(config):
            raise ConfigError("watch: cameras come from the command line or from --config; give one of the two")
        named = {"camera" if len(sources or ()) == 1 else f"camera {n}": url for n, url in enumerate(sources or (), 1)}
        overrides: dict[str, Any] = {
            "model": _given(name=model, device=device, dtype=dtype, threads=threads),
            "speaking": _given(talkative=talkative, instruct=instruct),
            "timeline": _given(folder=data, keep_clips_s=keep_clips),
            "monitor": _given(port=metrics_port, host=metrics_host),
            "cameras": {name: _given(url=url, fps=fps) for name, url in named.items()},
        }
        _watch(lambda: load_config(config, overrides), max_memory_gib=max_memory, as_json=json, log_level=log_level)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    image: Annotated[list[Path] | None, typer.Option(help="A picture it is about; repeatable.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="A clip it is about; repeatable.")] = None,
    fps: Annotated[float, typer.Option(help="Frames a second taken of a clip.")] = 1.0,
    jumps: Annotated[str, JUMPS] = "refuse",
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """One question about pictures, clips or both; the answer is printed as it comes."""
    with _clear_errors():
        from assistant.attachments import read_clip, read_picture
        from assistant.config import load_config
        from assistant.samples import resolve_sample

        wanted = {
            "model": _given(name=model, device=device, dtype=dtype, threads=threads),
            "source": {"fps": fps, "jumps": jumps},
        }
        config = load_config(None, wanted)
        if not question.strip():
            raise ConfigError(f'question {question!r}: it is empty; ask in words, as "What is on the left?"')
        pictures = [read_picture(path) for path in image or []]
        warnings: list[str] = []
        read = partial(read_clip, fps=fps, warn=warnings.append, jumps=config.source.jumps)
        clips = [read(resolve_sample(spec)) for spec in video or []]

        engine = _engine_of(config.model)
        vision = engine.checkpoint.vision
        for name, frame, merge in [
            *zip(image or [], pictures, repeat(vision.image_merge)),
            *zip(video or [], (frames[0] for frames, _ in clips), repeat(vision.video_merge)),
        ]:
            with _named(str(name)):
                vision.check_picture(frame.shape[1], frame.shape[0], merge=merge)
        steps = engine.ask(question, pictures, clips)
        engine.run(steps, on_piece=lambda piece: print(piece, end="", flush=True))
        print(flush=True)
        for line in warnings:
            _warn(line)


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
    """What this machine has, what is missing, and how to get it; exits with 1 where a recording cannot be watched."""
    with _clear_errors():
        from assistant.doctor import examine

        report = examine(model)
        print(_json(report.as_dict()) if json else report.as_text())
        if not report.ok:
            raise typer.Exit(1)


@app.command()
def password(
    name: Annotated[str, typer.Argument(help="Who is to log in.")],
) -> None:
    """Ask for a password and print the line of --auth-file for it: python app.py password NAME >> users"""
    with _clear_errors():
        from assistant.passwords import make_line

        print(make_line(name, typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)))


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
    what: Annotated[
        str, typer.Option(help="Of triggers,yesno,answers,obedience,floors,long,quiet: what to measure.")
    ] = "all",
    quiet_hours: Annotated[float, typer.Option(min=0.0, help="Hours of scenes in which nothing happens.")] = 3.0,
    clips: Annotated[Path | None, typer.Option(help="Score the clips labelled by events.json in this folder.")] = None,
    planted: Annotated[
        str | None, typer.Option(help="With --clips: seeds A-B of covers, cuts and darkenings to plant into its clips.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="A published benchmark: videomme, mvbench, charades-sta or docvqa; needs --data.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="With --task: its data set's folder, as published.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --task: its first questions only.")] = None,
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name.")] = "embedded",
    talkative: Annotated[float, typer.Option(help="More speaks more, less speaks less.")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw the first scene's score over time to this PNG.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The scores as one JSON object.")] = False,
) -> None:
    """Score the assistant, conditioned on its own words, on scenes or clips; or a checkpoint on a benchmark."""
    with _clear_errors():
        if (task is None) != (data is None):
            raise ConfigError("--task and --data: a benchmark and its data set's folder belong together; give both")
        from assistant.benchmarks.run import run_task, task_named
        from assistant.report import ScenePlan, chosen_sections, chosen_seeds, run_clips, run_scenes, scene_settings
        from models.checkpoint import load_checkpoint
        from models.engine import Engine

        settings = scene_settings(families, noise, seconds)
        scenes = ScenePlan(chosen_seeds(seeds), settings, chosen_sections(what), quiet_hours, talkative, plot)
        if task is not None:
            task_named(task)
        engine = Engine(load_checkpoint(model, progress=_is_terminal()))
        if task is not None and data is not None:
            values, table = run_task(engine, task, data, limit=limit, progress=_is_terminal())
        elif clips is not None:
            values, table = run_clips(engine, clips, talkative, chosen_seeds(planted, "--planted") if planted else ())
        else:
            values, table = run_scenes(engine, scenes, progress=_is_terminal())
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
    device: Annotated[
        str, typer.Option(help="Where to train: cpu, cuda, or auto.")
    ] = "cpu",
    bf16: Annotated[bool, typer.Option("--bf16", help="Products in bfloat16, where the machine is faster so.")] = False,
    finetune: Annotated[
        Path | None, typer.Option(help="Fine-tune by LoRA on this folder's clips and their transcripts instead.")
    ] = None,
    model: Annotated[str, typer.Option(help="With --finetune: the checkpoint to start from.")] = "embedded",
) -> None:
    """Train a small checkpoint on rendered scenes, stage by stage."""
    with _clear_errors():
        if finetune is not None:
            print(f"checkpoint: {_fine_tune(folder, finetune, model, plan, minutes, threads)}")
            return
        from models.training.train import PLAN_PATH
        from models.training.train import train as run_training

        made = run_training(
            folder,
            plan or PLAN_PATH,
            minutes=minutes,
            threads=threads,
            workers=workers,
            device=device,
            bf16=bf16,
            progress=sys.stderr.isatty(),
        )
        print(f"checkpoint: {made}")


def _fine_tune(folder: Path, clips: Path, model: str, plan: Path | None, minutes: float | None, threads: int) -> Path:
    """`train --finetune`: adapters for a checkpoint, from recordings and their transcripts."""
    from tqdm import tqdm

    from assistant.transcripts import read_recordings
    from models.checkpoint import load_checkpoint
    from models.training.finetune import FineTuning, fine_tune

    settings = FineTuning() if plan is None else FineTuning.from_yaml(plan)
    recordings = read_recordings(clips)
    checkpoint = load_checkpoint(model, progress=_is_terminal(), threads=threads)
    with tqdm(unit="step", disable=not _is_terminal()) as bar:

        def on_step(step: int, total: int, loss: float) -> None:
            bar.total, bar.n = total, step
            bar.set_postfix(loss=f"{loss:.3f}")

        return fine_tune(folder, recordings, checkpoint, settings, minutes=minutes, on_step=on_step)


DATA = typer.Option(help="The timeline's folder; one in the user's state folder by default.")
SINCE = typer.Option(help="From then on: 2h, 30m, 1d (back from now), 10:15, 2026-11-22, 2026-11-22T10:00.")
UNTIL = typer.Option(help="Up to then, said as --since.")
CAMERA = typer.Option(help="Only this camera; repeatable.")
TYPE = typer.Option(help="Only comment, answer, alert, status, or a kind of status, as gap; repeatable.")


@timeline_app.command("search")
def timeline_search(
    text: Annotated[str, typer.Argument(help='Words that must be there; "in a row" in quotes, a beginning* too.')] = "",
    since: Annotated[str | None, SINCE] = None,
    until: Annotated[str | None, UNTIL] = None,
    camera: Annotated[list[str] | None, CAMERA] = None,
    type: Annotated[list[str] | None, TYPE] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the latest.")] = 50,
    data: Annotated[Path | None, DATA] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Find events by words, time, camera and type; the latest come last."""
    with _clear_errors():
        from assistant.timeline.shown import shown_line

        query = _timeline_query(text, since, until, camera, type, limit=limit)
        with _timeline_reader(data) as reader:
            found = reader.search(query)[::-1]
        width = max((len(event.camera) for event in found), default=0)
        for event in found:
            print(_json(event.as_dict()) if json else shown_line(event, _wall_s(), width=width))
        if not found and not json:
            print("nothing found", file=sys.stderr)


@timeline_app.command("export")
def timeline_export(
    text: Annotated[str, typer.Argument(help="Words that must be there, as for search.")] = "",
    format: Annotated[str, typer.Option(help="jsonl, srt, vtt or md (Markdown with thumbnails).")] = "jsonl",
    since: Annotated[str | None, SINCE] = None,
    until: Annotated[str | None, UNTIL] = None,
    camera: Annotated[list[str] | None, CAMERA] = None,
    type: Annotated[list[str] | None, TYPE] = None,
    clip: Annotated[int | None, typer.Option(help="Write the clip round the event of this number instead.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Of the clip, so much on each side; all by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output by default.")] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Write events as JSON lines, subtitles or a page, oldest first, or the clip round one of them."""
    with _clear_errors():
        from assistant.timeline.export import export, export_clip

        query = _timeline_query(text, since, until, camera, type)
        with _timeline_reader(data) as reader:
            if clip is not None:
                print(export_clip(reader, clip, out, seconds))
            else:
                count = export(reader.every(query), format, reader.folder, out)
                print(f"{count} events" + (f" to {out}" if out else ""), file=sys.stderr)


@timeline_app.command("recap")
def timeline_recap(
    since: Annotated[str, SINCE] = "1d",
    until: Annotated[str | None, UNTIL] = None,
    camera: Annotated[list[str] | None, CAMERA] = None,
    prose: Annotated[bool, typer.Option("--prose", help="In sentences, by a checkpoint that declares it can.")] = False,
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name, for --prose.")] = "embedded",
    data: Annotated[Path | None, DATA] = None,
    json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Count what happened, by camera and kind."""
    with _clear_errors():
        from assistant.timeline.recap import recap

        query = _timeline_query("", since, until, camera, None)
        with _timeline_reader(data) as reader:
            made = recap(reader, query, _wall_s())
        print(_json(made.as_dict()) if json else "\n".join(made.lines()), flush=True)
        if prose:
            _recap_prose(made.lines(), model)


def _recap_prose(lines: list[str], model: str) -> None:
    """A recap in sentences, marked as the model's own."""
    from assistant.timeline.prose import check_prose, prose_question
    from models.checkpoint import describe_checkpoint, load_checkpoint

    summary = describe_checkpoint(model)
    check_prose(model, summary.folder)
    from models.engine import Engine

    engine = Engine(load_checkpoint(model, progress=_is_terminal()))
    print(f"\nin the words of {summary.name}:", flush=True)
    engine.run(engine.ask(prose_question(lines)), on_piece=lambda piece: print(piece, end="", flush=True))
    print(flush=True)


def _timeline_query(
    text: str,
    since: str | None,
    until: str | None,
    cameras: list[str] | None,
    types: list[str] | None,
    *,
    limit: int = 50,
) -> Query:
    from assistant.timeline.search import Query
    from assistant.timeline.times import parse_when

    now_s = _wall_s()
    return Query(
        text=text,
        since_s=None if since is None else parse_when(since, now_s),
        until_s=None if until is None else parse_when(until, now_s),
        cameras=tuple(cameras or ()),
        types=tuple(types or ()),
        limit=limit,
    )


def _timeline_reader(data: Path | None) -> TimelineReader:
    from assistant.timeline.folder import Folder, default_folder
    from assistant.timeline.search import TimelineReader

    return TimelineReader(Folder(data or default_folder()))


def _wall_s() -> float:
    from streaming.clock import SystemClock

    return SystemClock().wall_s()


def _serve_page(
    path: Path | None,
    overrides: dict[str, Any],
    serving: Serving,
    *,
    max_memory_gib: float | None,
    browser: bool,
) -> None:
    """The browser app, until it is stopped. The page is up before anything of the model is read."""
    from assistant.config import load_config
    from assistant.desk import Desk
    from assistant.host import Host
    from assistant.logs import Secrets, configure_logs
    from assistant.safety import CameraPolicy
    from assistant.stopping import UntilStopped, stopping

    files = TemporaryDirectory(prefix="watch-files-")  # nobody else's, and gone at the end
    os.environ["GRADIO_TEMP_DIR"] = str(Path(files.name, "uploads"))  # Gradio serves this one alone
    from ui.build import build_page
    from ui.launch import launch
    from ui.looks import looks
    from ui.media import media_routes

    config, secrets = load_config(path, overrides), Secrets()
    configure_logs(sys.stderr, secrets, level="warning")
    host = Host(lambda: _engine_of(config.model, desk.note_loading), max_memory_bytes=_bytes_of(max_memory_gib))
    uploads = config.page.uploads.limits()
    until = UntilStopped()
    with ExitStack() as stack:
        stack.enter_context(files)
        stack.callback(host.stop, 5.0)
        cameras = _open_cameras(stack, config, host, lambda name: [], secrets.add) if config.cameras else None
        desk = Desk(
            host,
            config.model.name,
            policy=CameraPolicy.bound_to(serving.host, config.page.networks),
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
                print(f"warning: {reason}", file=sys.stderr)
        if browser and serving.is_local and _has_screen():
            import webbrowser

            webbrowser.open(running.url)
        until.wait()


def _watch(
    read: Callable[[], AppConfig], *, max_memory_gib: float | None, as_json: bool, log_level: str
) -> None:
    """Watch the cameras of a configuration until a signal ends it, or all were recordings and are over."""
    from assistant.console import JsonSink
    from assistant.host import Host
    from assistant.logs import Secrets, configure_logs
    from assistant.monitor import Monitor
    from assistant.patrol import Patrol, reloading
    from assistant.stopping import stopping
    from assistant.watch_output import LogSink, SpokenSink
    from streaming.clock import SystemClock

    config, clock, secrets = read(), SystemClock(), Secrets()
    if not config.cameras:
        raise ConfigError("cameras: there are none; name one as `cameras: {door: {url: rtsp://…}}`")
    configure_logs(sys.stderr, secrets, level=log_level)
    host = Host(lambda: _engine_of(config.model), clock=clock, max_memory_bytes=_bytes_of(max_memory_gib))

    def sink_for(name: str) -> list[EventSink]:
        shown = JsonSink(sys.stdout.buffer) if as_json else SpokenSink(sys.stdout, name, clock)
        return [shown, LogSink(name)]

    with ExitStack() as stack:
        cameras = _open_cameras(stack, config, host, sink_for, secrets.add)
        patrol = Patrol(host, cameras, lambda: cameras.load(read()))
        stack.enter_context(reloading(patrol))
        stack.enter_context(stopping(patrol))
        if config.monitor.port is not None:
            monitor = Monitor(host, cameras, cameras.timeline, port=config.monitor.port, address=config.monitor.host)
            stack.enter_context(monitor)
            print(f"metrics and health on http://{config.monitor.host}:{monitor.port}", file=sys.stderr, flush=True)
        host.start()
        refused = cameras.load(config).refused
        if not cameras.channels:
            raise ConfigError("; ".join(refused))
        patrol.run()
        if host.failure is not None:
            raise host.failure
        failures = [channel.failure for channel in cameras.channels]
        if failures and all(failures):
            raise NothingToSee("; ".join(f"{c.name}: {_of(c.name, c.failure)}" for c in cameras.channels))


def _open_cameras(
    stack: ExitStack,
    config: AppConfig,
    host: Host,
    sink_for: Callable[[str], list[EventSink]],
    on_secrets: Callable[[list[str | None]], None],
) -> Cameras:
    """The cameras with their timeline, none watched yet; `stack` ends them in the right order, within ten seconds."""
    from assistant.cameras import Cameras
    from assistant.timeline.folder import default_folder
    from assistant.timeline.store import Timeline
    from streaming.recording import ClipWriter

    kept = config.timeline
    stack.callback(host.stop, 1.5)
    timeline = Timeline(kept.folder or default_folder(), retention=kept.retention())
    stack.callback(timeline.close, 1.5)
    clips = None
    if kept.keep_clips_s is not None:
        clips = ClipWriter()
        stack.callback(clips.close, 2.5)
    cameras = Cameras(host, timeline, clips=clips, sink_for=sink_for, on_secrets=on_secrets)
    stack.callback(cameras.stop, 4.0)
    return cameras


def _of(name: str, failure: BaseException | None) -> str:
    """What went wrong, without the camera's name before it."""
    return str(failure).removeprefix(f"{name}: ")


def _bytes_of(gib: float | None) -> int | None:
    return None if gib is None else int(gib * 2**30)


def _engine_of(wanted: ModelConfig, on_loading: OnLoading | None = None) -> Engine:
    """The checkpoint, loaded."""
    from models.checkpoint import load_checkpoint
    from streaming.clock import SystemClock

    checkpoint = load_checkpoint(
        wanted.name,
        device=wanted.device,
        dtype=wanted.dtype,
        threads=wanted.threads,
        progress=_is_terminal(),
        on_loading=on_loading,
    )
    from models.engine import Engine  # after what tells how far it has come

    return Engine(checkpoint, now=SystemClock().now_s)


def _has_screen() -> bool:
    """Whether a person sits here: a terminal, and somewhere to show a window."""
    shows = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return sys.stdout.isatty() and shows


def _replay(spec: str, config: AppConfig, *, as_json: bool) -> None:
    """Watch one source from its first frame to its last."""
    from assistant.console import WatchedFeed
    from assistant.outputs import Fanout, check_outputs, open_outputs
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
    # What is refused is refused here; the source is then opened anew and need not be looked through again.
    checked = replace(_source_options(config, config.source.fps), jumps=config.source.jumps)
    _check_opens(open_source(spec, options=checked, clock=clock))
    check_outputs(config.output, keep=spec)
    with ExitStack() as stack:
        checkpoint = load_checkpoint(
            wanted.name,
            device=wanted.device,
            dtype=wanted.dtype,
            threads=wanted.threads,
            progress=_is_terminal(),
        )
        settings = wanted.stream_settings(checkpoint.stream, config.source.fps)
        source = open_source(spec, options=_source_options(config, settings.fps), clock=clock)
        capture = stack.enter_context(Capture(source, clock=clock))
        engine = Engine(checkpoint, now=clock.now_s)
        session = engine.open_session(
            settings, system=wanted.system, instruction=config.speaking.instruct, pruning=wanted.pruning
        )
        if capture.info.width_px:
            with _named(capture.name):
                session.check_size(capture.info.width_px, capture.info.height_px)
        # Last, when all else stands: a mistake is not to cost what an earlier run wrote.
        files = open_outputs(config.output)
        stack.callback(Fanout(files).close)
        progress = stack.enter_context(_progress(config, capture, shown=_is_terminal() and not as_json))
        sink = Fanout([*files, _console_sink(progress, as_json=as_json)])
        stream = _stream(config, settings, session, sink, capture, clock)
        runner = Runner(engine, stream, WatchedFeed(capture, progress), sink, clock)
        with stopping(runner):
            runner.run()
        progress.close()
        _conclude(runner, session, capture, as_json=as_json)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is refused for a picture's size says whose picture it is."""
    from models.errors import VisionError

    try:
        yield
    except VisionError as error:
        raise ConfigError(f"{name}: {error}") from error


def _stream(
    config: AppConfig,
    settings: StreamSettings,
    session: Session,
    sink: EventSink,
    capture: Capture,
    clock: Clock,
) -> StreamSession:
    """The session of one stream, as the configuration wants it."""
    from assistant.session import StreamSession
    from assistant.speak import policy_for

    return StreamSession(
        session,
        policy_for(settings.speaking, fps=settings.fps, talkativeness=config.speaking.talkative),
        clock,
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
    for line in runner.warnings:
        _warn(f"{capture.name}: {line}")


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)


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


def _named_value(error: Exception, arguments: list[str]) -> str:
    """What is wrong with a command line, with the value that is."""
    message = " ".join(getattr(error, "format_message", error.__str__)().split()).rstrip(".")
    for name in getattr(getattr(error, "param", None), "opts", ()):
        for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
            value = following if option == name else option.removeprefix(f"{name}=") if "=" in option else option
            if value != option:
                return f"{name} {value!r}: {message.partition(': ')[2] or message}"
    return message


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; gives the exit code. Mistakes in its form are one line too."""
    from typer.exceptions import TyperException

    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        from streaming.redact import redact_text

        message = _named_value(error, sys.argv[1:] if arguments is None else arguments)
        print(f"error: {redact_text(message)}; see python app.py --help", file=sys.stderr)
        return BAD_INPUT
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    hide_credentials()
    code = run()
    # Python would look through all that torch has loaded once more, which takes seconds on a busy machine.
    gc.freeze()
    sys.exit(code)
