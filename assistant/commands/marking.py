"""The parts of the `alerts` command about marks: right or wrong, muted rules, ratings, transcripts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.commands.setup import timeline_folder
from assistant.commands.terminal import as_json_line, clear_errors

if TYPE_CHECKING:
    from assistant.timeline.marks import AlertMarks, RuleRating

DATA = typer.Option(help="Folder of the timeline; by default that of the configuration, or in the user's state folder.")
CONFIG = typer.Option(help="The YAML file with targets, rules and the folder of the timeline.")
NO_VERDICT = "none"


def alerts_mark(
    alert: Annotated[int, typer.Argument(help="Number of the alert, as `timeline search --type alert` shows it.")],
    verdict: Annotated[str, typer.Argument(help="right, wrong, or none to take the mark back.")],
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Say whether an alert was right or wrong."""
    with clear_errors(), _marks(config, data) as marks:
        marks.mark(alert, None if verdict == NO_VERDICT else verdict, _wall_s())
        print(f"alert {alert} has no mark now" if verdict == NO_VERDICT else f"alert {alert} is marked {verdict}")


def alerts_mute(
    rule: Annotated[str, typer.Argument(help="Name of the rule.")],
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Mute a rule until it is unmuted: it is watched, but raises no alert. A program that watches obeys in seconds."""
    _mute(rule, config, data, is_muted=True)


def alerts_unmute(
    rule: Annotated[str, typer.Argument(help="Name of the rule.")],
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Let a rule raise alerts again, also one that the configuration mutes."""
    _mute(rule, config, data, is_muted=False)


def alerts_ratings(
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List the rules with the number of their alerts, and how many of those were marked right and wrong."""
    with clear_errors():
        with _marks(config, data) as marks:
            ratings = marks.ratings()
        for line in [as_json_line(rating.as_dict()) for rating in ratings] if json else rating_lines(ratings):
            print(line)
        if not ratings:
            print("no rule has raised an alert so far", file=sys.stderr)


def alerts_transcripts(
    out: Annotated[Path, typer.Argument(help="Folder to write to; it is created.")],
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Write the clips of marked alerts with transcripts beside them, which `train --finetune` reads."""
    with clear_errors():
        from assistant.timeline.marked_export import export_marked
        from assistant.timeline.search import TimelineReader

        with _marks(config, data) as marks, TimelineReader(timeline_folder(config, data)) as reader:
            done = export_marked(reader, marks, out)
        for line in done.left_out:
            print(f"left out: {line}", file=sys.stderr)
        print(f"{done.num_alerts} marked alerts in {len(done.transcripts)} transcripts in {out}")


def rating_lines(ratings: list[RuleRating]) -> list[str]:
    """The table of rules as lines, with its heading; nothing for no rules."""
    from assistant.timeline.shown import shown_moment, shown_text

    if not ratings:
        return []
    width = max(4, *(len(shown_text(rating.rule)) for rating in ratings))
    lines = [f"{'rule':{width}}  alerts  right  wrong  share right  last alert"]
    for rating in ratings:
        share = "-" if rating.share_right is None else f"{rating.share_right:.0%}"
        latest = "-" if rating.latest_s is None else shown_moment(rating.latest_s, _wall_s())
        muted = {True: ", muted", False: ", unmuted", None: ""}[rating.is_muted]
        counts = f"{rating.num_alerts:6}  {rating.num_right:5}  {rating.num_wrong:5}  {share:>11}"
        lines.append(f"{shown_text(rating.rule):{width}}  {counts}  {latest}{muted}")
    return lines


def _mute(rule: str, config: Path | None, data: Path | None, *, is_muted: bool) -> None:
    with clear_errors():
        _check_known(rule, config)
        with _marks(config, data) as marks:
            marks.mute(rule, is_muted=is_muted, now_s=_wall_s())
        print(f"rule {rule} is {'muted' if is_muted else 'no longer muted'}")


def _check_known(rule: str, config: Path | None) -> None:
    """Raise `ConfigError` for a rule that a given configuration does not have."""
    from assistant.config.app import load_config
    from assistant.errors import ConfigError

    rules = load_config(config).rules if config is not None else {rule: None}
    if rule not in rules:
        raise ConfigError(f"rule {rule!r}: no rule has this name; choose among {', '.join(rules) or 'none'}")


@contextmanager
def _marks(config: Path | None, data: Path | None) -> Iterator[AlertMarks]:
    from assistant.timeline.marks import AlertMarks

    with AlertMarks(timeline_folder(config, data)) as marks:
        yield marks


def _wall_s() -> float:
    from streaming.clock import SystemClock

    return SystemClock().wall_s()
