"""What a tab's scripts are told about rules, and what they order. One for each connection; any thread."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from assistant.errors import AssistantError, ConfigError
from assistant.events import Comment
from assistant.viewers.viewer_rules import NeedsRehearsal
from ui.rule_rows import rehearsal_of, rules_of, tests_of

if TYPE_CHECKING:
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession

Order = Mapping[str, Any]


class RuleLink:
    """Rules between one tab and the backend."""

    def __init__(self, backend: Backend, viewer: ViewerSession) -> None:
        self._backend, self._viewer = backend, viewer
        self.is_seen = False
        """Whether the tab shows its rules now."""
        self.picture_of = ""
        """The camera whose picture is wanted; `own` for the tab's own stream."""
        self._numbers: Order = {}

    def state(self) -> dict[str, Any]:
        """All rules, what they can be made for, the rehearsal and the test alerts."""
        rules, views = self._backend.rules, self._backend.views
        cards = views.cards() if views is not None else []
        own = self._viewer.stream if not self._viewer.is_shared else None
        zones = {card.name: [region for region in card.regions if region.kind == "zone"] for card in cards}
        return {
            "type": "rules",
            "rules": rules_of(self._backend, self._viewer),
            "cameras": [
                {"name": name, "zones": [{"name": zone.name, "points": zone.points} for zone in found]}
                for name, found in zones.items()
            ],
            "own": self._viewer.wanted.title if own is not None and self._viewer.wanted is not None else None,
            "targets": list(rules.targets),
            "may_change": rules.may_change_cameras,
            "hint": self._backend.model.about().rules,
            "tests": tests_of(rules.tests(self._viewer)),
            "rehearsal": rehearsal_of(self._viewer.rehearsal, self._numbers),
            "picture": self._picture(),
        }

    def answer(self, order: Order) -> dict[str, Any]:
        """Do what the tab orders; returns what became of it, errors as text."""
        told: dict[str, Any] = {"type": "ruled", "do": str(order.get("do"))}
        doings: dict[str, Callable[[Order], dict[str, Any]]] = {
            "put": self._put,
            "mute": self._mute,
            "remove": self._remove,
            "rehearse": self._rehearse,
            "judge": self._judge,
            "test": self._test,
            "yaml": self._yaml,
        }
        try:
            doing = doings.get(told["do"])
            if doing is None:
                raise ConfigError(f"order {told['do']!r}: it must be one of {', '.join(doings)}; reload the page")
            told |= doing(order)
        except NeedsRehearsal as error:
            told |= {"wrong": str(error), "needs_rehearsal": True}
        except AssistantError as error:
            told["wrong"] = str(error)
        return told

    def _put(self, order: Order) -> dict[str, Any]:
        replaces = order.get("replaces")
        name = self._backend.rules.put(
            self._viewer, _place(order), _rule(order), replaces=str(replaces) if replaces is not None else None
        )
        return {"name": name, "place": _place(order)}

    def _mute(self, order: Order) -> dict[str, Any]:
        self._backend.rules.mute(self._viewer, _place(order), _name(order), muted=order.get("muted") is True)
        return {"name": _name(order)}

    def _remove(self, order: Order) -> dict[str, Any]:
        self._backend.rules.remove(self._viewer, _place(order), _name(order))
        return {"name": _name(order)}

    def _rehearse(self, order: Order) -> dict[str, Any]:
        self._numbers = {}
        self._backend.rules.rehearse(self._viewer, _place(order), _rule(order), str(order.get("camera") or ""))
        return {}

    def _judge(self, order: Order) -> dict[str, Any]:
        found = rehearsal_of(self._viewer.rehearsal, _rule(order))
        self._numbers = _rule(order)
        return {"rehearsal": found}

    def _test(self, order: Order) -> dict[str, Any]:
        return {"name": _name(order), "targets": list(self._backend.rules.test(self._viewer, _name(order)))}

    def _yaml(self, order: Order) -> dict[str, Any]:
        return {"yaml": self._backend.rules.yaml(self._viewer, _place(order)), "place": _place(order)}

    def _picture(self) -> dict[str, str] | None:
        """The newest thumbnail of the stream whose picture is wanted."""
        name, views = self.picture_of, self._backend.views
        if name == "own":
            stream = self._viewer.stream if not self._viewer.is_shared else None
            at_s = stream.snapshot().media_s if stream is not None else 0.0
            frames = stream.evidence(Comment(source="", time_s=at_s, text="")) if stream is not None else ()
            data = frames[-1].picture.data if frames else b""
        else:
            data = next((card.jpeg for card in (views.cards() if views is not None else []) if card.name == name), b"")
        return {"of": name, "jpeg": base64.b64encode(data).decode()} if data else None


def _place(order: Order) -> Literal["own", "cameras"]:
    return "own" if order.get("place") == "own" else "cameras"


def _name(order: Order) -> str:
    return str(order.get("name", ""))


def _rule(order: Order) -> Order:
    rule = order.get("rule")
    if not isinstance(rule, dict):
        raise ConfigError(f"rule {rule!r}: it must be an object with keys of a rule; reload the page")
    return rule
