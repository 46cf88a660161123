"""Skips the tests that need a real RTSP server where none can be started."""

from __future__ import annotations

import functools
import subprocess

import pytest

from tests.streaming.rtsp import PYTHON, RTSP_PACKAGES

# It runs under the system's Python, which alone has GStreamer's bindings.
collect_ignore = ["rtsp_server.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("needs_rtsp") and (missing := _missing_for_rtsp()):
            item.add_marker(pytest.mark.skip(reason=missing))


@functools.cache
def _missing_for_rtsp() -> str:
    """Why no RTSP server can be started here; empty if one can."""
    script = (
        "import gi\n"
        "gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')\n"
        "from gi.repository import Gst, GstRtspServer\n"
        "Gst.init(None)\n"
        "names = ['x264enc', 'h264parse', 'rtph264pay', 'qtdemux', 'videotestsrc']\n"
        "missing = [name for name in names if Gst.ElementFactory.find(name) is None]\n"
        "raise SystemExit(f'no {missing}' if missing else 0)\n"
    )
    try:
        done = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, timeout=60)
    except OSError as error:
        return f"needs_rtsp: {error}; apt-get install {RTSP_PACKAGES}"
    if done.returncode == 0:
        return ""
    last_line = (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return f"needs_rtsp: {last_line}; apt-get install {RTSP_PACKAGES}"
