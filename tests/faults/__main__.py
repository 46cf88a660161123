"""Runs the faults and prints a summary: `python -m tests.faults --json`. Exits with 1 if a rule did not hold."""

from __future__ import annotations

import argparse
import fnmatch
import json
import logging
import sys
import time

from tests.faults.case import Fault, Outcome, try_fault
from tests.faults.cases import FAULTS


def main() -> int:
    """Run the selected faults, one after another."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object on standard output")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names of the faults to run, as 'server_*'")
    parser.add_argument("--quick", action="store_true", help="only the faults that are also part of the test suite")
    parser.add_argument("--without-rtsp", action="store_true", help="only the faults that need no RTSP server")
    parser.add_argument("--log", action="store_true", help="also print the program's log to standard error")
    parser.add_argument("--list", action="store_true", help="list the faults without running them")
    arguments = parser.parse_args()
    wanted = [
        fault
        for fault in FAULTS.all.values()
        if fnmatch.fnmatch(fault.name, arguments.only)
        and (fault.is_quick or not arguments.quick)
        and not (fault.needs_rtsp and arguments.without_rtsp)
    ]
    if arguments.list:
        for fault in wanted:
            print(f"{fault.name}{' (quick)' if fault.is_quick else ''}: {fault.rule}")
        return 0
    if not wanted:
        parser.error(f"--only {arguments.only!r}: no fault has such a name; see --list")
    if not arguments.log:
        logging.getLogger().addHandler(logging.NullHandler())
    return _try_all(wanted, as_json=arguments.json)


def _try_all(wanted: list[Fault], *, as_json: bool) -> int:
    outcomes: list[Outcome] = []
    began_s = time.monotonic()
    for fault in wanted:
        outcome = try_fault(fault)
        outcomes.append(outcome)
        measured = ", ".join(f"{name} {value}" for name, value in outcome.measured.items())
        line = f"{'held' if outcome.held else 'BROKEN':6} {outcome.seconds:6.1f} s  {outcome.name}  {measured}"
        print(line if outcome.held else f"{line}\n{outcome.failure}", file=sys.stderr, flush=True)
    num_held = sum(outcome.held for outcome in outcomes)
    seconds = round(time.monotonic() - began_s, 1)
    if as_json:
        cases = [outcome.as_dict() for outcome in outcomes]
        print(json.dumps({"held": num_held, "tried": len(outcomes), "seconds": seconds, "cases": cases}, indent=1))
    else:
        print(f"{num_held} of {len(outcomes)} held, {seconds:.0f} s")
    return 0 if num_held == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
