"""Base class of the configuration's components, and parsers they share. Immutable; any thread may hold it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from assistant.config.bounds import (
    FPS,
    OPEN_TIMEOUT,
    PICTURE_TIMEOUT,
    READ_TIMEOUT,
    TALKATIVE,
    validated_text,
)
from streaming.errors import StreamingError
from streaming.masks import MaskRegion

Talkative = Annotated[float, AfterValidator(TALKATIVE.validated)]
FramesASecond = Annotated[float, AfterValidator(FPS.validated)]
OpenTimeout = Annotated[float, AfterValidator(OPEN_TIMEOUT.validated)]
ReadTimeout = Annotated[float, AfterValidator(READ_TIMEOUT.validated)]
PictureTimeout = Annotated[float, AfterValidator(PICTURE_TIMEOUT.validated)]
ShortText = Annotated[str, Field(min_length=1), AfterValidator(validated_text)]
"""A question, or a standing instruction."""


_NAME = re.compile(r"\w[\w .\-]{0,63}")


class Component(BaseModel):
    """Base class of components: unknown keys are errors, numbers must be finite, and objects are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_and_no(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse booleans where numbers are wanted: YAML reads `yes` and `no` as such, which would become 1 and 0."""
        wants_one = cls.model_fields[info.field_name or ""].annotation is bool
        if isinstance(value, bool) and not wants_one:
            raise ValueError("it must be a number or a text, not yes or no")
        return value


def check_names(what: str, names: Iterable[str]) -> None:
    """Raise `ValueError` for a name with odd characters. what: what the names are of, as `camera`."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{what} name {name!r}: it must be at most 64 letters, digits, spaces, dots and dashes")


def check_distinct(what: str, names: Collection[str]) -> None:
    """Raise `ValueError` for names that differ only in capitals. what: what they are of, in the plural."""
    if len({name.casefold() for name in names}) < len(names):
        raise ValueError(f"the names of two {what} differ only in capitals")


def mask_regions(values: Any) -> Any:
    """Parse a list of masks of YAML or the command line. Raises `ValueError`."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"masks {values!r}: it must be a list of rectangles and polygons")
    try:
        return tuple(MaskRegion.from_mapping(mask) if isinstance(mask, dict) else mask for mask in values)
    except StreamingError as error:
        raise ValueError(str(error)) from error


def named_regions(values: Any) -> Any:
    """Parse named regions of YAML. Raises `ValueError`."""
    if not isinstance(values, dict):
        raise ValueError(f"zones {values!r}: it must be names, each with a rectangle or a polygon")
    try:
        return {
            str(name): MaskRegion.from_mapping(region) if isinstance(region, dict) else region
            for name, region in values.items()
        }
    except StreamingError as error:
        raise ValueError(str(error)) from error
