"""What counts as a file that somebody sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.inputs.limits import UploadRefused
from ui.uploads import sent_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "sent"))
    (tmp_path / "sent" / "abc").mkdir(parents=True)
    return tmp_path / "sent" / "abc"


def test_an_upload_is_found_however_it_is_written(folder: Path) -> None:
    path = folder / "clip.mp4"
    path.write_bytes(b"x")
    assert sent_file(str(path)) == sent_file({"path": str(path)}) == sent_file(path) == path


def test_a_path_of_the_servers_own_is_no_upload(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    escapes = ["/etc/passwd", str(tmp_path / "secret.mp4"), str(folder / ".." / ".." / "secret.mp4"),
               str(folder / "link.mp4"), {"path": "/etc/passwd"}, {}, "", None, 7, str(folder)]  # fmt: skip
    for escape in escapes:
        with pytest.raises(UploadRefused) as caught:
            sent_file(escape)
        assert str(tmp_path) not in str(caught.value)
