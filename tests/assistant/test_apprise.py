"""Alerts by mail, through apprise, to a mail server on loopback; and what chats would be given."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from assistant.config.targets import AppriseTarget
from assistant.delivery.apprise_sender import AppriseSender, _body
from assistant.delivery.delivery import sample_message
from assistant.delivery.errors import NotDelivered
from assistant.delivery.messages import AlertMessage
from assistant.delivery.senders import MessageFiles, sample_attachment
from assistant.errors import ConfigError
from tests.assistant.receivers import MailReceiver, free_port
from tests.assistant.timelines import NOON_S

EVIL = "<img src=x onerror=alert(1)> [click](http://evil.example) **now** @everyone <!channel>\r\nBcc: eve@example.org"


def message(text: str = "Someone is at the door.", **more: object) -> AlertMessage:
    values = replace(sample_message(NOON_S), rule="Door", camera="front door", text=text, is_test=False)
    return replace(values.for_target("mail"), **more)  # type: ignore[arg-type]


def mail_to(monkeypatch: pytest.MonkeyPatch, url: str, **more: object) -> AppriseSender:
    monkeypatch.setenv("MAIL_URL", url)
    return AppriseSender("mail", AppriseTarget.model_validate({"kind": "apprise", "url_env": "MAIL_URL", **more}))


def parsed(content: bytes) -> EmailMessage:
    read = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def text_of(mail: EmailMessage, kind: str) -> str:
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


@pytest.mark.slow
def test_a_mail_comes_with_its_picture_and_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    film = replace(sample_attachment(), name="clip.mp4", media_type="video/mp4", data=b"film")
    with MailReceiver() as receiver:
        said = mail_to(monkeypatch, receiver.url).send(
            message(probability=0.91, started_s=0.0, ended_s=12.0, phase="ended"),
            MessageFiles((sample_attachment(), film)),
        )
        (content,) = receiver.mails
    mail = parsed(content)
    assert said == "E-Mail took it with snapshot.jpg, clip.mp4"
    assert mail["subject"] == "Over: Door (front door)"
    assert "Someone is at the door." in text_of(mail, "plain")
    assert "91% sure; lasted 12 s" in text_of(mail, "html")
    attached = {part.get_filename(): part.get_payload(decode=True) for part in mail.iter_attachments()}
    assert attached == {"snapshot.jpg": sample_attachment().data, "clip.mp4": b"film"}


def test_a_models_words_are_never_markup_nor_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailReceiver() as receiver:
        mail_to(monkeypatch, receiver.url).send(message(EVIL, rule=EVIL), MessageFiles())
        (content,) = receiver.mails
    mail = parsed(content)
    assert mail["bcc"] is None and "\n" not in mail["subject"]
    html = text_of(mail, "html")
    assert "<img" not in html and "&lt;img" in html and "http://evil" not in html


@pytest.mark.parametrize(
    "url",
    [
        "discord://1234567890/abcdefghijklmnop",
        "slack://AAAAAAAAA/BBBBBBBBB/CCCCCCCCCCCCCCCCCCCCCCCC",
        "tgram://123456789:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/12345/",
        "ntfy://topic",
        "pover://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    ],
)
def test_chats_get_words_without_links_and_mentions(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    service = mail_to(monkeypatch, url)._service()
    body, body_format = _body(service, message(EVIL), MessageFiles())
    assert "http://evil.example" not in body and "@everyone" not in body and "<!channel>" not in body
    if body_format.value == "html":
        assert "<img" not in body
    if body_format.value == "markdown":
        assert "[click](" not in body and "**now**" not in body


def test_a_refusal_is_told_in_the_servers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailReceiver("554 no mail on Mondays") as receiver:
        sender = mail_to(monkeypatch, receiver.url)
        with pytest.raises(NotDelivered, match=r"E-Mail: .*no mail on Mondays"):
            sender.send(message(), MessageFiles())


def test_a_server_that_is_not_there_is_tried_again_without_telling_the_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"mailto://ada:hunter2-long@localhost:{free_port()}/?from=a@example.org&to=b@example.org&mode=insecure"
    sender = mail_to(monkeypatch, url)
    with pytest.raises(NotDelivered, match=r"E-Mail: .*refused") as caught:
        sender.send(message(), MessageFiles())
    assert "hunter2" not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "its apprise URL cannot be read"),
        ("smoke://signal", "its apprise URL cannot be read"),
        ("jsons://host/secret-token", "jsons:// is not sent by apprise here; name it as kind: webhook"),
    ],
)
def test_a_wrong_url_is_refused_without_being_repeated(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mail_to(monkeypatch, url)
    assert str(caught.value).startswith("target mail: ") and said in str(caught.value)
    assert "secret-token" not in str(caught.value)


def test_a_secret_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_URL", raising=False)
    with pytest.raises(ConfigError, match="NO_URL: the environment variable is not set; target mail needs it; set it"):
        AppriseSender("mail", AppriseTarget(kind="apprise", url_env="NO_URL"))
    with pytest.raises(ConfigError, match="none: No such file or directory; target mail needs it for its apprise URL"):
        AppriseSender("mail", AppriseTarget(kind="apprise", url_file=tmp_path / "none"))
