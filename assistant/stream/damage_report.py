"""Gathers a recording's damage from its notices, for warnings at the end. One thread at a time."""

from __future__ import annotations

from streaming.types import Notice, NoticeKind


class DamageReport:
    """Collects a stream's notices, and gives warnings about the file at the end."""

    def __init__(self) -> None:
        self._broken = ""
        self._num_lost = 0
        self._first_damage: Notice | None = None
        self._num_jumps = 0
        self._first_jump: Notice | None = None
        self._first_late: Notice | None = None
        self._num_leaps = 0
        self._first_leaps: list[Notice] = []
        """The first two: the first may turn out to be the interval of a time-lapse."""
        self._num_long = 0
        self._first_long: Notice | None = None
        self._unwatched = ""

    @property
    def broken(self) -> str | None:
        """What broke the source off in the middle; None where nothing did."""
        return self._broken or None

    def broke(self, reason: str) -> None:
        """It failed altogether."""
        self._broken = reason

    def note(self, notice: Notice) -> None:
        """Take the next notice."""
        details = notice.details
        if notice.kind is NoticeKind.ENDED:
            self._withdraw(details.get("interval_from_s"))
        if notice.kind is NoticeKind.ENDED and details.get("broken"):
            self._broken = notice.reason
        elif notice.kind is NoticeKind.DAMAGED and not details.get("broken"):
            self._num_lost += notice.count
            self._first_damage = self._first_damage or notice
        elif notice.kind is NoticeKind.GAP and float(details.get("jump_s", 0.0)) < 0:
            self._num_jumps += 1
            self._first_jump = self._first_jump or notice
        elif notice.kind is NoticeKind.GAP and float(details.get("jump_s", 0.0)) > 0:
            self._num_leaps += 1
            self._first_leaps = [*self._first_leaps, notice][:2]
        elif notice.kind is NoticeKind.GAP and float(details.get("stood_s", 0.0)) > 0:
            self._num_long += 1
            self._first_long = self._first_long or notice
        elif notice.kind is NoticeKind.OPENED:
            self._unwatched = str(details.get("unwatched", ""))
        elif notice.kind is NoticeKind.GAP and float(details.get("late_s", 0.0)) > 0:
            self._first_late = self._first_late or notice

    def _withdraw(self, at_s: float | int | str | bool | None) -> None:
        """Count the leap ahead that was reported at media time `at_s` no more; None for none."""
        if at_s is not None:
            self._num_leaps -= 1
            self._first_leaps = [leap for leap in self._first_leaps if leap.pts_s != at_s]

    def warnings(self) -> list[str]:
        """One sentence for each kind of harm."""
        found = []
        if self._broken:
            found.append(f"{self._broken}; what was seen until then stands")
        if self._first_damage is not None:
            lost = f"{self._num_lost} frame{'s' * (self._num_lost != 1)} lost" if self._num_lost else "damaged"
            found.append(
                f"{lost}, first at {self._first_damage.pts_s:.2f} s: {self._first_damage.reason}; the rest was seen"
            )
        if self._first_jump is not None:
            jumps = "once" if self._num_jumps == 1 else f"{self._num_jumps} times"
            found.append(
                f"its timestamps jump back {jumps}, first at {self._first_jump.pts_s:.2f} s; media time went on "
                "from the frame before, so later times are not the file's own"
            )
        if self._num_leaps > 0 and self._first_leaps:
            leap = self._first_leaps[0]
            leaps = "once" if self._num_leaps == 1 else f"{self._num_leaps} times"
            found.append(
                f"its timestamps leap ahead {leaps}, first by {float(leap.details['jump_s']):.1f} s after "
                f"{leap.pts_s:.2f} s; nothing is shown in between, and where a clock was set, later times are not true"
            )
        if self._first_long is not None:
            more = f"; {self._num_long - 1} more such" if self._num_long > 1 else ""
            found.append(self._first_long.reason + more)
        if self._unwatched:
            found.append(f"only one of its picture tracks was watched; not watched: {self._unwatched}")
        if self._first_late is not None:
            found.append(f"its timestamps are out of order, first at {self._first_late.pts_s:.2f} s; the rest was seen")
        return found
