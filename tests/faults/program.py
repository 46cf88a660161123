"""Faults of the whole program in its own process: kills, signals, and passwords that are hard to redact."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from streaming.redact import with_userinfo
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, hold, wait_until
from tests.streaming.rtsp import RtspServer

ROOT = Path(__file__).parent.parent.parent
START_S = 120.0
"""Most seconds to import everything and load the model on a busy machine."""
PASSWORDS = ("p@ss:w/ord#1%.", "a@:/#%.b?c&d", "%41/../#@host:554", "plainbutsecret7")
_LOUD = (
    "import logging, sys, av\n"
    "av.logging.set_level(av.logging.DEBUG)\n"
    "logging.getLogger('libav').setLevel(1)\n"
    "import gc, app\n"
    "app.hide_credentials()\n"
    "code = app.run(sys.argv[1:])\ngc.freeze()\nsys.exit(code)\n"
)
"""Runs the program with all log messages of FFmpeg."""


class Program:
    """`app.py` in its own process, with its output in files."""

    def __init__(self, folder: Path, *arguments: str, loud: bool = False, env: dict[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        start = ["-c", _LOUD] if loud else [str(ROOT / "app.py")]
        environment = {**os.environ, **(env or {})}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *start, *arguments], stdout=out, stderr=err, cwd=ROOT, env=environment
            )

    @property
    def out(self) -> str:
        """Everything on standard output."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """Everything on standard error."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """The complete events on standard output."""
        return [json.loads(line) for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, kind: str, within_s: float = START_S, times: int = 1) -> float:
        """Wait until a number of status events of a kind were printed."""

        def is_there() -> bool:
            hold(self.process.poll() is None, f"it ended by itself: {self.err[-2000:]}")
            return sum(event.get("kind") == kind for event in self.events()) >= times

        return wait_until(is_there, within_s, f"{kind} is printed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()


def _stored(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "app.py", "timeline", "export", "--format", "jsonl", "--data", str(folder)],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@FAULTS.add("""each event that was printed is in the timeline, which opens as if nothing had happened; the cameras are
    watched again by the next start""")
def watch_killed(lab: Lab) -> Measured:
    """`watch` is killed (SIGKILL) twice while it works."""
    server, data = lab.camera(), lab.folder / "data"
    num_printed = 0
    for attempt in range(2):
        with Program(lab.folder / str(attempt), "watch", server.url(), "--json", "--data", str(data)) as program:
            program.wait_for("opened")
            server.kill()
            program.wait_for("reconnecting", 10.0)
            server.start()
            program.wait_for("gap", 20.0)
            time.sleep(1.0 + attempt)
            program.process.send_signal(signal.SIGKILL)
            program.process.wait()
            printed = program.events()
        stored = {(event["type"], event["text"], event["time_s"]) for event in _stored(data)}
        missing = [event for event in printed if (event["type"], event["text"], event["time_s"]) not in stored]
        hold(not missing, f"{len(missing)} printed events are not in the timeline, as {missing[:2]}")
        num_printed += len(printed)
    return {"kills": 2, "events_printed": num_printed, "missing": 0}


@FAULTS.add("it ends within ten seconds with 0, and the timeline has its last event; a hung camera does not hold it up")
def watch_terminated(lab: Lab) -> Measured:
    """SIGTERM while one of two cameras hangs."""
    door, yard, data = lab.camera(), lab.camera(), lab.folder / "data"
    with Program(lab.folder, "watch", door.url(), yard.url(), "--json", "--data", str(data)) as program:
        program.wait_for("opened", times=2)
        yard.freeze()
        program.wait_for("reconnecting", 10.0)
        began_s = time.monotonic()
        program.process.terminate()
        wait_until(lambda: program.process.poll() is not None, 10.0, "it ends")
        took_s = time.monotonic() - began_s
        hold(program.process.returncode == 0, f"it ended with {program.process.returncode}: {program.err[-500:]}")
        printed = program.events()
    hold("Traceback" not in program.err, program.err[-2000:])
    ended = [event for event in _stored(data) if event.get("kind") == "ended"]
    hold(len(ended) == 2, f"{len(ended)} of 2 cameras have their end in the timeline")
    return {"ended_after_s": round(took_s, 2), "events": len(printed)}


def _forms(password: str) -> set[str]:
    """Forms in which a password may appear: plain, escaped once or twice, or in a request's header."""
    escaped = quote(password, safe="")
    login = base64.b64encode(f"warden:{password}".encode()).decode()
    # A part of the password must not appear either.
    pieces = {piece for piece in re.split(r"[^A-Za-z0-9]+", password) if len(piece) >= 4}
    return {password, escaped, quote(escaped, safe=""), quote(password), login, "warden", *pieces} - {"host"}


