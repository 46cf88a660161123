"""Which video decoders the installed FFmpeg libraries have. Any thread may ask."""

from __future__ import annotations

WANTED = ("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mjpeg")
"""What cameras and recordings of today need."""


def decoders_present() -> dict[str, bool]:
    """Each wanted codec, and whether it can be decoded. Raises ImportError where PyAV does not load."""
    from av.codec.codec import Codec, UnknownCodecError

    present = {}
    for name in WANTED:
        try:
            present[name] = bool(Codec(name, "r").is_decoder)
        except UnknownCodecError:
            present[name] = False
    return present
