"""The systemd unit and the Dockerfile: they say what systemd, Docker and the command line understand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import app
from assistant.commands.terminal import BAD_INPUT

ROOT = Path(__file__).parent.parent.parent
UNIT = ROOT / "docs" / "deploy" / "streaming-video-assistant.service"
DOCKERFILE = ROOT / "docs" / "deploy" / "Dockerfile"


def start_of_unit() -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    return shlex.split(line)


def start_of_image() -> list[str]:
    (line,) = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    return json.loads(line)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_every_line_of_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(start_of_unit()[0], sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("start", [start_of_unit(), start_of_image()], ids=["unit", "image"])
def test_their_command_lines_are_those_of_watch(start: list[str], capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    python, script, *arguments = start
    assert python.endswith("python") and script == "app.py" and arguments[:2] == ["watch", "--config"]
    assert app.run([argument.replace("%S", "/var/lib") for argument in arguments]) == BAD_INPUT
    error = capsysbinary.readouterr().err.decode()
    assert error.startswith(f"error: {arguments[2]}: No such file"), "only its configuration is missing"


def test_the_image_holds_what_the_program_needs_and_nothing_else() -> None:
    text, ignored = DOCKERFILE.read_text(), DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split()
    copied = [source for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for source in line.split()[:-1]]
    assert all((ROOT / source).exists() for source in copied)
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied) and ignored[0] == "*"
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {"app.py", "requirements.txt", *rooms} == set(copied)
    requirements = (ROOT / "requirements.txt").read_text()
    (pattern,) = re.findall(r"grep '([^']+)' requirements.txt", text)
    assert len(re.findall(pattern, requirements, re.MULTILINE)) == 1, "torch, alone, is what is taken from elsewhere"
    (port,) = re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE)
    assert f"127.0.0.1:{port}/healthz" in text and port in start_of_image()
