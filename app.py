"""The command line: the options of each command. What it does is a module; none is imported before it is needed."""

from __future__ import annotations

import gc
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from assistant.commands.excepthook import hide_credentials
from assistant.commands.terminal import (
    BAD_INPUT,
    INTERRUPTED,
    as_json_line,
    clear_errors,
    each,
    given,
    is_terminal,
    named_value,
)
from assistant.commands.timeline import timeline_app
from assistant.errors import ConfigError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
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
    public_url: Annotated[
        str | None, typer.Option(help="Where people find it behind a reverse proxy: https://camera.example.org")
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(min=1, help="How many viewers may watch at once.")] = None,
    max_memory: Annotated[float | None, typer.Option(help="GiB that all streams' memory may come to.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file: model, speaking, page, cameras.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the cameras' timeline.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")] = None,
) -> None:
    """Watch and ask in the browser: samples, a webcam, cameras, files. What `python app.py` alone does, too."""
    with clear_errors():
        from ui.launch import Serving

        overrides: dict[str, Any] = {
            "model": given(name=model, device=device, dtype=dtype),
            "page": given(max_sessions=max_sessions),
            "timeline": given(folder=data),
        }
        serving = Serving(host, port, auth_file, open_to_all, ssl_certfile, ssl_keyfile, ssl_self_signed, public_url)
        serving.check()
        from ui.serve import serve_page  # what is refused need not wait for it

        serve_page(config, overrides, serving, max_memory_gib=max_memory, browser=browser)


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
    open_timeout: Annotated[float | None, typer.Option(help="Seconds that opening a URL may take; 5.")] = None,
    read_timeout: Annotated[float | None, typer.Option(help="Seconds that nothing may come; 3.")] = None,
    picture_timeout: Annotated[
        float | None, typer.Option(help="Seconds that a camera may send no picture, as before its first key frame; 30.")
    ] = None,
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
    with clear_errors():
        from assistant.commands.replay import replay_source
        from assistant.config.app import load_config, parse_mask, parse_question

        overrides: dict[str, Any] = {
            "source": given(
                fps=fps,
                speed=speed,
                start_s=start,
                end_s=end,
                loop=loop,
                jumps=jumps,
                masks=each(parse_mask, mask),
                open_timeout_s=open_timeout,
                read_timeout_s=read_timeout,
                picture_timeout_s=picture_timeout,
            ),
            "model": given(name=model, device=device, dtype=dtype, threads=threads),
            "speaking": given(talkative=talkative, instruct=instruct),
            "output": given(events=out, vtt=vtt, srt=srt),
            "questions": each(parse_question, ask),
        }
        replay_source(source, load_config(config, overrides), as_json=json)


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
    with clear_errors():
        from assistant.commands.watch import watch_cameras
        from assistant.config.app import load_config

        if bool(sources) == bool(config):
            raise ConfigError("watch: cameras come from the command line or from --config; give one of the two")
        named = {"camera" if len(sources or ()) == 1 else f"camera {n}": url for n, url in enumerate(sources or (), 1)}
        overrides: dict[str, Any] = {
            "model": given(name=model, device=device, dtype=dtype, threads=threads),
            "speaking": given(talkative=talkative, instruct=instruct),
            "timeline": given(folder=data, keep_clips_s=keep_clips),
            "monitor": given(port=metrics_port, host=metrics_host),
            "cameras": {name: given(url=url, fps=fps) for name, url in named.items()},
        }
        read = partial(load_config, config, overrides)
        watch_cameras(read, max_memory_gib=max_memory, as_json=json, log_level=log_level)


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
    with clear_errors():
        from assistant.commands.ask import answer_question
        from assistant.config.app import load_config

        wanted = {
            "model": given(name=model, device=device, dtype=dtype, threads=threads),
            "source": {"fps": fps, "jumps": jumps},
        }
        answer_question(question, load_config(None, wanted), image or [], video or [])


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder with stream_*.safetensors cases.")],
    json: Annotated[bool, typer.Option("--json", help="The result as one JSON object.")] = False,
) -> None:
    """Check the session code against reference cases: masks, logits and greedy continuations."""
    with clear_errors():
        from models.verify import verify_folder

        report = verify_folder(folder)
        print(as_json_line(report.as_dict()) if json else report.as_table())
        if not report.passed:
            raise typer.Exit(1)


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name to look for.")] = "embedded",
    json: Annotated[bool, typer.Option("--json", help="The findings as one JSON object.")] = False,
) -> None:
    """What this machine has, what is missing, and how to get it; exits with 1 where a recording cannot be watched."""
    with clear_errors():
        from assistant.commands.doctor import examine

        report = examine(model)
        print(as_json_line(report.as_dict()) if json else report.as_text())
        if not report.ok:
            raise typer.Exit(1)


