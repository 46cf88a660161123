"""The engine: owns the model on one thread and answers what the jobs of N sessions wait for, in packed passes."""

from __future__ import annotations

import logging
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
from models.network.decoder import Segment
from models.network.graphs import Capture, CudaCapture
from models.network.network import ModelNetwork, Network
from models.network.tower import FrameBatch
from models.network.work import part_cost
from models.session.context import Chunks, pass_tokens
from models.session.frame_encoder import PruningMode
from models.session.media_turns import Attachment, Clip
from models.session.memory import (
    WORDS_A_PICTURE,
    ask_working_bytes,
    cache_bytes,
    default_limit,
    embedding_bytes,
    model_info,
    question_tokens,
    session_bytes,
    session_tokens,
    session_working_bytes,
    slots_within,
)
from models.session.runtime import Runtime
from models.session.session import Session
from models.session.steps import (
    Encode,
    EncodeOutput,
    Forward,
    Job,
    Output,
    Pause,
    Reply,
    Request,
    StepGenerator,
    Steps,
    as_steps,
)
from models.session.token_sampling import TokenSampler
from models.session.tokenizer import StreamTokenizer
from models.session.turns import Utterance
from models.spans import SpanKind

if TYPE_CHECKING:
    from models.checkpoint.loader import Checkpoint

T = TypeVar("T")

ClipParts = tuple[Sequence[np.ndarray], Sequence[float]]
"""Frames, uint8 RGB `[height, width, 3]`, and their times in seconds."""
MAX_ASK_TOKENS = 12288
"""Most visual tokens of a question outside any session, over all its pictures; the trained context is 16,384 tokens."""
MOST_SLOTS = 64
"""Most sessions whose slots are set aside at start; later ones have buffers of their own."""

logger = logging.getLogger(__name__)


