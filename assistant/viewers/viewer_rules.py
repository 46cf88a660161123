"""What viewers do with rules: they change those of the cameras and of their own streams. Any thread."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from assistant.cameras.camera_rules import CameraRules, StandingRule
from assistant.config.rule_text import read_rule, rules_yaml
from assistant.errors import ConfigError
from assistant.rules.arming import armed_rules
from assistant.rules.wording import TAUGHT_FORMS
from assistant.viewers.viewer_session import ViewerSessionError

if TYPE_CHECKING:
    from assistant.cameras.views import CameraViews
    from assistant.delivery.delivery import Delivery
    from assistant.delivery.outbox import OutboxEntry
    from assistant.rules.rule import Rule
    from assistant.serving.scheduler import Scheduler
    from assistant.viewers.viewer_session import ViewerSession

Place = Literal["own", "cameras"]
"""Whose rule it is: of the streams that a viewer starts in a tab, or of the cameras, which all viewers share."""
OWN_STREAM = "this tab"
MOST_NAME = 48
"""Characters of a name that is made of a rule's words."""


@dataclass(frozen=True, slots=True)
class ShownRule:
    """A rule as a viewer is shown it."""

    place: Place
    standing: StandingRule
    may_change: bool


class NeedsRehearsal(ConfigError):
    """A rule's words are none that the model was taught to judge, and its rehearsal was not looked at yet."""


class ViewerRules:
    """The rules that viewers see and change."""

    def __init__(
        self, scheduler: Scheduler, views: CameraViews | None, alerts: Delivery | None, *, may_change_cameras: bool
    ) -> None:
        """alerts: sends the cameras' alerts; None where no targets are configured.

        may_change_cameras: whether viewers may change the rules of cameras, which all of them share.
        """
        self._scheduler = scheduler
        self._views = views
        self._alerts = alerts
        self.may_change_cameras = may_change_cameras

    def shown(self, viewer: ViewerSession) -> list[ShownRule]:
        """The rules of the cameras, then those of the viewer's own streams."""
        of_cameras = self._views.camera_rules().standing() if self._views is not None else []
        found = [ShownRule("cameras", standing, self.may_change_cameras) for standing in of_cameras]
        return found + [ShownRule("own", standing, True) for standing in own_rules(viewer)]

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that the cameras' alerts go to."""
        return self._alerts.targets if self._alerts is not None else ()

    def put(
        self, viewer: ViewerSession, place: Place, values: Mapping[str, Any], *, replaces: str | None = None
    ) -> str:
        """Arm a rule of values with the keys of the configuration and `name`, from the next frame on; return its name.

        Without a name it is named by its words. replaces: the rule in whose place it is put. Raises for a rule that
        cannot be armed, and then all stays as it was; `NeedsRehearsal` for words that the model was not taught to judge
        and that this viewer has not rehearsed.
        """
        if place == "own":
            with viewer.switching:
                rule = self._read(values, [one.name for one in viewer.rules if one.name != replaces])
                self._put_own(viewer, rule, replaces)
        else:
            of_cameras = self._to_change("a rule")
            rule = self._read(values, [one.name for one in of_cameras.rules if one.name != replaces])
            is_taught = of_cameras.check(rule, replaces=replaces)
            _check_rehearsed(viewer, rule, of_cameras.rules, is_taught=is_taught)
            of_cameras.put(rule, replaces=replaces)
        return rule.name

    def rehearse(self, viewer: ViewerSession, place: Place, values: Mapping[str, Any], camera: str = "") -> None:
        """Try a rule on the last minutes of the viewer's own stream, or of a camera; it goes on in `viewer.rehearsal`.

        camera: its name; by default the first that the rule is meant for. Raises for a rule that cannot be armed, and
        where too little was seen so far.
        """
        rule = self._read(values, [])
        if place == "own":
            stream = viewer.require_own("a rehearsal")
        else:
            if self._views is None:
                raise ConfigError("a rehearsal: no cameras are configured; start with --config cameras.yaml")
            names = [card.name for card in self._views.cards()]
            stream = self._views.stream(camera or next((name for name in names if rule.watches(name)), ""))
        if viewer.rehearsal is not None:
            viewer.rehearsal.cancel()
        under_way = viewer.rehearsal = stream.rehearse(rule)

        def on_done(done: Future[None]) -> None:
            if not done.cancelled() and done.exception() is None and not under_way.is_cancelled:
                viewer.rehearsed.add(rule.when)

        under_way.future.add_done_callback(on_done)

    def test(self, viewer: ViewerSession, name: str) -> tuple[str, ...]:
        """Send a test alert to the targets of a cameras' rule; returns their names, and `tests` tells what they say."""
        of_cameras = self._to_change(f"test alert of {name}")
        rule = next((rule for rule in of_cameras.rules if rule.name == name), None)
        if rule is None:
            raise ConfigError(f"rule {name!r}: no rule of the cameras has this name; it may have been removed")
        if self._alerts is None:
            raise ConfigError(
                "test alert: no targets are configured, so alerts are shown here alone; name some under `targets`"
            )
        names = rule.targets or self._alerts.targets
        viewer.test_keys = tuple(self._alerts.test(target) for target in names)
        return names

    def tests(self, viewer: ViewerSession) -> list[OutboxEntry]:
        """The test alerts that the viewer sent last, with what the receivers said."""
        if self._alerts is None or not viewer.test_keys:
            return []
        return self._alerts.outbox.by_keys(viewer.test_keys)

    def mute(self, viewer: ViewerSession, place: Place, name: str, *, muted: bool) -> None:
        """Mute a rule, or hear it again. Raises where there is none of this name, or the viewer may not."""
        found = viewer.mute_rule(name, muted=muted) if place == "own" else self._to_change(name).mute(name, muted=muted)
        if not found:
            raise ConfigError(f"rule {name!r}: no rule has this name; it may have been removed meanwhile")

    def remove(self, viewer: ViewerSession, place: Place, name: str) -> None:
        """Remove a rule. Raises where there is none of this name, or the viewer may not."""
        if place == "cameras":
            self._to_change(name).remove(name)
            return
        with viewer.switching:
            kept = [rule for rule in viewer.rules if rule.name != name]
            if len(kept) == len(viewer.rules):
                raise ConfigError(f"rule {name!r}: no rule of this tab has this name; it may have been removed already")
            viewer.set_rules(kept)

    def yaml(self, viewer: ViewerSession, place: Place) -> str:
        """The rules as they are now, in the form of a configuration file."""
        return rules_yaml(viewer.rules) if place == "own" else self._camera_rules().yaml()

    def _put_own(self, viewer: ViewerSession, rule: Rule, replaces: str | None) -> None:
        for key, given in (("cameras", rule.cameras), ("to", rule.targets)):
            if given:
                raise ConfigError(
                    f"rule {rule.name}: {key} {', '.join(given)}: a rule of this tab's own stream is told in this tab "
                    "alone; leave it out, or make it a rule of the cameras"
                )
        names = [one.name for one in viewer.rules]
        if replaces is not None and replaces not in names:
            raise ConfigError(f"rule {replaces!r}: no rule of this tab has this name; add it as a new one")
        others = [one for one in viewer.rules if one.name != replaces]
        if any(one.name.casefold() == rule.name.casefold() for one in others):
            raise ConfigError(f"rule {rule.name}: another rule has this name; give it another")
        at = names.index(replaces) if replaces is not None else len(others)
        rules = [*others[:at], rule, *others[at:]]
        armed = armed_rules(rules, {}, OWN_STREAM, is_small=self._scheduler.describe().embedded)
        _check_rehearsed(viewer, rule, viewer.rules, is_taught=armed[at].condition.is_taught)
        viewer.set_rules(rules)

    def _read(self, values: Mapping[str, Any], taken: Sequence[str]) -> Rule:
        given = dict(values)
        name = str(given.pop("name", None) or "").strip() or name_of(str(given.get("when", "")), taken)
        rule = read_rule(name, given)
        return replace(rule, when=" ".join(rule.when.split()))

    def _to_change(self, what: str) -> CameraRules:
        """The cameras' rules, to be changed."""
        if not self.may_change_cameras:
            raise ViewerSessionError(
                f"{what}: this app needs no login, so viewers cannot change the rules of shared cameras; write them "
                "into the configuration, or start with --auth-file"
            )
        return self._camera_rules()

    def _camera_rules(self) -> CameraRules:
        if self._views is None:
            raise ConfigError("rules of cameras: no cameras are configured; start with --config cameras.yaml")
        return self._views.camera_rules()


