"""Real clips that come with a library the project needs anyway, by short names. No network, no thread."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from assistant.errors import ConfigError

PREFIX = "sample:"
SAMPLES = {"world": "world.mp4", "a": "a.mp4", "b": "b.mp4"}
"""Names and files; Gradio's wheel carries them in `media_assets/videos`."""


def resolve_sample(spec: str) -> str:
    """The path behind `sample:NAME`; any other source as it is. Raises `ConfigError` where there is no such clip."""
    if not spec.startswith(PREFIX):
        return spec
    name = spec.removeprefix(PREFIX)
    if name not in SAMPLES:
        known = ", ".join(PREFIX + known for known in SAMPLES)
        raise ConfigError(f"{spec}: no such sample; known are {known}; or give a file's path")
    found = importlib.util.find_spec("gradio")
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found is not None else []
    for folder in folders:
        path = folder / "media_assets" / "videos" / SAMPLES[name]
        if path.is_file():
            return str(path)
    raise ConfigError(f"{spec}: Gradio's wheel carries it and is not installed; run pip install -r requirements.txt")
