"""Compare a checkpoint with reference outputs: feed the cases of a folder through a live session.

Each case is fed three times: with one pass per text and per frame; again in random chunks; and again with a yes/no fork
after every frame. Runs the model on the calling thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.checkpoint.files import read_json
from models.checkpoint.layouts import image_token_id
from models.checkpoint.loader import find_checkpoint, load_checkpoint
from models.checkpoint.types import SpecialIds
from models.engine import Engine
from models.errors import CheckpointDamaged, CheckpointNotFound
from models.eviction import WindowSettings
from models.session.context import Chunks, even_chunks
from models.session.session import Session

EXACT_TOLERANCE = 1e-4
RESIZED_TOLERANCE = 2e-2
"""Tolerance where frames are resized: the reference holds the result of its own resizing."""
CASES = "stream_*.safetensors"
NEEDED = ("frames", "input_ids", "grid_thw", "merge_size", "compression_mask", "logits", "greedy")
_PROBE_TOKENS = 7
"""Length of the question on a fork after a frame, in tokens."""


@dataclass(frozen=True, slots=True)
class CaseReport:
    """Result of one case: the worst of its three passes."""

    name: str
    mask_equal: bool
    max_logit_error: float
    greedy_equal: bool
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether masks are equal, logits within the tolerance and, where nothing is resized, the greedy continuation
        equal."""
        within = bool(self.max_logit_error <= self.tolerance)
        return self.mask_equal and within and (self.greedy_equal or self.tolerance > EXACT_TOLERANCE)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Results of all cases of a folder."""

    folder: Path
    cases: tuple[CaseReport, ...]

    @property
    def passed(self) -> bool:
        return all(case.passed for case in self.cases)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = ("name", "mask_equal", "max_logit_error", "greedy_equal", "passed")
        cases = [{name: getattr(case, name) for name in names} for case in self.cases]
        for case in cases:
            # JSON knows no infinity.
            case["max_logit_error"] = min(case["max_logit_error"], 1e30)
        return {"cases": cases, "passed": self.passed}

    def as_table(self) -> str:
        """The results as aligned columns for a terminal: one line per case and one for the total."""
        rows = [("case", "mask", "largest logit error", "continuation", "")]
        for case in self.cases:
            error = f"{case.max_logit_error:.1e} (at most {case.tolerance:.0e})"
            words = ["equal" if equal else "differs" for equal in (case.mask_equal, case.greedy_equal)]
            rows.append((case.name, words[0], error, words[1], "passed" if case.passed else "FAILED"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        num_passed = sum(case.passed for case in self.cases)
        return "\n".join([*lines, f"{num_passed} of {len(self.cases)} cases passed"])


@dataclass(frozen=True, slots=True)
class _Case:
    """Reference outputs of one stream."""

    name: str
    tensors: Mapping[str, np.ndarray]

    @property
    def merge(self) -> int:
        return int(self.tensors["merge_size"].reshape(-1)[0])

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of merged cells."""
        _, rows, cols = self.tensors["grid_thw"].reshape(-1, 3)[0].tolist()
        return rows // self.merge, cols // self.merge

    def is_resized(self, patch_px: int) -> bool:
        rows, cols = self.cells
        side = patch_px * self.merge
        return self.tensors["frames"].shape[1:3] != (rows * side, cols * side)

    def units(self, image_id: int) -> Iterator[tuple[list[int], np.ndarray | None]]:
        """Text and the frame that follows it, in order; the frame is `None` where the case ends with text."""
        ids = self.tensors["input_ids"].tolist()
        rows, cols = self.cells
        frames = iter(self.tensors["frames"])
        text: list[int] = []
        at = 0
        while at < len(ids):
            if ids[at] != image_id:
                text.append(ids[at])
                at += 1
                continue
            frame = next(frames, None)
            if frame is None or ids[at : at + rows * cols] != [image_id] * (rows * cols):
                raise CheckpointDamaged(f"{self.name}: frames and runs of image tokens do not agree; copy it again")
            yield text, frame
            text, at = [], at + rows * cols
        if text:
            yield text, None


@dataclass(frozen=True, slots=True)
class _Outcome:
    mask: np.ndarray
    logits: np.ndarray
    greedy: list[int]


