"""Smaller parts: masks worth proposing, samples, pictures and clips, figures."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from assistant.config.app import parse_mask
from assistant.errors import ConfigError
from assistant.inputs import attachments
from assistant.inputs.attachments import BadPicture, read_clip, read_picture
from assistant.inputs.probe import probe
from assistant.inputs.sample_clips import SAMPLES, resolve_sample
from assistant.stream.mask_proposals import MOST_HIDDEN, propose_masks
from assistant.stream.speaking import Reason
from assistant.stream.stats import NUM_TIMED, StreamStats, peak_memory_bytes
from streaming.errors import SourceNotFound
from streaming.masks import MaskRegion, Masks
from streaming.open_source import open_source
from streaming.types import Frame
from tests.clips import QUADRANTS, quadrants, write_clip, write_joined, write_resized


@given(st.data(), st.integers(1, 9), st.integers(1, 16))
def test_proposed_masks_hide_the_hot_cells_and_only_those(data: st.DataObject, rows: int, cols: int) -> None:
    hot = np.array(data.draw(st.lists(st.booleans(), min_size=rows * cols, max_size=rows * cols)))
    proposed = propose_masks(hot, rows, cols)
    if hot.mean() > MOST_HIDDEN or not hot.any():
        assert proposed == []
        return
    regions = [MaskRegion.from_mapping(parse_mask(text)) for text in proposed]
    hidden = Masks(regions).hidden(cols * 100, rows * 100)
    middles = hidden.reshape(rows, 100, cols, 100)[:, 10:90, :, 10:90]
    assert (middles.all(axis=(1, 3)) == hot.reshape(rows, cols)).all()
    assert (middles.any(axis=(1, 3)) == hot.reshape(rows, cols)).all()


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_real_files(name: str) -> None:
    assert Path(resolve_sample(f"sample:{name}")).stat().st_size > 10_000


def test_other_sources_stay_as_they_are_and_unknown_samples_are_named() -> None:
    assert resolve_sample("rtsp://camera/1") == "rtsp://camera/1"
    with pytest.raises(ConfigError, match="sample:world"):
        resolve_sample("sample:moon")


WRITE_AVIF = """
import sys
import av, numpy as np
path, primaries, transfer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
plain = np.full((96, 128, 3), (180, 90, 60), np.uint8)
with av.open(path, "w", format="avif") as container:
    stream = container.add_stream("libsvtav1", rate=1, options={"preset": "12"})
    stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
    context = stream.codec_context
    context.color_primaries, context.color_trc, context.colorspace = primaries, transfer, 1
    container.mux([*stream.encode(av.VideoFrame.from_ndarray(plain)), *stream.encode(None)])
