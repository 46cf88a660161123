"""A checkpoint's settings for live sessions: grid, windows, times, and the decision to speak.

Read from `stream_config.json` beside the weights where a checkpoint has one. The defaults suit the released 2B and 7B
checkpoints and stay inside what they were trained on (1 fps and 180 frames; 16,384 tokens).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from models.checkpoint.files import read_json, refuse_unknown
from models.errors import CheckpointDamaged, SettingsError
from models.eviction import WindowSettings
from streaming.difffp.cells import LiveSettings
from streaming.difffp.refresh import FRAME_OVERHEAD_TOKENS

STREAM_CONFIG_NAME = "stream_config.json"
PROCESSOR_CONFIG_NAME = "processor_config.json"
TRAINED_TOKENS = 16384
"""Longest context in the training of the released checkpoints."""
LONGEST_SHOWN_TIME_S = 9999.0
"""Largest time shown to the model: with more digits it would not fit `FRAME_OVERHEAD_TOKENS`."""
MOST_KEPT = 0.75
"""Largest share of the shown time that a rebase may keep, because each rebase prefills again what it keeps."""
MIN_DENSE_S = 16.0
"""Seconds that dense vision must cover even where every cell of every frame is kept."""


@dataclass(frozen=True, slots=True)
class SpeakingSettings:
    """How the decision to speak is computed from the model's logits."""

    decision: Literal["trained", "stand_in"] = "stand_in"
    """`trained`: the checkpoint's own stream decision. `stand_in`: a policy on change and time, for checkpoints whose
    decision was not measured, or measured and found unusable (`models.decision`; `calibrate` measures)."""
    decision_reason: str = ""
    """Result of the measurement, for display; empty where nothing was measured."""
    platt_scale: float = 1.0
    platt_shift: float = 0.0
    """The score s becomes platt_scale · s + platt_shift, the log-odds of speaking under balanced classes."""
    remarks_per_s: float = 0.1
    """Wanted remarks per second while things happen; sets the prior π = remarks_per_s / fps."""
    refractory_s: float = 1.0
    """Least time in seconds between the start of one remark and the next."""
    hysteresis: float = 1.0
    """How far, in log-odds, the score must fall below the threshold before an occurrence counts as over."""
    wait_below: float = 0.0
    """Probability of a draft's words below which the assistant waits for one more frame before it speaks; 0 never
    waits."""
    max_comment_tokens: int = 48
    max_answer_tokens: int = 256
    remark_check: str | None = None
    """For checkpoints that judge their own drafts: a question with {instruction} and {remark} that asks the model
    whether a standing instruction allows the remark. The model is then not shown the instruction otherwise."""

    def __post_init__(self) -> None:
        if self.decision not in ("trained", "stand_in"):
            raise SettingsError(f"decision {self.decision!r}: `trained` or `stand_in`; use stand_in if unsure")
        if not 0 < self.remarks_per_s < 10:
            raise SettingsError(
                f"remarks_per_s {self.remarks_per_s}: between 0 and 10; 0.1 is a remark every ten seconds"
            )
        if not 0 < self.platt_scale < math.inf:
            raise SettingsError(f"platt_scale {self.platt_scale}: above 0; calibrate again")
        if not math.isfinite(self.platt_shift):
            raise SettingsError(f"platt_shift {self.platt_shift}: a finite number; calibrate again")
        for name in ("refractory_s", "hysteresis"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"{name} {getattr(self, name)}: 0 or more; 1 is usual")
        if not 0 <= self.wait_below < 1:
            raise SettingsError(f"wait_below {self.wait_below}: a chance, 0 or more and below 1; 0 never waits")
        for name in ("max_comment_tokens", "max_answer_tokens"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} {getattr(self, name)}: at least 1; leave it out for the default")
        if self.remark_check is not None:
            _check_template(self.remark_check)


