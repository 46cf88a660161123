"""Fine-tune any checkpoint on a user's own recordings: LoRA on the language model, everything else frozen.

Examples are built as in training and live use: with the same pruner, ledger and prompt. One process, one thread.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.checkpoint.files import refuse_unknown
from models.errors import SettingsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from models.checkpoint.loader import Checkpoint
    from models.training.examples import StreamExample, Turn

PEFT = "peft~=0.21.2"
TARGETS = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The linear layers of the language model that get an adapter."""
SAVE_EVERY = 50
FRAMES_AT_ONCE = 16
"""Frames encoded in one batch."""
_NOT_COPIED = (".safetensors", ".bin", ".pt", ".index.json", ".md", ".png")
_STATE = "finetune.state.pt"
_LOG = "finetune.jsonl"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording with the texts that should have been said about it."""

    path: Path
    turns: tuple[Turn, ...]
    """Sorted by media time."""


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Settings of a fine-tuning run."""

    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 2e-4
    warmup_steps: int = 10
    epochs: int = 5
    piece_s: float = 60.0
    """Length of the pieces that recordings are cut into; each piece is one example."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha, self.learning_rate, self.epochs) <= 0 or self.piece_s < 2:
            raise SettingsError(
                f"rank {self.rank}, alpha {self.alpha:g}, learning_rate {self.learning_rate:g}, epochs {self.epochs}, "
                f"piece_s {self.piece_s:g}: all above 0, piece_s 2 or more; 16, 32, 0.0002, 5 and 60 are usual"
            )

    @classmethod
    def from_yaml(cls, path: Path) -> FineTuning:
        """Read settings; unknown keys are errors."""
        import yaml

        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        refuse_unknown(values, {entry.name for entry in fields(cls)}, str(path))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class RecordingPiece:
    """A section of a recording."""

    recording: Recording
    start_s: float
    end_s: float


def pieces_of(recordings: Sequence[Recording], piece_s: float) -> list[RecordingPiece]:
    """Cut each recording into pieces of equal length, none much longer than `piece_s`."""
    pieces = []
    for recording in recordings:
        length_s = _length_s(recording.path)
        count = max(1, round(length_s / piece_s))
        edges = np.linspace(0.0, length_s, count + 1)
        # Video may begin after the sound, and a changed clock leaves hours without pictures.
        shown = np.histogram(_times_s(recording.path), edges)[0] > 0
        whole = zip(edges[:-1], edges[1:], shown, strict=True)
        pieces += [RecordingPiece(recording, float(a), float(b)) for a, b, is_shown in whole if is_shown]
    return pieces


def _times_s(path: Path) -> list[float]:
    """Four media times per second at which the recording has a picture."""
    from streaming.open_source import open_source
    from streaming.sources.base import SourceOptions
    from streaming.types import Frame

    with open_source(str(path), options=SourceOptions(sample_fps=4.0)) as source:
        source.open()
        return [item.pts_s for item in source.frames() if isinstance(item, Frame)]


def _length_s(path: Path) -> float:
    from streaming.open_source import open_source
    from streaming.types import Frame

    with open_source(str(path)) as source:
        declared_s = source.open().duration_s_declared
        if declared_s:
            return declared_s
        return max((item.pts_s for item in source.frames() if isinstance(item, Frame)), default=0.0) + 0.1


class PieceMaker:
    """Makes examples from pieces, with the builder that all training uses."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from models.session.tokenizer import StreamTokenizer
        from models.training.examples import ExampleBuilder

        self._vision = checkpoint.vision
        self._settings = checkpoint.stream
        self._checkpoint = checkpoint
        self._codec = StreamTokenizer(checkpoint)
        self._builder = ExampleBuilder

    def make(self, piece: RecordingPiece) -> StreamExample:
        """Read, prune and label one piece. Raises a `StreamingError` where it cannot be read."""
        pictures = list(self._pictures(piece))
        if not pictures:
            raise SettingsError(
                f"{piece.recording.path}: no frame between {piece.start_s:.1f} and {piece.end_s:.1f} s; "
                "a recording needs decodable frames; leave it out"
            )
        height, width = pictures[0][1].shape[:2]
        grid = self._vision.fit_grid(width, height, max_cells=self._settings.max_cells)
        window = self._settings.fitted(grid.num_cells, self._settings.fps).window
        turns = [turn for turn in piece.recording.turns if piece.start_s <= turn.time_s < piece.end_s]
        builder = self._builder(self._codec, self._checkpoint.special, self._vision, window)
        return builder.build(pictures, grid, turns)

    def _pictures(self, piece: RecordingPiece) -> Iterator[tuple[float, np.ndarray]]:
        from streaming.open_source import open_source
        from streaming.sources.base import SourceOptions
        from streaming.types import Frame

        options = SourceOptions(sample_fps=self._settings.fps, start_s=piece.start_s, end_s=piece.end_s)
        shape = None
        with open_source(str(piece.recording.path), options=options) as source:
            source.open()
            for item in source.frames():
                if isinstance(item, Frame) and (shape is None or item.image.shape == shape):
                    shape = item.image.shape
                    yield item.pts_s, item.image


