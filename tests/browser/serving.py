"""Runs the app in its own process, as a user starts it, and observes that process."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from gradio_client import Client

ROOT = Path(__file__).parent.parent.parent
_READY = re.compile(r"(https?://\S+)")
_START_S = 120.0
STREAM_THREADS = ("capture", "relay", "pusher")
_STOP_S = 30.0

EMPTY_APP = """
import gradio as gr
with gr.Blocks() as blocks:
    gr.Markdown("empty")
blocks.launch(server_port=int(__import__("sys").argv[1]), quiet=True, prevent_thread_lock=True, ssr_mode=False)
print(blocks.local_url, flush=True)
blocks.block_thread()
"""


@dataclass(frozen=True, slots=True)
class Inside:
    """Objects and threads of the process."""

    threads: tuple[str, ...]
    streams: tuple[str, ...]
    """Those of the threads that belong to a stream."""
    modules: frozenset[str]
    """Imported modules."""


class Served:
    """A process that serves a page: on its way inside `with`; whoever asks for its address waits until it is up."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        """`folder` becomes its home, so that nothing of the user's is read or written."""
        home = {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
        self._environment = {**os.environ, **home, "GRADIO_TEMP_DIR": str(folder / "gradio"), **environment}
        self._environment.setdefault("OMP_NUM_THREADS", "1")
        self._environment["GRADIO_ANALYTICS_ENABLED"] = "False"
        self._command = command
        self._log = folder / "log.txt"
        self._report = folder / "inside.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._began_s = 0.0
        self._url = ""
        self._up_s = 0.0
        self._pass_s = 0.0

    @property
    def url(self) -> str:
        """Where its page is; waits until it is there."""
        if not self._url:
            url = self._read_url(self._began_s)
            self._wait_for_page(url, self._began_s)
            self._url, self._up_s = url, time.monotonic() - self._began_s
        return self._url

    @property
    def up_s(self) -> float:
        """From its start until its page was there, for whoever asked for its address from the start."""
        return self._up_s

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """The process's output so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self._began_s = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=log
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def look_inside(self) -> Inside:
        """What lives in it now."""
        values = self._ask_inside()
        streams = [name for name in values["threads"] if name.startswith(STREAM_THREADS)]
        return Inside(tuple(values["threads"]), tuple(streams), frozenset(values["modules"]))

    def num_sessions(self) -> int:
        """Model sessions that live in it, each with its cache."""
        wanted = self._report.with_name("sessions")
        wanted.touch()
        try:
            return int(self._ask_inside()["sessions"])
        finally:
            wanted.unlink()

    def _ask_inside(self) -> dict[str, Any]:
        self._report.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        wait_until(self._report.exists, 10.0, "the process says what lives in it")
        return dict(json.loads(self._report.read_text(encoding="utf-8")))

    def alert(self, stream: str, text: str) -> None:
        """Raise an alert in every stream of this name."""
        self._order("alert", name=stream, text=text)

    @contextmanager
    def slowed(self, pass_s: float) -> Iterator[None]:
        """Inside, each forward pass of its model takes so much longer; afterwards as long as before."""
        before_s, self._pass_s = self._pass_s, pass_s
        self._order("slow_down", pass_s=pass_s)
        try:
            yield
        finally:
            self._pass_s = before_s
            self._order("slow_down", pass_s=before_s)

    def note_first_tokens(self, path: Path) -> None:
        """From now on a line of JSON in this file for each answer: the time of its first token, and its question."""
        self._order("note_first_tokens", path=str(path))

    def _order(self, what: str, **values: Any) -> None:
        path = self._report.with_name("order.json")
        path.write_text(json.dumps({"do": what, **values}), encoding="utf-8")
        os.kill(self.pid, signal.SIGUSR2)
        wait_until(lambda: not path.exists(), 10.0, f"the process did what it was asked: {what}")

    def kill(self) -> None:
        """Kill the process."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def memory_mib(self) -> float:
        """Resident memory of the process, MiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024

    def _read_url(self, began_s: float) -> str:
        assert self._process is not None and self._process.stdout is not None
        text = b""
        while time.monotonic() - began_s < _START_S:
            ready, _, _ = select.select([self._process.stdout], [], [], 0.2)
            if ready:
                data = os.read(self._process.stdout.fileno(), 4096)
                text += data
                if not data:
                    break
            if (match := _READY.search(text.decode(errors="replace"))) is not None and b"\n" in text:
                return match[1].rstrip("/.")
        raise AssertionError(f"the app did not start: {text.decode(errors='replace')}\n{self.log}")

    def _wait_for_page(self, url: str, began_s: float) -> None:
        while time.monotonic() - began_s < _START_S:
            try:
                if httpx.get(url, verify=False, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"no page at {url}\n{self.log}")

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            if process.stdout is not None:
                process.stdout.close()


def app_served(folder: Path, *options: str, observed: bool = False) -> Served:
    """The app on a free port; `observed`: so that one can look inside."""
    script = [str(Path(__file__).with_name("observed.py")), str(folder / "inside.json")] if observed else ["app.py"]
    return Served([sys.executable, *script, "ui", "--no-browser", "--port", "0", *options], folder)


def empty_served(folder: Path, port: int) -> Served:
    """A Gradio app with nothing in it."""
    return Served([sys.executable, "-c", EMPTY_APP, str(port)], folder)


def connect(url: str, folder: Path) -> Client:
    """A client of the page at `url`; `folder` is for what it downloads."""
    from gradio_client import Client

    return Client(url, verbose=False, download_files=str(folder), analytics_enabled=False)


def disconnect(client: Client) -> None:
    """Close a client, and end the threads of its pools, which its own `close` leaves."""
    client.close()
    for pool in (client.executor, client.helper_executor, client.stream_executor):
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def connected(url: str, folder: Path) -> Iterator[Client]:
    """Inside, a client of the page at `url`."""
    client = connect(url, folder)
    try:
        yield client
    finally:
        disconnect(client)


def wait_until(is_so: Callable[[], bool], within_s: float, what: str) -> float:
    """Seconds until `is_so`; fails with `what` where it takes longer."""
    began_s = time.monotonic()
    while not is_so():
        if time.monotonic() - began_s > within_s:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began_s
