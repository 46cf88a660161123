"""Runs the quick fault cases in a separate process, since some set limits on their own process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.case import Faults, try_fault
from tests.faults.cases import FAULTS
from tests.faults.lab import Lab, hold
from tests.faults.vitals import Vitals, flatness

ROOT = Path(__file__).parent.parent.parent
QUICK = [fault for fault in FAULTS.all.values() if fault.is_quick]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Results of the selected fault cases, by name."""
    asked = {item.callspec.params["name"] for item in request.session.items if hasattr(item, "callspec")
             and item.path == Path(__file__) and not item.get_closest_marker("skip")}  # fmt: skip
    options = [] if any(fault.name in asked and fault.needs_rtsp for fault in QUICK) else ["--without-rtsp"]
    command = [sys.executable, "-m", "tests.faults", "--quick", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)
    assert done.stdout, done.stderr
    return {case["name"]: case for case in json.loads(done.stdout)["cases"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(fault.name, marks=[pytest.mark.needs_rtsp] if fault.needs_rtsp else []) for fault in QUICK],
)
def test_what_must_hold_does(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["held"], f"{outcome['rule']}\n{outcome['failure']}"


def test_every_fault_says_what_must_hold() -> None:
    assert len(FAULTS.all) >= 25
    for fault in FAULTS.all.values():
        assert fault.rule and fault.run.__doc__, f"{fault.name} does not say what it does, or what must hold"


def test_a_rule_that_does_not_hold_is_reported() -> None:
    faults = Faults()

    @faults.add("one is two", rtsp=False)
    def broken(lab: Lab) -> dict[str, float | int | str | bool]:
        hold(lab.folder.is_dir(), "there is no folder")
        hold(1 == 2, "one is not two")
        return {}

    outcome = try_fault(faults.all["broken"])
    assert (outcome.held, outcome.failure, outcome.rule) == (False, "one is not two", "one is two")
    with pytest.raises(ValueError, match="named twice"):
        faults.add("again", name="broken")(broken)


def test_growth_is_told_from_noise() -> None:
    steady = flatness([Vitals(100.0 + number % 3, 5, 10 + number % 2) for number in range(24)])
    growing = flatness([Vitals(100.0 + 2 * number, 5, 10 + number) for number in range(24)])
    warming = flatness([Vitals(50.0, 3, 5)] * 5 + [Vitals(100.0, 5, 10)] * 19)
    assert abs(steady.growth_mib) < 2 and steady.files == (10, 11)
    assert growing.growth_mib > 15 and growing.files[1] - growing.files[0] == 17
    assert warming.growth_mib == 0.0 and warming.threads == (5, 5)