def stream_loss(checkpoint: Checkpoint, example: StreamExample) -> tuple[torch.Tensor, float]:
    """The streaming loss of one example, in which decisions and own words weigh about the same, and the share of right
    tokens.

    The encoder and the projector run without gradients.
    """
    import torch

    from models.training.examples import IGNORED

    model, device = checkpoint.model, checkpoint.device
    ids = torch.from_numpy(example.ids).long().to(device)
    labels = torch.from_numpy(example.labels).long().to(device)
    embeddings = model.model.language_model.embed_tokens(ids)
    visual = _encoded(checkpoint, example).to(embeddings.dtype)
    mask = (ids == checkpoint.special.image).unsqueeze(-1)
    embeddings = embeddings.masked_scatter(mask, visual)
    hidden = model.model.language_model(inputs_embeds=embeddings[None], use_cache=False).last_hidden_state[0]
    asked = labels != IGNORED
    logits = model.lm_head(hidden[asked]).float()
    weights = torch.from_numpy(example.weights).to(device)[asked]
    loss = (torch.nn.functional.cross_entropy(logits, labels[asked], reduction="none") * weights).sum()
    right = float((logits.argmax(dim=-1) == labels[asked]).float().mean()) if asked.any() else 1.0
    return loss, right


def _encoded(checkpoint: Checkpoint, example: StreamExample) -> torch.Tensor:
    """Visual tokens of the kept cells, `[num_visual, hidden]`, without gradients."""
    import torch

    from models.vision_tower import encode_frames

    parts = []
    with torch.no_grad():
        for start in range(0, len(example.frames), FRAMES_AT_ONCE):
            frames = torch.from_numpy(example.frames[start : start + FRAMES_AT_ONCE])
            patches = checkpoint.vision.cut(frames, example.grid).to(checkpoint.device, checkpoint.dtype)
            parts.append(encode_frames(checkpoint.model.model, patches, example.grid, frozen=True).flatten(0, 1))
        return torch.cat(parts)[torch.from_numpy(example.picks).long().to(checkpoint.device)]


class FineTuner:
    """The adapters, their optimiser, and the step reached in `folder`."""

    def __init__(self, checkpoint: Checkpoint, folder: Path, settings: FineTuning, num_steps: int) -> None:
        import torch

        peft = _peft()
        self.checkpoint = checkpoint
        self.settings = settings
        self.num_steps = num_steps
        self.step = 0
        self._folder = folder
        self._identity = {"model": checkpoint.name, "rank": settings.rank, "alpha": settings.alpha, "steps": num_steps}
        checkpoint.model.requires_grad_(False)
        torch.manual_seed(settings.seed)
        lora = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0, target_modules=TARGETS)
        with _without_future_warnings():
            self.adapted = peft.get_peft_model(checkpoint.model, lora)
        self._parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in checkpoint.model.named_parameters() if parameter.requires_grad
        }
        self._optimiser = torch.optim.AdamW(self._parameters.values(), lr=settings.learning_rate, weight_decay=0.0)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / _STATE).is_file():
            self._load()

    def take(self, example: StreamExample) -> float:
        """Do one step; returns the loss before it."""
        import torch

        began_s = time.monotonic()
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        loss, right = stream_loss(self.checkpoint, example)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
        self._optimiser.step()
        self.step += 1
        record = {"step": self.step, "loss": round(loss.item(), 5), "right": round(right, 5)}
        record["step_s"] = round(time.monotonic() - began_s, 3)
        with (self._folder / _LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        if self.step % SAVE_EVERY == 0:
            self.save()
        return loss.item()

    def save(self) -> None:
        """Write adapters and optimiser; the file is written completely before it is renamed to its final name."""
        import torch

        partial = (self._folder / _STATE).with_suffix(".partial")
        adapters = {name: parameter.detach() for name, parameter in self._parameters.items()}
        state = {"identity": self._identity, "step": self.step, "adapters": adapters}
        torch.save({**state, "optimiser": self._optimiser.state_dict()}, partial)
        partial.replace(self._folder / _STATE)

    def merge(self, remarks_per_s: float | None) -> Path:
        """Write the adapters, and a checkpoint with the adapters merged that loads like any other; no step may
        follow."""
        folder = self._folder / "model"
        with _without_future_warnings():
            self.adapted.save_pretrained(self._folder / "adapter")
            merged = self.adapted.merge_and_unload()
            merged.save_pretrained(folder)
        write_companions(self.checkpoint, folder, remarks_per_s)
        return folder

    def _rate(self) -> float:
        """Learning rate: linear warm-up, then cosine decay to a tenth."""
        settings = self.settings
        if self.step < settings.warmup_steps:
            return settings.learning_rate * (self.step + 1) / settings.warmup_steps
        share = (self.step - settings.warmup_steps) / max(self.num_steps - settings.warmup_steps, 1)
        return settings.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * min(share, 1.0))))

    def _load(self) -> None:
        import torch

        path = self._folder / _STATE
        state = torch.load(path, weights_only=True, map_location="cpu")
        if state["identity"] != self._identity:
            raise SettingsError(
                f"{path}: begun with {state['identity']}, but now {self._identity}; both must agree to continue; "
                "use another folder to start again"
            )
        self.step = state["step"]
        for name, parameter in self._parameters.items():
            parameter.data.copy_(state["adapters"][name])
        self._optimiser.load_state_dict(state["optimiser"])


