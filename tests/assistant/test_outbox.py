"""The outbox: what is addressed is on disk with its event, is tried again, ends, and is never sent twice."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from assistant.config.targets import AppriseTarget, DeliveryTarget, MqttTarget, WebhookTarget
from assistant.delivery.courier import Courier
from assistant.delivery.delivery import Delivery, sample_message
from assistant.delivery.errors import DeliveryRefused, NotDelivered
from assistant.delivery.messages import AlertMessage, as_payload, key_of, message_from_json, message_of
from assistant.delivery.outbox import Outbox, OutboxEntry
from assistant.delivery.retries import Retries
from assistant.delivery.senders import AnnouncedRule, MessageFiles, SecretWords
from assistant.events import Detail, StatusKind
from assistant.rules.rule import Severity
from assistant.timeline.records import Parcel, Record, record_from_line
from assistant.timeline.schema import MIGRATIONS, open_for_writing
from assistant.timeline.store import Timeline
from streaming.clock import FakeClock
from streaming.thumbnails import decode_jpeg
from tests.assistant.timelines import NOON_S, alert, evidence, gap, noon, remark, rows

HOOK = WebhookTarget(kind="webhook", url="http://127.0.0.1:9/hook")


@dataclass
class FakeSender:
    """Answers with what it is told to, and keeps what it was given."""

    answers: list[str | Exception] = field(default_factory=list)
    sent: list[tuple[AlertMessage, MessageFiles]] = field(default_factory=list)
    secrets: SecretWords = field(default_factory=SecretWords)

    def open(self) -> None: ...

    def send(self, message: AlertMessage, files: MessageFiles) -> str:
        self.sent.append((message, files))
        answer = self.answers.pop(0) if self.answers else "taken"
        if isinstance(answer, Exception):
            raise answer
        return answer

    def set_rules(self, rules: object) -> None: ...

    def close(self) -> None: ...


@dataclass
class Desk:
    """A timeline, its outbox and one courier that is driven by hand."""

    timeline: Timeline
    outbox: Outbox
    clock: FakeClock
    courier: Courier
    sender: FakeSender
    undelivered: list[tuple[OutboxEntry, str]]

    def put(self, *messages: AlertMessage, lane: str = "") -> None:
        self.outbox.add([parcel(message, self.clock, lane) for message in messages])

    def run(self, times: int = 1) -> list[float]:
        return [self.courier.step() for _ in range(times)]

    @property
    def states(self) -> list[tuple[str, int, str]]:
        return [(entry.state, entry.attempts, entry.said) for entry in reversed(self.outbox.entries())]


def parcel(message: AlertMessage, clock: FakeClock, lane: str = "", target: str = "hook") -> Parcel:
    message = message.for_target(target)
    return Parcel(
        message.key, target, message.rule, message.severity, message.occurrence, message.phase,
        lane or message.occurrence, message.to_json(), clock.wall_s(),
    )  # fmt: skip


def started(occurrence: str = "o1", rule: str = "door") -> AlertMessage:
    return replace(sample_message(NOON_S), occurrence=occurrence, rule=rule, is_test=False)


def ended(message: AlertMessage) -> AlertMessage:
    return replace(message, phase="ended", ended_s=4.0)


def make_desk(folder: Path, config: DeliveryTarget) -> Desk:
    clock, sender = noon(), FakeSender()
    timeline = Timeline(folder, clock=clock)
    outbox = Outbox(timeline.folder)
    undelivered: list[tuple[OutboxEntry, str]] = []
    courier = Courier(
        "hook", config, sender, outbox, timeline.folder, clock, random.Random(1),
        lambda entry, said: undelivered.append((entry, said)),
    )  # fmt: skip
    return Desk(timeline, outbox, clock, courier, sender, undelivered)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = make_desk(tmp_path, HOOK)
    yield made
    made.outbox.close()
    made.timeline.close()


def test_an_alert_is_addressed_in_the_transaction_of_its_event(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:
        delivery = Delivery(timeline, {"hook": HOOK, "yard": HOOK}, clock=noon())
        timeline.deliver_through(delivery)
        uid = timeline.record(alert("Someone is at the door."), camera="door", evidence=[evidence(3)])
        timeline.record(remark(1), camera="door")
        timeline.deliver_through(None)
        timeline.record(alert("Nobody is told."), camera="door")
        entries = delivery.outbox.entries()
        assert [(entry.target, entry.state, entry.occurrence) for entry in entries] == [
            ("yard", "waiting", uid), ("hook", "waiting", uid)
        ]  # fmt: skip
        message = message_from_json(entries[1].message)
        assert (message.key, message.camera, message.text) == (
            key_of("hook", uid, "started"), "door", "Someone is at the door."
        )  # fmt: skip
        assert timeline.folder.read(message.snapshot) == evidence(3).picture.data
        delivery.outbox.close()


def test_one_occurrence_is_one_message_however_often_it_is_reported(desk: Desk) -> None:
    desk.put(started("a"), started("a"), ended(started("a")), started("b"))
    assert len(desk.outbox.entries()) == 3
    desk.run(4)
    desk.put(started("a"))
    desk.run()
    assert [message.phase for message, _ in desk.sender.sent] == ["started", "ended", "started"]
    assert len({message.key for message, _ in desk.sender.sent}) == 3


def test_what_was_said_is_kept_with_each_message(desk: Desk) -> None:
    desk.sender.answers = ["200 OK: kept", DeliveryRefused("it wants no more")]
    desk.put(started("a"), started("b"))
    assert desk.run(2) == [0.0, 0.0]
    assert desk.states == [("sent", 1, "200 OK: kept"), ("failed", 1, "it wants no more")]
    assert desk.run() == [5.0]
    assert [said for _, said in desk.undelivered] == ["it wants no more"]


def test_it_is_tried_again_after_growing_delays_and_given_up_at_a_stated_end(desk: Desk) -> None:
    desk.courier._retries = Retries(tries=4, give_up_s=1e6)
    desk.sender.answers = [NotDelivered(f"500 number {number}") for number in range(4)]
    desk.put(started())
    delays = []
    for _ in range(4):
        assert desk.run() == [0.0]
        entry = desk.outbox.entries()[0]
        delays.append(entry.next_try_s - desk.clock.wall_s())
        desk.run()
        assert len(desk.sender.sent) == entry.attempts, "it is not tried before its time"
        desk.clock.advance(max(0.0, delays[-1]))
    assert [base / 2 <= delay <= base for base, delay in zip((2, 4, 8), delays, strict=False)] == [True] * 3
    (entry,) = desk.outbox.entries()
    assert (entry.state, entry.attempts) == ("failed", 4)
    assert entry.said == "500 number 3; given up after 4 tries, which is the limit (tries)"
    assert desk.outbox.retry(None, desk.clock.wall_s()) == 1
    desk.run()
    assert desk.states == [("sent", 1, "taken")]


def test_it_is_given_up_after_its_hours(desk: Desk) -> None:
    desk.put(started())
    desk.clock.advance(24 * 3600 + 1)
    desk.sender.answers = [NotDelivered("503")]
    desk.run()
    assert desk.states == [("failed", 1, "503; given up after 24.0 hours; 24 is the limit (give_up_hours)")]


def test_delays_are_drawn_from_the_seed() -> None:
    retries = Retries(20, 1e6)
    first, again = random.Random(7), random.Random(7)
    assert [retries.delay_s(n, first) for n in range(1, 20)] == [retries.delay_s(n, again) for n in range(1, 20)]
    assert 450 <= retries.delay_s(1000, first) <= 900


def test_while_a_receiver_is_down_nothing_else_is_tried_and_one_bad_message_holds_nobody_up(desk: Desk) -> None:
    desk.put(started("a"), started("b"))
    desk.sender.answers = [NotDelivered("no answer", is_down=True)]
    assert desk.run() == [0.0]
    (down_s,) = desk.run()
    assert 1.0 <= down_s <= 2.0 and len(desk.sender.sent) == 1
    desk.clock.advance(2.0)
    desk.sender.answers = [NotDelivered("400 what is this")]
    desk.run(2)
    assert [state for state, _, _ in desk.states].count("sent") == 1, "the other one went through"


def test_an_end_is_not_sent_before_its_start(desk: Desk) -> None:
    desk.put(started(), ended(started()))
    desk.sender.answers = [NotDelivered("400")]
    desk.run(2)
    assert [message.phase for message, _ in desk.sender.sent] == ["started"]
    desk.clock.advance(2.0)
    desk.run(2)
    assert [message.phase for message, _ in desk.sender.sent] == ["started", "started", "ended"]


def test_a_clock_that_was_set_back_does_not_put_a_try_off_for_ever(desk: Desk) -> None:
    desk.put(started())
    desk.sender.answers = [NotDelivered("400")]
    desk.run()
    desk.clock.set_wall(NOON_S - 86_400)
    desk.run()
    assert desk.states == [("sent", 2, "taken")]


def test_a_rule_has_a_daily_limit_and_what_is_over_it_is_said(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, HOOK.model_copy(update={"daily_limit": 2}))
    desk.put(*(started(f"o{number}") for number in range(3)), ended(started("o2")), started("x", rule="yard"))
    desk.run(5)
    assert [state for state, _, _ in desk.states] == ["sent", "sent", "failed", "failed", "sent"]
    assert desk.states[2][2] == "not sent: 2 alerts of rule 'door' in 24 hours are the limit; raise daily_limit"
    assert desk.states[3][2] == "not sent: its beginning was not"
    desk.clock.advance(86_401)
    desk.put(started("o3"))
    desk.run()
    assert desk.states[-1][0] == "sent"
    desk.outbox.close()
    desk.timeline.close()


def test_a_target_takes_the_rules_severities_and_phases_that_it_names() -> None:
    mail = AppriseTarget(kind="apprise", url_env="X", rules=("door",), min_severity=Severity.WARNING)
    assert mail.is_wanted("door", "critical", "started") and mail.is_wanted("door", "unheard of", "started")
    assert not mail.is_wanted("door", "info", "started")
    assert not mail.is_wanted("yard", "critical", "started")
    assert not mail.is_wanted("door", "critical", "ended")
    assert MqttTarget(kind="mqtt", host="h").is_wanted("any", "info", "ended")


def test_a_rule_goes_to_its_own_targets(tmp_path: Path) -> None:
    with Timeline(tmp_path, clock=noon()) as timeline:
        delivery = Delivery(timeline, {"hook": HOOK, "yard": HOOK}, clock=noon())
        delivery.set_rules([AnnouncedRule("", targets=("yard",))])
        timeline.deliver_through(delivery)
        timeline.record(alert("Someone."), camera="door")
        assert [entry.target for entry in delivery.outbox.entries()] == ["yard"]
        delivery.outbox.close()


def test_a_sensor_that_was_left_on_by_a_kill_is_turned_off_at_the_next_start(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock) as timeline:
        delivery = Delivery(timeline, {"hook": HOOK}, clock=clock)
        timeline.deliver_through(delivery)
        timeline.record(alert("Someone."), camera="door")
        delivery.outbox.close()
    clock.advance(60)
    with Timeline(tmp_path, clock=clock) as timeline:
        delivery = Delivery(timeline, {"hook": HOOK}, clock=clock)
        delivery._end_what_was_cut_off("hook")
        delivery._end_what_was_cut_off("hook")
        assert [entry.phase for entry in delivery.outbox.entries()] == ["ended", "started"]
        message = message_from_json(delivery.outbox.entries()[0].message)
        assert message.reason == "the program ended while it was going on"
        delivery.outbox.close()


def test_an_address_that_fails_does_not_lose_the_event(tmp_path: Path) -> None:
    class Broken:
        def parcels(self, record: object) -> tuple[Parcel, ...]:
            raise RuntimeError("no street of that name")

        def posted(self) -> None: ...

    with Timeline(tmp_path, clock=noon()) as timeline:
        timeline.deliver_through(Broken())
        timeline.record(alert("Someone."), camera="door")
        texts = [event.text for event in timeline.events()]
    assert texts == ["an alert is not sent: RuntimeError: no street of that name", "Someone."]


def test_what_waits_while_the_database_is_locked_keeps_its_addresses(tmp_path: Path) -> None:
    clock = noon()
    with Timeline(tmp_path, clock=clock, busy_s=0.01) as timeline:
        delivery = Delivery(timeline, {"hook": HOOK}, clock=clock)
        timeline.deliver_through(delivery)
        blocker = sqlite3.connect(tmp_path / "timeline.sqlite3", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        timeline.record(alert("Someone."), camera="door")
        (waiting,) = tmp_path.glob("waiting-*.jsonl")
        record = record_from_line(waiting.read_bytes().splitlines(keepends=True)[0])
        assert [parcel.target for parcel in record.parcels] == ["hook"]
        blocker.execute("ROLLBACK")
        blocker.close()
        delivery.outbox.close()
    assert rows(tmp_path, "SELECT target, state FROM outbox") == [("hook", "waiting")]


def test_a_timeline_of_before_gets_an_outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timeline.sqlite3"
    with monkeypatch.context() as before:
        before.setattr("assistant.timeline.schema.MIGRATIONS", MIGRATIONS[:1])
        open_for_writing(path).close()
    with Timeline(tmp_path) as timeline, Outbox(timeline.folder) as outbox:
        assert outbox.counts() == {}


def test_old_messages_leave_with_old_events_but_never_while_they_wait(desk: Desk) -> None:
    from assistant.timeline.upkeep import Retention

    desk.put(started("a"), started("b"))
    desk.run()
    desk.clock.advance(3 * 86_400)
    desk.timeline.set_retention(Retention(max_age_days=1))
    desk.timeline.sweep()
    assert [(entry.occurrence, entry.state) for entry in desk.outbox.entries()] == [("b", "waiting")]


def test_the_end_of_an_alert_is_the_status_event_that_tells_it(tmp_path: Path) -> None:
    facts: dict[str, Detail] = {
        "rule": "door",
        "severity": "critical",
        "occurrence": "o1",
        "started_s": 1.0,
        "ended_s": 9.0,
        "peak": 0.99,
    }
    kind = replace(gap(10.0, 1.0), text="door: over after 8.0 s", details=facts)
    told = message_of(Record(kind, "front", "r", NOON_S, NOON_S))
    assert told is None, "a gap is no alert"
    told = message_of(Record(replace(kind, kind=StatusKind.ALERT_ENDED), "front", "r", NOON_S, NOON_S))
    assert told is not None
    assert (told.phase, told.occurrence, told.rule, told.severity) == ("ended", "o1", "door", "critical")
    assert (told.started_s, told.ended_s, told.peak) == (1.0, 9.0, 0.99)
    values = json.loads(as_payload(told))
    assert (values["started_at"], values["ended_at"]) == (
        "2026-11-22T11:59:51.000+00:00", "2026-11-22T11:59:59.000+00:00"
    )  # fmt: skip


def test_an_end_is_told_in_the_times_of_its_start(desk: Desk) -> None:
    """It is stored some seconds after its picture, by as much as the model is behind."""
    begun = replace(started(), time_s=5.0, started_s=4.0)
    desk.put(begun, replace(begun, phase="ended", time_s=12.0, ended_s=11.0, wall_s=begun.wall_s + 10.0))
    desk.run(2)
    first, last = (json.loads(as_payload(message)) for message, _ in desk.sender.sent)
    assert first["started_at"] == last["started_at"] == "2026-11-22T11:59:59.000+00:00"
    assert (last["ended_at"], last["at"]) == ("2026-11-22T12:00:06.000+00:00", "2026-11-22T12:00:07.000+00:00")


def test_the_zone_is_drawn_on_the_snapshot_and_the_frames_that_decided_go_along(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, HOOK.model_copy(update={"attach": "frames"}))
    raised = replace(
        alert("A car.", 2.0), rule="car", occurrence="o1", question="Is a car in view?", frame_index=4,
        hits=((1.0, 0.85), (2.0, 0.9)), zone=((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)),
    )  # fmt: skip
    kept = tuple(desk.timeline.folder.keep_thumbnail("door", "run", evidence(index)) for index in (2, 4))
    message = message_of(Record(event=raised, camera="door", run="run", wall_s=NOON_S, recorded_s=NOON_S, frames=kept))
    assert message is not None and message_from_json(message.to_json()) == message
    desk.put(message)
    desk.run()
    ((told, files),) = desk.sender.sent
    assert [file.name for file in files.attachments] == ["snapshot.jpg", "frame-1.jpg"] and not files.left_out
    plain = decode_jpeg(desk.timeline.folder.read(kept[1].path) or b"")
    changed = np.abs(decode_jpeg(files.attachments[0].data).astype(int) - plain).max(axis=2) > 60
    assert changed[:, 30:34].any() and changed[:3, 40:].any() and not changed[:, :24].any()
    values = json.loads(as_payload(told))
    assert values["question"] == "Is a car in view?" and values["zone"][0] == [0.5, 0.0]
    assert [(one["media_time_s"], one["probability"]) for one in values["decided_by"]] == [(1.0, 0.85), (2.0, 0.9)]
    desk.outbox.close()
    desk.timeline.close()


def test_a_snapshot_and_a_clip_go_along_where_they_are_wanted(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, HOOK.model_copy(update={"attach": "clip"}))
    picture = desk.timeline.folder.keep_thumbnail("door", "run", evidence(1))
    clip = desk.timeline.folder.clip_path("door", NOON_S, "c" * 32)
    message = replace(started(), snapshot=picture.path, clip=clip)
    desk.outbox._connection.execute(
        "INSERT INTO clips (uid, camera, path, state, wall_s) VALUES ('c', 'door', ?, 'recording', 0)", (clip,)
    )
    desk.put(message, replace(ended(message), snapshot="", clip=""))
    desk.run(2)
    assert [[file.name for file in files.attachments] for _, files in desk.sender.sent] == [["snapshot.jpg"]]
    assert desk.states[1] == ("waiting", 0, "its clip is being recorded")
    desk.timeline.folder.inside(clip).write_bytes(b"film")
    desk.outbox._connection.execute("UPDATE clips SET state = 'done'")
    desk.clock.advance(1.0)
    desk.run()
    assert [file.name for file in desk.sender.sent[1][1].attachments] == ["snapshot.jpg", "clip.mp4"]
    desk.timeline.folder.remove(picture.path)
    desk.put(replace(message, occurrence="later"))
    desk.run()
    assert desk.sender.sent[2][1].left_out == ("snapshot: its file is gone or not finished",)
    desk.outbox.close()
    desk.timeline.close()
