"""The engine: owns the model on one thread and advances the jobs of N sessions, one forward pass of each job at a
time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from models.checkpoint.devices import wait_for
from models.checkpoint.settings import StreamSettings
from models.checkpoint.types import ModelInfo
from models.errors import LogitsError
from models.eviction import WindowSettings
from models.session.cache import KeyTap
from models.session.context import Chunks
from models.session.frame_encoder import PruningMode
from models.session.media_turns import Attachment, Clip
from models.session.memory import (
    ask_working_bytes,
    cache_bytes,
    default_limit,
    embedding_bytes,
    model_info,
    question_tokens,
    session_bytes,
    session_working_bytes,
)
from models.session.runtime import Runtime
from models.session.session import Session
from models.session.steps import Forward, Job, Output, Pause, StepGenerator, Steps, as_steps
from models.session.token_sampling import TokenSampler
from models.session.tokenizer import StreamTokenizer
from models.session.turns import Utterance
from models.vision import VisionEncoder

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint

T = TypeVar("T")

ClipParts = tuple[Sequence[np.ndarray], Sequence[float]]
"""Frames, uint8 RGB `[height, width, 3]`, and their times in seconds."""
MAX_ASK_TOKENS = 12288
"""Most visual tokens of a question outside any session, over all its pictures; the trained context is 16,384 tokens."""


class Engine:
    """Runs the model. The engine and everything it creates are used from one thread."""

    def __init__(self, checkpoint: Checkpoint, *, now: Callable[[], float] = time.monotonic) -> None:
        """now: wall clock of the process in seconds, for timings and `first_token_at`."""
        self.checkpoint = checkpoint
        self._now = now
        self._tap = KeyTap(checkpoint.model)
        self._runtime = Runtime(checkpoint, VisionEncoder(checkpoint.model), StreamTokenizer(checkpoint), now)

    def close(self) -> None:
        """Remove the engine's hooks from the checkpoint's model."""
        self._tap.remove()

    @property
    def info(self) -> ModelInfo:
        """Name, device, dtype and sizes of the checkpoint, for display."""
        return model_info(self.checkpoint)

    @property
    def stream(self) -> StreamSettings:
        """The checkpoint's own settings for live sessions."""
        return self.checkpoint.stream

    def session_bytes(self, settings: StreamSettings) -> int:
        """Upper bound of the memory of a session with these settings, in bytes."""
        return session_bytes(self.checkpoint, settings)

    def working_bytes(self, settings: StreamSettings) -> int:
        """Upper bound of what a step of a session with these settings takes beside `session_bytes`, in bytes.

        The engine takes one step at a time, so of several sessions the largest bound counts.
        """
        return session_working_bytes(self.checkpoint, settings)

    def ask_working_bytes(
        self, question: str, images: Sequence[np.ndarray] = (), clips: Sequence[ClipParts] = ()
    ) -> int:
        """The same for `ask`, beside `ask_bytes`."""
        vision, frames = self.checkpoint.vision, [frame for frames, _ in clips for frame in frames]
        sizes = [((image.shape[1], image.shape[0]), vision.image_merge) for image in images]
        sizes += [((frame.shape[1], frame.shape[0]), vision.video_merge) for frame in frames]
        num_tokens = self._ask_tokens(question, len(sizes), None)
        return ask_working_bytes(self.checkpoint, num_tokens, sizes, MAX_ASK_TOKENS // max(1, len(sizes)))

    def ask_bytes(self, question: str, images: Sequence[np.ndarray] = (), clips: Sequence[ClipParts] = ()) -> int:
        """Upper bound of the memory of `ask`, in bytes; on a CPU the pictures themselves are included."""
        checkpoint, num_pictures = self.checkpoint, len(images) + sum(len(frames) for frames, _ in clips)
        num_bytes = cache_bytes(checkpoint, self._ask_tokens(question, num_pictures, None))
        num_bytes += (MAX_ASK_TOKENS * (num_pictures > 0)) * embedding_bytes(checkpoint)
        if checkpoint.device.type == "cpu":
            num_bytes += sum(image.nbytes for image in images)
            num_bytes += sum(frame.nbytes for frames, _ in clips for frame in frames)
        return num_bytes

    @property
    def memory_limit(self) -> int | None:
        """Default limit for the memory of all sessions together, in bytes; `None` for no limit."""
        return default_limit(self.checkpoint)

    def open_session(
        self,
        settings: StreamSettings | None = None,
        *,
        system: str | None = None,
        instruction: str | None = None,
        pruning: PruningMode = "live",
        sampler: TokenSampler | None = None,
        chunks: Chunks | None = None,
        most_tokens: int | None = None,
    ) -> Session:
        """Create a session for one stream; nothing is prefilled yet.

        settings: the checkpoint's own where `None`. A window equal to the checkpoint's is widened where it is too small
        for the grid; any other window was chosen by the user and is refused instead. system: an empty string for no
        system turn. sampler: greedy where `None`. most_tokens: capacity of the cache in tokens; derived from the
        windows where `None`.
        """
        settings = settings or self.checkpoint.stream
        return Session(
            self._runtime,
            settings,
            widen_window=settings.window == self.checkpoint.stream.window,
            system=system,
            instruction=instruction,
            pruning=pruning,
            sampler=sampler,
            chunks=chunks,
            most_tokens=most_tokens,
        )

    def step(self, jobs: Sequence[Job[Any]]) -> list[Job[Any]]:
        """Advance each unfinished job by one forward pass, or one part of other work; returns the jobs still
        unfinished.

        An error inside a job is kept in that job.
        """
        with torch.inference_mode():
            for job in jobs:
                if not job.done:
                    self._advance(job)
        return [job for job in jobs if not job.done]

    def run(self, steps: Steps[T], on_piece: Callable[[str], None] | None = None) -> T:
        """Run one job to its end and return its result; raises the job's error."""
        job: Job[T] = Job(steps)
        while not job.done:
            self.step([job])
            for piece in job.take_pieces():
                if on_piece is not None:
                    on_piece(piece)
        return job.outcome()

    @as_steps
    def ask(
        self,
        question: str,
        images: Sequence[np.ndarray] = (),
        clips: Sequence[ClipParts] = (),
        *,
        system: str | None = None,
        max_tokens: int | None = None,
    ) -> StepGenerator[Utterance]:
        """Answer one question about images, clips or both outside any stream, in the published formats; yields text
        pieces.

        images: uint8 RGB `[height, width, 3]`. clips: frames with their times in seconds. All pictures together take at
        most 12,288 visual tokens; their grids shrink to fit.
        """
        room = 4 * MAX_ASK_TOKENS
        window = WindowSettings(vision_low=room, vision_high=2 * room, text_low=4096, text_high=8192)
        pictures: list[Attachment] = [*images, *(Clip(frames, times_s) for frames, times_s in clips)]
        num_pictures = len(images) + sum(len(frames) for frames, _ in clips)
        session = self.open_session(
            replace(self.checkpoint.stream, window=window),
            system=system,
            most_tokens=self._ask_tokens(question + (system or ""), num_pictures, max_tokens),
        )
        kept = bool(pictures)
        return (yield from session.answer(question, pictures, keep_attachments=kept, max_tokens=max_tokens))

    def _ask_tokens(self, question: str, num_pictures: int, max_answer: int | None) -> int:
        limit = max_answer or self.checkpoint.stream.speaking.max_answer_tokens
        return question_tokens(question, num_pictures, MAX_ASK_TOKENS, limit)

    def _advance(self, job: Job[Any]) -> None:
        """Run one step of a job and wait for the device, so that measured times include the work that was launched."""
        if isinstance(job.request, Pause):
            job.resume(None)
        else:
            if job.request is None:
                job.begin()
            if isinstance(job.request, Forward):
                self._serve(job, job.request)
        try:
            wait_for(self.checkpoint.device)
        except Exception as error:  # the launched work failed on the device
            job.fail(error)

    def _serve(self, job: Job[Any], request: Forward) -> None:
        before = request.cache.length
        try:
            output = self._forward(request)
        except Exception as error:  # out of memory, for example; the job's owner raises it
            request.cache.truncate(before)
            job.fail(error)
            return
        job.resume(output)

    def _forward(self, request: Forward) -> Output:
        started_at = self._runtime.now_done()
        model, cache = self.checkpoint.model, request.cache
        num_tokens = len(request.embeddings)
        positions = torch.arange(cache.length, cache.length + num_tokens, device=request.embeddings.device)
        with self._tap.feeding(cache):
            hidden = model.model.language_model(
                inputs_embeds=request.embeddings[None],
                position_ids=positions[None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[0]
        if cache.is_torn:
            raise RuntimeError(
                f"a forward pass updated only some layers of its cache: its {num_tokens} tokens are removed again"
            )
        rows = {"none": hidden[:0], "last": hidden[-1:], "all": hidden}[request.logits]
        logits = model.lm_head(rows)
        check_numbers(logits)
        return Output(logits, 1e3 * (self._runtime.now_done() - started_at))


def check_numbers(logits: torch.Tensor) -> None:
    """Raise `LogitsError` where logits are infinite or NaN: sampling would choose a token from them without an
    error."""
    if torch.isfinite(logits).all():
        return
    kind = str(logits.dtype).removeprefix("torch.")
    if logits.dtype == torch.float16:
        raise LogitsError(
            f"the model's outputs are not numbers in {kind}: values above 65,504 overflow it; use --dtype bfloat16, "
            "or float32 where the device has no bfloat16"
        )
    raise LogitsError(
        f"the model's outputs are not numbers in {kind}, which holds what its weights were trained with: they may be "
        "damaged; copy the checkpoint again"
    )