def _look_for(secrets: set[str], places: dict[str, bytes]) -> None:
    for name, data in places.items():
        found = [secret for secret in secrets if secret.encode() in data]
        hold(not found, f"{name} shows {found}")


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() + str(path).encode() for path in folder.rglob("*") if path.is_file()}


def _exports(data: Path, folder: Path) -> None:
    for form in ("jsonl", "srt", "vtt", "md"):
        subprocess.run(
            [sys.executable, "app.py", "timeline", "export", "--format", form, "--data", str(data), "--out",
             str(folder / f"export.{form}")],
            capture_output=True, cwd=ROOT, check=True,
        )  # fmt: skip


def _metrics(program: Program) -> dict[str, bytes]:
    found = re.search(r"http://127\.0\.0\.1:\d+", program.err)
    assert found is not None
    pages = {}
    for path in ("/metrics", "/healthz"):
        # An unhealthy answer has a body, too.
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(found[0] + path, timeout=10) as page:
            pages[path] = page.read()
    return pages


def _watch_with_password(lab: Lab, password: str, number: int) -> int:
    """Watch with the right login, a lost server, a wrong login and no server; return the number of bytes searched."""
    folder, data = lab.folder / str(number), lab.folder / f"data{number}"
    server = lab.enter(RtspServer("--user", "warden", "--password", password, *(["--digest"] if number % 2 else [])))
    urls = [
        with_userinfo(server.url(), "warden", password),
        f"rtsp://warden:{password}@127.0.0.1:9/live",
        f"http://warden:{password}@127.0.0.1:9/live?token=hush-{number}",
    ]
    options = ("--json", "--data", str(data), "--log-level", "debug", "--metrics-port", "0")
    with Program(folder, "watch", *urls, *options, loud=True) as program:
        program.wait_for("opened")
        program.wait_for("reconnecting", 30.0, times=2)
        server.kill()
        program.wait_for("reconnecting", 30.0, times=3)
        server.change("--user", "warden", "--password", password[::-1] + "x")
        server.start()
        wait_until(lambda: "refused this user" in program.out, 30.0, "the refused login is printed")
        pages = _metrics(program)
        program.process.terminate()
        program.process.wait(20)
        hold("libav" in program.err, "FFmpeg said nothing, so that nothing was tried")
    server.kill()
    _exports(data, folder)
    places = {**_files(folder), **_files(data), **pages}
    _look_for(_forms(password) | {f"hush-{number}"}, places)
    return sum(len(data) for data in places.values())


@FAULTS.add("""neither a password nor its user shows anywhere: standard output and error, logs at their loudest with all
    of FFmpeg's own messages, events, database, thumbnails' names, exports in all forms, metrics, health""")
def passwords_hidden(lab: Lab) -> Measured:
    """Passwords with `@ : / # % .` in URLs: accepted, connection lost, refused, unreachable."""
    num_bytes = sum(_watch_with_password(lab, password, number) for number, password in enumerate(PASSWORDS[:2]))
    return {"passwords": 2, "bytes_looked_through": num_bytes}


_PAGE_CLIENT = """
import json, os, sys, time
import httpx
from gradio_client import Client

page, folder = sys.argv[1:]
client = Client(page, verbose=False, download_files=folder, analytics_enabled=False)
said = []

def call(name, *values, **named):
    try:
        said.append(client.predict(*values, **named, api_name=f"/{name}"))
    except Exception as error:
        said.append(repr(error))
    return said[-1]

call("test_source", os.environ["NOBODY"])
call("test_source", os.environ["CAMERA"])
call("watch", os.environ["CAMERA"])
ends_s = time.monotonic() + 120
while not any("opened" in str(event) for event in call("events")) and time.monotonic() < ends_s:
    time.sleep(0.2)
call("ask", "What is there?")
call("watch", os.environ["NOBODY"])
for of_cameras in (False, True):
    call("search", cameras=of_cameras)
    for form in ("jsonl", "srt", "vtt"):
        call("export", form=form, cameras=of_cameras)
call("state")
said += [httpx.get(page + path, follow_redirects=True).text for path in ("", "/config", "/gradio_api/info")]
print(json.dumps(said))
client.close()
"""


