"""README and docs/ tell the truth: commands, options, paths and links exist, YAML loads, packages are right."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import app
from assistant.config.app import load_config
from assistant.events import StatusKind
from tests.assistant.brokers import BROKER_PACKAGES
from tests.browser.chromium import CHROMIUM_PACKAGES
from tests.speech.espeak import SPEECH_PACKAGES
from tests.streaming.rtsp import RTSP_PACKAGES

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md"), key=lambda page: (page.stem != "configuration", page)),
]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
DOCS = "\n".join(TEXTS.values())

OPTION = r"(?<![\w-])--[a-z][a-z0-9-]*"
OPTIONS_OF_OTHERS = {"--extra-index-url"}
FOLDERS = "streaming|models|assistant|ui|tests|docs"

PROGRAM: Any = get_command(app.app)
COMMANDS: dict[str, Any] = PROGRAM.commands


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def options_of_program() -> set[str]:
    groups = [getattr(command, "commands", {}) for command in COMMANDS.values()]
    every = [PROGRAM, *COMMANDS.values(), *(command for group in groups for command in group.values())]
    return set().union(*map(options_of, every))


def modules_run(text: str) -> set[str]:
    """Modules of ours that a text runs by `python -m`."""
    return set(re.findall(rf"python -m ((?:{FOLDERS})\.[\w.]+\w)", text))


def options_of_module(name: str) -> set[str]:
    """Options that a module, or a package's `__main__`, declares."""
    found = find_spec(name)
    assert found is not None, f"python -m {name}: there is no such module"
    main = find_spec(f"{name}.__main__") if found.submodule_search_locations else found
    assert main is not None and main.origin is not None, f"python -m {name}: it has no __main__"
    return set(re.findall(r'"(--[a-z][a-z0-9-]*)"', Path(main.origin).read_text(encoding="utf-8")))


def program_calls(text: str) -> list[list[str]]:
    """The arguments of every call of the program: whole lines of code, and code within a line."""
    lines = re.findall(r"^ {4}.*?(?:video-assistant|python app\.py)\b(.*)$", text, re.MULTILINE)
    inline = re.findall(r"`(?:video-assistant|python app\.py)\b([^`]*)`", text)
    return [shlex.split(call, comments=True) for call in [*lines, *inline] if not call.startswith(".")]


def test_its_configuration_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    loaded = []
    for block in blocks:
        (tmp_path / "readme.yaml").write_text(block, encoding="utf-8")
        loaded.append(load_config(tmp_path / "readme.yaml"))
    assert len(loaded[0].source.masks) == 2 and loaded[0].questions[0].at_s == 12.5
    assert [list(config.cameras) for config in loaded].count(["door", "yard"]) == 2


@pytest.mark.parametrize("name", TEXTS)
def test_its_commands_and_options_are_those_of_the_program(name: str) -> None:
    text = TEXTS[name]
    for words in program_calls(text):
        is_named = bool(words) and words[0] in COMMANDS
        command, rest = (COMMANDS[words[0]], words[1:]) if is_named else (COMMANDS["ui"], words)
        assert not rest or command is not COMMANDS["ui"] or rest[0].startswith("-"), f"{words}: no such command"
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        given = {word.partition("=")[0] for word in rest if re.match(OPTION, word)}
        accepted = options_of(command) | (set() if is_named else options_of(PROGRAM))
        assert given <= accepted, f"{words}: {sorted(given - accepted)}"
    declared = [options_of_module(module) for module in modules_run(text)]
    named = set(re.findall(OPTION, text)) - OPTIONS_OF_OTHERS
    assert named <= set().union(options_of_program(), *declared)


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_and_link_leads_somewhere(name: str) -> None:
    text, folder = TEXTS[name], (ROOT if name == "README.md" else ROOT / "docs")
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in links if not (folder / link).exists()] == []


def test_every_class_that_the_architecture_names_exists() -> None:
    sources = [path for room in ("streaming", "models", "assistant", "ui") for path in (ROOT / room).rglob("*.py")]
    classes = {name for path in sources for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE)}
    named = set(re.findall(r"`([A-Z][a-z]\w+)`", TEXTS["architecture.md"]))
    assert named and named <= classes


def test_every_page_is_linked_from_the_readme() -> None:
    assert all(f"(docs/{name})" in TEXTS["README.md"] for name in TEXTS if name != "README.md")


def test_every_status_kind_is_named() -> None:
    assert all(f"`{kind.value}`" in TEXTS["configuration.md"] for kind in StatusKind)


def test_its_system_packages_are_the_ones_the_tests_need() -> None:
    text = " ".join(TEXTS["contributing.md"].split())
    packages = f"{RTSP_PACKAGES} {CHROMIUM_PACKAGES} {BROKER_PACKAGES} {SPEECH_PACKAGES}".split()
    assert all(package in text for package in packages)