class Engine:
    """Runs the model. The engine and everything it creates are used from one thread."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        now: Callable[[], float] = time.monotonic,
        network: ModelNetwork | None = None,
    ) -> None:
        """now: wall clock of the process in seconds, for timings and `first_token_at`.

        network: what computes the passes, for comparisons with `models.network.reference`; the checkpoint's own
        `Network` where `None`.
        """
        self.checkpoint = checkpoint
        self._now = now
        self._network = network or Network(checkpoint.weights)
        self._runtime = Runtime(checkpoint, self._network, StreamTokenizer(checkpoint), now)

    def close(self) -> None:
        """Give the checkpoint's model back as it was."""
        self._network.close()

    def prepare(self, max_bytes: int | None = None) -> None:
        """On a CUDA device, set slots aside for as many sessions as fit `max_bytes`, and capture the steps on them.

        max_bytes: memory of all sessions; `None` for the default limit. Called once, before the first session.
        """
        checkpoint, limit = self.checkpoint, max_bytes or self.memory_limit
        if checkpoint.device.type != "cuda" or not isinstance(self._network, Network) or limit is None:
            return
        num_outside = self._ask_tokens("", 1, None)
        num_slots = min(MOST_SLOTS, slots_within(checkpoint, limit, num_outside))
        if num_slots:
            self._reserve(self._network, num_slots, CudaCapture())

    def _reserve(self, network: Network, num_slots: int, capture: Capture) -> None:
        started_s, total = self._now(), 0
        room = session_tokens(self.checkpoint.stream)
        with torch.inference_mode():
            for done, total in network.reserve(num_slots, room, capture):
                if done == 1:
                    logger.info("warming up: %d steps for up to %d sessions", total, num_slots)
        logger.info("warmed up: %d steps in %.1f s", total, self._now() - started_s)

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
        """Answer what the unfinished jobs wait for: one batch of frames, then one packed pass; returns the jobs still
        unfinished.

        Where not all requests fit a pass, those that waited longest go first, so none waits for more steps than there
        are other jobs. An error inside a job is kept in that job.
        """
        with torch.inference_mode():
            waiting = [job for job in jobs if not job.done]
            pausing = [job for job in waiting if isinstance(job.request, Pause)]
            for job in waiting:
                if job.request is None:
                    job.begin()
            self._answer(self._fitting(waiting, Encode, part_cost(self.checkpoint.device)))
            self._answer(self._fitting(waiting, Forward, pass_tokens(self.checkpoint.device)))
            for job in pausing:
                job.resume(None)
            self._await_device(waiting)
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
        earlier: Sequence[tuple[SpanKind, str]] = (),
        sampler: TokenSampler | None = None,
        max_tokens: int | None = None,
    ) -> StepGenerator[Utterance]:
        """Answer one question about images, clips or both outside any stream, in the published formats; yields text
        pieces.

        images: uint8 RGB `[height, width, 3]`. clips: frames with their times in seconds. All pictures together take at
        most 12,288 visual tokens; their grids shrink to fit. earlier: questions and answers that went before.
        """
        room = 4 * MAX_ASK_TOKENS
        window = WindowSettings(vision_low=room, vision_high=2 * room, text_low=4096, text_high=8192)
        pictures: list[Attachment] = [*images, *(Clip(frames, times_s) for frames, times_s in clips)]
        num_pictures = len(images) + sum(len(frames) for frames, _ in clips)
        session = self.open_session(
            replace(self.checkpoint.stream, window=window),
            system=system,
            sampler=sampler,
            most_tokens=self._ask_tokens(_all_text(question, system, earlier), num_pictures, max_tokens),
        )
        if earlier:
            yield from session.quote(earlier)
        kept = bool(pictures)
        return (yield from session.answer(question, pictures, keep_attachments=kept, max_tokens=max_tokens))

    def _ask_tokens(self, question: str, num_pictures: int, max_answer: int | None) -> int:
        limit = max_answer or self.checkpoint.stream.speaking.max_answer_tokens
        return question_tokens(question, num_pictures, MAX_ASK_TOKENS, limit)

    def _fitting(self, jobs: Sequence[Job[Any]], kind: type[Request], most: int) -> list[Job[Any]]:
        """The jobs whose requests of this kind fit one pass of `most` rows, at least one; the others wait."""
        asking = sorted((job for job in jobs if isinstance(job.request, kind)), key=lambda job: -job.num_waited)
        taken: list[Job[Any]] = []
        slots: set[int] = set()
        num_rows = 0
        for job in asking:
            assert isinstance(job.request, Forward | Encode)
            slot = id(job.request.cache) if isinstance(job.request, Forward) else id(job)
            if slot in slots or (taken and num_rows + _num_rows(job.request) > most):
                job.num_waited += 1
                continue
            num_rows += _num_rows(job.request)
            slots.add(slot)
            taken.append(job)
        return taken

    def _answer(self, jobs: Sequence[Job[Any]]) -> None:
        """Serve the jobs' requests, which are of one kind, and resume the jobs."""
        replies = self.serve([job.request for job in jobs if job.request is not None]) if jobs else []
        for job, reply in zip(jobs, replies, strict=True):
            if isinstance(reply, Exception):
                job.fail(reply)
            else:
                job.resume(reply)

    def serve(self, requests: Sequence[Request]) -> list[Reply | Exception]:
        """Serve requests of one kind in one pass: a reply or an error for each.

        A pass that fails is tried again request by request, so that only the one that fails has the error.
        """
        try:
            return self._serve_together(requests)
        except Exception as error:  # out of memory, for example; the job's owner raises it
            if len(requests) == 1:
                return [error]
        return [reply for request in requests for reply in self.serve([request])]

    def _serve_together(self, requests: Sequence[Request]) -> list[Reply | Exception]:
        if isinstance(requests[0], Encode):
            return self._encode([request for request in requests if isinstance(request, Encode)])
        return self._forward([request for request in requests if isinstance(request, Forward)])

    def _encode(self, requests: Sequence[Encode]) -> list[Reply | Exception]:
        started_at = self._runtime.now_done()
        batch = [FrameBatch(request.patches, request.grid) for request in requests]
        tokens = self._network.encoder.encode_batch(batch)
        elapsed_ms = 1e3 * (self._runtime.now_done() - started_at)
        return [EncodeOutput(part, elapsed_ms) for part in tokens]

    def _forward(self, requests: Sequence[Forward]) -> list[Reply | Exception]:
        started_at = self._runtime.now_done()
        before = [request.cache.length for request in requests]
        segments = [_segment(request) for request in requests]
        try:
            chosen = self._network.next_tokens(segments)
            rows = [one.logits for one in chosen] if chosen is not None else self._network.logits(segments)
        except BaseException:
            for request, length in zip(requests, before, strict=True):
                request.cache.truncate(length)
            raise
        elapsed_ms = 1e3 * (self._runtime.now_done() - started_at)
        replies: list[Reply | Exception] = []
        for number, (request, logits) in enumerate(zip(requests, rows, strict=True)):
            one = chosen[number] if chosen is not None else None
            if one is not None and one.is_finite:
                replies.append(Output(logits, elapsed_ms, likeliest=(one.token, one.logprob)))
                continue
            try:
                check_numbers(logits)
                replies.append(_output(request, logits, elapsed_ms))
            except LogitsError as error:
                request.cache.truncate(before[number])
                replies.append(error)
        return replies

    def _await_device(self, jobs: Sequence[Job[Any]]) -> None:
        """Wait for the device, so that measured times include the work that was launched."""
        try:
            wait_for(self.checkpoint.device)
        except Exception as error:  # the launched work failed on the device
            for job in jobs:
                if not job.done:
                    job.fail(error)


def _all_text(question: str, system: str | None, earlier: Sequence[tuple[SpanKind, str]]) -> str:
    """The text of a question outside any session, with room for the marks of each earlier turn."""
    return question + (system or "") + "".join(text + " " * WORDS_A_PICTURE for _, text in earlier)


def _num_rows(request: Forward | Encode) -> int:
    return request.num_rows if isinstance(request, Forward) else len(request.patches)


def _segment(request: Forward) -> Segment:
    """A request as a segment of a packed pass."""
    num_trunk = len(request.embeddings)
    wanted = {
        "none": [],
        "last": [num_trunk - 1] if num_trunk else [],
        "all": [*range(num_trunk)],
    }[request.logits]
    start = num_trunk
    for branch in request.branches:
        rows = range(start, start + len(branch))
        wanted += rows if request.branch_logits == "all" else rows[-1:]
        start += len(branch)
    embeddings = torch.cat([request.embeddings, *request.branches]) if request.branches else request.embeddings
    return Segment(request.cache, embeddings, tuple(wanted), tuple(map(len, request.branches)))


def _output(request: Forward, rows: torch.Tensor, elapsed_ms: float) -> Output:
    """A segment's logits, parted into those of the trunk and of each branch."""
    sizes = [len(branch) if request.branch_logits == "all" else 1 for branch in request.branches]
    trunk, *branches = rows.split([len(rows) - sum(sizes), *sizes])
    return Output(trunk, elapsed_ms, tuple(branches))


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
