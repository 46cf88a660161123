"""Rehearsals: a rule's probabilities over a recording, and the alerts that it would have raised. Pure; any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assistant.rules.occurrence import Change, Judged, RuleState
from assistant.rules.rule import Rule

LEVELS = (0.6, 0.7, 0.8, 0.9, 0.95)
"""Values of `sure` that a rehearsal is summed up for."""


@dataclass(frozen=True, slots=True)
class RehearsedAlert:
    """An alert that a rule would have raised."""

    raised_s: float
    started_s: float
    ended_s: float | None
    """Media time of the last hit; None if it went on at the end of the recording."""
    peak: float
    """Highest probability."""

    def as_dict(self) -> dict[str, float | None]:
        """Plain JSON values."""
        return {"raised_s": self.raised_s, "started_s": self.started_s, "ended_s": self.ended_s, "peak": self.peak}


@dataclass(slots=True)
class Rehearsal:
    """One rule on one recording."""

    rule: Rule
    curve: list[Judged] = field(default_factory=list)
    """Frame by frame, in their order."""

    def alerts(self, **changes: Any) -> list[RehearsedAlert]:
        """The alerts that the rule would have raised; changes: other values of the rule, such as `sure=0.9`."""
        state = RuleState(replace(self.rule, **changes))
        raised_s: float | None = None
        found: list[RehearsedAlert] = []
        for judged in self.curve:
            change, occurrence = state.step(judged)
            if change is Change.RAISED:
                raised_s = judged.time_s
            elif change is Change.ENDED and occurrence is not None and raised_s is not None:
                found.append(RehearsedAlert(raised_s, occurrence.started_s, occurrence.latest_s, occurrence.peak))
        going_on = state.occurrence
        if state.is_raised and going_on is not None and raised_s is not None:
            found.append(RehearsedAlert(raised_s, going_on.started_s, None, going_on.peak))
        return found

    def lines(self) -> list[str]:
        """What would have been raised, in lines to print."""
        alerts = self.alerts()
        highest = max((judged.probability for judged in self.curve), default=0.0)
        count = f"{len(alerts)} alert{'s' * (len(alerts) != 1)}"
        lines = [f'"{self.rule.when}": {count} at sure {self.rule.sure:g}; highest probability {highest:.2f}']
        for alert in alerts:
            until = "went on to the end" if alert.ended_s is None else f"over at {_clock(alert.ended_s)}"
            since = f"held since {_clock(alert.started_s)}, {until}, at most {alert.peak:.2f}"
            lines.append(f"    [{_clock(alert.raised_s)}] {since}")
        others = ", ".join(f"{sure:g}: {len(self.alerts(sure=sure))}" for sure in LEVELS)
        return [*lines, f"    alerts by how sure it must be: {others}"]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: the rule, its alerts, how many there would be at other levels, and the curve."""
        return {
            "rule": self.rule.when,
            "sure": self.rule.sure,
            "alerts": [alert.as_dict() for alert in self.alerts()],
            "by_sure": {f"{sure:g}": len(self.alerts(sure=sure)) for sure in LEVELS},
            "curve": [[judged.time_s, round(judged.probability, 4)] for judged in self.curve],
        }


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(time_s, 60)
    return f"{int(minutes):02}:{seconds:04.1f}"


def plot_rehearsals(path: Path, rehearsals: Sequence[Rehearsal], title: str) -> None:
    """Draw each rule's probability over time with its level and its alerts to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1 + 1.9 * len(rehearsals)), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(rehearsals), 1, sharex=True, squeeze=False)[:, 0]
    for axes, rehearsal in zip(rows, rehearsals, strict=True):
        times = [judged.time_s for judged in rehearsal.curve]
        for alert in rehearsal.alerts():
            end_s = alert.ended_s if alert.ended_s is not None else times[-1]
            axes.axvspan(alert.started_s, max(end_s, alert.raised_s), color="tab:orange", alpha=0.25, lw=0)
            axes.axvline(alert.raised_s, color="tab:orange", lw=2)
        axes.step(times, [judged.probability for judged in rehearsal.curve], where="post", color="tab:blue", lw=1.2)
        axes.axhline(rehearsal.rule.sure, color="tab:red", ls="--", lw=1)
        axes.set(ylim=(-0.03, 1.03), ylabel="probability")
        axes.set_title(rehearsal.rule.when, loc="left", fontsize=10)
    rows[-1].set_xlabel("media time (s); orange: an alert, from its first hit to its last, raised at the line")
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=100)
