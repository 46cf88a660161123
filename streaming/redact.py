"""Removes credentials from URLs and from text that may contain URLs. Pure functions, for any thread.

When in doubt it hides: users type passwords unescaped, with any of `@ : / # ? %` in them. So it removes everything
between `://` and the last `@`, and every query value that is not known to be harmless.
"""

from __future__ import annotations

import re
from urllib.parse import quote

HIDDEN = "***"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://\S+")
_AUTHORITY_END = re.compile(r"[/?#]")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@]*)(:\d{0,5})?[^\w]*")
# A host that is unlikely to be part of a password: it has a dot or a port, or stands in brackets.
_SURE_HOST = re.compile(
    r"(localhost|\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9\-]+(\.[A-Za-z0-9\-]+)+|[A-Za-z0-9\-]+(?=:\d))(:\d{1,5})?"
)
_SECRET_IN_PATH = re.compile(
    r"(?i)\b(\w*?(?:password|passwd|passphrase|pwd|psw|secret|token|signature|api_?key|credential|user|usr|login)\w*?=)"
    r".*"
)
# FFmpeg prints the requests that it sends at its most verbose log level.
_LOGIN_HEADER = re.compile(r"(?i)((?:proxy-)?authorization:\s*)[^\r\n]*")
_HARMLESS_QUERY = frozenset(
    ("bitrate", "camera", "ch", "channel", "codec", "fps", "height", "proto", "profile", "quality", "resolution")
    + ("stream", "streamtype", "subtype", "transport", "transportmode", "unicast", "width")
)
_HARMLESS_VALUE = re.compile(r"[A-Za-z0-9.]{1,12}")
_UNSAFE_IN_USERINFO = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9%._~\-]+")


def redact_url(url: str) -> str:
    """`url` without its user, password, fragment and any query values that may be secrets.

    >>> redact_url("rtsp://admin:p@ss/w#rd@10.0.0.5:554/stream?channel=1&token=abc")
    'rtsp://***@10.0.0.5:554/stream?channel=1&token=***'
    """
    match = _SCHEME.match(url)
    if match is None:
        return url
    scheme, rest = match.group(), url[match.end() :]
    hidden_user = ""
    if "@" in rest:
        rest = rest[rest.rindex("@") + 1 :]
        hidden_user = f"{HIDDEN}@"
    authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
    if not _HOST_AND_PORT.fullmatch(authority):
        return f"{scheme}{HIDDEN}"
    rest, _, fragment = rest.partition("#")
    path, mark, query = rest.partition("?")
    path = _SECRET_IN_PATH.sub(rf"\1{HIDDEN}", path)
    if mark:
        query = "&".join(_redact_pair(pair) for pair in query.split("&"))
    return f"{scheme}{hidden_user}{path}{mark}{query}" + (f"#{HIDDEN}" if fragment else "")


def redact_text(text: str) -> str:
    """`text` with every URL and every authorization header redacted; FFmpeg's messages may quote both.

    >>> redact_text("Connection refused: 'rtsp://u:secret@cam/live'")
    "Connection refused: 'rtsp://***@cam/live'"
    """
    text = _LOGIN_HEADER.sub(rf"\1{HIDDEN}", text)
    return _URL_IN_TEXT.sub(lambda match: redact_url(match.group()), text)


def split_userinfo(url: str) -> tuple[str, str | None]:
    """`url` without its `user:password`, and the `user:password` as written (None if absent); it may be unescaped.

    >>> split_userinfo("rtsp://admin:p@ss/w#rd@10.0.0.5/stream")
    ('rtsp://10.0.0.5/stream', 'admin:p@ss/w#rd')
    """
    match = _SCHEME.match(url)
    if match is None:
        return url, None
    scheme, rest = match.group(), url[match.end() :]
    authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
    if "@" not in rest or ("@" not in authority and _HOST_AND_PORT.fullmatch(authority)):
        return url, None
    at = _find_end_of_userinfo(rest, authority, is_web=scheme.lower().startswith("http"))
    return scheme + rest[at + 1 :], rest[:at]


def escape_userinfo(url: str) -> str:
    """`url` with its user and password percent-escaped, as FFmpeg needs them; existing escapes are kept.

    >>> escape_userinfo("rtsp://admin:p@ss/w#rd%@10.0.0.5/stream")
    'rtsp://admin:p%40ss%2Fw%23rd%25@10.0.0.5/stream'
    """
    bare, userinfo = split_userinfo(url)
    if userinfo is None:
        return url
    scheme, _, address = bare.partition("://")
    user, colon, password = userinfo.partition(":")
    return f"{scheme}://{_escape(user)}{colon}{_escape(password)}@{address}"


def with_userinfo(url: str, user: str, password: str | None = None) -> str:
    """`url` with this login, percent-escaped, in place of any login that it has.

    >>> with_userinfo("rtsp://10.0.0.5/stream", "admin", "p@ss:w/%40")
    'rtsp://admin:p%40ss%3Aw%2F%2540@10.0.0.5/stream'
    """
    scheme, mark, address = split_userinfo(url)[0].partition("://")
    secret = "" if password is None else f":{quote(password, safe='')}"
    return f"{scheme}{mark}{quote(user, safe='')}{secret}@{address}" if mark else url


def _find_end_of_userinfo(rest: str, authority: str, *, is_web: bool) -> int:
    """Index of the `@` before the host: the first one followed by a certain host, else a guess by the scheme."""
    for match in re.finditer("@", rest):
        if _SURE_HOST.fullmatch(_AUTHORITY_END.split(rest[match.end() :], maxsplit=1)[0]):
            return match.start()
    # Web servers have paths with an `@`, cameras have passwords with a `/`.
    return authority.rindex("@") if is_web and "@" in authority else rest.rindex("@")


def _escape(text: str) -> str:
    return _UNSAFE_IN_USERINFO.sub(lambda match: quote(match.group(), safe=""), text)


def _redact_pair(pair: str) -> str:
    """A query's `name=value`, its value hidden unless harmless; text without `=` may be a token and is hidden."""
    name, equals, value = pair.partition("=")
    if not equals:
        return HIDDEN if name else name
    if name.lower() in _HARMLESS_QUERY and _HARMLESS_VALUE.fullmatch(value):
        return pair
    return f"{name}={HIDDEN}"
