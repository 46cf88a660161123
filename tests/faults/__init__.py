"""Faults that cameras, networks, disks and models have: each is tried, and what must hold then is checked.

`python -m tests.faults --json` tries them all and sums up; `--list` says what they are.
"""
