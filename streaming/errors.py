"""The exceptions of this package, as one tree; any thread may raise them.

    StreamingError
    ├── OptionError             an option breaks its rule (also a ValueError)
    ├── MissingLibrary          a library that this kind of source needs is not installed
    ├── CaptureStuck            a capture thread did not end within its time limit
    └── SourceError             a source cannot be opened or read
        ├── SourceNotFound      no such file, camera, or stream on the server
        ├── SourceUnreadable    the file or camera exists, but permission to read it is missing
        ├── SourceBusy          another program holds the camera
        ├── NotAVideo           the data can be read, but is not a video
        │   ├── TruncatedFile   the file's index is missing: the recording was cut off
        │   └── NoVideoStream   the file holds sound or subtitles only
        ├── PictureTooNarrow    one side of the picture is more than 200 times the other
        ├── TimesJumpBack       the timestamps of a recording jump back, and the options forbid it
        ├── PlayedBefore        a live stream ended, and the server now sends the same data again
        ├── LoginRefused        the server wants another user or password
        ├── AddressRefused      the URL leads to a host that the network policy forbids
        └── SourceUnreachable   the server does not answer, or not in its protocol
            └── SourceTimeout   the server did not answer in time

Each message is one line: the value, the rule it breaks, and the remedy. Messages never contain credentials.
"""

from __future__ import annotations

from streaming.redact import redact_text


class StreamingError(Exception):
    """Base class of all errors of this package."""

    def __init__(self, value: str, rule: str, remedy: str = "") -> None:
        """`value` is the rejected value, `rule` the rule it breaks, `remedy` what the user can do."""
        self.value, self.rule, self.remedy = _one_line(value), _one_line(rule), _one_line(remedy)
        super().__init__(self.value, self.rule, self.remedy)

    def __str__(self) -> str:
        sentences = [f"{self.value}: {self.rule}".rstrip("."), self.remedy[:1].upper() + self.remedy[1:].rstrip(".")]
        return ". ".join(sentence for sentence in sentences if sentence) + "."

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class OptionError(StreamingError, ValueError):
    """An option has a value that breaks its rule."""


class MissingLibrary(StreamingError):
    """A library that this kind of source needs is not installed, or cannot be imported."""


class CaptureStuck(StreamingError):
    """A capture thread did not end within its time limit."""


class SourceError(StreamingError):
    """A source cannot be opened or read."""


class SourceNotFound(SourceError):
    """The file, the camera, or the stream on the server does not exist."""


class SourceUnreadable(SourceError):
    """The file or camera exists, but this user has no permission to read it."""


class SourceBusy(SourceError):
    """Another program holds the camera."""


class NotAVideo(SourceError):
    """The data can be read, but is not a video."""


class TruncatedFile(NotAVideo):
    """The index of the file is missing: its recording was cut off."""


class NoVideoStream(NotAVideo):
    """The file holds sound or subtitles, but no pictures."""


class PictureTooNarrow(SourceError):
    """One side of the picture is more than 200 times the other."""


class TimesJumpBack(SourceError):
    """The timestamps of a recording jump back, and `SourceOptions.jumps` is `refuse`."""


class PlayedBefore(SourceError):
    """A stream that was taken for live ended, and the server now sends the same data again: it is a recording."""


class LoginRefused(SourceError):
    """The server wants another user or password."""

    @classmethod
    def of(cls, source: str, *, was_given: bool) -> LoginRefused:
        """The error for `source`; `was_given` says whether its URL contains a login."""
        if was_given:
            return cls(source, "the server refused this user or password", "check both")
        return cls(source, "the server wants a login", "write user:password@ in front of the host")


class AddressRefused(SourceError):
    """The URL leads to an address that this source may not connect to."""


class SourceUnreachable(SourceError):
    """The server does not answer, or does not answer in the URL's protocol."""


class SourceTimeout(SourceUnreachable):
    """The server did not answer in time."""


def _one_line(text: str) -> str:
    return " ".join(redact_text(text).split())
