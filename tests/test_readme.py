"""The README tells the truth: its commands exist, its configuration loads, its packages are the tests' own."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

import app
from assistant.config.app import load_config
from assistant.events import StatusKind
from tests.browser.chromium import CHROMIUM_PACKAGES
from tests.streaming.rtsp import RTSP_PACKAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
WATCHING = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")


def test_its_configuration_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README + WATCHING, re.DOTALL)
    loaded = []
    for block in blocks:
        (tmp_path / "readme.yaml").write_text(block, encoding="utf-8")
        loaded.append(load_config(tmp_path / "readme.yaml"))
    assert len(loaded[0].source.masks) == 2 and loaded[0].questions[0].at_s == 12.5
    assert [list(config.cameras) for config in loaded].count(["door", "yard"]) == 2


def test_its_commands_and_options_are_those_of_the_program() -> None:
    commands = getattr(get_command(app.app), "commands")  # noqa: B009
    assert set(re.findall(r"python app\.py (\w+)", README)) <= set(commands)
    groups = [getattr(command, "commands", {}) for command in commands.values()]
    every = [*commands.values(), *(command for group in groups for command in group.values())]
    options = {option for command in every for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README.replace("--extra-index-url", "")))
    assert named <= options


def test_every_status_kind_is_named() -> None:
    assert all(kind.value in README for kind in StatusKind)


def test_its_system_packages_are_the_ones_the_tests_need() -> None:
    text = " ".join(README.split())
    assert all(package in text for package in [*RTSP_PACKAGES.split(), *CHROMIUM_PACKAGES.split()])