def _check_template(text: str) -> None:
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError:
        names = set()
    if names != {"instruction", "remark"}:
        raise SettingsError(
            f"remark_check {text!r}: it must contain {{instruction}} and {{remark}} and nothing else in braces; "
            "correct it, or leave it out"
        )


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """A checkpoint's settings for live sessions."""

    max_cells: int = 144
    """Budget of merged cells per frame; the live grid is the largest that fits."""
    border_px: int = 0
    """Width of a black border drawn around each picture; a checkpoint trained with one needs it to locate things."""
    fps: float = 2.0
    max_shown_time_s: float = 180.0
    """Largest time shown to the model, in seconds; above it the session rebases its time."""
    rebase_keep_s: float = 60.0
    """Seconds of the past that stay in memory when the time is rebased."""
    window: WindowSettings = field(default_factory=WindowSettings)
    speaking: SpeakingSettings = field(default_factory=SpeakingSettings)
    pruning: dict[str, float] = field(default_factory=dict)
    """Overrides of the live DiffFP settings, by name."""

    def __post_init__(self) -> None:
        if not 4 <= self.max_cells <= 16384:
            raise SettingsError(f"max_cells {self.max_cells}: between 4 and 16384; 144 is a 448 x 252 picture")
        if not 0 < self.fps <= 30:
            raise SettingsError(f"fps {self.fps}: above 0 and at most 30; 2 suits live video")
        if not 0 < self.max_shown_time_s <= LONGEST_SHOWN_TIME_S:
            raise SettingsError(
                f"max_shown_time_s {self.max_shown_time_s}: above 0 and at most {LONGEST_SHOWN_TIME_S:g}; "
                "180 is what the released checkpoints were trained on"
            )
        longest = max(self.speaking.max_comment_tokens, self.speaking.max_answer_tokens)
        if longest > self.window.text_low:
            raise SettingsError(
                f"a turn of up to {longest} tokens: at most text_low {self.window.text_low}, or one turn would push "
                "out all others; lower max_answer_tokens and max_comment_tokens, or raise text_low"
            )
        if not 0 <= self.rebase_keep_s <= MOST_KEPT * self.max_shown_time_s:
            raise SettingsError(
                f"rebase_keep_s {self.rebase_keep_s:g}: from 0 to three quarters of max_shown_time_s "
                f"{self.max_shown_time_s:g}, or most of the time would go into rebasing; lower rebase_keep_s"
            )
        self.live_pruning()

    def live_pruning(self) -> LiveSettings:
        """Settings of live DiffFP for these windows. Raises `SettingsError` for unknown or non-numeric overrides."""
        known = [name for name in _names(LiveSettings) if name != "window_low_tokens"]
        for name, value in self.pruning.items():
            if name not in known:
                raise SettingsError(f"pruning {name}: the names are {', '.join(known)}; remove or rename it")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SettingsError(f"pruning {name} {value!r}: a number is wanted; leave it out for the default")
        try:
            return LiveSettings(window_low_tokens=self.window.vision_low, **self.pruning)
        except ValueError as error:
            raise SettingsError(f"pruning: {error}") from error

    def check_window(self, num_cells: int, fps: float) -> None:
        """Raise `SettingsError` for windows that break the guarantees of refresh and dense vision, for a grid of
        `num_cells` at `fps`.

        Rule: vision_low ≥ 8 · cells, and ≥ 16 s of frames with every cell kept.
        """
        dense = math.ceil(MIN_DENSE_S * fps * (num_cells + FRAME_OVERHEAD_TOKENS))
        needed = max(8 * num_cells, dense)
        if self.window.vision_low < needed:
            raise SettingsError(
                f"vision_low {self.window.vision_low}: {num_cells} cells at {fps:g} fps need at least {needed} tokens "
                f"(8 x cells, and {MIN_DENSE_S:g} s of whole frames); raise vision_low, or lower fps or max_cells"
            )

    def fitted(self, num_cells: int, fps: float) -> StreamSettings:
        """These settings with the vision window widened, if necessary, to satisfy `check_window`."""
        dense = math.ceil(MIN_DENSE_S * fps * (num_cells + FRAME_OVERHEAD_TOKENS))
        low = max(self.window.vision_low, 8 * num_cells, dense)
        high = max(self.window.vision_high, low + max(2 * (num_cells + FRAME_OVERHEAD_TOKENS), low // 5))
        return replace(self, window=replace(self.window, vision_low=low, vision_high=high))

    def check_envelope(self, asked: StreamSettings, num_cells: int) -> None:
        """Raise `SettingsError` where `fitted` widened the windows of `asked` beyond the checkpoints' trained context.

        Windows that the user chose are not refused.
        """
        if self.window.capacity > max(TRAINED_TOKENS, asked.window.capacity):
            raise SettingsError(
                f"fps {self.fps:g} with {num_cells} cells: {MIN_DENSE_S:g} s of whole frames need windows of "
                f"{self.window.capacity} tokens, and checkpoints are trained on {TRAINED_TOKENS} at most; lower fps or "
                "max_cells, or choose the window yourself"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StreamSettings:
        """Build settings from plain JSON values; unknown keys are errors."""
        values = dict(values)
        refuse_unknown(values, _names(cls), STREAM_CONFIG_NAME)
        if "window" in values:
            refuse_unknown(values["window"], _names(WindowSettings), "window")
            values["window"] = WindowSettings(**values["window"])
        if "speaking" in values:
            refuse_unknown(values["speaking"], _names(SpeakingSettings), "speaking")
            values["speaking"] = SpeakingSettings(**values["speaking"])
        return cls(**values)

    @classmethod
    def of_checkpoint(cls, folder: Path) -> StreamSettings:
        """Read `stream_config.json` of a checkpoint folder; defaults where there is none."""
        path = folder / STREAM_CONFIG_NAME
        try:
            return cls.from_dict(read_json(path)) if path.is_file() else cls._of_processor(folder)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointDamaged(f"{path}: a value has a wrong type ({error}); copy the file again") from error

    @classmethod
    def _of_processor(cls, folder: Path) -> StreamSettings:
        """Settings with the frame rate and longest time of a folder's processor configuration, as in the released
        checkpoints."""
        path = folder / PROCESSOR_CONFIG_NAME
        values = read_json(path) if path.is_file() else {}
        plain = cls()
        fps, max_frames = values.get("fps"), values.get("max_frames")
        fps = float(fps) if isinstance(fps, int | float) and not isinstance(fps, bool) else None
        if fps is not None and not 0 < fps <= 30:
            raise CheckpointDamaged(f"{path}: fps {fps:g}; above 0 and at most 30; copy the file again")
        if not isinstance(max_frames, int) or isinstance(max_frames, bool):
            return plain if fps is None else replace(plain, fps=fps)
        if max_frames < 1:
            raise CheckpointDamaged(f"{path}: max_frames {max_frames}; at least 1; copy the file again")
        longest_s = min(max_frames / (fps or plain.fps), LONGEST_SHOWN_TIME_S)
        keep_s = min(plain.rebase_keep_s, MOST_KEPT * longest_s)
        return replace(plain, fps=fps or plain.fps, max_shown_time_s=longest_s, rebase_keep_s=keep_s)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON values, which `from_dict` reads."""
        return asdict(self)


def _names(kind: type) -> list[str]:
    return [entry.name for entry in fields(kind)]
