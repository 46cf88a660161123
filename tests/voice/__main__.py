"""Measures voice on this machine: `python -m tests.voice --json`. Needs Debian's espeak-ng, flite
for better voices, and the speech extra."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from assistant.speech.recognisers import why_deaf
from tests.speech.espeak import missing
from tests.voice.measures import delays, false_wakes, memory, own_voice, word_error_rates

PARTS = ("words", "delays", "wakes", "own", "memory")


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m tests.voice", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"among {','.join(PARTS)}")
    parser.add_argument("--questions", type=int, default=64, help="how many questions, at most 64")
    parser.add_argument("--noise", default="none,20,10", help="signal to noise of the questions, decibels")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the talk without the wake phrase")
    parser.add_argument("--pairs", action="store_true", help="what was said and heard where they differ")
    given = parser.parse_args()
    if lacks := missing() or why_deaf():
        sys.exit(lacks)
    wanted = given.parts.split(",")
    snrs_db = [None if snr == "none" else float(snr) for snr in given.noise.split(",")]
    found: dict[str, Any] = {}
    if "words" in wanted:
        found["word_error_rate"] = word_error_rates(given.questions, snrs_db, pairs=given.pairs)
    if "delays" in wanted:
        found["delays_s"] = delays()
    if "wakes" in wanted:
        found["false_wakes"] = false_wakes(given.minutes)
    if "own" in wanted:
        found["own_voice"] = own_voice()
    if "memory" in wanted:
        found["memory"] = memory()
    print(json.dumps(found) if given.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
