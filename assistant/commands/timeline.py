"""The `timeline` command: searches, exports and sums up stored events. Heavy modules are imported when used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.commands.terminal import as_json_line, clear_errors, is_terminal

if TYPE_CHECKING:
    from assistant.timeline.search import Query, TimelineReader

timeline_app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, help="Search, export and sum up the stored events."
)

DATA = typer.Option(help="Folder of the timeline; by default in the user's state folder.")
SINCE = typer.Option(help="Only events since this time: 2h, 30m, 1d (ago), 10:15, 2026-11-22, 2026-11-22T10:00.")
UNTIL = typer.Option(help="Only events until this time, written as for --since.")
CAMERA = typer.Option(help="Only events of this camera; repeatable.")
TYPE = typer.Option(
    help="Only events of this type: comment, answer, alert, status, or a kind of status such as gap; repeatable."
)


@timeline_app.command("search")
def timeline_search(
    text: Annotated[
        str, typer.Argument(help='Words that an event must contain; "a phrase" in quotes, prefix* with a star.')
    ] = "",
    since: Annotated[str | None, SINCE] = None,
    until: Annotated[str | None, UNTIL] = None,
    camera: Annotated[list[str] | None, CAMERA] = None,
    type: Annotated[list[str] | None, TYPE] = None,
    limit: Annotated[int, typer.Option(help="Most events to print; the latest are kept.")] = 50,
    data: Annotated[Path | None, DATA] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Find events by words, time, camera and type; the latest are printed last."""
    with clear_errors():
        from assistant.timeline.shown import shown_line

        query = _timeline_query(text, since, until, camera, type, limit=limit)
        with _timeline_reader(data) as reader:
            found = reader.search(query)[::-1]
        width = max((len(event.camera) for event in found), default=0)
        for event in found:
            print(as_json_line(event.as_dict()) if json else shown_line(event, _wall_s(), width=width))
        if not found and not json:
            print("nothing found", file=sys.stderr)


@timeline_app.command("export")
def timeline_export(
    text: Annotated[str, typer.Argument(help="Words that an event must contain, as for search.")] = "",
    format: Annotated[
        str, typer.Option(help="Output format: jsonl, srt, vtt or md (Markdown with thumbnails).")
    ] = "jsonl",
    since: Annotated[str | None, SINCE] = None,
    until: Annotated[str | None, UNTIL] = None,
    camera: Annotated[list[str] | None, CAMERA] = None,
    type: Annotated[list[str] | None, TYPE] = None,
    clip: Annotated[int | None, typer.Option(help="Write the clip of the event with this number instead.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Seconds of the clip before and after the event; the whole clip by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output by default.")] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Write events as JSON lines, subtitles or Markdown, oldest first, or the clip of one event."""
    with clear_errors():
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
    prose: Annotated[
        bool,
        typer.Option(
            "--prose", help="Also retell the counts in sentences, with a checkpoint whose card declares that it can."
        ),
    ] = False,
    model: Annotated[str, typer.Option(help="Checkpoint folder or hub name, for --prose.")] = "embedded",
    data: Annotated[Path | None, DATA] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count events by camera and kind."""
    with clear_errors():
        from assistant.timeline.recap import recap

        query = _timeline_query("", since, until, camera, None)
        with _timeline_reader(data) as reader:
            made = recap(reader, query, _wall_s())
        print(as_json_line(made.as_dict()) if json else "\n".join(made.lines()), flush=True)
        if prose:
            _recap_prose(made.lines(), model)


def _recap_prose(lines: list[str], model: str) -> None:
    """Print the model's retelling of a recap, under a heading that names the model."""
    from assistant.timeline.prose import check_prose, prose_question
    from models.checkpoint.loader import describe_checkpoint, load_checkpoint

    summary = describe_checkpoint(model)
    check_prose(model, summary.folder)
    from models.engine import Engine

    engine = Engine(load_checkpoint(model, progress=is_terminal()))
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
    from assistant.timeline.folder import TimelineFolder, default_folder
    from assistant.timeline.search import TimelineReader

    return TimelineReader(TimelineFolder(data or default_folder()))


def _wall_s() -> float:
    from streaming.clock import SystemClock

    return SystemClock().wall_s()
