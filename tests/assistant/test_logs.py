"""Logs: one object a line, ours and the libraries', with no credential in it."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from assistant.commands.excepthook import hide_credentials
from assistant.commands.logs import Secrets, configure_logs

PASSWORDS = ["p@ss", "p:ss", "pa/ss", "pa#ss", "pa%ss", "pa.ss", "p@:/#%.ss?"]


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_password_is_in_a_log_line(lines: io.StringIO, password: str) -> None:
    secrets = Secrets()
    secrets.add([password, None])
    configure_logs(lines, secrets)
    log = logging.getLogger("av.rtsp")
    url = f"rtsp://me:{password}@10.0.0.5/live"
    log.warning("could not open %s", url)
    log.warning("refused", extra={"details": {"url": url, "tried": [password]}})
    try:
        raise OSError(f"{url}: bad password {password}")
    except OSError:
        log.exception("it failed")
    entries = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert password not in lines.getvalue() and len(entries) == 3
    assert entries[0]["level"] == "warning" and "10.0.0.5" in entries[0]["event"]
    assert "OSError" in entries[2]["exception"] and "timestamp" in entries[2]


def test_what_is_not_known_as_a_password_is_hidden_in_urls_too(lines: io.StringIO) -> None:
    configure_logs(lines, Secrets())
    logging.getLogger("x").error("lost rtsp://me:unknown-one@cam/live")
    assert "unknown-one" not in lines.getvalue() and "cam/live" in lines.getvalue()


def test_levels_and_figures_stay(lines: io.StringIO) -> None:
    configure_logs(lines, Secrets(), level="warning")
    logging.getLogger("x").info("no")
    logging.getLogger("x").warning("yes", extra={"score": 0.5, "count": 3})
    (entry,) = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert (entry["event"], entry["score"], entry["count"]) == ("yes", 0.5, 3)


def test_no_password_is_in_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    hide_credentials()

    def fail() -> None:
        raise OSError("could not open rtsp://me:p@:/#%.ss?@10.0.0.5/live")

    thread = threading.Thread(target=fail, name="capture:rtsp://me:p@ss@10.0.0.5/live")
    thread.start()
    thread.join()
    with pytest.raises(OSError) as caught:
        fail()
    sys.excepthook(caught.type, caught.value, caught.tb)
    said = capsys.readouterr().err
    assert said.count("\nOSError: could not open rtsp://***@10.0.0.5/live\n") == 2
    assert "p@" not in said and "capture:rtsp://***@10.0.0.5/live:" in said
