"""What a person says of alerts, right or wrong, and of rules, muted or not, in the timeline's database. Any thread."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from assistant.errors import ConfigError, StoreError
from assistant.timeline.folder import TimelineFolder
from assistant.timeline.schema import open_for_writing
from assistant.timeline.shared_connection import WRITE_BUSY_S, SharedConnection
from assistant.timeline.writing import transaction

VERDICTS = ("right", "wrong")
MOST_MUTES = 1000
"""Most rules whose muting is kept; the oldest ones give way."""
_RULE = "json_extract(other, '$.rule')"


@dataclass(frozen=True, slots=True)
class RuleRating:
    """How often the alerts of one rule were right, as far as the timeline keeps them."""

    rule: str
    num_alerts: int
    """Number of alerts that the timeline keeps."""
    num_right: int
    """Number of those that were marked right."""
    num_wrong: int
    latest_s: float | None
    """Time of day of the latest alert, seconds since 1970; None without one."""
    is_muted: bool | None = None
    """Whether a person muted the rule (True) or unmuted it (False); None where the configuration decides."""

    @property
    def share_right(self) -> float | None:
        """The share of right ones among the marked ones; None where none was marked."""
        marked = self.num_right + self.num_wrong
        return self.num_right / marked if marked else None

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "rule": self.rule,
            "num_alerts": self.num_alerts,
            "num_right": self.num_right,
            "num_wrong": self.num_wrong,
            "share_right": self.share_right,
            "latest_s": self.latest_s,
            "is_muted": self.is_muted,
        }


class AlertMarks(SharedConnection):
    """The marks of one timeline, on a connection of its own. An alert's mark is removed together with the alert."""

    def __init__(self, folder: TimelineFolder) -> None:
        """Raises `StoreError` if the timeline cannot be written."""
        super().__init__(open_for_writing(folder.database, timeout_s=WRITE_BUSY_S), folder.database)

    def mark(self, alert: int | str, verdict: str | None, now_s: float) -> int:
        """Mark an alert as `right` or `wrong`, None takes its mark back; return the number of its event.

        alert: the number or `uid` of its event, or its `occurrence`. now_s: time of day. Raises `ConfigError` for
        another verdict, and `StoreError` if there is no such alert.
        """
        if verdict is not None and verdict not in VERDICTS:
            raise ConfigError(f"verdict {verdict!r}: it must be one of {', '.join(VERDICTS)}; correct it")
        with self._used() as connection, transaction(connection):
            number = _number_of(connection, alert)
            if verdict is None:
                connection.execute("DELETE FROM marks WHERE event_id = ?", (number,))
            else:
                connection.execute(
                    "INSERT INTO marks (event_id, verdict, marked_s) VALUES (?, ?, ?)"
                    " ON CONFLICT (event_id) DO UPDATE SET verdict = excluded.verdict, marked_s = excluded.marked_s",
                    (number, verdict, now_s),
                )
        return number

    def marked(self) -> dict[int, str]:
        """The verdict of each marked alert, by the number of its event, oldest first."""
        with self._used() as connection:
            return dict(connection.execute("SELECT event_id, verdict FROM marks ORDER BY event_id").fetchall())

    def mute(self, rule: str, *, is_muted: bool, now_s: float) -> None:
        """Note that a rule is muted or heard again, whatever the configuration says of it."""
        with self._used() as connection, transaction(connection):
            connection.execute(
                "INSERT INTO mutes (rule, is_muted, muted_s) VALUES (?, ?, ?)"
                " ON CONFLICT (rule) DO UPDATE SET is_muted = excluded.is_muted, muted_s = excluded.muted_s",
                (rule, is_muted, now_s),
            )
            connection.execute(
                "DELETE FROM mutes WHERE rule NOT IN (SELECT rule FROM mutes ORDER BY muted_s DESC LIMIT ?)",
                (MOST_MUTES,),
            )

    def mutes(self) -> dict[str, bool]:
        """Whether each rule that a person muted or unmuted is muted, by its name."""
        with self._used() as connection:
            rows = connection.execute("SELECT rule, is_muted FROM mutes ORDER BY rule").fetchall()
        return {rule: bool(is_muted) for rule, is_muted in rows}

    def ratings(self) -> list[RuleRating]:
        """How often each rule was right, by its name; rules without alerts only if they were muted or unmuted."""
        with self._used() as connection:
            rows = connection.execute(
                f"SELECT {_RULE} AS rule, count(*), coalesce(sum(verdict = 'right'), 0),"
                " coalesce(sum(verdict = 'wrong'), 0), max(wall_s)"
                f" FROM events LEFT JOIN marks ON event_id = events.id WHERE type = 'alert' AND {_RULE} != ''"
                f" GROUP BY {_RULE}"
            ).fetchall()
        mutes = self.mutes()
        rated = [
            RuleRating(rule, num_alerts, num_right, num_wrong, latest_s, mutes.get(rule))
            for rule, num_alerts, num_right, num_wrong, latest_s in rows
        ]
        known = {rating.rule for rating in rated}
        rated += [RuleRating(rule, 0, 0, 0, None, is_muted) for rule, is_muted in mutes.items() if rule not in known]
        return sorted(rated, key=lambda rating: rating.rule)


def _number_of(connection: sqlite3.Connection, alert: int | str) -> int:
    """The number of an alert's event. Raises `StoreError` if there is none, or if the event is no alert."""
    if isinstance(alert, int):
        where = "id = ?"
        alert = alert if abs(alert) < 1 << 63 else -1
    else:
        where = "(uid = ?1 OR (type = 'alert' AND json_extract(other, '$.occurrence') = ?1))"
    row = connection.execute(f"SELECT id, type FROM events WHERE {where} ORDER BY id LIMIT 1", (alert,)).fetchone()
    if row is None:
        raise StoreError(
            f"alert {str(alert)[:100]!r}: no such event; `timeline search --type alert` shows the numbers; correct it"
        )
    if row[1] != "alert":
        raise StoreError(f"event {row[0]}: it is of type {row[1]}; only alerts are marked; choose an alert's number")
    return int(row[0])
