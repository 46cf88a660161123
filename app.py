"""The command line: each command's options. Each command's code is a module, imported only when the command runs."""

from __future__ import annotations

import gc
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from assistant.commands.alerts import alerts_app
from assistant.commands.excepthook import hide_credentials
from assistant.commands.model_commands import bench, calibrate, evaluate, train, verify
from assistant.commands.model_options import DEVICE, DTYPE, JUMPS, THREADS
from assistant.commands.rehearse import rehearse
from assistant.commands.terminal import (
    BAD_INPUT,
    INTERRUPTED,
    as_json_line,
    clear_errors,
    options_given,
    parse_each,
    usage_error_message,
)
from assistant.commands.timeline import timeline_app
from assistant.commands.voice_options import (
    AudioDevice,
    ListAudioDevices,
    Listen,
    Microphone,
    PushToTalk,
    Speak,
    SpeechRate,
    Voice,
    Volume,
    listen_overrides,
    voice_overrides,
)
from assistant.errors import ConfigError
from assistant.program import called_as

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.add_typer(timeline_app, name="timeline")
app.add_typer(alerts_app, name="alerts")
for command in (rehearse, evaluate, calibrate, verify, bench, train):
    app.command()(command)


@app.callback(invoke_without_command=True)
def main(context: typer.Context, list_audio_devices: ListAudioDevices = False) -> None:
    """A streaming video assistant on VideoLLaMA 3: it watches, speaks when something is worth saying, and answers."""
    if context.invoked_subcommand is None:
        context.invoke(ui)


