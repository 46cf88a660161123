"""Decoding on a graphics card, where there is one that can; one object belongs to one source and its thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
from av.codec.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available

if TYPE_CHECKING:
    from streaming.sources.base import Hardware

_PREFERRED = ("videotoolbox", "cuda", "vaapi", "d3d11va", "qsv")
_PROBED_CODEC = "h264"


class HardwareDecoding:
    """Which device decodes a source. One that fails once is not tried again for this source."""

    def __init__(self, wanted: Hardware) -> None:
        self._is_given_up = wanted == "off"
        self._device: str | None = None
        self._is_probed = False

    def accelerator(self) -> HWAccel | None:
        """What to open a container with; None where there is no device, or it failed before."""
        if not self._is_given_up and not self._is_probed:
            self._device, self._is_probed = _find_device(), True
        if self._is_given_up or self._device is None:
            return None
        return HWAccel(self._device, allow_software_fallback=True)

    def give_up(self) -> None:
        """The device cannot decode this source: go on without."""
        self._is_given_up = True


def _find_device() -> str | None:
    """The first kind of device that FFmpeg was built for and this machine has."""
    built_for = hwdevices_available()
    for name in _PREFERRED:
        if name not in built_for:
            continue
        try:
            HWAccel(name).create(Codec(_PROBED_CODEC, "r"))
        except (av.FFmpegError, NotImplementedError, ValueError):
            continue
        return name
    return None
