"""Targets in the configuration and on the command line: each mistake is one line, before anything is sent."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import app
from assistant.cameras.cameras import Cameras
from assistant.commands.logs import Secrets, configure_logs
from assistant.commands.setup import open_delivery
from assistant.commands.terminal import BAD_INPUT
from assistant.config.app import AppConfig, load_config, waiting_for_restart
from assistant.delivery.delivery import Delivery
from assistant.delivery.outbox import Outbox
from assistant.errors import ConfigError
from assistant.events import Alert
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from tests.assistant.receivers import Reply, WebReceiver
from tests.assistant.test_outbox import parcel, started

HOOK = "kind: webhook, url: 'http://10.0.0.5/hook'"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{kind: smoke}", "targets.a.kind 'smoke': it must be one of apprise, mqtt, webhook; name one of them"),
        ("{}", "targets.a.kind: it must be one of apprise, mqtt, webhook; name one of them"),
        ("7", "targets.a.kind: it must be one of apprise, mqtt, webhook; name one of them"),
        ("{kind: mqtt}", "targets.a.host: it must be given; add it"),
        ("{kind: mqtt, host: 'mqtt://h'}", "targets.a.host 'mqtt://h': it must be a host name or an IP address"),
        ("{kind: mqtt, host: h, topic: a/#}", "targets.a.topic 'a/#': it must be a topic of at most 200 characters"),
        ("{kind: mqtt, host: h, ca_file: x}", "targets.a: ca_file without encryption: encryption must be tls"),
        ("{kind: mqtt, host: h, password_env: X}", "targets.a: a password without a user: user or user_env is needed"),
        ("{kind: mqtt, host: h, pasword_env: X}", "targets.a.pasword_env: unknown key; known are rules,"),
        ("{kind: apprise}", "targets.a: url_env and url_file: one of them must be given, and only one"),
        ("{kind: apprise, url: 'mailto://x'}", "targets.a.url: unknown key"),
        ("{kind: apprise, url_env: X, attach: clip}", "targets.a: attach clip: the clip comes with the message about"),
        ("{kind: webhook, url: 'http://u:p@h/'}", "targets.a: a login in url: it must not stand in this file"),
        (f"{{{HOOK}, tries: 0}}", "targets.a.tries 0: it should be greater than or equal to 1"),
        (f"{{{HOOK}, networks: [10.0.0.1/8]}}", "targets.a.networks.0 '10.0.0.1/8': 10.0.0.1/8 has host bits set"),
        (f"{{{HOOK}, phases: [began]}}", "targets.a.phases.0 'began': it should be 'started' or 'ended'"),
        (f"{{{HOOK}, min_severity: loud}}", "targets.a.min_severity 'loud': it should be 'info', 'warning' or"),
    ],
)
def test_a_wrong_target_is_one_line(tmp_path: Path, target: str, said: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"targets: {{a: {target}}}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    text = str(caught.value).removeprefix(f"{path}: ")
    assert text.startswith(said) and "\n" not in text and "u:p@" not in text


def test_names_of_targets_are_plain_and_differ() -> None:
    for names, said in ((["a/b"], "at most 64 letters"), (["Hook", "hook"], "differ only in capitals")):
        with pytest.raises(ValueError, match=said):
            AppConfig.model_validate({"targets": {name: {"kind": "mqtt", "host": "h"} for name in names}})


def test_changed_targets_wait_for_a_restart() -> None:
    now = AppConfig.model_validate({"targets": {"a": {"kind": "mqtt", "host": "h"}}})
    assert waiting_for_restart(AppConfig(), now) == ("targets",)
    assert waiting_for_restart(now, now) == ()


def test_a_test_alert_is_sent_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replies = iter([Reply(200, "thanks"), Reply(500, "not today")])
    path = tmp_path / "c.yaml"
    with WebReceiver(lambda post: next(replies)) as receiver:
        path.write_text(f"targets: {{hook: {{kind: webhook, url: '{receiver.url}'}}}}", encoding="utf-8")
        assert app.run(["alerts", "test", "hook", "--config", str(path)]) == 0
        assert capsys.readouterr().out == "hook: delivered: 200 OK: thanks\n"
        assert app.run(["alerts", "test", "hook", "--config", str(path)]) == 1
        assert capsys.readouterr().out == "hook: not delivered: 500 Internal Server Error: not today\n"
    assert receiver.posts[0].values["test"] is True
    assert receiver.posts[0].key != receiver.posts[1].key, "each test is one of its own"
    assert app.run(["alerts", "test", "door", "--config", str(path)]) == BAD_INPUT
    assert capsys.readouterr().err == "error: target 'door': no target has this name; choose among hook\n"


def test_the_outbox_is_listed_and_tried_again_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["alerts", "outbox", "--data", str(tmp_path / "none")]) == BAD_INPUT
    assert "no timeline there" in capsys.readouterr().err
    with Timeline(tmp_path) as timeline, Outbox(timeline.folder) as outbox:
        outbox.add([parcel(started(name), FakeClock()) for name in ("a", "b", "c")])
        outbox.sent(1, "200 OK", 5.0)
        outbox.failed(2, "401 who are you?\x1b[2J", 6.0)
        assert app.run(["alerts", "outbox", "--data", str(tmp_path), "--json"]) == 0
        printed = capsys.readouterr()
        lines = [json.loads(line) for line in printed.out.splitlines()]
        assert [(line["state"], line["said"], line["attempts"]) for line in lines] == [
            ("sent", "200 OK", 1), ("failed", "401 who are you?\x1b[2J", 1), ("waiting", "", 0)
        ]  # fmt: skip
        assert printed.err == "hook: 1 waiting, 1 sent, 1 failed\n"
        assert app.run(["alerts", "outbox", "--data", str(tmp_path), "--state", "failed"]) == 0
        shown = capsys.readouterr().out
        assert "door started (1 try) 401 who are you? [2J" in shown and "\x1b" not in shown
        assert app.run(["alerts", "retry", "--data", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "2 messages are due now\n"
        assert outbox.counts() == {"hook": {"waiting": 2, "sent": 1, "failed": 0}}
    assert app.run(["alerts", "outbox", "--data", str(tmp_path), "--state", "lost"]) == BAD_INPUT
    assert "--state 'lost': it must be one of waiting, sent, failed" in capsys.readouterr().err


def test_no_log_line_has_a_targets_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those of a library, which logs the addresses that it posts to."""
    lines, secrets = io.StringIO(), Secrets()
    configure_logs(lines, secrets, level="info")
    with WebReceiver() as receiver, Timeline(tmp_path) as timeline, ExitStack() as stack:
        monkeypatch.setenv("HOOK_URL", f"{receiver.url}/s3cr3t-t0ken")
        config = AppConfig.model_validate({"targets": {"hook": {"kind": "webhook", "url_env": "HOOK_URL"}}})
        delivery = open_delivery(stack, config, timeline, secrets.add)
        delivery.test("hook")
        receiver.wait_for_keys(1)
        assert delivery.stop(10)
    assert "HTTP Request: POST" in lines.getvalue() and "s3cr3t" not in lines.getvalue()