@FAULTS.add("""the camera is watched from the page and by its configuration; neither password nor user shows in what the
    page sends, its errors, exports and pages, nor on standard output and error with all of FFmpeg's own messages""")
def passwords_hidden_on_the_page(lab: Lab) -> Measured:
    """A viewer opens camera URLs with a password, right and without a server; another camera is configured."""
    password = PASSWORDS[0]
    server = lab.enter(RtspServer("--user", "warden", "--password", password))
    folder, data, config = lab.folder / "page", lab.folder / "data", lab.folder / "cameras.yaml"
    config.write_text(
        f"cameras: {{door: {{url: '{server.url()}', user_env: CAM_USER, password_env: CAM_PASSWORD}}}}\n",
        encoding="utf-8",
    )
    env = {
        "CAM_USER": "warden",
        "CAM_PASSWORD": password,
        "CAMERA": with_userinfo(server.url(), "warden", password),
        "NOBODY": f"rtsp://warden:{password}@127.0.0.1:9/live",
    }
    options = ("--port", "0", "--no-browser", "--config", str(config), "--data", str(data))
    with Program(folder, "ui", *options, loud=True, env=env) as program:
        wait_until(lambda: "watching at http" in program.out, START_S, "the page is served")
        (page,) = re.findall(r"watching at (http://\S+)", program.out)
        done = subprocess.run(
            [sys.executable, "-c", _PAGE_CLIENT, page.rstrip("/"), str(lab.folder)],
            capture_output=True, text=True, env={**os.environ, **env}, timeout=300,
        )  # fmt: skip
        hold(done.returncode == 0, done.stderr[-2000:])
        program.process.terminate()
        program.process.wait(20)
    said = json.loads(done.stdout)
    hold("works" in str(said[1]) and "refused" in str(said[0]), f"the trials said: {said[:2]}\n{program.err[-3000:]}")
    hold("opened" in done.stdout, "the camera was not watched")
    hold("libav" in program.err, "FFmpeg said nothing, so that nothing was tried")
    places = {**_files(folder), **_files(data), "page": done.stdout.encode(), "client": done.stderr.encode()}
    _look_for(_forms(password), places)
    return {"answers": len(said), "bytes_looked_through": sum(len(found) for found in places.values())}


@FAULTS.add("the camera is watched; neither user nor password shows anywhere, and the YAML needs none")
def passwords_from_the_environment(lab: Lab) -> Measured:
    """Logins from the environment and from a file."""
    by_env, by_file = PASSWORDS[1], PASSWORDS[2]
    one = lab.enter(RtspServer("--user", "warden", "--password", by_env))
    two = lab.enter(RtspServer("--user", "warden", "--password", by_file))
    secret, data, folder = lab.folder / "secret", lab.folder / "data", lab.folder / "run"
    secret.write_text(by_file + "\n", encoding="utf-8")
    config = lab.folder / "cameras.yaml"
    config.write_text(
        "cameras:\n"
        f"  one: {{url: '{one.url()}', user_env: CAM_USER, password_env: CAM_PASSWORD}}\n"
        f"  two: {{url: '{two.url()}', user_env: CAM_USER, password_file: '{secret}'}}\n"
        f"timeline: {{folder: '{data}'}}\n",
        encoding="utf-8",
    )
    env = {"CAM_USER": "warden", "CAM_PASSWORD": by_env}
    with Program(folder, "watch", "--config", str(config), "--json", "--log-level", "debug", loud=True, env=env) as run:
        run.wait_for("opened", times=2)
        one.kill()
        run.wait_for("reconnecting", 20.0)
        run.process.terminate()
        run.process.wait(20)
    folder.joinpath("exports").mkdir()
    _exports(data, folder / "exports")
    places = {**_files(folder), **_files(data), config.name: config.read_bytes()}
    forms = set(itertools.chain(_forms(by_env), _forms(by_file)))
    _look_for(forms, places)
    return {"cameras": 2, "bytes_looked_through": sum(len(found) for found in places.values())}
