"""`watch` as it runs for days: a process with cameras that come and go, told by signals what to do."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

import app
from assistant.commands.terminal import BAD_INPUT
from models.checkpoint.fake import make_checkpoint
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.eviction import WindowSettings

ROOT = Path(__file__).parent.parent.parent
SECRET = "p@s:s/w#r?d%20."
STOP_S = 10.0


def watching(folder: Path, *options: str) -> subprocess.Popen[str]:
    arguments = ["watch", "--config", str(folder / "cameras.yaml"), "--data", str(folder / "data"), *options]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "app.py", *arguments],
            cwd=ROOT,
            stdout=out,
            stderr=err,
            env={**os.environ, "YARD_PASSWORD": SECRET, "HF_HUB_OFFLINE": "1"},
            text=True,
        )


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[str], folder: Path, limit_s: float = 240.0) -> None:
    ends_s = time.monotonic() + limit_s
    while not reached():
        assert process.poll() is None and time.monotonic() < ends_s, (folder / "err").read_text()[-4000:]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    stream = StreamSettings(
        max_cells=16,
        window=WindowSettings(vision_low=1200, vision_high=1500, text_low=300, text_high=400),
        speaking=SpeakingSettings(max_comment_tokens=4, max_answer_tokens=4),
    )
    return str(make_checkpoint(tmp_path_factory.mktemp("watch") / "fake", stream=stream))


@pytest.mark.slow
def test_cameras_are_watched_reloaded_and_ended_by_signals(tmp_path: Path, checkpoint: str) -> None:
    away = "yard: {url: 'rtsp://127.0.0.1:9/live', user: me, password_env: YARD_PASSWORD}"
    config = tmp_path / "cameras.yaml"
    config.write_text(f"cameras:\n  door: {{url: 'synthetic:3'}}\n  {away}\n")
    process = watching(tmp_path, "--model", checkpoint, "--metrics-port", "0", "--json")
    log = tmp_path / "err"
    try:
        wait_for(lambda: '"opened"' in log.read_text() and "trying again" in log.read_text(), process, tmp_path)
        (address,) = [line.split()[-1] for line in log.read_text().splitlines() if line.startswith("metrics")]
        facts = httpx.get(f"{address}/healthz", timeout=30).json()
        assert facts["cameras"]["yard"]["state"] == "reconnecting" and facts["cameras"]["door"]["health"] != "down"
        config.write_text(
            "model: {pruning: paper}\n"
            "cameras: {door: {url: 'synthetic:3', instruct: Only balls.}, gate: {url: 'synthetic:4'}}\n"
        )
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: '"instructed"' in log.read_text(), process, tmp_path)
        wait_for(lambda: log.read_text().count('"opened"') == 2, process, tmp_path)
        wait_for(lambda: "not changed: model.pruning; read only at the start" in log.read_text(), process, tmp_path)
        assert httpx.get(f"{address}/healthz", timeout=30).json()["restart_needed"] == ["model.pruning"]
        config.write_text("cameras: {door: {url: 'synthetic:3', fsp: 1}}\n")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the previous one stays in force" in log.read_text(), process, tmp_path)
        began_s = time.monotonic()
        process.terminate()
        assert process.wait(60) == 0
        assert time.monotonic() - began_s < STOP_S
    finally:
        process.kill()
        process.wait()
    events = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert {event["source"] for event in events} == {"door", "yard", "gate"}
    ends = [event["source"] for event in events if event.get("kind") == "ended"]
    assert sorted(ends) == ["door", "gate", "yard"]
    with closing(sqlite3.connect(tmp_path / "data" / "timeline.sqlite3")) as database:
        (count,) = database.execute("SELECT count(*) FROM events").fetchone()
    assert count >= len(events)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert any(line["event"] == "the configuration was reloaded" and line["added"] == ["gate"] for line in lines)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept and b"p%40s" not in kept


def test_a_login_that_is_nowhere_and_cameras_that_are_none_are_one_line(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text("cameras: {door: {url: 'rtsp://10.0.0.5/live', user: me, password_env: NOT_THERE}}\n")
    assert app.run(["watch", "--config", str(config), "--data", str(tmp_path / "data")]) == BAD_INPUT
    assert "NOT_THERE: the environment variable is not set" in capsysbinary.readouterr().err.decode()
    config.write_text("model: {name: embedded}\n")
    for arguments in (["watch", "--config", str(config)], ["watch"], ["watch", "rtsp://a/b", "--config", str(config)]):
        assert app.run(arguments) == BAD_INPUT
        error = capsysbinary.readouterr().err.decode()
        assert error.startswith("error: ") and error.count("\n") == 1
