"""Recaps in sentences, by checkpoints whose model card declares the ability. Plain functions; any thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assistant.errors import ConfigError

CARD = "README.md"
ABILITY = "recap"
"""Name of the ability under `abilities` in a model card's front matter."""
MOST_LINES = 60


def check_prose(name: str, folder: Path | None) -> None:
    """Raise `ConfigError` unless the model card of a checkpoint declares the ability `recap`."""
    if ABILITY not in declared_abilities(folder):
        raise ConfigError(
            f"--prose with {name}: its card does not declare `abilities: [{ABILITY}]`; only such a one can retell "
            "events in sentences; leave --prose out, or name another --model"
        )


def declared_abilities(folder: Path | None) -> frozenset[str]:
    """The `abilities` in a checkpoint's model card, the front matter of its README.md; empty if it has none."""
    import yaml

    if folder is None:
        return frozenset()
    try:
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
        if not text.startswith("---\n"):
            return frozenset()
        values = yaml.safe_load(text[4:].partition("\n---")[0])
    except (OSError, yaml.YAMLError):
        return frozenset()
    listed = values.get("abilities") if isinstance(values, dict) else None
    return frozenset(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else frozenset()


def prose_question(lines: Sequence[str]) -> str:
    """The prompt for a recap: the counted events, and the request to retell them without additions."""
    listed = "\n".join(line for line in lines[:MOST_LINES] if line)
    return f"These events were noted by cameras:\n{listed}\nRetell them in a few sentences. Add nothing to them."
