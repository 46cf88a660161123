"""Recognises file formats by their first bytes, for error messages about files that are not videos. For any thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileKind:
    """A file format, with its part of an error message."""

    description: str
    """A clause such as `it is a ZIP archive`."""
    remedy: str
    """What the user can do, such as `export it as PNG`."""
    has_streams: bool = False
    """Whether the format may hold a video; FFmpeg's reason for not reading it is then more precise."""


_UNPACK = "unpack it and give what is in it"
_AS_PICTURE = "give it as a picture"
_EXPORT = "export it as JPEG or PNG"
_WITH_PICTURES = "give a file with pictures"
_LISTED = "give the recording itself, or the list's address as a camera's"

_BY_HEAD = (
    (b"PK\x03\x04", FileKind("it is a ZIP archive", _UNPACK)),
    (b"Rar!", FileKind("it is a RAR archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", FileKind("it is a 7z archive", _UNPACK)),
    (b"\x1f\x8b", FileKind("it is packed with gzip", _UNPACK)),
    (b"BZh", FileKind("it is packed with bzip2", _UNPACK)),
    (b"\xfd7zXZ", FileKind("it is packed with xz", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", FileKind("it is packed with zstd", _UNPACK)),
    (b"%PDF", FileKind("it is a PDF document", "export its pages as PNG")),
    (b"8BPS", FileKind("it is a Photoshop picture (PSD)", _EXPORT)),
    (b"\xff\x0a", FileKind("it is a JPEG XL picture", _EXPORT)),
    (b"\x00\x00\x00\x0cJXL ", FileKind("it is a JPEG XL picture", _EXPORT)),
    (b"FUJIFILM", FileKind("it is a raw photograph", _EXPORT)),
    (b"\x76\x2f\x31\x01", FileKind("it is an OpenEXR picture", _EXPORT)),
    (b"\x89PNG", FileKind("it is a PNG picture", _AS_PICTURE)),
    (b"\xff\xd8\xff", FileKind("it is a JPEG picture", _AS_PICTURE)),
    (b"BM", FileKind("it is a BMP picture", _AS_PICTURE)),
    (b"II*\x00", FileKind("it is a TIFF picture or a raw photograph", "give it as a picture, or export it as PNG")),
    (b"MM\x00*", FileKind("it is a TIFF picture or a raw photograph", "give it as a picture, or export it as PNG")),
    (b"ID3", FileKind("it is sound (MP3)", _WITH_PICTURES, has_streams=True)),
    (b"fLaC", FileKind("it is sound (FLAC)", _WITH_PICTURES, has_streams=True)),
    (
        b"OggS",
        FileKind("it is an Ogg file, a video or sound", "give it as a clip, if it has pictures", has_streams=True),
    ),
    (b"\x1aE\xdf\xa3", FileKind("it is a video (Matroska or WebM)", "give it as a clip", has_streams=True)),
    (b"DHAV", FileKind("it is a Dahua recorder's video (DAV)", "give it as a clip", has_streams=True)),
    (b"MZ", FileKind("it is a program", "give a video or a picture")),
    (b"\x7fELF", FileKind("it is a program", "give a video or a picture")),
)
_BY_RIFF = {
    b"WEBP": FileKind("it is a WebP picture", _AS_PICTURE),
    b"AVI ": FileKind("it is a video (AVI)", "give it as a clip", has_streams=True),
    b"WAVE": FileKind("it is sound (WAV)", _WITH_PICTURES, has_streams=True),
}
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BY_TEXT = (  # in lower case
    ("#extm3u", FileKind("it is a playlist (M3U8)", _LISTED)),
    ("ffconcat", FileKind("it is a list of files (ffconcat)", "give the files themselves")),
    ("[playlist]", FileKind("it is a playlist (PLS)", _LISTED)),
    ("<mpd", FileKind("it is a playlist (DASH)", _LISTED)),
    ("<smil", FileKind("it is a playlist (SMIL)", _LISTED)),
    ("v=0", FileKind("it describes a stream (SDP)", "give the stream's rtsp:// address")),
    ("<svg", FileKind("it is an SVG drawing", "export it as PNG")),
    ("<html", FileKind("it is a web page", "save the video or the picture itself")),
    ("<!doctype html", FileKind("it is a web page", "save the video or the picture itself")),
)


def non_video_kind(path: Path) -> FileKind | None:
    """The file's format if that format cannot hold a video; None otherwise."""
    kind = kind_of(path)
    return None if kind is None or kind.has_streams else kind


def kind_of(path: Path) -> FileKind | None:
    """The file's format; None if its first bytes are not recognised, or it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    for start, kind in _BY_HEAD:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF":
        return _BY_RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _of_boxes(head[8:12])
    return _of_text(head)


def _of_boxes(brand: bytes) -> FileKind:
    if brand in _HEIF_BRANDS:
        return FileKind("it is a HEIC picture, as iPhones take them", _EXPORT)
    if brand in (b"avif", b"avis"):
        return FileKind("it is an AVIF picture", _AS_PICTURE)
    if brand == b"crx ":
        return FileKind("it is a raw photograph (CR3)", _EXPORT)
    return FileKind(
        "it is a video (MP4 or QuickTime)", "give it as a clip, and check that it is whole", has_streams=True
    )


def _of_text(head: bytes) -> FileKind | None:
    """The format of a text file; None if `head` is not text."""
    try:
        # A full head may end in the middle of a UTF-8 character, which is not an error of the file.
        text = head.decode("utf-8-sig", "strict" if len(head) < _HEAD_BYTES else "ignore").strip()
    except UnicodeDecodeError:
        return None
    if not text or not all(character.isprintable() or character.isspace() for character in text):
        return None
    start = text.casefold()
    for mark, kind in _BY_TEXT:
        # A comment or a declaration may stand before the first element.
        if start.startswith(mark) or (mark[0] == start[0] == "<" and mark in start):
            return kind
    return FileKind("it is a text", "give a video or a picture")