@app.command()
def password(
    name: Annotated[str, typer.Argument(help="Who is to log in.")],
) -> None:
    """Ask for a password and print the line of --auth-file for it: python app.py password NAME >> users"""
    with clear_errors():
        from assistant.viewers.passwords import make_line

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
    footage: Annotated[
        Path | None, typer.Option(help="Score the words said of this folder's clips by the facts in its events.json.")
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
    with clear_errors():
        if footage is not None and (clips is not None or task is not None):
            raise ConfigError("--footage: it is scored alone; leave out --clips and --task, or run twice")
        if (task is None) != (data is None):
            raise ConfigError("--task and --data: a benchmark and its data set's folder belong together; give both")
        from assistant.evaluation.benchmarks.run import run_task, task_named
        from assistant.evaluation.report import (
            ScenePlan,
            chosen_sections,
            chosen_seeds,
            run_clips,
            run_footage,
            run_scenes,
            scene_settings,
        )
        from models.checkpoint.loader import load_checkpoint
        from models.engine import Engine

        settings = scene_settings(families, noise, seconds)
        scenes = ScenePlan(chosen_seeds(seeds), settings, chosen_sections(what), quiet_hours, talkative, plot)
        if task is not None:
            task_named(task)
        engine = Engine(load_checkpoint(model, progress=is_terminal()))
        if task is not None and data is not None:
            values, table = run_task(engine, task, data, limit=limit, progress=is_terminal())
        elif footage is not None:
            values, table = run_footage(engine, footage, talkative, progress=is_terminal())
        elif clips is not None:
            values, table = run_clips(engine, clips, talkative, chosen_seeds(planted, "--planted") if planted else ())
        else:
            values, table = run_scenes(engine, scenes, progress=is_terminal())
        print(as_json_line(values) if json else table)


@app.command()
def calibrate(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder; its stream_config.json is written anew.")],
    seeds: Annotated[str, typer.Option(help="Scenes to watch, as A-B; none that are evaluated.")] = "2000000-2000039",
    seconds: Annotated[float, typer.Option(help="Length of a scene.")] = 40.0,
) -> None:
    """Calibrate when a checkpoint speaks, on rendered scenes, and show how well the odds hold."""
    with clear_errors():
        from assistant.evaluation.calibration import NotTrained, reliability_as_table, write_calibration, write_refusal
        from assistant.evaluation.calibration import calibrate as run_calibration
        from assistant.evaluation.report import chosen_seeds, scene_settings
        from models.checkpoint.loader import load_checkpoint
        from models.engine import Engine

        settings = scene_settings("shapes,motion,light,view", None, seconds)
        engine = Engine(load_checkpoint(folder, progress=is_terminal()))
        try:
            platt, curve, reason = run_calibration(engine, chosen_seeds(seeds), settings)
        except NotTrained as error:
            write_refusal(engine.checkpoint.folder, str(error))
            raise
        write_calibration(engine.checkpoint.folder, platt, reason)
        print(f"trained: {reason}")
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
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, or auto.")] = "cpu",
    bf16: Annotated[bool, typer.Option("--bf16", help="Products in bfloat16, where the machine is faster so.")] = False,
    footage: Annotated[
        Path | None, typer.Option(help="Folder of labelled photographs and cut-outs, for stages that name real things.")
    ] = None,
    finetune: Annotated[
        Path | None, typer.Option(help="Fine-tune by LoRA on this folder's clips and their transcripts instead.")
    ] = None,
    model: Annotated[str, typer.Option(help="With --finetune: the checkpoint to start from.")] = "embedded",
) -> None:
    """Train a small checkpoint on rendered scenes, stage by stage."""
    with clear_errors():
        if finetune is not None:
            from assistant.commands.finetune import fine_tune_on

            print(f"checkpoint: {fine_tune_on(folder, finetune, model, plan, minutes, threads)}")
            return
        from models.training.train import PLAN_PATH
        from models.training.train import train as run_training

        made = run_training(
            folder,
            plan or PLAN_PATH,
            footage=footage,
            minutes=minutes,
            threads=threads,
            workers=workers,
            device=device,
            bf16=bf16,
            progress=is_terminal(),
        )
        print(f"checkpoint: {made}")


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; gives the exit code. Mistakes in its form are one line too."""
    from typer.exceptions import TyperException

    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        from streaming.redact import redact_text

        message = named_value(error, sys.argv[1:] if arguments is None else arguments)
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
