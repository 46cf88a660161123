"""The sender of each kind of target. Libraries are imported when a target needs them."""

from __future__ import annotations

from assistant.config.targets import AppriseTarget, DeliveryTarget, MqttTarget, WebhookTarget
from assistant.delivery.senders import OnMute, Sender


def make_sender(name: str, config: DeliveryTarget, on_mute: OnMute, *, is_for_test: bool = False) -> Sender:
    """The sender of a target; connects to nothing yet. Raises `ConfigError` if its secrets or its address are wrong.

    is_for_test: for a process that only sends a test alert and leaves what another one keeps at the receiver.
    """
    if isinstance(config, WebhookTarget):
        from assistant.delivery.webhook import WebhookSender

        return WebhookSender(name, config)
    if isinstance(config, MqttTarget):
        from assistant.delivery.mqtt import MqttSender

        return MqttSender(name, config, on_mute, is_for_test=is_for_test)
    if isinstance(config, AppriseTarget):
        from assistant.delivery.apprise_sender import AppriseSender

        return AppriseSender(name, config)
    raise AssertionError(f"target {name}: {type(config).__name__} has no sender")
