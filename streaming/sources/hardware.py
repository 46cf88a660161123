"""Chooses a graphics card for decoding, if there is one. One object belongs to one source and its thread."""

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
    """The device that decodes a source; after a failure the source is decoded in software."""

    def __init__(self, wanted: Hardware) -> None:
        self._is_given_up = wanted == "off"
        self._device: str | None = None
        self._is_probed = False

    def accelerator(self) -> HWAccel | None:
        """The accelerator to open a container with; None if there is no device, or it failed before."""
        if not self._is_given_up and not self._is_probed:
            self._device, self._is_probed = _find_device(), True
        if self._is_given_up or self._device is None:
            return None
        return HWAccel(self._device, allow_software_fallback=True)

    def give_up(self) -> None:
        """Decode this source in software from now on, because the device cannot."""
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
