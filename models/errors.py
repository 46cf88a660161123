"""Errors of the models room.

ModelError
├── CheckpointError        a checkpoint cannot be loaded as it is
│   ├── CheckpointNotFound
│   └── CheckpointDamaged
├── PromptError            a template or conversation cannot be rendered
├── VisionError            a picture cannot be tokenized
├── SessionError           a session's settings or state rule a request out
├── LogitsError            the model's outputs are infinite or NaN
└── SettingsError          a setting lies outside its allowed range
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of every error that the models room raises. Messages give the value, the rule, the remedy."""


class CheckpointError(ModelError):
    """A checkpoint cannot be loaded as it is."""


class CheckpointNotFound(CheckpointError):
    """Neither a folder nor a hub name leads to the checkpoint."""


class CheckpointDamaged(CheckpointError):
    """Files are missing or truncated, or hold tensors with other names or shapes than the configuration asks for."""


class PromptError(ModelError):
    """A template or a conversation cannot be rendered."""


class VisionError(ModelError):
    """A picture cannot be tokenized."""


class SessionError(ModelError):
    """A session's settings or state rule a request out."""


class LogitsError(ModelError):
    """The model's outputs are infinite or NaN: values overflow their type, or the weights are damaged."""


class SettingsError(ModelError):
    """A setting lies outside its allowed range."""
