"""The command line as a person meets it: what it prints, where, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import app
from assistant.events import StatusEvent, StreamEvent, event_from_dict
from assistant.sinks import read_events
from models.checkpoint.fake import make_checkpoint
from models.checkpoint.settings import SpeakingSettings, StreamSettings
from models.eviction import WindowSettings
from tests.clips import cut, damage, write_clip, write_joined, write_sound

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "av", "cv2", "gradio", "numpy")


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def events(self) -> list[StreamEvent]:
        return [event_from_dict(json.loads(line)) for line in self.out.splitlines()]

    def kinds(self) -> list[str]:
        return [event.kind.value if isinstance(event, StatusEvent) else event.type for event in self.events()]

    def error_line(self) -> str:
        """The one line that says what was wrong."""
        assert self.out == "" and self.err.count("\n") == 1 and self.err.startswith("error: "), self.err
        return self.err


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint whose windows are small and whose answers are short."""
    stream = StreamSettings(
        max_cells=16,
        window=WindowSettings(vision_low=1200, vision_high=1500, text_low=300, text_high=400),
        speaking=SpeakingSettings(max_comment_tokens=4, max_answer_tokens=4),
    )
    return str(make_checkpoint(tmp_path_factory.mktemp("app") / "fake", stream=stream))


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_clip(tmp_path_factory.mktemp("app") / "clip.mp4", num_frames=75))


def run(capsysbinary: pytest.CaptureFixture[bytes], *arguments: object) -> Ran:
    code = app.run([str(argument) for argument in arguments])
    caught = capsysbinary.readouterr()
    return Ran(code, caught.out.decode(), caught.err.decode())


Capsys = pytest.CaptureFixture[bytes]


