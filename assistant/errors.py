"""Errors of the assistant room.

AssistantError
├── ConfigError     a value of the configuration or the command line lies outside its rule
├── StoreError      events cannot be written, or a file of events cannot be read back
└── NothingToSee    a source opened but gave no picture
"""

from __future__ import annotations


class AssistantError(Exception):
    """Root of everything the assistant room raises on purpose. Messages give the value, the rule, the remedy."""


class ConfigError(AssistantError):
    """A value of the configuration or the command line lies outside its rule."""


class StoreError(AssistantError):
    """Events cannot be written, or a file of events cannot be read back."""


class NothingToSee(AssistantError):
    """A source opened but gave no picture."""
