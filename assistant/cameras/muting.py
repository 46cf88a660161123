"""Rules that people muted or unmuted, kept in the timeline so that it survives a restart. Any thread may call it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from assistant.errors import StoreError

if TYPE_CHECKING:
    from assistant.config.app import AppConfig
    from assistant.timeline.store import Timeline
    from streaming.clock import Clock

logger = logging.getLogger(__name__)


class RuleMutes:
    """What people said of muted rules. It goes before `muted` in the configuration."""

    def __init__(self, timeline: Timeline | None, clock: Clock) -> None:
        """timeline: keeps it, None for nothing that is kept."""
        self._timeline = timeline
        self._clock = clock
        self._known: dict[str, bool] = {}
        self._trouble = ""

    def note(self, rule: str, *, is_muted: bool) -> None:
        """Keep that a rule is muted or heard again. Raises `StoreError` if that cannot be written."""
        if self._timeline is not None:
            self._timeline.marks.mute(rule, is_muted=is_muted, now_s=self._clock.wall_s())

    def noted(self) -> dict[str, bool]:
        """Whether each rule that somebody muted or unmuted is muted; what was known last if it cannot be read."""
        if self._timeline is None:
            return {}
        try:
            self._known, self._trouble = self._timeline.marks.mutes(), ""
        except StoreError as error:
            if str(error) != self._trouble:
                logger.warning("which rules are muted cannot be read: %s", error)
            self._trouble = str(error)
        return self._known

    def applied(self, config: AppConfig) -> AppConfig:
        """A configuration whose rules are muted as people said last."""
        noted = self.noted()
        rules = {
            name: rule.model_copy(update={"muted": noted.get(name, rule.muted)}) for name, rule in config.rules.items()
        }
        return config.model_copy(update={"rules": rules})