def test_a_rules_alerts_go_to_its_own_targets_and_receivers_can_mute_it(tmp_path: Path) -> None:
    hook = {"kind": "webhook", "url": "http://127.0.0.1:9/hook"}
    rules = {"covered": {"when": "the view is covered", "to": ["yard"]}}
    config = AppConfig.model_validate({"targets": {"hook": hook, "yard": hook}, "rules": rules})
    heard: list[tuple[str, bool]] = []

    def mute_rule(name: str, *, muted: bool) -> None:
        heard.append((name, muted))

    host: Any = None  # no camera is watched
    with Timeline(tmp_path) as timeline:
        delivery = Delivery(timeline, config.targets, clock=FakeClock())
        cameras = Cameras(host, timeline, delivery=delivery)
        cameras.load(config)
        timeline.deliver_through(delivery)
        raised = Alert(source="c", time_s=1.0, text="Dark.", rule="covered", occurrence="o1", started_s=0.5)
        timeline.record(raised, camera="door")
        (entry,) = delivery.outbox.entries()
        assert (entry.target, entry.rule, entry.occurrence) == ("yard", "covered", "o1")
        cameras._cameras["door"] = cast("Any", SimpleNamespace(channel=SimpleNamespace(mute_rule=mute_rule)))
        delivery._mute("covered", True)
        assert heard == [("covered", True)]
        delivery.outbox.close()


def test_watch_refuses_a_target_whose_secret_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_URL", raising=False)
    path = tmp_path / "c.yaml"
    path.write_text(
        f"cameras: {{door: {{url: 'synthetic:1'}}}}\ntimeline: {{folder: {tmp_path / 't'}}}\n"
        "targets: {mail: {kind: apprise, url_env: NO_URL}}\n",
        encoding="utf-8",
    )
    assert app.run(["watch", "--config", str(path)]) == BAD_INPUT
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: NO_URL: the environment variable is not set; target mail needs it; set it"
    )
