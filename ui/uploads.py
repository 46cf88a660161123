"""Uploaded files: only paths in Gradio's upload folder are accepted. Plain functions; any thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assistant.inputs.limits import UploadRefused


def sent_file(value: Any) -> Path:
    """The uploaded file of a component's value or a client's `FileData`. Raises `UploadRefused`.

    A client may write any path there, so paths outside Gradio's upload folder are refused.
    """
    path = value.get("path") if isinstance(value, dict) else getattr(value, "path", value)
    if not isinstance(path, str | Path) or not str(path):
        raise UploadRefused("a file: none was sent; upload one with the call")
    from gradio.utils import get_upload_folder

    found, folder = Path(path).resolve(), Path(get_upload_folder()).resolve()
    if not found.is_relative_to(folder) or not found.is_file():
        raise UploadRefused(f"{Path(path).name}: it was not uploaded; upload it first")
    return found


def drop_sent(path: Path) -> None:
    """Delete an upload that is no longer needed."""
    path.unlink(missing_ok=True)
