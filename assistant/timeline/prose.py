"""A recap in sentences, by checkpoints whose card says that they can. Any thread may check; the engine's asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assistant.errors import ConfigError

CARD = "README.md"
ABILITY = "recap"
"""What a card's front matter lists under `abilities`."""
MOST_LINES = 60


def check_prose(name: str, folder: Path | None) -> None:
    """Raise `ConfigError` unless the card of a checkpoint declares that it writes recaps."""
    if ABILITY not in declared_abilities(folder):
        raise ConfigError(
            f"--prose with {name}: its card does not declare `abilities: [{ABILITY}]`; only such a checkpoint retells "
            "events in sentences; leave --prose out, or name another --model"
        )


def declared_abilities(folder: Path | None) -> frozenset[str]:
    """What a checkpoint's card, the front matter of its README.md, lists under `abilities`."""
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
    """What the checkpoint is asked: the counts, and to retell them and nothing else."""
    listed = "\n".join(line for line in lines[:MOST_LINES] if line)
    return f"These events were noted by cameras:\n{listed}\nRetell them in a few sentences. Add nothing to them."
