"""Fault runs: each causes a fault of a camera, network, disk or model in the running program and checks a rule.

`python -m tests.faults --json` runs all and prints a summary; `--list` describes them.
"""