def write_companions(checkpoint: Checkpoint, folder: Path, remarks_per_s: float | None) -> None:
    """Write the files of a checkpoint folder other than weights: the source's files, and the tuned settings."""
    from models.checkpoint.settings import STREAM_CONFIG_NAME

    for path in checkpoint.folder.iterdir():
        if path.is_file() and path.name != "config.json" and not path.name.endswith(_NOT_COPIED):
            shutil.copyfile(path, folder / path.name)
    vision = checkpoint.vision
    preprocessor = folder / "preprocessor_config.json"
    values = json.loads(preprocessor.read_text(encoding="utf-8")) if preprocessor.is_file() else {}
    # Written out, because a missing value has different defaults in the two layouts.
    values |= {"image_mean": list(vision.mean), "image_std": list(vision.std), "patch_size": vision.patch_px}
    _write_json(preprocessor, values)
    speaking = replace(checkpoint.stream.speaking, decision="trained")
    if remarks_per_s is not None:
        speaking = replace(speaking, remarks_per_s=min(max(remarks_per_s, 0.01), 5.0))
    _write_json(folder / STREAM_CONFIG_NAME, replace(checkpoint.stream, speaking=speaking).to_dict())


def fine_tune(
    folder: Path,
    recordings: Sequence[Recording],
    checkpoint: Checkpoint,
    settings: FineTuning,
    *,
    minutes: float | None = None,
    say: Callable[[str], None] = print,
    on_step: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> Path:
    """Fine-tune in `folder` until all epochs are done or `minutes` have passed; a second call continues from there.

    Returns the folder of the merged checkpoint, which is written in both cases.
    """
    pieces = pieces_of(recordings, settings.piece_s)
    num_steps = settings.epochs * len(pieces)
    tuner = FineTuner(checkpoint, folder, settings, num_steps)
    say(f"{len(pieces)} pieces of {len(recordings)} recordings: step {tuner.step} of {num_steps}")
    maker = PieceMaker(checkpoint)
    stop_at_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
    while tuner.step < num_steps and time.monotonic() < stop_at_s:
        loss = tuner.take(maker.make(pieces[piece_at(tuner.step, len(pieces), settings.seed)]))
        on_step(tuner.step, num_steps, loss)
    tuner.save()
    done = tuner.step >= num_steps
    say("all epochs are done" if done else f"stopped at step {tuner.step} of {num_steps}; run again to continue")
    return tuner.merge(_remarks_per_s(recordings, pieces))


def piece_at(step: int, num_pieces: int, seed: int) -> int:
    """The piece of a step: each piece once per epoch, in an order given by seed and epoch."""
    epoch, place = divmod(step, num_pieces)
    return int(np.random.default_rng([seed, epoch]).permutation(num_pieces)[place])


def _remarks_per_s(recordings: Sequence[Recording], pieces: Sequence[RecordingPiece]) -> float | None:
    """Remarks per second in the transcripts; `None` where they contain none."""
    num_remarks = sum(turn.question is None for recording in recordings for turn in recording.turns)
    length_s = sum(piece.end_s - piece.start_s for piece in pieces)
    return num_remarks / length_s if num_remarks and length_s else None


@contextmanager
def _without_future_warnings() -> Iterator[None]:
    """Context without transformers' FutureWarnings, which peft triggers when it reads a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise SettingsError(f"fine-tuning needs peft, which is not installed; pip install '{PEFT}'") from None
    return peft


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
