"""The configuration: one immutable object per component, read from YAML by `load_config`. Any thread may hold it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from assistant.config.bounds import OPEN_TIMEOUT_S, PICTURE_TIMEOUT_S, READ_TIMEOUT_S
from assistant.config.cameras import CameraConfig, MonitorConfig, TimelineConfig, check_cameras
from assistant.config.component import (
    Component,
    FramesASecond,
    OpenTimeout,
    PictureTimeout,
    ReadTimeout,
    ShortText,
    Talkative,
    mask_regions,
)
from assistant.config.endpoint import EndpointConfig
from assistant.config.rules import RuleConfig, check_rules
from assistant.config.targets import TARGETS, AnyTarget, DeliveryTarget, check_targets
from assistant.config.voice import VoiceConfig
from assistant.errors import ConfigError
from assistant.stream.question_queue import Question
from models.checkpoint.settings import StreamSettings
from models.errors import SettingsError
from streaming.masks import MaskRegion

if TYPE_CHECKING:
    from assistant.inputs.limits import UploadLimits
    from assistant.rules.rule import Rule

Pace = float | Literal["max"]
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_RULES = {
    "model_type": "it must be keys with values",
    "dict_type": "it must be keys with values",
    "tuple_type": "it must be a list",
    "path_type": "it must be a file name",
    "string_too_short": "it must not be empty",
    "invalid_key": "keys must be words",
}
"""Rules in plain words, by pydantic's error type."""
_MASK_REMEDY = "give x,y,width,height as fractions of the picture, as 0.7,0,0.3,0.1, or corners, as '0,0 0.5,0 0,0.5'"


def parse_pace(value: Any) -> Any:
    """Parse a speed of the command line or YAML: a number above 0 or `max`. Raises `ValueError`."""
    if isinstance(value, str) and value != "max":
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is neither a number above 0 nor max") from None
    if isinstance(value, int | float) and not isinstance(value, bool) and not (math.isfinite(value) and value > 0):
        raise ValueError("it must be a number above 0, or max")
    return value


