"""Lists the video decoders of the installed FFmpeg libraries. For any thread."""

from __future__ import annotations

WANTED = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mjpeg")
"""Codecs that today's cameras and recordings use."""


def decoders_present() -> dict[str, bool]:
    """For each codec of `WANTED`, whether it can be decoded. Raises ImportError if PyAV cannot be imported."""
    from av.codec.codec import Codec, UnknownCodecError

    present = {}
    for name in WANTED:
        try:
            present[name] = bool(Codec(name, "r").is_decoder)
        except UnknownCodecError:
            present[name] = False
    return present
