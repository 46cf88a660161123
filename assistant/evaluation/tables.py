"""The figures of an evaluation as a table for the terminal. Pure functions of plain values; any thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.groundtruth.scoring import ENOUGH_EVENTS

if TYPE_CHECKING:
    from assistant.evaluation.watching import ClipScore

Values = Mapping[str, Any]

_ROWS = (
    ("f1", "F1 within ±1 s", True),
    ("precision", "precision", True),
    ("recall", "recall", True),
    ("content", "content (slots right)", True),
    ("redundancy", "redundancy", False),
    ("false_alarms_per_hour", "remarks beside events, an hour", False),
    ("delay_median_s", "delay, median (s)", False),
    ("delay_p95_s", "delay, 95th percentile (s)", False),
)


def values_as_table(values: Values) -> str:
    """Every section that was measured, with 95 % intervals."""
    parts = [scenes_as_table(values)] if "f1" in values else []
    parts += [_by_kind(title, values[key]) for key, title in _SHARES if key in values]
    if "obedience" in values:
        parts.append(_obedience(values["obedience"]))
    if "floors" in values:
        parts.append(_floors(values["floors"]))
    if "long" in values:
        parts.append(_long(values["long"]))
    if "quiet" in values:
        parts.append(_quiet(values["quiet"]))
    return "\n\n".join(parts)


def scenes_as_table(values: Values) -> str:
    """Remarks against events."""
    lines = [
        f"{values['scenes']} scenes, {values['hours'] * 60:.0f} minutes, "
        f"{values['owed']} events, {values['said']} remarks"
    ]
    for key, title, has_interval in _ROWS:
        value = values[key]
        shown = "–" if value is None else f"{value:.3f}"
        interval = "  [{:.3f}, {:.3f}]".format(*values[f"{key}_interval"]) if has_interval else ""
        lines.append(f"{title:<32}{shown:>8}{interval}")
    lines.append(share_line("side where few cells are kept", values["side_of_few_cells"]))
    for kind, found in values["by_kind"].items():
        few = "" if found["owed"] >= ENOUGH_EVENTS else f"  fewer than {ENOUGH_EVENTS}: watch more seeds"
        interval = "[{:.3f}, {:.3f}]".format(*found["interval"])
        counts = f"{found['found']} of {found['owed']}, {found['named']} named rightly"
        lines.append(f"  {kind:<30}{found['found'] / found['owed']:>8.3f}  {interval}  {counts}{few}")
    return "\n".join(lines)


def share_line(title: str, found: Values, more: str = "") -> str:
    """One share with its interval and counts."""
    if found["value"] is None:
        return f"{title:<32}{'–':>8}{more}"
    interval = "[{:.3f}, {:.3f}]".format(*found["interval"])
    return f"{title:<32}{found['value']:>8.3f}  {interval}  {found['right']} of {found['asked']}{more}"


_SHARES = (("answers", "answers right"), ("yes_no", "yes/no checks right, balanced"))


def _by_kind(title: str, found: Values) -> str:
    lines = [share_line(title, found)]
    for kind, one in found["by_kind"].items():
        more = f"  constant {one['constant']:.2f}" if "constant" in one else ""
        lines.append(share_line(f"  {kind}", one, more))
    return "\n".join(lines)


def _obedience(found: Values) -> str:
    lines = [share_line("obedience, balanced", found)]
    lines += [share_line(f"  {name}", found[name]) for name in ("told", "unsaid")]
    lines += [share_line(f"  instructions for {scope}", one) for scope, one in found["by_scope"].items()]
    return "\n".join(lines)


_FLOORS = {
    "silent": "always silent",
    "every_5_s": "every five seconds",
    "pixel_change": "pixel change",
    "last_four_frames": "same model, last four frames",
}


def _floors(found: Values) -> str:
    lines = [f"{'floors':<32}{'F1':>8}{'content':>10}{'scenes':>9}"]
    lines += [
        f"  {title:<30}{found[key]['f1']:>8.3f}{found[key]['content']:>10.3f}{found[key]['scenes']:>9}"
        for key, title in _FLOORS.items()
        if key in found
    ]
    return "\n".join(lines)


def _long(found: Values) -> str:
    beside = found["f1_beside_usual"]
    compared = "" if beside is None else f", {beside:+.3f} beside the others"
    low, high = found["f1_interval"]
    return (
        f"{'F1, ten-minute scenes':<32}{found['f1']:>8.3f}  [{low:.3f}, {high:.3f}]  {found['scenes']} scenes{compared}"
    )


def _quiet(found: Values) -> str:
    lines = [rate_line("false alarms an hour, quiet", found)]
    lines += [rate_line(f"  {name}", one) for name, one in found["by_distractor"].items()]
    return "\n".join(lines)


def rate_line(title: str, found: Values) -> str:
    """One rate an hour with its interval."""
    if found["value"] is None:
        return f"{title:<32}{'–':>8}"
    low, high = found["interval"]
    return f"{title:<32}{found['value']:>8.3f}  [{low:.3f}, {high:.3f}]  {found['count']} in {found['hours']:.2f} h"


def clips_as_table(scores: Sequence[ClipScore]) -> str:
    """One line a clip."""
    lines = [f"{'clip':<40}{'caught':>10}{'remarks':>10}{'false alarms':>14}"]
    for score in scores:
        caught = f"{score.num_caught} of {score.num_activities}"
        lines.append(f"{score.name:<40}{caught:>10}{score.num_said:>10}{score.num_false_alarms:>14}")
    return "\n".join(lines)


_FOOTAGE = (
    ("true", "remarks true in every word"),
    ("told", "owed events told within 2 s"),
    ("named", "of those told: named rightly"),
    ("named_wrongly", "of those told: named wrongly"),
)


def footage_as_table(values: Values) -> str:
    """What was said of real footage: each figure, naming by group, and a line for each clip."""
    lines = [share_line(title, values[key]) for key, title in _FOOTAGE]
    for group, found in values["by_group"].items():
        if found["right"]["asked"]:
            wrong = found["wrong"]["right"]
            lines.append(share_line(f"  {group}", found["right"], f", {wrong} wrongly"))
    lines.append(f"{'remarks said again within 5 s':<32}{values['repeated']:>8}")
    lines.append(share_line("answers right", values["answers"]))
    if values["pictures"]:
        lines.append(share_line("photographs: main thing named", values["pictures_named"]))
        lines.append(share_line("photographs: named wrongly", values["pictures_wrong"]))
    lines.append(rate_line("false alarms an hour, quiet", values["quiet"]))
    if values["clips"]:
        lines.append(f"\n{'clip':<40}{'told':>10}{'remarks':>10}{'true':>8}{'again':>8}")
    for clip in values["clips"]:
        told = f"{clip['told']} of {clip['owed']}"
        lines.append(f"{clip['clip']:<40}{told:>10}{clip['said']:>10}{clip['true']:>8}{clip['repeated']:>8}")
        lines += [
            f"    {one['time_s']:7.1f}  {one['text']}  ({one['is']})" for one in clip["remarks"] if one["is"] != "true"
        ]
    return "\n".join(lines)


def rules_as_table(values: Values) -> str:
    """Alerts of rules: precision and recall within two seconds by kind, and false ones a day of quiet scenes."""
    kinds = {"all": values, **values["by_kind"]}
    lines = [f"{'alerts of rules':<18} {'precision':>10} {'raised':>8} {'recall':>8} {'owed':>6}"]
    for name, found in kinds.items():
        precision, recall = found["precision"], found["recall"]
        lines.append(
            f"{name:<18} {_share(precision['value']):>10} {precision['asked']:>8} "
            f"{_share(recall['value']):>8} {recall['asked']:>6}"
        )
    quiet, delay = values["false_a_day"], values["delay_s"]
    if delay["p50"] is not None:
        lines.append(
            f"delay to an alert: {delay['p50']:.1f} s at the median, {delay['p95']:.1f} at the 95th percentile"
        )
    if quiet["value"] is not None:
        low, high = quiet["interval"]
        lines.append(
            f"false alerts a day of quiet scenes: {quiet['value']:.1f} [{low:.1f}, {high:.1f}], "
            f"{quiet['count']} in {quiet['hours']:.1f} hours"
        )
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