def _check_rehearsed(viewer: ViewerSession, rule: Rule, before: Sequence[Rule], *, is_taught: bool) -> None:
    if is_taught or rule.when in viewer.rehearsed or any(one.when == rule.when for one in before):
        return
    raise NeedsRehearsal(
        f"rule {rule.name}: the embedded model was not taught to judge {rule.when!r}; it can judge {TAUGHT_FORMS}; "
        "rehearse it first, and arm it if the rehearsal is right"
    )


def own_rules(viewer: ViewerSession) -> list[StandingRule]:
    """The rules of a viewer's own streams, with how they stand on the current one."""
    stream = viewer.stream if not viewer.is_shared else None
    facts = {each.name: each for each in stream.rules()} if stream is not None else {}
    title = viewer.wanted.title if stream is not None and viewer.wanted is not None else ""
    return [
        StandingRule(
            rule,
            False,
            ((title, facts[rule.name]),) if rule.name in facts else (),
            (title,) if stream is not None and rule.name not in facts else (),
        )
        for rule in viewer.rules
    ]


def name_of(words: str, taken: Sequence[str] = ()) -> str:
    """A name for a rule, made of its words, and different from those that are taken.

    >>> name_of("Is a red circle in view?", ["Is a red circle in view"])
    'Is a red circle in view 2'
    """
    plain = " ".join(re.findall(r"[\w\-]+", words))[:MOST_NAME].strip() or "rule"
    known = {name.casefold() for name in taken}
    name, number = plain, 2
    while name.casefold() in known:
        name, number = f"{plain} {number}", number + 1
    return name
