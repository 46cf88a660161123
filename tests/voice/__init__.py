"""Measures voice: `python -m tests.voice`."""