def test_help_lists_the_commands_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, app\ncode = app.run(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == "[] 0\n"
    assert all(name in done.stdout for name in ("replay", "ask", "verify", "doctor"))


def test_no_command_opens_the_page(capsysbinary: Capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[str] = []
    monkeypatch.setattr("ui.serve.serve_page", lambda path, overrides, serving, **options: served.append(serving.host))
    assert run(capsysbinary).code == 0
    assert served == ["127.0.0.1"]


def test_replay_prints_remarks_answers_and_a_summary(capsysbinary: Capsys, fake: str, clip: str) -> None:
    done = run(capsysbinary, "replay", clip, "--model", fake, "--ask", "1.2:What is there?")
    assert done.code == 0, done.err
    assert "[00:01.0] Q: What is there?\n[00:01.0] A: " in done.out
    assert "frames     read 75, sampled 6, used 6, empty 0" in done.out
    assert "[00:00.0] opened: " in done.err and "ended: 75 frames read" in done.err


def test_with_json_the_output_is_events_and_nothing_else(capsysbinary: Capsys, fake: str, clip: str) -> None:
    done = run(capsysbinary, "replay", clip, "--model", fake, "--ask", "1:A?", "--ask", "99:B?", "--json")
    assert done.code == 0, done.err
    kinds = done.kinds()
    assert (kinds[0], kinds[-1]) == ("opened", "ended") and {"answer", "unasked"} <= set(kinds)
    assert "sampled 6" in done.err


def test_files_hold_what_the_output_says(capsysbinary: Capsys, tmp_path: Path, fake: str, clip: str) -> None:
    files = [tmp_path / name for name in ("events.jsonl", "said.vtt", "said.srt")]
    options = ["--out", files[0], "--vtt", files[1], "--srt", files[2], "--ask", "1:A?"]
    done = run(capsysbinary, "replay", clip, "--model", fake, "--json", *options)
    assert list(read_events(files[0])) == done.events()
    assert "Q: A?" in files[1].read_text() and "Q: A?" in files[2].read_text()


def test_the_same_recording_gives_the_same_events(capsysbinary: Capsys, fake: str) -> None:
    def once() -> list[StreamEvent]:
        done = run(capsysbinary, "replay", "synthetic:3", "--end", "4", "--model", fake, "--json")
        assert done.code == 0, done.err
        return done.events()

    def timeless(events: Sequence[StreamEvent]) -> list[dict[str, object]]:
        return [{**event.as_dict(), "latency_ms": None} for event in events]

    assert timeless(once()) == timeless(once())


def test_a_loop_evicts_and_ends_whole(capsysbinary: Capsys, fake: str, clip: str) -> None:
    done = run(capsysbinary, "replay", clip, "--model", fake, "--loop", "25", "--json")
    kinds = done.kinds()
    assert done.code == 0 and kinds.count("looped") == 24 and "evicted" in kinds and kinds[-1] == "ended"


def test_masks_start_end_and_yaml_go_through(capsysbinary: Capsys, tmp_path: Path, fake: str, clip: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: {{name: {fake}}}\nsource: {{fps: 5, start_s: 2, masks: [{{rectangle: [0, 0, 1, 0.5]}}]}}"
    )
    done = run(capsysbinary, "replay", clip, "--config", config, "--start", "1", "--end", "2")
    assert done.code == 0 and "sampled 5" in done.out, done.err


def test_ask_prints_the_answer(capsysbinary: Capsys, tmp_path: Path, fake: str, clip: str) -> None:
    from PIL import Image

    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    done = run(capsysbinary, "ask", "What?", "--image", tmp_path / "red.png", "--video", clip, "--model", fake)
    assert done.code == 0 and done.out.endswith("\n") and done.err == ""


def test_verify_passes_on_reference_cases(capsysbinary: Capsys) -> None:
    done = run(capsysbinary, "verify", ROOT / "tests" / "golden" / "tied", "--json")
    report = json.loads(done.out)
    assert done.code == 0 and report["passed"] and len(report["cases"]) == 4
    assert set(report["cases"][0]) == {"name", "mask_equal", "max_logit_error", "greedy_equal", "passed"}


def test_verify_fails_on_another_models_cases(capsysbinary: Capsys, tmp_path: Path) -> None:
    golden = ROOT / "tests" / "golden"
    for path in (golden / "tied").iterdir():
        mixed = golden / "untied" / path.name if path.name.startswith("stream_") else path
        (tmp_path / path.name).symlink_to(mixed)
    done = run(capsysbinary, "verify", tmp_path)
    assert done.code == 1 and "stream_exact" in done.out


def test_doctor_says_what_is_there_and_what_is_not(capsysbinary: Capsys, fake: str) -> None:
    done = run(capsysbinary, "doctor", "--model", fake, "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.out)["findings"]}
    assert done.code == 0 and findings["model"]["ok"] and "h264" in findings["decoders"]["found"]
    done = run(capsysbinary, "doctor", "--model", "/nowhere")
    assert done.code == 1 and "!! model" in done.out and "not ready" in done.out


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["/nowhere.mp4"], ["/nowhere.mp4", "no such file"]),
        (["rtsp://admin:hunter2@127.0.0.1:1/live"], ["127.0.0.1", "***"]),
        (["ftp://admin:hunter2@host/x"], ["ftp", "***"]),
        (["webcam:zero"], ["webcam:zero"]),
        (["synthetic:"], ["synthetic:"]),
        (["sample:moon"], ["sample:moon", "sample:world"]),
        (["CLIP", "--ask", "When?"], ["--ask 'When?'", "SECONDS:QUESTION"]),
        (["CLIP", "--mask", "1,2"], ["--mask '1,2'"]),
        (["CLIP", "--mask", "px:500,500,10,10"], ["outside the picture"]),
        (["CLIP", "--fps", "0"], ["fps 0"]),
        (["CLIP", "--fps", "abc"], ["--fps 'abc': "]),
        (["CLIP", "--loop=x"], ["--loop 'x': "]),
        (["CLIP", "--threads", "0"], ["threads 0"]),
        (["CLIP", "--speed", "fast"], ["'fast'", "max"]),
        (["CLIP", "--start", "99"], ["99", "3.0 s long"]),
        (["CLIP", "--start", "2", "--end", "1"], ["end_s 1"]),
        (["CLIP", "--loop", "0"], ["loop 0"]),
        (["CLIP", "--talkative", "nan"], ["talkative"]),
        (["CLIP", "--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["CLIP", "--out", "/nowhere/e.jsonl"], ["/nowhere/e.jsonl"]),
        (["CLIP", "--vtt", "/nowhere/e.vtt"], ["/nowhere/e.vtt"]),
        (["CLIP", "--model", "/nowhere"], ["/nowhere", "no such folder"]),
        (["CLIP", "--device", "tpu"], ["'tpu'"]),
        (["CLIP", "--dtype", "int8"], ["'int8'"]),
        (["CLIP", "--out", "CLIP"], ["the recording itself"]),
        (["CLIP", "--vtt", "/tmp/../tmp/one.txt", "--srt", "/tmp/one.txt"], ["another output"]),
        (["webcam:0", "--start", "3"], ["start_s", "live"]),
        (["CLIP", "--loudness", "11"], ["--loudness"]),
        ([], ["source"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsysbinary: Capsys, fake: str, clip: str, options: list[str], names: list[str]
) -> None:
    arguments = [clip if option == "CLIP" else option for option in options]
    if "--model" not in arguments and arguments:
        arguments += ["--model", fake]
    done = run(capsysbinary, "replay", *arguments)
    line = done.error_line()
    assert done.code == 2 and all(name in line for name in names), line
    assert "hunter2" not in line and "Traceback" not in line
    assert Path(clip).stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [([" "], "question ' '"), (["What?", "--fps", "nan"], "fps nan"), (["What?", "--fps", "99"], "fps 99")],
)
def test_a_question_without_words_and_a_wrong_rate_are_named(
    capsysbinary: Capsys, fake: str, arguments: list[str], name: str
) -> None:
    done = run(capsysbinary, "ask", *arguments, "--model", fake)
    assert done.code == 2 and name in done.error_line()


@pytest.mark.parametrize(("option", "value"), [("--device", "tpu"), ("--dtype", "int8"), ("--threads", "0")])
def test_evaluate_and_calibrate_know_the_model_options_of_replay(
    capsysbinary: Capsys, fake: str, option: str, value: str
) -> None:
    for command in (["evaluate", "--model", fake], ["calibrate", fake]):
        done = run(capsysbinary, *command, option, value)
        assert done.code == 2 and f"model.{option[2:]} " in done.error_line(), done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is of Linux")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_full_disk_behind_the_output_is_one_line(fake: str, options: list[str]) -> None:
    arguments = [sys.executable, "app.py", "replay", "synthetic:1", "--end", "1", "--model", fake, *options]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(arguments, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and "standard output: No space left" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_a_hub_name_in_offline_mode_is_told_so(tmp_path: Path) -> None:
    arguments = [sys.executable, "app.py", "replay", "synthetic:1", "--model", "nobody/nothing"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "HF_HUB_OFFLINE is set" in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_files_that_are_no_videos_are_named(capsysbinary: Capsys, tmp_path: Path, fake: str) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "notes.mp4").write_text("not a video")
    cut(write_clip(tmp_path / "cut.mp4"), 0.5)
    write_sound(tmp_path / "sound.m4a")
    for path in tmp_path.iterdir():
        done = run(capsysbinary, "replay", path, "--model", fake)
        assert done.code == 2 and path.name in done.error_line()


def test_a_damaged_checkpoint_names_what_is_missing(capsysbinary: Capsys, tmp_path: Path, clip: str) -> None:
    folder = make_checkpoint(tmp_path / "sharded", num_shards=3)
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    done = run(capsysbinary, "replay", clip, "--model", folder)
    assert done.code == 2 and shard.name in done.error_line()
    shard.unlink()
    done = run(capsysbinary, "replay", clip, "--model", folder)
    assert done.code == 2 and shard.name in done.error_line()


@pytest.mark.parametrize("size_px", [(28, 28), (1600, 100), (101, 75)])
def test_odd_pictures_are_watched(capsysbinary: Capsys, tmp_path: Path, fake: str, size_px: tuple[int, int]) -> None:
    odd = size_px[0] % 2 == 1
    path = write_clip(
        tmp_path / "odd.mkv", num_frames=13, size_px=size_px, codec="ffv1" if odd else "libx264",
        pix_fmt="yuv444p" if odd else "yuv420p",
    )  # fmt: skip
    done = run(capsysbinary, "replay", path, "--model", fake)
    assert done.code == 0 and "read 13" in done.out, done.err


@pytest.mark.parametrize("size_px", [(1, 1), (4000, 100), (100, 4000), (27, 64)])
def test_pictures_that_nothing_could_be_seen_of_are_refused(
    capsysbinary: Capsys, tmp_path: Path, fake: str, size_px: tuple[int, int]
) -> None:
    out = tmp_path / "events.jsonl"
    out.write_text("an earlier run\n")
    for name in ("picture.png", "clip.mkv"):
        path = tmp_path / name
        if name == "picture.png":
            Image.new("RGB", size_px).save(path)
        else:
            write_clip(path, num_frames=3, size_px=size_px, codec="ffv1", pix_fmt="bgr0")
        done = run(capsysbinary, "replay", path, "--model", fake, "--out", out)
        line = done.error_line()
        assert done.code == 2 and f"{name}: a picture of {size_px[0]} x {size_px[1]}" in line
        assert "28 px" in line or "16 times" in line
        assert out.read_text() == "an earlier run\n", "a refusal costs nothing that was written before"
    whole = tmp_path / "whole.png"
    Image.new("RGB", (64, 64)).save(whole)
    done = run(capsysbinary, "ask", "?", "--image", whole, "--video", tmp_path / "clip.mkv", "--model", fake)
    assert done.code == 2 and f"clip.mkv: a picture of {size_px[0]} x {size_px[1]}" in done.error_line()
    if size_px != (27, 64):  # a still picture's cells have half the side
        pictures = ["--image", whole, "--image", tmp_path / "picture.png"]
        done = run(capsysbinary, "ask", "What?", *pictures, "--model", fake)
        assert done.code == 2 and f"picture.png: a picture of {size_px[0]} x {size_px[1]}" in done.error_line()


def test_timestamps_that_jump_back_are_refused_before_anything_is_watched(
    capsysbinary: Capsys, tmp_path: Path, fake: str
) -> None:
    path, out = write_joined(tmp_path / "joined.ts", [30, 30]), tmp_path / "events.jsonl"
    out.write_text("an earlier run\n")
    for arguments in (["replay", path, "--out", out], ["ask", "What?", "--video", path]):
        done = run(capsysbinary, *arguments, "--model", fake)
        assert done.code == 2
        assert "joined.ts: its timestamps jump back by 1.16 s after 1.16 s" in done.error_line()
        assert "--jumps follow" in done.err
    assert out.read_text() == "an earlier run\n"
    done = run(capsysbinary, "replay", path, "--jumps", "skip", "--model", fake)
    assert done.code == 2 and "source.jumps 'skip': it should be 'refuse' or 'follow'" in done.error_line()


def test_timestamps_that_jump_back_are_followed_where_that_is_wanted(
    capsysbinary: Capsys, tmp_path: Path, fake: str
) -> None:
    path, config = write_joined(tmp_path / "joined.ts", [30, 30]), tmp_path / "follow.yaml"
    config.write_text("source: {jumps: follow}\n")
    for wanted in (["--jumps", "follow"], ["--config", config]):
        done = run(capsysbinary, "replay", path, "--model", fake, "--json", *wanted)
        times = [event.time_s for event in done.events()]
        assert done.code == 0 and "gap" in done.kinds() and times == sorted(times)
        warning = done.err.splitlines()[-1]
        assert warning.startswith("warning: ") and "jump back once, first at" in warning
    done = run(capsysbinary, "ask", "What?", "--video", path, "--model", fake, "--jumps", "follow")
    assert done.code == 0 and done.out.strip() and "jump back once" in done.err


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--model", "/nowhere"], "/nowhere"),
        (["--config", "small.yaml"], "vision_low 100"),
        (["--start", "99"], "99"),
    ],
)
def test_a_mistake_costs_nothing_that_an_earlier_run_wrote(
    capsysbinary: Capsys, tmp_path: Path, fake: str, clip: str, options: list[str], name: str
) -> None:
    (tmp_path / "small.yaml").write_text("model: {stream: {window: {vision_low: 100, vision_high: 200}}}\n")
    options = [str(tmp_path / option) if option == "small.yaml" else option for option in options]
    options += [] if "--model" in options else ["--model", fake]
    paths = {"--out": tmp_path / "e.jsonl", "--vtt": tmp_path / "s.vtt", "--srt": tmp_path / "s.srt"}
    for option, path in paths.items():
        path.write_text("an earlier run\n")
        options += [option, str(path)]
    done = run(capsysbinary, "replay", clip, *options)
    assert done.code == 2 and name in done.error_line(), "found before the stream opens"
    assert [path.read_text() for path in paths.values()] == ["an earlier run\n"] * 3


def test_garbage_inside_a_file_is_owned_up_to_in_the_end(capsysbinary: Capsys, tmp_path: Path, fake: str) -> None:
    path = damage(write_clip(tmp_path / "harmed.mp4", num_frames=100, gop=25, paint=noise), 0.4, 0.45)
    done = run(capsysbinary, "replay", path, "--model", fake)
    assert done.code == 0 and "damaged" in done.err
    assert done.err.splitlines()[-1].startswith(f"warning: {path}: ") and "the rest was seen" in done.err


def test_a_question_about_a_cut_clip_warns(capsysbinary: Capsys, tmp_path: Path, fake: str) -> None:
    path = cut(write_clip(tmp_path / "cut.mkv", num_frames=150), 0.5)
    done = run(capsysbinary, "ask", "What?", "--video", path, "--model", fake)
    assert done.code == 0 and done.err.startswith(f"warning: {path}: ") and "stands" in done.err


def test_a_file_that_breaks_in_the_middle_keeps_what_was_seen(capsysbinary: Capsys, tmp_path: Path, fake: str) -> None:
    path = cut(write_clip(tmp_path / "broken.mkv", num_frames=150), 0.5)
    out = tmp_path / "events.jsonl"
    done = run(capsysbinary, "replay", path, "--model", fake, "--out", out)
    told = [event for event in read_events(out) if isinstance(event, StatusEvent)]
    assert done.code == 0 and "warning: " in done.err and "sampled" in done.out
    assert any(event.kind.value in ("damaged", "broken") for event in told) and told[-1].kind.value == "ended"


def noise(index: int, width_px: int, height_px: int) -> np.ndarray:
    """A picture so hard to compress that the file is nearly all pictures."""
    return np.random.default_rng(index).integers(0, 255, (height_px, width_px, 3), np.uint8)


def test_a_file_in_which_nothing_can_be_read_is_exit_code_3(capsysbinary: Capsys, tmp_path: Path, fake: str) -> None:
    path = damage(write_clip(tmp_path / "noise.mp4", num_frames=50, gop=50, paint=noise), 0.005, 0.985)
    done = run(capsysbinary, "replay", path, "--model", fake)
    assert done.code == 3 and "noise.mp4" in done.err and "Traceback" not in done.err, (done.code, done.err)


def test_ctrl_c_ends_the_run_with_summary_and_whole_files(tmp_path: Path, fake: str, clip: str) -> None:
    out = tmp_path / "events.jsonl"
    options = ["--model", fake, "--loop", "100000", "--out", str(out), "--json"]
    with subprocess.Popen(
        [sys.executable, "app.py", "replay", clip, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        late = threading.Timer(100, process.kill)
        late.start()
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate()
        late.cancel()
        late.join()
    events = list(read_events(out))
    assert process.returncode == 0, errors
    assert "stopped by request" in events[-1].reason and "sampled" in errors
    printed = [event_from_dict(json.loads(line)) for line in io.StringIO("".join(seen) + rest)]
    assert printed == events