"""


@pytest.mark.parametrize("codes", [(9, 16), (9, 18), (12, 13), (1, 13)], ids=["PQ", "HLG", "Display P3", "sRGB"])
@pytest.mark.parametrize("name", ["a.png", "a.avif"])
def test_an_attachments_hdr_and_wide_colours_are_converted_as_a_recordings(
    tmp_path: Path, name: str, codes: tuple[int, int]
) -> None:
    primaries, transfer = codes
    path, info = tmp_path / name, PngInfo()
    info.add(b"cICP", bytes([primaries, transfer, 0, 1]))
    plain = np.full((96, 128, 3), (180, 90, 60), np.uint8)
    if name == "a.png":
        Image.fromarray(plain).save(path, pnginfo=info)
    else:
        # SVT-AV1 gives the thread that opens it real-time priority (of root's), and all that is started from it after.
        subprocess.run([sys.executable, "-c", WRITE_AVIF, str(path), str(primaries), str(transfer)], check=True)
    with open_source(str(path)) as source:
        source.open()
        (played,) = (item.image for item in source.frames() if isinstance(item, Frame))
    attached = read_picture(path)
    assert np.abs(attached[48, 64].astype(int) - played[48, 64]).max() <= 6
    is_changed = np.abs(attached[48, 64].astype(int) - (180, 90, 60)).max() > 8
    assert is_changed == (codes != (1, 13))


def test_pictures_are_upright_and_opaque(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, :3] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    seen = read_picture(tmp_path / "clear.png")
    assert seen.shape == (4, 6, 3) and seen[0, 0].tolist() == [255, 0, 0] and seen[0, 5].tolist() == [255, 255, 255]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (6, 4, 3)
    Image.fromarray(pixels[..., 0] > 0).save(tmp_path / "bits.png")
    assert read_picture(tmp_path / "bits.png").shape == (4, 6, 3)


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n0000"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadPicture, match="bad.png") as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_a_picture_cut_off_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(BadPicture, match="cut.png"):
        read_picture(path)


def test_a_clip_is_sampled_by_its_own_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", num_frames=75)
    frames, times_s = read_clip(str(path), 1.0)
    assert times_s == [0.0, 1.0, 2.0] and len(frames) == 3 and frames[0].shape == (48, 64, 3)


def test_a_long_clip_is_sampled_more_coarsely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MOST_FRAMES", 6)
    for name in ("clip.mp4", "clip.ts"):
        path = write_clip(tmp_path / name, num_frames=100)
        told: list[str] = []
        _, times_s = read_clip(str(path), 5.0, told.append)
        steps = np.diff(times_s)
        assert 3 <= len(times_s) <= 7 and np.allclose(steps, steps[0]) and times_s[-1] >= 2.0
        assert "more than 6" in told[-1]


def test_a_joined_clip_is_read_whole_and_its_jump_told(tmp_path: Path) -> None:
    path = write_joined(tmp_path / "joined.ts", [30, 30])
    told: list[str] = []
    assert probe(str(path)).ok
    _, times_s = read_clip(str(path), 5.0, told.append)
    assert times_s == sorted(times_s) and times_s[-1] > 2.0
    assert len(told) == 2 and "jump back once" in told[1]


def test_frames_of_every_size_are_seen_on_one_grid_and_the_change_is_told(tmp_path: Path) -> None:
    path = write_resized(tmp_path / "call.webm", [(64, 48), (128, 96), (48, 96)], quadrants)
    told: list[str] = []
    frames, times_s = read_clip(str(path), 5.0, told.append, shown="call.webm")
    assert len(frames) == len(times_s) == 15 and {frame.shape for frame in frames} == {(96, 128, 3)}
    for frame in frames[:10]:
        assert np.abs(frame[8, 8].astype(int) - QUADRANTS["top left"]).max() < 60
        assert np.abs(frame[88, 8].astype(int) - QUADRANTS["bottom left"]).max() < 60
    upright = frames[12]
    assert upright[:, :36].max() < 30 and np.abs(upright[8, 48].astype(int) - QUADRANTS["top left"]).max() < 60
    (line,) = told
    assert line.startswith("call.webm: its picture changes from 64 x 48 to 128 x 96 at 1.00 s; all frames")


def test_clips_that_are_not_there_or_never_end_are_refused() -> None:
    with pytest.raises(SourceNotFound):
        read_clip("/nowhere.mp4", 1.0)
    with pytest.raises(BadPicture, match="live"):
        read_clip("webcam:0", 1.0)


def test_figures_of_nothing_are_zero() -> None:
    summary = StreamStats().summary(cache_tokens=0, cache_capacity=0, wall_s=0.0, reasons=Counter())
    assert summary.share_changed == 0 and summary.ms_frame_p95 == 0 and summary.media_s == 0
    assert len(summary.lines()) == 6


def test_percentiles_are_of_the_latest_frames() -> None:
    stats = StreamStats(sampled=1, cells=10, cells_changed=5)
    for _ in range(NUM_TIMED):
        stats.took(1000.0)
    for ms in range(NUM_TIMED):
        stats.took(float(ms % 100))
    summary = stats.summary(cache_tokens=10, cache_capacity=40, wall_s=1.0, reasons=Counter({Reason.SPOKE: 1}))
    assert summary.ms_frame_p50 == pytest.approx(50, abs=2) and summary.ms_frame_p95 == pytest.approx(95, abs=2)
    assert summary.as_dict()["decisions"] == {"spoke": 1} and "25%" in summary.lines()[3]


def test_peak_memory_is_in_bytes() -> None:
    assert 10 * 2**20 < peak_memory_bytes() < 2**40
