"""Sample clips by short name, from the files of the installed Gradio package. No network, no thread."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from assistant.errors import ConfigError
from assistant.inputs.source_names import SAMPLE, SourceKind, source_kind
from assistant.program import install_command

SAMPLES = {"world": "world.mp4", "a": "a.mp4", "b": "b.mp4"}
"""File names by short name, in Gradio's folder `media_assets/videos`."""


def resolve_sample(spec: str) -> str:
    """The path of `sample:NAME`; any other source unchanged. Raises `ConfigError` if there is no such clip."""
    if source_kind(spec) is not SourceKind.SAMPLE:
        return spec
    name = spec.removeprefix(SAMPLE)
    if name not in SAMPLES:
        known = ", ".join(SAMPLE + known for known in SAMPLES)
        raise ConfigError(f"{spec}: no such sample; choose among {known}, or give a file's path")
    found = importlib.util.find_spec("gradio")
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found is not None else []
    for folder in folders:
        path = folder / "media_assets" / "videos" / SAMPLES[name]
        if path.is_file():
            return str(path)
    raise ConfigError(f"{spec}: the clip is part of Gradio, which is not installed; run {install_command()}")
