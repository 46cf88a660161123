"""Errors of the `assistant` package.

AssistantError
├── ConfigError     a value of the configuration or the command line breaks its rule
├── StoreError      events cannot be written or read back
└── NothingToSee    a source opened but gave no frame
"""

from __future__ import annotations


class AssistantError(Exception):
    """Base class of the errors that this package raises. Messages give the value, the rule and the remedy."""


class ConfigError(AssistantError):
    """A value of the configuration or the command line breaks its rule."""


class StoreError(AssistantError):
    """Events cannot be written, or stored events cannot be read back."""


class NothingToSee(AssistantError):
    """A source opened but gave no frame."""