@app.command()
def ui(
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 for any free port.")] = 7860,
    browser: Annotated[bool, typer.Option(help="Open a browser window if there is a screen.")] = True,
    auth_file: Annotated[
        Path | None, typer.Option(help="File of users who may log in; `password` writes its lines.")
    ] = None,
    open_to_all: Annotated[
        bool, typer.Option("--i-know-this-is-open", help="Let other machines connect without a login.")
    ] = False,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Certificate file, for https.")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Private key of the certificate.")] = None,
    ssl_self_signed: Annotated[
        bool, typer.Option("--ssl-self-signed", help="Make a self-signed certificate, and show a QR code for phones.")
    ] = False,
    public_url: Annotated[
        str | None, typer.Option(help="Address of the app behind a reverse proxy: https://camera.example.org")
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(min=1, help="Most viewers who may watch at once.")] = None,
    max_memory: Annotated[float | None, typer.Option(help="Most memory of all streams together, GiB.")] = None,
    endpoint: Annotated[
        bool, typer.Option("--endpoint", help="Serve an OpenAI-style endpoint, too: /v1/chat/completions.")
    ] = False,
    endpoint_keys: Annotated[
        Path | None, typer.Option(help="File of the endpoint's keys; `key` makes its lines.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file: model, speaking, page, cameras.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the cameras' timeline (stored events).")] = None,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
) -> None:
    """Serve the browser app: watch samples, a webcam, cameras or files, and ask. No command at all does the same."""
    with clear_errors():
        from ui.launch import Serving

        overrides: dict[str, Any] = {
            "model": options_given(name=model, device=device, dtype=dtype),
            "page": options_given(max_sessions=max_sessions),
            "endpoint": options_given(enabled=endpoint or None, keys_file=endpoint_keys),
            "timeline": options_given(folder=data),
        }
        serving = Serving(host, port, auth_file, open_to_all, ssl_certfile, ssl_keyfile, ssl_self_signed, public_url)
        serving.check()
        from ui.serve import serve_page  # imported late: a refused address needs no wait for Gradio

        serve_page(config, overrides, serving, max_memory_gib=max_memory, browser=browser)


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(help="A file, an rtsp:// or http(s):// URL, webcam:0, synthetic:1, sample:world.")
    ],
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second given to the model; 2 by default.")] = None,
    speed: Annotated[
        str | None, typer.Option(help="Playing speed of a recording: 1 is real time, max as fast as the model can.")
    ] = None,
    start: Annotated[float | None, typer.Option(help="Start at this time of the recording, seconds.")] = None,
    end: Annotated[float | None, typer.Option(help="Stop at this time of the recording, seconds.")] = None,
    loop: Annotated[int | None, typer.Option(help="Number of times to play a recording.")] = None,
    jumps: Annotated[str | None, JUMPS] = None,
    open_timeout: Annotated[
        float | None, typer.Option(help="Most seconds to wait for a URL to open; 5 by default.")
    ] = None,
    read_timeout: Annotated[float | None, typer.Option(help="Most seconds to wait for data; 3 by default.")] = None,
    picture_timeout: Annotated[
        float | None,
        typer.Option(help="Most seconds to wait for a picture, for example for the first key frame; 30 by default."),
    ] = None,
    instruct: Annotated[str | None, typer.Option(help='A standing instruction: "Tell me only when …".')] = None,
    ask: Annotated[
        list[str] | None, typer.Option(help="SECONDS:QUESTION, asked at that time of the recording; repeatable.")
    ] = None,
    talkative: Annotated[
        float | None,
        typer.Option(help="How readily the assistant speaks: above 0 more often, below 0 less often; 0 by default."),
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option(help="Hide a rectangle: x,y,width,height as fractions of the picture.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file; options of the command line override it.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write events to this file, one JSON object per line.")] = None,
    vtt: Annotated[Path | None, typer.Option(help="Write comments and answers as WebVTT subtitles.")] = None,
    srt: Annotated[Path | None, typer.Option(help="Write comments and answers as SubRip subtitles.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print events to standard output, one JSON object per line.")
    ] = False,
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    threads: Annotated[int | None, THREADS] = None,
    voice: Voice = False,
    speak: Speak = None,
    speech_rate: SpeechRate = None,
    volume: Volume = None,
    audio_device: AudioDevice = None,
    listen: Listen = False,
    push_to_talk: PushToTalk = False,
    microphone: Microphone = None,
) -> None:
    """Watch a recording or a camera: print comments as they happen, answers to questions, and a summary at the end."""
    with clear_errors():
        from assistant.commands.replay import replay_source
        from assistant.config.app import load_config, parse_mask, parse_question

        overrides: dict[str, Any] = {
            "source": options_given(
                fps=fps,
                speed=speed,
                start_s=start,
                end_s=end,
                loop=loop,
                jumps=jumps,
                masks=parse_each(parse_mask, mask),
                open_timeout_s=open_timeout,
                read_timeout_s=read_timeout,
                picture_timeout_s=picture_timeout,
            ),
            "model": options_given(name=model, device=device, dtype=dtype, threads=threads),
            "speaking": options_given(talkative=talkative, instruct=instruct),
            "voice": voice_overrides(voice, speak, speech_rate, volume, audio_device)
            | listen_overrides(listen, push_to_talk, microphone),
            "output": options_given(events=out, vtt=vtt, srt=srt),
            "questions": parse_each(parse_question, ask),
        }
        replay_source(source, load_config(config, overrides), as_json=json)


