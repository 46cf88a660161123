"""The house rules, read from the imports: they point down only, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
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

TORCH_IN_STREAMING = {"streaming/difffp.py", "streaming/noise.py", "streaming/refresh.py"}
"""DiffFP and its parts."""

HEAVY: dict[str, set[str]] = {
    "av": {"streaming"},
    "cv2": {"streaming"},
    "torch": {"streaming", "models"},
    "transformers": {"models"},
    "safetensors": {"models"},
    "tokenizers": {"models"},
    "sounddevice": {"assistant"},
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

    @property
    def top(self) -> str:
        return self.module.split(".")[0]

    @property
    def room(self) -> str:
        return self.file.split("/")[0]

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
        self.found.append(Import(self.file, node.lineno, node.module, self._for_types))


def read_imports(source: str, file: str) -> list[Import]:
    reader = _Reader(file)
    reader.visit(ast.parse(source))
    return reader.found


def our_imports() -> Iterator[Import]:
    for path in [ROOT / "app.py", *(path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))]:
        yield from read_imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())


def breaks_the_room_rule(found: Import) -> bool:
    """Types of a lower room may be imported anywhere above; types of a higher one nowhere below."""
    if found.top not in ROOMS or found.top == found.room:
        return False
    if found.room == "ui" and found.top == "streaming":
        return found.module not in UI_OF_STREAMING
    return found.top not in MAY_IMPORT[found.room]


def breaks_the_library_rule(found: Import) -> bool:
    if found.for_types or found.top not in HEAVY:
        return False
    if found.top == "torch" and found.room == "streaming":
        return found.file not in TORCH_IN_STREAMING
    if found.top == "sounddevice":
        return found.file != "assistant/speech.py"
    return found.room not in HEAVY[found.top]


def test_imports_point_down_only() -> None:
    assert [str(found) for found in our_imports() if breaks_the_room_rule(found)] == []


def test_heavy_libraries_stay_in_their_rooms() -> None:
    assert [str(found) for found in our_imports() if breaks_the_library_rule(found)] == []


def test_nothing_of_ours_imports_the_tests() -> None:
    assert [str(found) for found in our_imports() if found.top == "tests"] == []


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("import models.engine", "streaming/difffp.py"),
        ("def f():\n    from assistant.events import Comment", "models/engine.py"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ui.build import App", "assistant/runner.py"),
        ("from models.engine import Engine", "ui/build.py"),
        ("from streaming.capture import Capture", "ui/build.py"),
    ],
)
def test_the_room_rule_sees_what_breaks_it(source: str, file: str) -> None:
    assert any(breaks_the_room_rule(found) for found in read_imports(source, file))


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("import torch", "assistant/session.py"),
        ("import torch.nn", "streaming/capture.py"),
        ("from av import open", "models/vision.py"),
        ("def f():\n    import sounddevice", "assistant/session.py"),
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
