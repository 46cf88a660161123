"""Topics and messages by which Home Assistant discovers rules: a sensor, a camera and a switch each. Pure functions.

Field names are those of Home Assistant's MQTT integration (https://www.home-assistant.io/integrations/mqtt/),
unabridged, and only such as all its versions since 2023 read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from assistant.timeline.folder import safe_name

ON, OFF = "ON", "OFF"
ONLINE, OFFLINE = "online", "offline"
COMPONENTS = ("binary_sensor", "camera", "switch")
ORIGIN = {"name": "streaming-video-assistant"}


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one target."""

    prefix: str
    discovery: str

    @property
    def node(self) -> str:
        """The id of this program among Home Assistant's devices."""
        return safe_name(self.prefix)

    @property
    def status(self) -> str:
        """Availability: `online` or `offline`."""
        return f"{self.prefix}/status"

    @property
    def alerts(self) -> str:
        """Every alert as JSON, not retained."""
        return f"{self.prefix}/alerts"

    @property
    def commands(self) -> str:
        """The commands to mute of all rules, to subscribe to."""
        return f"{self.prefix}/rules/+/mute/set"

    @property
    def announced(self) -> str:
        """The discovery messages of all rules, to subscribe to."""
        return f"{self.discovery}/+/{self.node}/+/config"

    def of(self, rule: str, what: str) -> str:
        """A topic of a rule. what: state, attributes, snapshot, muted or mute/set."""
        return f"{self.prefix}/rules/{safe_name(rule)}/{what}"

    def config(self, component: str, rule: str) -> str:
        """The topic of a discovery message."""
        return f"{self.discovery}/{component}/{self.node}/{safe_name(rule)}/config"


def discovery_messages(topics: Topics, rule: str, *, has_availability: bool = True) -> dict[str, bytes]:
    """The discovery messages of a rule, by topic; retained, they make its three entities."""
    shared: dict[str, Any] = {
        "device": {"identifiers": [topics.node], "name": "Video assistant", "model": "Streaming video assistant"},
        "origin": ORIGIN,
    }
    if has_availability:
        shared |= {
            "availability_topic": topics.status,
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
        }
    own: dict[str, dict[str, Any]] = {
        "binary_sensor": {
            "name": rule,
            "state_topic": topics.of(rule, "state"),
            "payload_on": ON,
            "payload_off": OFF,
            "json_attributes_topic": topics.of(rule, "attributes"),
        },
        "camera": {"name": f"{rule} snapshot", "topic": topics.of(rule, "snapshot")},
        "switch": {
            "name": f"{rule} muted",
            "command_topic": topics.of(rule, "mute/set"),
            "state_topic": topics.of(rule, "muted"),
            "payload_on": ON,
            "payload_off": OFF,
            "icon": "mdi:bell-off",
        },
    }
    return {
        topics.config(component, rule): json.dumps(
            {**own[component], "unique_id": f"{topics.node}_{safe_name(rule)}_{component}", **shared},
            ensure_ascii=False,
        ).encode("utf-8", "replace")
        for component in COMPONENTS
    }
