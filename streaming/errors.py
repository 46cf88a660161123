"""Everything that can go wrong in this room, as one tree; any thread may raise it.

    StreamingError
    ├── ConfigError             a value we were given breaks its rule (also a ValueError)
    ├── MissingLibrary          a library that this kind of source needs is not installed
    ├── CaptureStuck            a capture thread did not end in the time it was given
    └── SourceError             a source cannot be opened or read
        ├── SourceNotFound      no such file, camera, or stream on the server
        ├── SourceUnreadable    it is there, and we may not read it
        ├── SourceBusy          a camera that another program holds
        ├── NotAVideo           it can be read, and it is not a video
        │   ├── TruncatedFile   its index is missing: the recording was cut off
        │   └── NoVideoStream   sound or subtitles only
        ├── PictureTooNarrow    one side is more than 200 times the other
        ├── TimesJumpBack       the timestamps of a recording jump back, and are not to
        ├── PlayedBefore        it came to its end, and what is there now is the same again
        ├── LoginRefused        the server wants another user or password
        ├── AddressRefused      the URL leads where this source may not connect to
        └── SourceUnreachable   the server does not answer, or not in its protocol
            └── SourceTimeout   it did not answer in time

Each message is one line: the value, the rule it breaks, and what to do. Credentials never appear in it.
"""

from __future__ import annotations

from streaming.redact import redact_text


class StreamingError(Exception):
    """Base of the tree."""

    def __init__(self, value: str, rule: str, remedy: str = "") -> None:
        """`value` is what was given, `rule` what is wrong with it, `remedy` what to do about it."""
        self.value, self.rule, self.remedy = _one_line(value), _one_line(rule), _one_line(remedy)
        super().__init__(self.value, self.rule, self.remedy)

    def __str__(self) -> str:
        sentences = [f"{self.value}: {self.rule}".rstrip("."), self.remedy[:1].upper() + self.remedy[1:].rstrip(".")]
        return ". ".join(sentence for sentence in sentences if sentence) + "."

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class OptionError(StreamingError, ValueError):
    """A value we were given breaks its rule."""


class MissingLibrary(StreamingError):
    """A library that this kind of source needs is not installed, or does not load."""


class CaptureStuck(StreamingError):
    """A capture thread did not end in the time it was given."""


class SourceError(StreamingError):
    """A source cannot be opened or read."""


class SourceNotFound(SourceError):
    """There is no such file, camera, or stream on the server."""


class SourceUnreadable(SourceError):
    """It is there, and we may not read it."""


class SourceBusy(SourceError):
    """A camera that another program holds."""


class NotAVideo(SourceError):
    """It can be read, and it is not a video."""


class TruncatedFile(NotAVideo):
    """The index of the file is missing: its recording was cut off."""


class NoVideoStream(NotAVideo):
    """There is sound or there are subtitles, and no pictures."""


class PictureTooNarrow(SourceError):
    """One side of the picture is more than 200 times the other."""


class TimesJumpBack(SourceError):
    """The timestamps of a recording jump back, and whoever opened it asked that they do not."""


class PlayedBefore(SourceError):
    """What was taken for live came to its end, and the server now sends the same again."""


class LoginRefused(SourceError):
    """The server wants another user or password."""

    @classmethod
    def of(cls, source: str, *, was_given: bool) -> LoginRefused:
        """For a source whose URL has a login, or has none."""
        if was_given:
            return cls(source, "the server refused this user or password", "check both")
        return cls(source, "the server wants a login", "write user:password@ in front of the host")


class AddressRefused(SourceError):
    """The URL leads where this source may not connect to."""


class SourceUnreachable(SourceError):
    """The server does not answer, or not in its protocol."""


class SourceTimeout(SourceUnreachable):
    """The server did not answer in time."""


def _one_line(text: str) -> str:
    return " ".join(redact_text(text).split())
