"""Discovery messages against the schema that Home Assistant publishes for its MQTT integration.

The fields are those of `homeassistant/components/mqtt` (schemas.py, config.py, binary_sensor.py, camera.py, switch.py)
in home-assistant/core, and of https://www.home-assistant.io/integrations/mqtt/; only those that its versions of 2023
to 2026 have in common are allowed here.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from assistant.delivery.home_assistant import Topics, discovery_messages

TOPIC = re.compile(r"(?P<component>\w+)/(?:(?P<node_id>[a-zA-Z0-9_-]+)/)?(?P<object_id>[a-zA-Z0-9_-]+)/config")
COMMON = {
    "availability", "availability_mode", "availability_template", "availability_topic", "payload_available",
    "payload_not_available", "device", "origin", "enabled_by_default", "entity_category", "icon",
    "json_attributes_topic", "json_attributes_template", "unique_id", "name", "qos", "encoding",
}  # fmt: skip
ALLOWED = {
    "binary_sensor": COMMON
    | {
        "state_topic", "value_template", "device_class", "expire_after", "force_update", "off_delay", "payload_on",
        "payload_off",
    },
    "camera": COMMON | {"topic", "image_encoding"},
    "switch": COMMON
    | {
        "command_topic", "state_topic", "optimistic", "retain", "payload_on", "payload_off", "state_on", "state_off",
        "value_template", "device_class", "command_template",
    },
}  # fmt: skip
REQUIRED = {"binary_sensor": {"state_topic"}, "camera": {"topic"}, "switch": {"command_topic"}}
DEVICE = {
    "identifiers", "connections", "manufacturer", "model", "name", "hw_version", "serial_number", "sw_version",
    "via_device", "suggested_area", "configuration_url",
}  # fmt: skip
RULES = ["Someone at the door", "größer / +#", "a" * 300, "💡", "A-b_c"]


def messages(rule: str, *, has_availability: bool = True) -> dict[str, dict[str, Any]]:
    made = discovery_messages(Topics("video-assistant", "homeassistant"), rule, has_availability=has_availability)
    return {topic: json.loads(payload) for topic, payload in made.items()}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("has_availability", [True, False])
def test_every_message_has_the_fields_that_home_assistant_knows(rule: str, has_availability: bool) -> None:
    made = messages(rule, has_availability=has_availability)
    components = []
    for topic, values in made.items():
        match = TOPIC.fullmatch(topic.removeprefix("homeassistant/"))
        assert match is not None, f"{topic}: Home Assistant takes no such topic"
        component = match["component"]
        components.append(component)
        assert REQUIRED[component] <= values.keys() <= ALLOWED[component]
        assert values["device"].keys() <= DEVICE and values["device"]["identifiers"]
        assert values["origin"].keys() <= {"name", "sw_version", "support_url"} and values["origin"]["name"]
        assert ("availability_topic" in values) is has_availability
        assert all(isinstance(value, str) for name, value in values.items() if name not in ("device", "origin"))
        assert re.fullmatch(r"(?:mdi:[a-z-]+)?", values.get("icon", ""))
    assert components == ["binary_sensor", "camera", "switch"]


@pytest.mark.parametrize("rule", RULES)
def test_every_topic_can_be_published_and_subscribed_to(rule: str) -> None:
    for values in messages(rule).values():
        for name, value in values.items():
            if name.endswith("topic"):
                assert not set("+#\0") & set(value) and 0 < len(value.encode()) < 65536


def test_every_entity_has_an_id_of_its_own() -> None:
    ids = [values["unique_id"] for rule in RULES for values in messages(rule).values()]
    assert len(set(ids)) == 3 * len(RULES)
    assert len({values["device"]["identifiers"][0] for rule in RULES for values in messages(rule).values()}) == 1


def test_two_programs_with_prefixes_of_their_own_do_not_meet() -> None:
    here, there = Topics("house", "homeassistant"), Topics("shed", "homeassistant")
    assert not discovery_messages(here, "door").keys() & discovery_messages(there, "door").keys()
