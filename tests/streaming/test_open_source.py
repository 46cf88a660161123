"""A user's text becomes the right kind of source, and libraries of other kinds are not loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streaming.errors import OptionError
from streaming.masks import MaskRegion, Masks
from streaming.open_source import open_source
from streaming.scenes.source import SyntheticSource
from streaming.sources.base import SourceOptions
from streaming.sources.masked import MaskedSource
from streaming.sources.network import HttpSource
from streaming.sources.reconnect import LiveSource
from streaming.sources.recordings import ReplaySource
from streaming.types import Frame, NoticeKind
from tests.clips import write_clip


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("clip.mp4", ReplaySource, "clip.mp4"),
        ("/a/webcam:0/clip.mp4", ReplaySource, "/a/webcam:0/clip.mp4"),
        ("file:///a/clip.mp4", ReplaySource, "/a/clip.mp4"),
        ("rtsp://u:p@cam/a", LiveSource, "rtsp://***@cam/a"),
        ("RTSPS://cam/a", LiveSource, "RTSPS://cam/a"),
        ("https://host/a.mp4?key=k", HttpSource, "https://host/a.mp4?key=***"),
        ("webcam:3", LiveSource, "webcam:3"),
        ("synthetic:7", SyntheticSource, "synthetic:7"),
    ],
)
def test_each_kind_is_told_by_its_form(spec: str, kind: type, name: str) -> None:
    source = open_source(spec)
    assert isinstance(source, kind)
    assert source.name == name


def test_options_of_recordings_are_refused_at_cameras() -> None:
    for spec in ("rtsp://cam/a", "webcam:0"):
        with pytest.raises(OptionError, match="start_s"):
            open_source(spec, options=SourceOptions(start_s=1.0))


def test_masks_wrap_any_kind() -> None:
    options = SourceOptions(masks=Masks([MaskRegion.rectangle(0, 0, 0.5, 0.5)]))
    for spec in ("clip.mp4", "rtsp://cam/a", "synthetic:7"):
        assert isinstance(open_source(spec, options=options), MaskedSource)


def test_a_path_with_any_characters_is_a_path(tmp_path: Path) -> None:
    for name in ("with space.mp4", "a:b.mp4", "100%d.mp4", "ümläut.mp4", "#hash?.mp4"):
        with open_source(str(write_clip(tmp_path / name, num_frames=3))) as source:
            source.open()
            assert sum(isinstance(item, Frame) for item in source.frames()) == 3


def test_a_synthetic_source_is_a_recording() -> None:
    with open_source("synthetic:7", options=SourceOptions(sample_fps=1.0, end_s=3.0)) as source:
        info = source.open()
        items = list(source.frames())
    assert not info.is_live
    assert [item.pts_s for item in items if isinstance(item, Frame)] == pytest.approx([0.0, 1.0, 2.0])
    assert [item.kind for item in items if not isinstance(item, Frame)] == [NoticeKind.OPENED, NoticeKind.ENDED]


def test_asking_for_a_source_loads_no_decoder() -> None:
    script = (
        "import sys, streaming.capture, streaming.sources\n"
        "print(sorted({'av', 'cv2', 'torch', 'transformers', 'gradio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
