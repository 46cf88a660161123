"""Kills a delivering process many times and prints what became of its alerts; exits with 1 if one was not told once."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.kills.killing import kill_often


def main() -> int:
    """Run the kills."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how often to kill it")
    parser.add_argument("--seed", type=int, default=1, help="of the instants at which it is killed")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        killed = kill_often(arguments.kills, Path(folder), arguments.seed)
    if arguments.json:
        print(json.dumps(killed.as_dict(), indent=1))
    else:
        print(
            f"{'held' if killed.held else 'BROKEN'}: {killed.kills} kills, {killed.before_delivery} of them between hit"
            f" and delivery, {killed.before_the_note} between delivery and its note; {killed.hits} alerts,"
            f" {killed.delivered} taken, {killed.repeated} repeated and recognised"
        )
    return 0 if killed.held else 1


if __name__ == "__main__":
    sys.exit(main())
