"""`pip install .`: the requirements agree in every file that has them, and the wheel's command runs from anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import app
from assistant import program
from assistant.commands.doctor import OPTIONAL
from assistant.commands.terminal import BAD_INPUT

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOMS = ("assistant", "models", "streaming", "ui")


def requirements(name: str) -> dict[str, str]:
    """The packages of a requirements file, by name; comments and references to other files are left out."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return {re.split(r"[=<>~!]", line)[0]: line for line in lines if line and not line.startswith("-r")}


def optional() -> dict[str, str]:
    """The packages of all extras, by name."""
    extras = PROJECT["project"]["optional-dependencies"]
    return {re.split(r"[=<>~!]", line)[0]: line for lines in extras.values() for line in lines}


def test_what_is_optional_is_required_by_nobody_but_developers() -> None:
    assert not optional().keys() & requirements("requirements.txt").keys()
    assert optional().items() <= requirements("requirements-dev.txt").items()


def test_doctor_names_every_optional_package_as_the_extras_do() -> None:
    assert set(OPTIONAL) == set(optional())
    assert all(f"pip install '{optional()[name]}'" in remedy for name, remedy in OPTIONAL.items())


def test_developers_build_with_what_a_user_builds_with() -> None:
    (needed,) = PROJECT["build-system"]["requires"]
    assert needed in requirements("requirements-dev.txt").values()


@pytest.mark.parametrize(
    ("started", "named"),
    [("/usr/bin/video-assistant", "video-assistant"), ("app.py", "python app.py"), ("/opt/app.py", "python app.py")],
)
def test_a_mistaken_command_line_names_the_command_as_it_was_called(
    started: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert app.run(["nothing"]) == BAD_INPUT
    assert capsys.readouterr().err.endswith(f"; see {named} --help\n")


def test_what_installs_the_rest_is_named_for_a_clone_and_for_an_installed_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.install_command() == "pip install -r requirements.txt"
    monkeypatch.setattr(program, "__file__", str(tmp_path / "site-packages" / "assistant" / "program.py"))
    assert program.install_command() == "pip install . in the folder of its source"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the project's wheel was installed into, without its dependencies and without a network."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"  # what setuptools writes stays out of the project
    source.mkdir()
    for name in ("app.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
    wheels, target = folder / "wheels", folder / "site"
    build = ["wheel", "--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(wheels), str(source)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = wheels.glob("streaming_video_assistant-*.whl")
    subprocess.run([*pip, "install", "--no-index", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def video_assistant(target: Path, elsewhere: Path, *arguments: str) -> str:
    """What the installed command prints, called from another folder."""
    environment = {**os.environ, "PYTHONPATH": str(target)}
    command = [sys.executable, str(target / "bin" / "video-assistant"), *arguments]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_wheel_has_all_that_the_rooms_have_and_nothing_else(installed: Path) -> None:
    def files(root: Path) -> set[str]:
        found = {path.relative_to(root).as_posix() for room in ROOMS for path in (root / room).rglob("*")}
        return {name for name in found if (root / name).is_file() and "__pycache__" not in name}

    assert files(installed) == files(ROOT)
    assert all((installed / room / "py.typed").is_file() for room in ROOMS)
    top = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert top - {"bin", "__pycache__"} == {"app.py", *ROOMS}


@pytest.mark.slow
def test_the_installed_command_runs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    told = video_assistant(installed, tmp_path, "--help")
    assert "video-assistant [OPTIONS]" in told and "replay" in told
    told = video_assistant(installed, tmp_path, "replay", "synthetic:3", "--end", "2")
    assert "frames" in told
