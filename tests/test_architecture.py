"""The house rules, read from the imports: they point down, in no circle, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("streaming", "models", "assistant", "ui")
TOP_LEVEL = {"app.py", "assistant", "streaming", "ui", "models", "tests", "requirements.txt"}

MAY_IMPORT: dict[str, set[str]] = {
    "streaming": set(),
    "models": {"streaming"},
    "assistant": {"streaming", "models"},
    "ui": {"assistant", "streaming"},
    "app.py": {"streaming", "models", "assistant", "ui"},
}
UI_OF_STREAMING = {"streaming.types"}
"""What of `streaming` the browser app may see."""

SUB_ROOMS: dict[str, tuple[str, ...]] = {
    "assistant": (
        "commands", "speed", "chat", "viewers", "cameras", "serving", "evaluation", "delivery", "config", "rules",
        "speech", "inputs", "stream", "timeline",
    ),
    "models": ("verify", "decision", "speed", "training", "groundtruth", "engine", "session", "network", "checkpoint"),
    "streaming": ("open_source", "capture", "scenes", "sources", "difffp"),
    "ui": (
        "serve", "launch", "endpoint", "build", "callbacks", "api", "parts", "events_tab", "health", "alerts_panel",
        "handlers", "voice", "media", "alert_link", "rule_link", "rule_rows", "pulse", "render",
    ),
}  # fmt: skip
"""Folders and modules of each room, the highest first: each imports only what stands after it. What is not named here
stands below all of them."""

TORCH_IN_STREAMING = "streaming/difffp/"
"""DiffFP and its parts."""

SPEECH = ("sounddevice", "hibari", "onnxruntime", "faster_whisper", "silero_vad")
"""Libraries of `assistant/speech/` alone."""

HEAVY: dict[str, set[str]] = {
    "av": {"streaming"},
    "cv2": {"streaming"},
    "torch": {"streaming", "models"},
    "transformers": {"models"},
    "safetensors": {"models"},
    "tokenizers": {"models"},
    **{name: {"assistant"} for name in SPEECH},
    "gradio": {"ui"},
}


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement of ours."""

    file: str
    line: int
    module: str
    for_types: bool
    """Under `if TYPE_CHECKING`, so nothing is loaded."""
    names: tuple[str, ...] = ()
    """What is imported from the module."""

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    @property
    def room(self) -> str:
        return self.file.split("/")[0]

    @property
    def submodules(self) -> tuple[str, ...]:
        """What would be imported where the names are modules themselves."""
        return tuple(f"{self.module}.{name}" for name in self.names)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


class _Reader(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Import] = []
        self._for_types = False

    def visit_If(self, node: ast.If) -> None:
        before = self._for_types
        self._for_types = before or "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body:
            self.visit(child)
        self._for_types = before
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(self.file, node.lineno, alias.name, self._for_types) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.file}:{node.lineno} imports relatively; name the room"
        assert node.module is not None
        names = tuple(alias.name for alias in node.names)
        self.found.append(Import(self.file, node.lineno, node.module, self._for_types, names))


def read_imports(source: str | ast.Module, file: str) -> list[Import]:
    reader = _Reader(file)
    reader.visit(ast.parse(source) if isinstance(source, str) else source)
    return reader.found


