"""The `ask` command: one question about pictures and clips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import repeat
from pathlib import Path

from assistant.commands.setup import engine_of, named
from assistant.commands.terminal import warn
from assistant.config.app import AppConfig
from assistant.errors import ConfigError
from assistant.inputs.attachments import read_clip, read_picture
from assistant.inputs.sample_clips import resolve_sample

CLIP_FPS = 1.0
"""Default frames per second read from a clip."""


def answer_question(question: str, config: AppConfig, images: Sequence[Path], videos: Sequence[str]) -> None:
    """Print the answer piece by piece. images: picture files; videos: paths of recordings, or `sample:NAME`."""
    if not question.strip():
        raise ConfigError(f'question {question!r}: it is empty; ask in words, as "What is on the left?"')
    warnings: list[str] = []
    pictures = [read_picture(path, warnings.append) for path in images]
    read = partial(read_clip, fps=config.source.fps or CLIP_FPS, warn=warnings.append, jumps=config.source.jumps)
    clips = [read(resolve_sample(spec)) for spec in videos]

    engine = engine_of(config.model)
    vision = engine.checkpoint.vision
    for name, frame, merge in [
        *zip(images, pictures, repeat(vision.image_merge)),
        *zip(videos, (frames[0] for frames, _ in clips), repeat(vision.video_merge)),
    ]:
        with named(str(name)):
            vision.check_picture(frame.shape[1], frame.shape[0], merge=merge)
    steps = engine.ask(question, pictures, clips)
    engine.run(steps, on_piece=lambda piece: print(piece, end="", flush=True))
    print(flush=True)
    for line in warnings:
        warn(line)
