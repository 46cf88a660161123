"""What the components of the configuration share. Plain data; any thread may hold it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from streaming.errors import StreamingError
from streaming.masks import MaskRegion


class Component(BaseModel):
    """What every component shares: unknown keys are errors, numbers are finite, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_and_no(cls, value: Any) -> Any:
        """YAML reads `yes` and `no` as truth values, which would pass for 1 and 0."""
        if isinstance(value, bool):
            raise ValueError("it should be a number or a text, not yes or no")
        return value


def mask_regions(values: Any) -> Any:
    """Mask regions from what YAML or the command line gave."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"masks {values!r}: a list of rectangles and polygons is wanted")
    try:
        return tuple(MaskRegion.from_mapping(mask) if isinstance(mask, dict) else mask for mask in values)
    except StreamingError as error:
        raise ValueError(str(error)) from error


def named_regions(values: Any) -> Any:
    """Regions by name, from what YAML gave."""
    if not isinstance(values, dict):
        raise ValueError(f"zones {values!r}: names with a rectangle or a polygon each are wanted")
    try:
        return {
            str(name): MaskRegion.from_mapping(region) if isinstance(region, dict) else region
            for name, region in values.items()
        }
    except StreamingError as error:
        raise ValueError(str(error)) from error
