"""The README tells the truth: its commands exist, its configuration loads, its packages are the tests' own."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

import app
from assistant.config import load_config
from assistant.events import StatusKind
from tests.streaming.rtsp import RTSP_PACKAGES

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_its_configuration_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "readme.yaml").write_text(block, encoding="utf-8")
    config = load_config(tmp_path / "readme.yaml")
    assert len(config.source.masks) == 2 and config.questions[0].at_s == 12.5


def test_its_commands_and_options_are_those_of_the_program() -> None:
    commands = getattr(get_command(app.app), "commands")  # noqa: B009
    assert set(re.findall(r"python app\.py (\w+)", README)) <= set(commands)
    options = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z]+", README.replace("--extra-index-url", "")))
    assert named <= options


def test_every_status_kind_is_named() -> None:
    assert all(kind.value in README for kind in StatusKind)


def test_its_system_packages_are_the_ones_the_tests_need() -> None:
    text = " ".join(README.split())
    assert all(package in text for package in RTSP_PACKAGES.split())
