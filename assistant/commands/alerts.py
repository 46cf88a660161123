"""The `alerts` command: tests a target, shows the outbox, tries again, and takes marks. Imports only light modules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assistant.commands.marking import (
    CONFIG,
    DATA,
    alerts_mark,
    alerts_mute,
    alerts_ratings,
    alerts_transcripts,
    alerts_unmute,
)
from assistant.commands.setup import timeline_folder
from assistant.commands.terminal import as_json_line, clear_errors

if TYPE_CHECKING:
    from assistant.config.targets import DeliveryTarget
    from assistant.delivery.outbox import Outbox, OutboxEntry

alerts_app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Test where alerts are sent, see what was sent, and mark alerts.",
)
alerts_app.command("mark")(alerts_mark)
alerts_app.command("mute")(alerts_mute)
alerts_app.command("unmute")(alerts_unmute)
alerts_app.command("ratings")(alerts_ratings)
alerts_app.command("transcripts")(alerts_transcripts)

TARGET = typer.Option(help="Only messages to this target.")
NOT_DELIVERED = 1


@alerts_app.command("test")
def alerts_test(
    target: Annotated[str, typer.Argument(help="Name of the target, as in the configuration.")],
    config: Annotated[Path, CONFIG],
) -> None:
    """Send a test alert to a target now, and print what the receiver said; exit with 1 if it was not taken."""
    with clear_errors():
        from assistant.config.app import load_config
        from assistant.errors import ConfigError

        targets = load_config(config).targets
        if target not in targets:
            known = ", ".join(targets) or "none; the configuration has no section `targets`"
            raise ConfigError(f"target {target!r}: no target has this name; choose among {known}")
        said, was_taken = send_test(target, targets[target])
        print(f"{target}: {'delivered' if was_taken else 'not delivered'}: {said}", flush=True)
        if not was_taken:
            raise typer.Exit(NOT_DELIVERED)


@alerts_app.command("outbox")
def alerts_outbox(
    state: Annotated[str | None, typer.Option(help="Only messages in this state: waiting, sent or failed.")] = None,
    target: Annotated[str | None, TARGET] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most messages to print; the latest are kept.")] = 50,
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """List what waits to be sent, was sent or failed, with the receiver's words; the latest are printed last."""
    with clear_errors():
        from assistant.delivery.outbox import STATES
        from assistant.errors import ConfigError
        from streaming.clock import SystemClock

        if state is not None and state not in STATES:
            raise ConfigError(f"--state {state!r}: it must be one of {', '.join(STATES)}; correct it or leave it out")
        with _outbox(config, data) as outbox:
            entries, counts = outbox.entries(state=state, target=target, limit=limit), outbox.counts()
        now_s = SystemClock().wall_s()
        for entry in reversed(entries):
            print(as_json_line(entry.as_dict()) if json else shown_entry(entry, now_s))
        for name, numbers in counts.items():
            print(f"{name}: {', '.join(f'{number} {state}' for state, number in numbers.items())}", file=sys.stderr)
        if not counts:
            print("nothing was to be sent so far", file=sys.stderr)


@alerts_app.command("retry")
def alerts_retry(
    target: Annotated[str | None, TARGET] = None,
    config: Annotated[Path | None, CONFIG] = None,
    data: Annotated[Path | None, DATA] = None,
) -> None:
    """Make failed and waiting messages due now; the program that watches sends them, within seconds if it runs."""
    with clear_errors():
        from streaming.clock import SystemClock

        with _outbox(config, data) as outbox:
            number = outbox.retry(target, SystemClock().wall_s())
        print(f"{number} messages are due now")


def send_test(name: str, config: DeliveryTarget) -> tuple[str, bool]:
    """Send a test alert without an outbox; return what the receiver said, and whether it took it."""
    from dataclasses import replace

    from assistant.delivery.delivery import sample_message
    from assistant.delivery.errors import DeliveryRefused, NotDelivered
    from assistant.delivery.kinds import make_sender
    from assistant.delivery.senders import MessageFiles, sample_attachment
    from streaming.clock import SystemClock

    sender = make_sender(name, config, lambda rule, is_muted: None, is_for_test=True)
    message = sample_message(SystemClock().wall_s()).for_target(name)
    has_picture = getattr(config, "attach", "nothing") != "nothing"
    files = MessageFiles((sample_attachment(),)) if has_picture else MessageFiles()
    try:
        said = sender.send(message, files)
        if config.keeps_state:
            sender.send(replace(message, phase="ended", ended_s=0.0), files)
    except (NotDelivered, DeliveryRefused) as error:
        return str(error), False
    finally:
        sender.close()
    return said, True


def shown_entry(entry: OutboxEntry, now_s: float) -> str:
    """A message of the outbox on one line."""
    from assistant.timeline.shown import shown_moment, shown_text

    tries = f"{entry.attempts} {'try' if entry.attempts == 1 else 'tries'}"
    when = f", next {shown_moment(entry.next_try_s, now_s)}" if entry.state == "waiting" else ""
    head = f"{shown_moment(entry.created_s, now_s)}  #{entry.id:<5} {entry.state:7} {entry.target}"
    return shown_text(f"{head}  {entry.rule} {entry.phase}  ({tries}{when}) {entry.said}".rstrip())


def _outbox(config: Path | None, data: Path | None) -> Outbox:
    """The outbox of a timeline that exists. Raises `StoreError` if there is none."""
    from assistant.delivery.outbox import Outbox

    return Outbox(timeline_folder(config, data))