def verify_folder(path: str | Path, seed: int = 0, *, device: str = "cpu") -> VerifyReport:
    """Load the checkpoint in a folder in float32 and compare it with each `stream_*.safetensors` case there.

    seed: of the random chunks and the questions on forks. Raises `CheckpointError` where the folder has no cases.
    """
    folder = find_checkpoint(path)
    paths = sorted(folder.glob(CASES))
    if not paths:
        raise CheckpointNotFound(f"{folder}: has no {CASES}; verify needs a checkpoint's folder with reference cases")
    cases = [_read_case(case) for case in paths]
    checkpoint = load_checkpoint(folder, device=device, dtype="float32", special=_special_of(folder))
    engine = Engine(checkpoint)
    try:
        return VerifyReport(folder, tuple(_verify(engine, case, seed) for case in cases))
    finally:
        engine.close()


def _verify(engine: Engine, case: _Case, seed: int) -> CaseReport:
    rng = np.random.default_rng(seed)
    outcomes = [
        _feed(engine, case, even_chunks, None),
        _feed(engine, case, _random_chunks(rng), None),
        _feed(engine, case, even_chunks, rng),
    ]
    expected, greedy = case.tensors["logits"], case.tensors["greedy"].tolist()
    mask = case.tensors["compression_mask"].astype(bool)
    resized = case.is_resized(engine.checkpoint.vision.patch_px)
    return CaseReport(
        name=case.name,
        mask_equal=all(np.array_equal(outcome.mask, mask) for outcome in outcomes),
        max_logit_error=max(_largest_error(outcome.logits, expected) for outcome in outcomes),
        greedy_equal=all(outcome.greedy == greedy for outcome in outcomes),
        tolerance=RESIZED_TOLERANCE if resized else EXACT_TOLERANCE,
    )


def _feed(engine: Engine, case: _Case, chunks: Chunks, forks: np.random.Generator | None) -> _Outcome:
    """Feed a case through a new session. forks: draws a yes/no question after every frame; `None` for no forks."""
    session = _session_for(engine, case, chunks)
    masks: list[np.ndarray] = []
    logits: list[torch.Tensor] = []
    for text, frame in case.units(engine.checkpoint.special.image):
        if frame is None:
            logits.append(engine.run(session.feed_text(text)))
            continue
        mask, rows = engine.run(session.feed_picture(frame, text, []))
        masks.append(mask)
        logits.append(rows)
        if forks is not None:
            ids = forks.integers(0, case.tensors["logits"].shape[-1], _PROBE_TOKENS + 2).tolist()
            engine.run(session.check_ids(ids[:-2], yes=ids[-2:-1], no=ids[-1:]))
    greedy = engine.run(session.continue_text(len(case.tensors["greedy"])))
    return _Outcome(np.concatenate(masks) if masks else np.zeros(0, bool), torch.cat(logits).cpu().numpy(), greedy)


def _session_for(engine: Engine, case: _Case, chunks: Chunks) -> Session:
    """A session with the paper's pruning, no system turn, and a window that holds the whole case."""
    num_frames, height, width = case.tensors["frames"].shape[:3]
    # The published processor divides one budget among a clip's frames.
    budget = max(4, engine.checkpoint.vision.max_tokens // num_frames)
    grid = engine.checkpoint.vision.fit_grid(width, height, max_cells=budget, merge=case.merge)
    room = max(2 * len(case.tensors["input_ids"]), 64 * (grid.num_cells + 64))
    window = WindowSettings(vision_low=room, vision_high=2 * room, text_low=room, text_high=2 * room)
    settings = replace(engine.checkpoint.stream, fps=1.0, max_cells=budget, window=window)
    return engine.open_session(settings, system="", pruning="paper", chunks=chunks)


def _read_case(path: Path) -> _Case:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointDamaged(f"{path}: is not a whole safetensors file ({error}); copy it again") from error
    missing = [name for name in NEEDED if name not in tensors]
    if missing:
        raise CheckpointDamaged(f"{path}: has no {', '.join(missing)}; a case needs {', '.join(NEEDED)}")
    return _Case(path.stem, tensors)


def _special_of(folder: Path) -> SpecialIds:
    """Token ids for cases without a tokenizer: the image token's from the configuration, the others counted on from
    it."""
    image = image_token_id(read_json(folder / "config.json"))
    return SpecialIds(image, stream_start=image + 1, stream_end=image + 2, im_start=image + 3, im_end=image + 4)


def _random_chunks(rng: np.random.Generator) -> Chunks:
    def chunks(num_tokens: int) -> Sequence[int]:
        sizes: list[int] = []
        while num_tokens > 0:
            sizes.append(int(rng.integers(1, min(num_tokens, 9) + 1)))
            num_tokens -= sizes[-1]
        return sizes

    return chunks


def _largest_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference; infinite where shapes differ or a value is not a number."""
    if found.shape != expected.shape:
        return float("inf")
    error = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return error if np.isfinite(error) else float("inf")
