"""Settings that the model refuses, at the start or on SIGHUP: reported with the reason, and everything else goes on."""

from __future__ import annotations

import signal

from models.checkpoint.fake import make_checkpoint
from tests.faults.case import FAULTS, Measured
from tests.faults.lab import Lab, hold, wait_until
from tests.faults.program import START_S, Program


@FAULTS.add(
    """it has failed with the reason and the remedy, said once; nothing is tried again, and `watch` ends with 3
    and one line""",
    rtsp=False,
)
def rate_beyond_the_checkpoint(lab: Lab) -> Measured:
    """A camera's configuration asks for more frames per second than a checkpoint of the released layout can hold."""
    model = make_checkpoint(lab.folder / "released", layout="released")
    config = lab.folder / "cameras.yaml"
    config.write_text(
        f"model: {{name: '{model}'}}\ntimeline: {{folder: '{lab.folder / 'data'}'}}\n"
        "cameras: {door: {url: 'synthetic:3', fps: 8}}\n",
        encoding="utf-8",
    )
    with Program(lab.folder / "run", "watch", "--config", str(config), "--json") as program:
        took_s = wait_until(lambda: program.process.poll() is not None, START_S, "it ends")
        hold(program.process.returncode == 3, f"it ended with {program.process.returncode}: {program.err[-2000:]}")
        broken = [event["text"] for event in program.events() if event.get("kind") == "broken"]
        faults = [event for event in program.events() if event.get("kind") == "fault"]
    hold(len(broken) == 1 and "lower fps" in broken[0], f"it was said as: {broken}")
    hold(not faults and "Traceback" not in program.err, program.err[-2000:])
    hold(f"error: door: {broken[0]}" in program.err, program.err[-2000:])
    return {"ended_after_s": round(took_s, 2)}


@FAULTS.add(
    """the refusal is an event and a line of the log; what else was changed is in force, and frames are seen on
    without a fault""",
    rtsp=False,
)
def instruction_refused_on_reload(lab: Lab) -> Measured:
    """SIGHUP with a standing instruction longer than the text window, and a new talkativeness."""
    config = lab.folder / "cameras.yaml"

    def write(camera: str) -> None:
        folder = f"timeline: {{folder: '{lab.folder / 'data'}'}}"
        config.write_text(f"{folder}\ncameras: {{door: {{url: 'synthetic:3', {camera}}}}}\n", encoding="utf-8")

    write("instruct: Tell me of balls.")
    with Program(lab.folder / "run", "watch", "--config", str(config), "--json") as program:
        program.wait_for("opened")
        write(f"talkative: 1.0, instruct: '{'Ж' * 2000}'")
        program.process.send_signal(signal.SIGHUP)
        took_s = program.wait_for("refused", 30.0)
        program.wait_for("talkative", 10.0)
        wait_until(lambda: "not watched as configured: door" in program.err, 10.0, "the log says it")
        (refused,) = [event["text"] for event in program.events() if event.get("kind") == "refused"]
        hold("'Tell me of balls.' stays" in refused and "shorten it" in refused, f"it was said as: {refused}")
        wait_until(
            lambda: any(event["type"] == "comment" for event in program.events()) or program.process.poll() is not None,
            90.0,
            "a remark is made",
        )
        faults = [event for event in program.events() if event.get("kind") in ("fault", "broken")]
        hold(not faults, f"faults were said: {faults[:2]}")
    return {"said_after_s": round(took_s, 2)}
