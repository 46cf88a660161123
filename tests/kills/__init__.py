"""Kills a process between a hit and its delivery, again and again: `python -m tests.kills --json`."""