def _merged(base: StreamSettings, overrides: dict[str, Any]) -> StreamSettings:
    """`base` with overrides applied. Raises `ValueError`, as pydantic requires, if they are invalid together."""
    values = base.to_dict()
    for key, given in overrides.items():
        before = values.get(key)
        if isinstance(before, dict) and not isinstance(given, dict):
            raise ValueError(f"{key} {given!r}: it must be keys with values, as {', '.join(before)}")
        values[key] = {**before, **given} if isinstance(before, dict) and isinstance(given, dict) else given
    try:
        return StreamSettings.from_dict(values)
    except (SettingsError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def _device(value: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise ValueError("it must be auto, cpu, cuda, cuda:1 or mps")
    return value


def _stream_overrides(values: dict[str, Any]) -> dict[str, Any]:
    _merged(StreamSettings(), values)
    return values


class SourceConfig(Component):
    """Which part of a source is read, and how fast."""

    fps: FramesASecond | None = None
    """Frames per second given to the model; None for the checkpoint's own rate."""
    speed: Annotated[Pace, BeforeValidator(parse_pace)] = "max"
    """Playing speed of recordings, media seconds per second."""
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = Field(default=None, gt=0)
    loop: int = Field(default=1, ge=1, le=1_000_000)
    """Number of times a recording is played."""
    masks: Annotated[tuple[MaskRegion, ...], BeforeValidator(mask_regions)] = ()
    """Regions that are painted over before anything sees them."""
    jumps: Literal["refuse", "follow"] = "refuse"
    """Whether recordings whose timestamps jump back are refused or followed."""
    open_timeout_s: OpenTimeout = OPEN_TIMEOUT_S
    """Network: most seconds to wait for the source to open."""
    read_timeout_s: ReadTimeout = READ_TIMEOUT_S
    """Network and webcams: most seconds to wait for data."""
    picture_timeout_s: PictureTimeout = PICTURE_TIMEOUT_S
    """Live sources: most seconds to wait for a picture, for example for the first key frame."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s {self.end_s:g} must be greater than start_s {self.start_s:g}")
        return self


class ModelConfig(Component):
    """The checkpoint, its device and dtype, and overrides of its stream settings."""

    name: str = Field(default="embedded", min_length=1)
    device: Annotated[str, AfterValidator(_device)] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)
    """Processor threads; None for a number that suits the model."""
    pruning: Literal["live", "paper", "none"] = "live"
    system: str | None = None
    """Text of the system turn; None for the checkpoint's own."""
    stream: Annotated[dict[str, Any], AfterValidator(_stream_overrides)] = Field(default_factory=dict)
    """Overrides of the checkpoint's `stream_config.json`: window, speaking, max_cells, …"""

    @property
    def is_embedded(self) -> bool:
        """Whether it is the model that comes with the program, which knows few words."""
        return self.name == "embedded"

    def stream_settings(self, of_checkpoint: StreamSettings, fps: float | None = None) -> StreamSettings:
        """A checkpoint's settings with these overrides. Raises `ConfigError` if they are invalid together."""
        override = dict(self.stream) if fps is None else {**self.stream, "fps": fps}
        try:
            return _merged(of_checkpoint, override)
        except ValueError as error:
            raise ConfigError(f"model.stream: {error}") from error


class SpeakingConfig(Component):
    """When the assistant speaks."""

    talkative: Talkative = 0.0
    """Log-odds added in favour of speaking: above 0 it speaks more often."""
    instruct: ShortText | None = None
    """A standing instruction."""


class OutputConfig(Component):
    """Files that events are written to."""

    events: Path | None = None
    vtt: Path | None = None
    srt: Path | None = None


class QuestionConfig(Component):
    """A question and the media time to ask it at."""

    at_s: float = Field(ge=0)
    text: ShortText


def _network(text: str) -> str:
    from assistant.inputs.limits import parse_network

    try:
        return str(parse_network(text))
    except ConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


class UploadConfig(Component):
    """Size limits of files that viewers upload."""

    max_mib: float = Field(default=512, gt=0, le=65536)
    max_minutes: float = Field(default=240, gt=0)
    max_megapixels: float = Field(default=36, gt=0, le=200)
    """Most megapixels of one picture, in a clip or alone."""

    def limits(self) -> UploadLimits:
        """The limits in the units that are checked."""
        from assistant.inputs.limits import UploadLimits

        return UploadLimits(
            max_bytes=int(self.max_mib * 2**20),
            max_seconds=60 * self.max_minutes,
            max_pixels=int(1e6 * self.max_megapixels),
        )


class PageConfig(Component):
    """The browser app."""

    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Networks whose cameras viewers may open, as 192.168.1.0/24; required if other machines can reach the app."""
    max_sessions: int | None = Field(default=None, ge=1)
    """Most viewers who may have their own stream at once."""
    uploads: UploadConfig = Field(default_factory=UploadConfig)


class AppConfig(Component):
    """The whole configuration of a command, except the source's name."""

    source: SourceConfig = Field(default_factory=SourceConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    speaking: SpeakingConfig = Field(default_factory=SpeakingConfig)
    output: OutputConfig = Field(default_factory=OutputConfig)
    voice: VoiceConfig = Field(default_factory=VoiceConfig)
    page: PageConfig = Field(default_factory=PageConfig)
    endpoint: EndpointConfig = Field(default_factory=EndpointConfig)
    cameras: Annotated[dict[str, CameraConfig], AfterValidator(check_cameras)] = Field(default_factory=dict)
    """Watched cameras, by name."""
    targets: Annotated[dict[str, AnyTarget], AfterValidator(check_targets)] = Field(default_factory=dict)
    """Where alerts are sent, by name."""
    timeline: TimelineConfig = Field(default_factory=TimelineConfig)
    monitor: MonitorConfig = Field(default_factory=MonitorConfig)
    rules: dict[str, RuleConfig] = Field(default_factory=dict)
    """What the cameras are watched for, by name."""
    questions: tuple[QuestionConfig, ...] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        check_rules(self.rules, self.cameras, is_small=self.model.is_embedded)
        for name, rule in self.rules.items():
            for target in rule.to:
                if target not in self.targets:
                    known = ", ".join(self.targets) or "none are configured"
                    raise ValueError(f"rule {name}: target {target!r} is unknown ({known})")
        return self

    def armed(self) -> tuple[Rule, ...]:
        """The rules of all cameras."""
        return tuple(rule.rule(name) for name, rule in self.rules.items())

    def planned_questions(self) -> list[Question]:
        """The questions in order of time; those of one time in the order given."""
        return sorted((Question(planned.at_s, planned.text) for planned in self.questions), key=lambda q: q.at_s)


def waiting_for_restart(began_with: AppConfig, now: AppConfig) -> tuple[str, ...]:
    """Keys, as `model.name`, that differ between two configurations and take effect only at the program's start."""
    read_once: dict[str, Iterable[str]] = {
        "model": ModelConfig.model_fields,
        "timeline": ("folder", "keep_clips_s", "alert_clips_s"),
        "monitor": MonitorConfig.model_fields,
        "voice": VoiceConfig.model_fields,
    }
    changed = [
        f"{section}.{key}"
        for section, keys in read_once.items()
        for key in keys
        if getattr(getattr(began_with, section), key) != getattr(getattr(now, section), key)
    ]
    return (*changed, "targets") if began_with.targets != now.targets else tuple(changed)


def load_config(path: Path | None, overrides: dict[str, Any] | None = None) -> AppConfig:
    """Read a YAML file and apply the command line's values over it; sections are merged, lists are joined.

    Raises `ConfigError` for the first invalid value.
    """
    values = _read_yaml(path) if path is not None else {}
    for section, given in (overrides or {}).items():
        before = values.get(section)
        if isinstance(given, dict):
            if before is None or isinstance(before, dict):
                values[section] = {**(before or {}), **given}
        elif isinstance(given, list) and isinstance(before, list):
            values[section] = [*before, *given]
        elif given:
            values[section] = given
    try:
        return AppConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(one_line(error, path)) from error


def parse_question(text: str) -> dict[str, Any]:
    """Parse `SECONDS:QUESTION` of the command line into keys of `QuestionConfig`. Raises `ConfigError`."""
    match = re.fullmatch(rf"\s*({_NUMBER})\s*:\s*(\S.*?)\s*", text, re.DOTALL)
    if match is None:
        raise ConfigError(f'--ask {text!r}: it must be SECONDS:QUESTION; write --ask "12.5:What is on the left?"')
    return {"at_s": float(match.group(1)), "text": match.group(2)}


def parse_mask(text: str) -> dict[str, Any]:
    """Parse a rectangle `x,y,width,height` or corners `x,y x,y x,y` into a mask of the configuration; `px:` for pixels.

    Raises `ConfigError`.
    """
    body = text.strip().removeprefix("px:")
    try:
        points = [[float(number) for number in point.split(",")] for point in body.split()]
    except ValueError:
        points = []
    mask: dict[str, Any] = {"units": "pixels"} if text.strip().startswith("px:") else {}
    if len(points) == 1 and len(points[0]) == 4:
        return {**mask, "rectangle": points[0]}
    if len(points) >= 3 and all(len(point) == 2 for point in points):
        return {**mask, "polygon": points}
    raise ConfigError(f"--mask {text!r}: it must be a rectangle or a polygon; {_MASK_REMEDY}")


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; --config needs a YAML file; check its name") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {_where(error)}; it must be YAML; correct the line") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        sections = ", ".join(AppConfig.model_fields)
        raise ConfigError(
            f"{path}: {type(values).__name__} at its top; it must hold sections: {sections}; indent keys below them"
        )
    return values


def _where(error: Exception) -> str:
    """The message of a YAML error, with line and column if the parser knows them."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return _squeezed(str(error))
    return f"line {mark.line + 1}, column {mark.column + 1}: {_squeezed(problem)}"


def one_line(error: ValidationError, path: Path | None) -> str:
    """The first error of a validation of an `AppConfig` as value, rule and remedy. path: the file that was read."""
    first = error.errors(include_url=False)[0]
    loc = first["loc"]
    if not loc:  # of several sections together, such as a rule and the camera that it names
        said = _squeezed(first["msg"].removeprefix("Value error, "))
        return f"{path}: {said}; correct the rule" if path is not None else f"{said}; correct the rule"
    if loc[0] == "targets" and len(loc) > 2:  # pydantic puts the kind of a target between its name and its key
        loc = (*loc[:2], *loc[3:])
    where = ".".join(str(part) for part in loc if not str(part).startswith("function-"))
    prefix = f"{path}: " if path is not None else ""
    if first["type"].startswith("union_tag"):
        given = f" {first['ctx']['tag']!r}" if "tag" in first["ctx"] else ""
        return f"{prefix}{where}.kind{given}: it must be one of {', '.join(DeliveryTarget.kinds)}; name one of them"
    if first["type"] == "missing":
        return f"{prefix}{where}: it must be given; add it"
    if first["type"] == "extra_forbidden":
        section = _component_at(first["loc"][:-1])
        return f"{prefix}{where}: unknown key; known are {', '.join(section.model_fields)}; remove or rename it"
    rule = _RULES.get(first["type"]) or _squeezed(first["msg"].removeprefix("Value error, "))
    rule = re.sub("^(Input|String|Keys) ", "it ", rule)
    value = first["input"]
    given = f" {value!r}" if isinstance(value, str | int | float | bool) or value is None else ""
    # A rule between keys names the keys itself, and leaving out a whole section is no remedy.
    remedy = "one of them" if isinstance(value, dict) and where in AppConfig.model_fields else where
    return f"{prefix}{where}{given}: {rule}; change or leave out {remedy}"


def _component_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    found: type[BaseModel] = AppConfig
    for part in loc:
        if part == "questions":
            found = QuestionConfig
        elif part == "cameras":
            found = CameraConfig
        elif found is AppConfig and part == "targets":
            return TARGETS[str(loc[2])]
        elif part == "rules":
            found = RuleConfig
        elif isinstance(part, str) and part in found.model_fields:
            kind = found.model_fields[part].annotation
            found = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else found
    return found


def _squeezed(text: str) -> str:
    return " ".join(text.split())
