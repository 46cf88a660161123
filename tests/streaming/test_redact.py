"""Credentials are always redacted, whatever characters they contain."""

from __future__ import annotations

import pickle
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming import errors
from streaming.redact import escape_userinfo, redact_text, redact_url, split_userinfo, with_userinfo

SECRET = "s3cr3t"
NASTY = [
    f"{SECRET}",
    f"p@{SECRET}",
    f"a:{SECRET}:b",
    f"x/{SECRET}/y",
    f"x#{SECRET}#y",
    f"x?{SECRET}?y",
    f"x%{SECRET}%",
    f"x.{SECRET}.y",
    f"@:/#%.{SECRET}?&=@",
    f"&{SECRET}&",
]
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=20)


@pytest.mark.parametrize("password", NASTY)
@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https", "ftp"])
def test_no_password_survives_in_a_url(scheme: str, password: str) -> None:
    shown = redact_url(f"{scheme}://admin:{password}@10.0.0.5:554/stream1")
    assert SECRET not in shown
    assert "admin" not in shown
    assert shown == f"{scheme}://***@10.0.0.5:554/stream1"


@given(password=PRINTABLE)
def test_no_random_password_survives(password: str) -> None:
    rest = "10.0.0.5:554/stream1"
    for shown in (
        redact_url(f"rtsp://admin:{password}@{rest}"),
        redact_text(f"could not open rtsp://admin:{password}@{rest}"),
        str(errors.SourceUnreachable(f"rtsp://admin:{password}@{rest}", "no answer", "check it")),
    ):
        assert password not in shown.replace(rest, "").replace("***", "")


@pytest.mark.parametrize(
    "url",
    [
        f"http://cam/video.cgi?user=admin&password={SECRET}",
        f"http://cam/video.cgi?channel=1&Token={SECRET}&subtype=0",
        f"https://cam/live.m3u8?{SECRET}",
        f"https://cam/live.m3u8#access_token={SECRET}",
        f"http://cam/video?password=ab&{SECRET}&channel=1",
        f"http://cam/video?password=ab#{SECRET}",
        f"rtsp://cam/user=admin&password={SECRET}&channel=1&stream=0.sdp",
        f"rtsp://cam/user=admin_password={SECRET}_channel=1_stream=0.sdp",
        f"rtsp://cam/user=admin&password=a/b?{SECRET}",
        f"rtsp://admin:{SECRET}",
    ],
)
def test_no_token_survives_in_a_query_or_path(url: str) -> None:
    assert SECRET not in redact_url(url)
    assert SECRET not in redact_text(f"[tcp @ 0x55] Failed to open '{url}': timed out")


def test_what_tells_cameras_apart_stays() -> None:
    url = "rtsp://10.0.0.5:554/cam/realmonitor?channel=2&subtype=0"
    assert redact_url(url) == url
    assert redact_url("rtsp://[fe80::1]:554/a") == "rtsp://[fe80::1]:554/a"
    assert redact_url("clips/a@b.mp4") == "clips/a@b.mp4"


@pytest.mark.slow
@given(url=st.text(max_size=60).map(lambda text: "rtsp://" + text))
def test_redacting_twice_changes_nothing(url: str) -> None:
    assert redact_url(redact_url(url)) == redact_url(url)


@pytest.mark.parametrize("password", [word for word in NASTY if not word.startswith(f"x%{SECRET}")])
def test_ffmpeg_gets_the_password_escaped(password: str) -> None:
    escaped = escape_userinfo(f"rtsp://admin:{password}@10.0.0.5:554/stream1")
    userinfo, _, address = escaped.removeprefix("rtsp://").partition("@")
    assert address == "10.0.0.5:554/stream1"
    assert not set("@/#?") & set(userinfo)
    assert unquote(userinfo) == f"admin:{password}"


def test_what_is_escaped_already_is_not_escaped_again() -> None:
    assert escape_userinfo("rtsp://admin:p%40ss@cam/a") == "rtsp://admin:p%40ss@cam/a"


@pytest.mark.parametrize(
    ("url", "bare", "userinfo"),
    [
        ("rtsp://cam:554/a", "rtsp://cam:554/a", None),
        ("rtsp://cam/a?mail=me@home", "rtsp://cam/a?mail=me@home", None),
        ("http://host/@user/clip.mp4", "http://host/@user/clip.mp4", None),
        ("http://u:p@host/@user/clip.mp4", "http://host/@user/clip.mp4", "u:p"),
        ("rtsp://u@cam/a", "rtsp://cam/a", "u"),
        ("rtsp://u:a/b@cam/a", "rtsp://cam/a", "u:a/b"),
        ("http://u:a/b@cam.local/a", "http://cam.local/a", "u:a/b"),
        ("http://u:p@s:s/w#r@10.0.0.5:80/a", "http://10.0.0.5:80/a", "u:p@s:s/w#r"),
        ("rtsp://u:p@10.0.0.5/a?mail=me@home.net", "rtsp://10.0.0.5/a?mail=me@home.net", "u:p"),
        ("rtsp://u:p@cam:554/a@b", "rtsp://cam:554/a@b", "u:p"),
        ("rtsp://u:p@[fe80::1]/a@b", "rtsp://[fe80::1]/a@b", "u:p"),
    ],
)
def test_credentials_are_told_from_the_rest(url: str, bare: str, userinfo: str | None) -> None:
    assert split_userinfo(url) == (bare, userinfo)


def test_logins_of_requests_that_ffmpeg_prints_are_hidden() -> None:
    lines = ("GET / HTTP/1.1", f"Authorization: Basic {SECRET}", f"Proxy-authorization: Digest {SECRET}", "Host: cam")
    request = "\r\n".join(lines)
    shown = redact_text(request)
    assert SECRET not in shown and "Host: cam" in shown


@pytest.mark.parametrize("password", NASTY)
def test_a_login_that_is_put_in_comes_out_again(password: str) -> None:
    url = with_userinfo("rtsp://old:login@10.0.0.5:554/stream1?subtype=0", "ad@min", password)
    assert redact_url(url) == "rtsp://***@10.0.0.5:554/stream1?subtype=0"
    assert escape_userinfo(url) == url, "FFmpeg gets it as it is"
    _, userinfo = split_userinfo(url)
    assert userinfo is not None and [unquote(part) for part in userinfo.split(":")] == ["ad@min", password]


def test_errors_hold_no_secret_anywhere() -> None:
    url = f"rtsp://admin:{SECRET}@cam/a"
    error = errors.SourceTimeout(url, f"no answer from\n {url}", "check it")
    again = pickle.loads(pickle.dumps(error))
    assert SECRET not in f"{error} {error!r} {error.args} {again} {vars(error)}"
    assert "\n" not in str(error)
    assert str(again) == str(error) == "rtsp://***@cam/a: no answer from rtsp://***@cam/a. Check it."


def test_the_tree_of_errors_is_as_drawn() -> None:
    assert issubclass(errors.OptionError, ValueError)
    assert issubclass(errors.SourceTimeout, errors.SourceUnreachable)
    assert issubclass(errors.TruncatedFile, errors.NotAVideo)
    assert issubclass(errors.NoVideoStream, errors.NotAVideo)
    drawn = set(errors.__doc__.split()) if errors.__doc__ else set()
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes <= drawn
