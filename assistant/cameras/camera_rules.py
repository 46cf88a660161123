"""The rules of the watched cameras as they are now: those of the configuration, and what changed since.

Changes last until the program ends or reloads its configuration; the file is never written. What is muted is kept in
the timeline. Any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assistant.config.rule_text import rules_yaml
from assistant.delivery.senders import AnnouncedRule
from assistant.errors import ConfigError

if TYPE_CHECKING:
    from assistant.cameras.muting import RuleMutes
    from assistant.delivery.delivery import Delivery
    from assistant.rules.rule import Rule
    from assistant.rules.rule_watch import RuleFacts
    from assistant.serving.channel import Channel


@dataclass(frozen=True, slots=True)
class StandingRule:
    """A rule with how it stands now."""

    rule: Rule
    """`muted` is as it is now."""
    is_configured: bool
    """Whether it stands so in the configuration, but for `muted`."""
    facts: tuple[tuple[str, RuleFacts], ...]
    """The cameras that are watched for it, and how it stands there."""
    awaited: tuple[str, ...] = ()
    """The cameras that watch for it from their next frame on."""


class CameraRules:
    """The rules of all cameras; each change is checked for every camera before any takes it up."""

    def __init__(
        self,
        channels: Callable[[], Sequence[Channel]],
        delivery: Delivery | None,
        changing: threading.RLock,
        mutes: RuleMutes,
    ) -> None:
        """channels: those of the cameras. changing: held while their configurations change. mutes: keeps them."""
        self._channels = channels
        self._delivery = delivery
        self._changing = changing
        self._mutes = mutes
        self._configured: tuple[Rule, ...] = ()
        self._rules: tuple[Rule, ...] = ()
        self._cameras: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules now."""
        return self._rules

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that a rule's alerts may go to."""
        return self._delivery.targets if self._delivery is not None else ()

    def standing(self) -> list[StandingRule]:
        """Each rule with how it stands now."""
        with self._changing:
            rules, channels = self._rules, self._watched()
        facts = {channel.name: {each.name: each for each in channel.rules()} for channel in channels}
        configured = {_unmuted(rule) for rule in self._configured}
        return [
            StandingRule(
                rule,
                _unmuted(rule) in configured,
                tuple((name, of[rule.name]) for name, of in facts.items() if rule.watches(name) and rule.name in of),
                tuple(name for name, of in facts.items() if rule.watches(name) and rule.name not in of),
            )
            for rule in rules
        ]

    def yaml(self) -> str:
        """All rules as they are now, in the form of a configuration file."""
        return rules_yaml(self._rules)

    def put(self, rule: Rule, *, replaces: str | None = None) -> None:
        """Add a rule, or put it in the place of another. Raises `ConfigError`, and then all stays as it was."""
        with self._changing:
            others = [one for one in self._rules if one.name != replaces]
            if replaces is not None and len(others) == len(self._rules):
                raise self._unknown(replaces)
            self._check_names(rule, others)
            at = next((i for i, one in enumerate(self._rules) if one.name == replaces), len(others))
            self._apply((*others[:at], rule, *others[at:]))
        if self._mutes.noted().get(rule.name, rule.muted) != rule.muted:
            self._mutes.note(rule.name, is_muted=rule.muted)

    def check(self, rule: Rule, *, replaces: str | None = None) -> bool:
        """Whether the model was taught to judge a rule. Raises the `ConfigError` with which `put` would refuse it.

        A rule that no camera would watch now counts as taught.
        """
        with self._changing:
            others = [one for one in self._rules if one.name != replaces]
            self._check_names(rule, others)
            meant = [one for one in self._watched() if rule.watches(one.name)]
            armed = [each for channel in meant for each in channel.check_rules(_for(channel, [*others, rule]))]
        return all(each.condition.is_taught for each in armed if each.rule.name == rule.name)

    def remove(self, name: str) -> None:
        """Remove a rule; what it raised is over. Raises `ConfigError` where there is none of this name."""
        with self._changing:
            if all(one.name != name for one in self._rules):
                raise self._unknown(name)
            self._apply(tuple(one for one in self._rules if one.name != name))

    def mute(self, name: str, *, muted: bool) -> bool:
        """Mute a rule, or hear it again; False where there is none of this name.

        The timeline keeps it over reloads and restarts; without a timeline it lasts until the next of them. Raises
        `StoreError`, and changes nothing, where it cannot be kept.
        """
        if all(one.name != name for one in self._rules):
            return False
        self._mutes.note(name, is_muted=muted)
        with self._changing:
            for channel in self._channels():
                channel.mute_rule(name, muted=muted)
            self._set_muted({name: muted})
        return True

    def take_up(self, mutes: Mapping[str, bool]) -> None:
        """Mute and unmute rules by their names, as another process noted it; unknown names are ignored."""
        with self._changing:
            for channel in self._channels() if mutes else ():
                for facts in channel.rules():
                    if mutes.get(facts.name, facts.is_muted) != facts.is_muted:
                        channel.mute_rule(facts.name, muted=mutes[facts.name])
            self._set_muted(mutes)

    def reset(self, rules: Sequence[Rule], cameras: Sequence[str]) -> tuple[str, ...]:
        """Go by a configuration from now on, whose cameras take its rules up by themselves.

        Returns the names of the rules that were added or changed meanwhile and are gone.
        """
        with self._changing:
            kept = {_unmuted(rule) for rule in (*self._configured, *rules)}
            gone = tuple(rule.name for rule in self._rules if _unmuted(rule) not in kept)
            self._configured = self._rules = tuple(rules)
            self._cameras = tuple(cameras)
            self._announce()
        return gone

    def _set_muted(self, mutes: Mapping[str, bool]) -> None:
        before = self._rules
        self._rules = tuple(replace(one, muted=mutes.get(one.name, one.muted)) for one in before)
        if self._rules != before:
            self._announce()

    def _check_names(self, rule: Rule, others: Sequence[Rule]) -> None:
        if any(one.name.casefold() == rule.name.casefold() for one in others):
            raise ConfigError(f"rule {rule.name}: another rule has this name; give it another")
        for name in rule.cameras:
            if name not in self._cameras:
                raise ConfigError(f"rule {rule.name}: camera {name!r} is unknown; name one of {_listed(self._cameras)}")
        for name in rule.targets:
            if name not in self.targets:
                raise ConfigError(f"rule {rule.name}: target {name!r} is unknown; name one of {_listed(self.targets)}")

    def _apply(self, rules: tuple[Rule, ...]) -> None:
        channels = self._watched()
        for channel in channels:
            channel.check_rules(_for(channel, rules))
        before, self._rules = self._rules, rules
        # What is new has its targets before it fires, and what is removed until its end was told.
        self._announce(keeping=before)
        pending = [
            channel.set_rules(_for(channel, rules))
            for channel in channels
            if _for(channel, rules) != channel.config.rules
        ]

        def on_done(done: Future[None]) -> None:
            if all(future.done() for future in pending):
                self._announce()

        for future in pending:
            future.add_done_callback(on_done)
        if not pending:
            self._announce()

    def _watched(self) -> list[Channel]:
        return [channel for channel in self._channels() if not channel.served.has_left]

    def _announce(self, keeping: Sequence[Rule] = ()) -> None:
        if self._delivery is None:
            return
        names = {rule.name for rule in self._rules}
        known = [*self._rules, *(rule for rule in keeping if rule.name not in names)]
        self._delivery.set_rules([AnnouncedRule(one.name, one.muted, one.targets or None) for one in known])

    def _unknown(self, name: str) -> ConfigError:
        known = _listed([one.name for one in self._rules])
        return ConfigError(f"rule {name!r}: no rule of the cameras has this name; name one of {known}")


def _for(channel: Channel, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if rule.watches(channel.name))


def _unmuted(rule: Rule) -> Rule:
    return replace(rule, muted=False)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none: there are none"
