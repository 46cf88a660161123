"""A file of events is whole at every moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.errors import StoreError
from assistant.events import Comment, StreamEvent
from assistant.sinks import JsonLinesStore, read_events, to_line
from tests.assistant.test_events import events


def remark(number: int) -> Comment:
    return Comment(source="clip.mp4", time_s=number / 2, text=f"Remark {number}: größer.", frame_index=number)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(events, max_size=8))
def test_what_was_appended_is_read_back(tmp_path: Path, given_events: list[StreamEvent]) -> None:
    store = JsonLinesStore(tmp_path / "events.jsonl")
    for event in given_events:
        store.append(event)
    assert list(store.events()) == given_events
    store.close()


def test_each_event_is_in_the_file_as_soon_as_it_happened(tmp_path: Path) -> None:
    store = JsonLinesStore(tmp_path / "events.jsonl")
    for number in range(3):
        store.append(remark(number))
        assert list(read_events(store.path)) == [remark(n) for n in range(number + 1)]
    store.close()


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_file_cut_anywhere_gives_its_whole_lines(tmp_path: Path, data: st.DataObject) -> None:
    lines = [to_line(remark(number)) for number in range(4)]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    path = tmp_path / "cut.jsonl"
    path.write_bytes(whole[:cut])
    num_whole = sum(len(b"".join(lines[: n + 1])) <= cut for n in range(4))
    assert list(read_events(path)) == [remark(number) for number in range(num_whole)]


def test_a_killed_run_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom assistant.sinks import JsonLinesStore\n"
        "from tests.assistant.test_sinks import remark\n"
        "store = JsonLinesStore(Path(sys.argv[1]))\nnumber = 0\n"
        "while True:\n    store.append(remark(number))\n    number += 1\n"
        "    if number == 200: print('ready', flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_bytes().endswith(b"\n")
    found = list(read_events(path))
    assert len(found) >= 200 and found == [remark(number) for number in range(len(found))]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(to_line(remark(0)) + b"{]\n" + to_line(remark(1)))
    with pytest.raises(StoreError, match="line 2"):
        list(read_events(path))
    path.write_bytes(b"[]\n")
    with pytest.raises(StoreError, match="line 1: not an object"):
        list(read_events(path))


def test_where_nothing_can_be_written_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        JsonLinesStore(tmp_path / "nowhere" / "events.jsonl")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_not_a_loss() -> None:
    store = JsonLinesStore(Path("/dev/full"))
    with pytest.raises(StoreError, match="/dev/full"):
        store.append(remark(0))
    store.close()


def test_a_closed_store_takes_nothing(tmp_path: Path) -> None:
    store = JsonLinesStore(tmp_path / "events.jsonl")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append(remark(0))
