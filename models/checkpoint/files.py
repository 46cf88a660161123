"""Read JSON files of checkpoints and training plans; errors name the file and the key. Any thread may call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from models.errors import CheckpointDamaged, SettingsError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a checkpoint's file; raises `CheckpointDamaged` naming the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointDamaged(f"{path}: missing; copy the checkpoint again") from error
    except (OSError, ValueError) as error:
        raise CheckpointDamaged(f"{path}: is not readable JSON ({error}); copy the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointDamaged(f"{path}: holds {type(values).__name__} where an object is needed; copy it again")
    return values


def refuse_unknown(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise `SettingsError` for keys that are not in `known`, so that a misspelt setting is not ignored."""
    known = set(known)
    unknown = sorted(set(values) - known)
    if unknown:
        raise SettingsError(f"{where}: unknown keys {', '.join(unknown)}; known are {', '.join(sorted(known))}")
