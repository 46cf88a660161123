"""Masks and zones that viewers draw on a camera: checks them, adds them to the configured ones, and writes YAML.

Drawn ones last until the program ends or reloads its configuration; the configuration file is never changed.
Plain functions; any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from assistant.cameras.views import Region
from assistant.errors import ConfigError
from assistant.serving.channel_types import ChannelConfig
from streaming.errors import StreamingError
from streaming.masks import MaskRegion, Masks

MOST_DRAWN = 16
"""Most regions that may be drawn on one camera."""
MOST_CORNERS = 32
MOST_NAME = 40
_DIGITS = 3
"""Decimal places of a corner's coordinates, fractions of the picture."""


def with_drawn(configured: ChannelConfig, drawn: Sequence[Region], size_px: tuple[int, int]) -> tuple[
    tuple[MaskRegion, ...], tuple[tuple[str, MaskRegion], ...]
]:  # fmt: skip
    """A camera's masks and zones: the configured ones and the drawn ones. Raises `ConfigError`.

    size_px: width and height of the camera's picture, 0 if not known yet.
    """
    if len(drawn) > MOST_DRAWN:
        raise ConfigError(
            f"{len(drawn)} drawn masks and zones: at most {MOST_DRAWN} may be drawn on a camera; remove some"
        )
    masks, zones = list(configured.masks), dict(configured.zones)
    for region in drawn:
        shape = _shape(region)
        if region.kind == "mask":
            masks.append(shape)
            continue
        name = region.name.strip()
        if not name or len(name) > MOST_NAME:
            raise ConfigError(
                f"zone name {name!r}: it must have 1 to {MOST_NAME} characters; name it after its place, as steps"
            )
        if name in zones:
            raise ConfigError(f"zone {name!r}: this camera has a zone of that name; choose another")
        zones[name] = shape
    if all(size_px):
        try:
            Masks(masks).check(*size_px)
        except StreamingError as error:
            raise ConfigError(str(error)) from error
    return tuple(masks), tuple(zones.items())


def regions_yaml(camera: str, masks: Sequence[MaskRegion], zones: Sequence[tuple[str, MaskRegion]]) -> str:
    """Masks and zones in the form of a configuration file.

    >>> print(regions_yaml("door", [MaskRegion.rectangle(0.7, 0, 0.3, 0.1)], []), end="")
    cameras:
      door:
        masks:
        - rectangle: [0.7, 0.0, 0.3, 0.1]
    """
    of_camera: dict[str, Any] = {}
    if masks:
        of_camera["masks"] = [region.as_mapping(_DIGITS) for region in masks]
    if zones:
        of_camera["zones"] = {name: region.as_mapping(_DIGITS) for name, region in zones}
    values = {"cameras": {camera: of_camera}}
    return yaml.safe_dump(values, default_flow_style=None, sort_keys=False, allow_unicode=True, width=10_000)


def _shape(region: Region) -> MaskRegion:
    if region.kind not in ("mask", "zone"):
        raise ConfigError(f"region kind {region.kind!r}: it must be a mask or a zone; choose one")
    if len(region.points) > MOST_CORNERS:
        raise ConfigError(f"a {region.kind} of {len(region.points)} corners: at most {MOST_CORNERS}; draw it simpler")
    try:
        inside = [(min(1.0, max(0.0, x)), min(1.0, max(0.0, y))) for x, y in region.points]
        return MaskRegion(tuple((round(x, _DIGITS), round(y, _DIGITS)) for x, y in inside))
    except StreamingError as error:
        raise ConfigError(str(error)) from error
