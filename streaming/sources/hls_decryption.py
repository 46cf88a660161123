"""Decrypts the segments of HLS playlists (RFC 8216), and refuses playlists whose encryption is not supported.

Threads as for the `VideoReader` that reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from streaming.errors import NotAVideo, SourceError

_KEY = re.compile(r"^#EXT-X-(?:SESSION-)?KEY:(.*)$", re.M)
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^,\s]*)')
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BLOCK_BITS = 128


def check_keys(name: str, head: bytes) -> None:
    """Raise `NotAVideo` if the playlist that begins with `head` is encrypted, and none of its keys is supported."""
    text = head.decode("utf-8", "replace")
    keys = [dict(_ATTRIBUTE.findall(line)) for line in _KEY.findall(text)]
    is_fragmented = "#EXT-X-MAP" in text
    if not keys or any(_is_usable(key, is_fragmented=is_fragmented) for key in keys):
        return
    method, form, scheme = keys[0].get("METHOD", "none"), keys[0].get("KEYFORMAT", "").strip('"'), _scheme(keys[0])
    way = ", ".join(filter(None, (method, form, f"its key at {scheme}:" if scheme else "")))
    rule = f"it is encrypted in a way that is not played ({way})"
    raise NotAVideo(
        name, rule, "AES-128 with a plain key is played, and SAMPLE-AES in MPEG-TS; give such a stream, or a clear one"
    )


def _is_usable(key: dict[str, str], *, is_fragmented: bool) -> bool:
    method, form = key.get("METHOD", ""), key.get("KEYFORMAT", "identity").strip('"')
    is_known = method in ("NONE", "AES-128") or (method == "SAMPLE-AES" and not is_fragmented)
    return is_known and form == "identity" and _scheme(key) in ("", "http", "https")


def _scheme(key: dict[str, str]) -> str:
    """URL scheme of the key's address; empty if the address is relative."""
    found = _SCHEME.match(key.get("URI", "").strip('"'))
    return found[1].lower() if found is not None else ""


class EncryptedBytes(Protocol):
    """The encrypted file (`streaming.sources.http_files.HttpFile`)."""

    @property
    def failure(self) -> BaseException | None:
        """The error that broke it off, or None."""
        ...

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, and none at the end."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class DecryptedFile:
    """A file object that decrypts another one: AES-128 in CBC mode with PKCS #7 padding."""

    def __init__(
        self, file: EncryptedBytes, name: str, key: bytes, iv: bytes, on_failure: Callable[[SourceError], None]
    ) -> None:
        """`on_failure` is called with the error if the file does not decrypt; `name` is the source's, for messages."""
        self._file, self._name, self._on_failure = file, name, on_failure
        self._decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        self._unpadder = PKCS7(_BLOCK_BITS).unpadder()
        self._rest = b""
        self._has_ended = False

    def readable(self) -> bool:
        """True: FFmpeg may read it."""
        return True

    def seekable(self) -> bool:
        """False: decrypting a block needs the one before."""
        return False

    def read(self, size: int) -> bytes:
        """Return at most `size` decrypted bytes, and none at the end."""
        while not self._rest and not self._has_ended:
            data = self._file.read(size)
            self._rest = self._unpadder.update(self._decryptor.update(data)) if data else self._end()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def close(self) -> None:
        """Close the encrypted file."""
        self._file.close()

    def _end(self) -> bytes:
        self._has_ended = True
        try:
            return self._unpadder.update(self._decryptor.finalize()) + self._unpadder.finalize()
        except ValueError:
            if self._file.failure is None:
                rule = "a part of it does not decrypt with the key that its playlist names"
                remedy = "check the key, and that the server sends it to everybody"
                self._on_failure(NotAVideo(self._name, rule, remedy))
            return b""


class EmptyFile:
    """An empty file that FFmpeg reads in place of a segment that could not be opened, to continue with the next."""

    def readable(self) -> bool:
        """True: FFmpeg may read it."""
        return True

    def seekable(self) -> bool:
        """False: FFmpeg may not seek in it."""
        return False

    def read(self, size: int) -> bytes:
        """Return no bytes: the end of the file."""
        return b""

    def close(self) -> None:
        """Do nothing."""