@app.command()
def watch(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Cameras to watch: rtsp:// or http(s):// URLs, webcam:0; or name them in --config."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file: model, cameras, timeline and more.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the timeline (stored events); by default in the user's state folder.")
    ] = None,
    keep_clips: Annotated[
        float | None,
        typer.Option(
            help="Record a clip from this many seconds before each event to as many after it; off by default."
        ),
    ] = None,
    max_memory: Annotated[float | None, typer.Option(help="Most memory of all cameras together, GiB.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve /metrics and /healthz here; 0 for any free port.")
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Address of /metrics and /healthz; by default only this machine can reach them.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Checkpoint folder or hub name; `embedded` by default.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second given to the model, for cameras named on the command line.")
    ] = None,
    instruct: Annotated[
        str | None, typer.Option(help="A standing instruction for every camera that has none of its own.")
    ] = None,
    talkative: Annotated[
        float | None,
        typer.Option(help="How readily the assistant speaks: above 0 more often, below 0 less often; 0 by default."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print events to standard output, one JSON object per line.")
    ] = False,
    log_level: Annotated[
        str, typer.Option(help="Least level that is logged to standard error: debug, info, warning or error.")
    ] = "info",
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    threads: Annotated[int | None, THREADS] = None,
    voice: Voice = False,
    speak: Speak = None,
    speech_rate: SpeechRate = None,
    volume: Volume = None,
    audio_device: AudioDevice = None,
    listen: Listen = False,
    push_to_talk: PushToTalk = False,
    microphone: Microphone = None,
) -> None:
    """Watch cameras for days without a browser: print remarks as they happen and store every event in a timeline."""
    with clear_errors():
        from assistant.commands.watch import watch_cameras
        from assistant.config.app import load_config

        if bool(sources) == bool(config):
            raise ConfigError("watch: cameras come from the command line or from --config; give one of the two")
        named = {"camera" if len(sources or ()) == 1 else f"camera {n}": url for n, url in enumerate(sources or (), 1)}
        overrides: dict[str, Any] = {
            "model": options_given(name=model, device=device, dtype=dtype, threads=threads),
            "speaking": options_given(talkative=talkative, instruct=instruct),
            "voice": voice_overrides(voice, speak, speech_rate, volume, audio_device)
            | listen_overrides(listen, push_to_talk, microphone),
            "timeline": options_given(folder=data, keep_clips_s=keep_clips),
            "monitor": options_given(port=metrics_port, host=metrics_host),
            "cameras": {name: options_given(url=url, fps=fps) for name, url in named.items()},
        }
        read = partial(load_config, config, overrides)
        watch_cameras(read, max_memory_gib=max_memory, as_json=json, log_level=log_level)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    image: Annotated[list[Path] | None, typer.Option(help="A picture to ask about; repeatable.")] = None,
    video: Annotated[list[str] | None, typer.Option(help="A clip to ask about; repeatable.")] = None,
    fps: Annotated[float, typer.Option(help="Frames per second read from a clip.")] = 1.0,
    jumps: Annotated[str, JUMPS] = "refuse",
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name.")] = "embedded",
    device: Annotated[str | None, DEVICE] = None,
    dtype: Annotated[str | None, DTYPE] = None,
    threads: Annotated[int | None, THREADS] = None,
) -> None:
    """Ask one question about pictures, clips or both; the answer is printed word by word."""
    with clear_errors():
        from assistant.commands.ask import answer_question
        from assistant.config.app import load_config

        wanted = {
            "model": options_given(name=model, device=device, dtype=dtype, threads=threads),
            "source": {"fps": fps, "jumps": jumps},
        }
        answer_question(question, load_config(None, wanted), image or [], video or [])


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name to look for.")] = "embedded",
    json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Report what this machine has, what is missing and how to get it; exit with 1 if no recording can be watched."""
    with clear_errors():
        from assistant.commands.doctor import examine

        report = examine(model)
        print(as_json_line(report.as_dict()) if json else report.as_text())
        if not report.ok:
            raise typer.Exit(1)


@app.command()
def password(
    name: Annotated[str, typer.Argument(help="Name of the user who logs in.")],
) -> None:
    """Ask for a password and print the user's line for --auth-file: append it with `password NAME >> users`."""
    with clear_errors():
        from assistant.viewers.passwords import make_line

        print(make_line(name, typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)))


@app.command()
def key(
    name: Annotated[str, typer.Argument(help="Name of the client that the key is for.")],
) -> None:
    """Make a key for the endpoint, and print its line for --endpoint-keys: append it with `key NAME >> keys`."""
    with clear_errors():
        from assistant.chat.keys import make_key

        made, line = make_key(name)
        print(f"the key, shown this once: {made}", file=sys.stderr)
        print(line)


def run(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code. A command line that cannot be parsed prints one line, too."""
    from typer.exceptions import TyperException

    try:
        code = app(arguments, standalone_mode=False)
    except TyperException as error:
        from streaming.redact import redact_text

        message = usage_error_message(error, sys.argv[1:] if arguments is None else arguments)
        print(f"error: {redact_text(message)}; see {called_as()} --help", file=sys.stderr)
        return BAD_INPUT
    except typer.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def command_line() -> NoReturn:
    """Run the command line of this process and end it. `video-assistant` starts here, as `python app.py` does."""
    hide_credentials()
    code = run()
    # Skip the last garbage collection: it visits every object that torch loaded, seconds on a busy machine.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    command_line()