@cache
def parsed(path: Path) -> ast.Module:
    """A file of ours as a syntax tree, read once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(path: Path) -> list[Import]:
    """The imports of one file of ours, read once."""
    return read_imports(parsed(path), path.relative_to(ROOT).as_posix())


def our_imports() -> Iterator[Import]:
    for path in [ROOT / "app.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]:
        yield from imports_of(path)


def breaks_the_room_rule(found: Import) -> bool:
    """Types of a lower room may be imported anywhere above; types of a higher one nowhere below."""
    if found.top not in ROOMS or found.top == found.room:
        return False
    if found.room == "ui" and found.top == "streaming":
        return found.module not in UI_OF_STREAMING
    return found.top not in MAY_IMPORT[found.room]


def level(room: str, module: str) -> int:
    """How far below the top of its room a module stands, by the folder or file right inside the room."""
    name, rooms = module.split(".")[1] if "." in module else "", SUB_ROOMS[room]
    return rooms.index(name) if name in rooms else len(rooms)


def breaks_the_sub_room_rule(found: Import) -> bool:
    """Whether an import within a room leads to a higher part of it; types are no exception."""
    if found.top != found.room or found.room not in SUB_ROOMS:
        return False
    importer = found.file.removesuffix(".py").replace("/", ".")
    return level(found.room, found.module) < level(found.room, importer)


def circles(modules: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules that import each other, directly or by way of others. modules: what each one imports."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            fresh = modules[ahead.pop()] - seen
            seen |= fresh
            ahead += fresh
        return seen

    reach = {name: reachable(name) for name in modules}
    found = [{other for other in reach[name] if name in reach[other]} for name in modules if name in reach[name]]
    return [circle for index, circle in enumerate(found) if circle not in found[:index]]


def import_graph() -> dict[str, set[str]]:
    """What each module of ours imports of ours, types included."""
    paths = {path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    names = {path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path for path in paths}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        wanted = {part for found in imports_of(ROOT / path) for part in (found.module, *found.submodules)}
        graph[name] = wanted & names.keys() - {name}
    return graph


def breaks_the_library_rule(found: Import) -> bool:
    if found.for_types or found.top not in HEAVY:
        return False
    if found.top == "torch" and found.room == "streaming":
        return not found.file.startswith(TORCH_IN_STREAMING)
    if found.top in SPEECH:
        return not found.file.startswith("assistant/speech/")
    return found.room not in HEAVY[found.top]


def test_imports_point_down_only() -> None:
    assert [str(found) for found in our_imports() if breaks_the_room_rule(found)] == []


def test_sub_rooms_import_only_what_stands_below_them() -> None:
    assert [str(found) for found in our_imports() if breaks_the_sub_room_rule(found)] == []


def test_delivery_knows_nothing_of_rules() -> None:
    """Alerts reach it as events, so that each can change without the other."""
    found = [str(found) for found in our_imports() if found.file.startswith("assistant/delivery/")]
    assert found and not [line for line in found if "assistant.rules" in line]


def test_every_folder_has_its_place_among_the_sub_rooms() -> None:
    data = {"models": {"embedded"}, "ui": {"static"}}
    for room, parts in SUB_ROOMS.items():
        folders = {path.name for path in (ROOT / room).iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert folders - data.get(room, set()) <= set(parts)
        assert all((ROOT / room / part).is_dir() or (ROOT / room / f"{part}.py").is_file() for part in parts)


def test_no_modules_import_each_other() -> None:
    assert circles(import_graph()) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


def test_public_class_names_stand_once() -> None:
    places: dict[str, list[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in parsed(path).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(f"{path.relative_to(ROOT).as_posix()}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_heavy_libraries_stay_in_their_rooms() -> None:
    assert [str(found) for found in our_imports() if breaks_the_library_rule(found)] == []


def test_nothing_of_ours_imports_the_tests() -> None:
    assert [str(found) for found in our_imports() if found.top == "tests"] == []


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("import models.engine", "streaming/difffp/live.py"),
        ("def f():\n    from assistant.events import Comment", "models/engine.py"),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ui.build import App",
            "assistant/stream/runner.py",
        ),
        ("from models.engine import Engine", "ui/build.py"),
        ("from streaming.capture import Capture", "ui/build.py"),
    ],
)
def test_the_room_rule_sees_what_breaks_it(source: str, file: str) -> None:
    assert any(breaks_the_room_rule(found) for found in read_imports(source, file))


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("from assistant.commands.logs import Secrets", "assistant/serving/channel.py"),
        ("from models.engine import Engine", "models/session/session.py"),
        ("def f():\n    from streaming.sources.base import Source", "streaming/difffp/live.py"),
        ("if TYPE_CHECKING:\n    from ui.build import build_page", "ui/pulse.py"),
        ("from streaming.capture import Capture", "streaming/clock.py"),
    ],
)
def test_the_sub_room_rule_sees_what_breaks_it(source: str, file: str) -> None:
    assert any(breaks_the_sub_room_rule(found) for found in read_imports(source, file))


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("import torch", "assistant/stream/stream_session.py"),
        ("import torch.nn", "streaming/capture.py"),
        ("from av import open", "models/vision.py"),
        ("def f():\n    import sounddevice", "assistant/stream/stream_session.py"),
        ("import gradio as gr", "app.py"),
    ],
)
def test_the_library_rule_sees_what_breaks_it(source: str, file: str) -> None:
    assert any(breaks_the_library_rule(found) for found in read_imports(source, file))


def test_the_top_level_is_what_the_design_says() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    hidden = {name for name in folders if name.startswith((".", "_"))}
    files = {path.name for path in ROOT.glob("*.py")}
    assert folders - hidden | files <= TOP_LEVEL
