"""Files that a browser or a client sent: only what Gradio itself received counts. Plain functions; any thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assistant.inputs.limits import UploadRefused


def sent_file(value: Any) -> Path:
    """The file behind a component's value or a client's `FileData`. Raises `UploadRefused`.

    A client may write any path there, so one that is not in Gradio's own folder of uploads is no upload.
    """
    path = value.get("path") if isinstance(value, dict) else getattr(value, "path", value)
    if not isinstance(path, str | Path) or not str(path):
        raise UploadRefused("a file: none was sent; send one along")
    from gradio.utils import get_upload_folder

    found, folder = Path(path).resolve(), Path(get_upload_folder()).resolve()
    if not found.is_relative_to(folder) or not found.is_file():
        raise UploadRefused(f"{Path(path).name}: it was not sent along; upload it first")
    return found


def drop_sent(path: Path) -> None:
    """Forget an upload that was read, or that nobody needs any more."""
    path.unlink(missing_ok=True)
