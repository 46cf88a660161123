"""Checkpoints by hub name, from a hub on this machine: with a token, without unneeded files, then offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "owner/small"
TOKEN = "hf_of_the_test"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FIND = """
import sys
from models.checkpoint.loader import find_checkpoint
from models.errors import CheckpointNotFound
try:
    print(find_checkpoint(sys.argv[1], progress=sys.argv[2] == "bar"))
except CheckpointNotFound as error:
    print("error:", error)
"""


class _Hub(ThreadingHTTPServer):
    """Serves one folder as a gated repository at the addresses that the hub's client requests."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""

    def do_HEAD(self) -> None:  # noqa: N802
        self.do_GET()

    def do_GET(self) -> None:  # noqa: N802
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "a token is needed"})
        elif self.path.startswith(f"/api/models/{NAME}/tree/"):
            tree = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": COMMIT}
                for path in sorted(self.server.folder.iterdir())
            ]
            self._send(200, json.dumps(tree).encode(), {})
        elif self.path.startswith(f"/api/models/{NAME}"):
            files = [{"rfilename": path.name} for path in sorted(self.server.folder.iterdir())]
            self._send(200, json.dumps({"id": NAME, "sha": COMMIT, "siblings": files}).encode(), {})
        else:
            path = self.server.folder / self.path.rpartition("/")[2]
            data = path.read_bytes()
            if self.command == "GET":
                self.server.sent.append(path.name)
            self._send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(data).hexdigest()}"'})

    def _send(self, code: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(data)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture
def hub(released_folder: Path) -> Iterator[_Hub]:
    (released_folder / "modeling_remote.py").write_text("raise SystemExit('code of strangers')\n")
    hub = _Hub(released_folder)
    thread = threading.Thread(target=hub.serve_forever, name="hub")
    thread.start()
    yield hub
    hub.shutdown()
    thread.join()
    hub.server_close()
    (released_folder / "modeling_remote.py").unlink()


def _find(cache: Path, *, bar: bool = False, **environment: str) -> tuple[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", FIND, NAME, "bar" if bar else "quiet"],
        cwd=ROOT,
        env={**clean, "HF_HOME": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def test_a_hub_name_is_downloaded_with_the_token_and_found_again_offline(
    hub: _Hub, released_folder: Path, tmp_path: Path
) -> None:
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    refused, _ = _find(tmp_path, HF_ENDPOINT=endpoint)
    assert refused.startswith(f"error: {NAME}: no such folder, and not available from the hub")
    assert "HF_TOKEN" in refused and hub.sent == []

    found, told = _find(tmp_path, bar=True, HF_ENDPOINT=endpoint, HF_TOKEN=TOKEN)
    wanted = {path.name for path in released_folder.iterdir()} - {"modeling_remote.py"}
    assert {path.name for path in Path(found).iterdir()} == wanted == set(hub.sent), "no code is fetched"
    for name in wanted:
        assert (Path(found) / name).read_bytes() == (released_folder / name).read_bytes()
    assert "%" in told, "a bar is drawn"

    hub.sent.clear()
    again, told = _find(tmp_path, HF_HUB_OFFLINE="1", HF_ENDPOINT=endpoint)
    assert again == found and hub.sent == [] and "%" not in told
    missing, _ = _find(tmp_path / "another", HF_HUB_OFFLINE="1", HF_ENDPOINT=endpoint)
    assert "HF_HUB_OFFLINE is set, and it was not downloaded before" in missing
