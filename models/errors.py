"""Errors of the models room.

ModelError
├── CheckpointError        a checkpoint cannot be loaded as it is
│   ├── CheckpointNotFound
│   └── CheckpointDamaged
├── PromptError            a template or conversation cannot be rendered
├── VisionError            a picture cannot be tokenized
├── SessionError           a session was asked for something its settings rule out
├── LogitsError            the model's outputs are not numbers
└── SettingsError          a value outside its rule
"""

from __future__ import annotations


class ModelError(Exception):
    """Root of everything the models room raises on purpose. Messages give the value, the rule, the remedy."""


class CheckpointError(ModelError):
    """A checkpoint cannot be loaded as it is."""


class CheckpointNotFound(CheckpointError):
    """No folder and no hub name leads to the checkpoint."""


class CheckpointDamaged(CheckpointError):
    """Files are missing, cut short, or hold tensors of other names or shapes than the configuration asks for."""


class PromptError(ModelError):
    """A template or a conversation cannot be rendered."""


class VisionError(ModelError):
    """A picture cannot be tokenized."""


class SessionError(ModelError):
    """A session was asked for something its settings rule out."""


class LogitsError(ModelError):
    """The model's outputs are not numbers: its values overflow their type, or its weights are damaged."""


class SettingsError(ModelError):
    """A value lies outside its rule."""
