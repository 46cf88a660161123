"""The watched cameras: creates their channels from the configuration and updates them when it changes. Any thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from assistant.cameras.camera_rules import CameraRules
from assistant.cameras.channels import channel_config
from assistant.cameras.muting import RuleMutes
from assistant.cameras.regions import regions_yaml, with_drawn
from assistant.cameras.views import CameraCard, Region
from assistant.config.app import waiting_for_restart
from assistant.errors import AssistantError, ConfigError
from assistant.events import Alert, StatusKind
from assistant.evidence import EvidenceKeeper
from assistant.serving.channel import Channel
from assistant.serving.channel_types import ChannelConfig, ChannelState
from assistant.serving.player import OpenSource
from models.errors import ModelError
from streaming.clock import Clock, SystemClock
from streaming.errors import StreamingError
from streaming.open_source import open_source

if TYPE_CHECKING:
    from assistant.config.app import AppConfig
    from assistant.config.cameras import TimelineConfig
    from assistant.delivery.delivery import Delivery
    from assistant.serving.channel_types import ChannelSnapshot
    from assistant.serving.scheduler import Scheduler
    from assistant.sinks import EventSink
    from assistant.timeline.clips import ClipRecorder
    from assistant.timeline.marks import AlertMarks
    from assistant.timeline.search import TimelineReader
    from assistant.timeline.store import Timeline
    from streaming.masks import MaskRegion
    from streaming.recording import ClipWriter
    from streaming.types import Frame

ALERT_S = 60.0
"""Seconds that an alert shows on a camera's card."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Camera:
    configured: ChannelConfig
    """Its configuration, without what viewers drew."""
    channel: Channel
    sinks: tuple[EventSink, ...]
    recorder: ClipRecorder | None


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """Names of the cameras that a new configuration added, removed, changed or could not apply to."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    refused: tuple[str, ...]
    """For each camera that is not watched as configured, its name and the reason."""
    restart_needed: tuple[str, ...] = ()
    """Changed keys that take effect only when the program is restarted."""


class Cameras:
    """Every camera of the configuration, on one scheduler, with one timeline."""

    def __init__(
        self,
        scheduler: Scheduler,
        timeline: Timeline | None = None,
        *,
        clips: ClipWriter | None = None,
        clock: Clock | None = None,
        sink_for: Callable[[str], Sequence[EventSink]] = lambda name: (),
        on_secrets: Callable[[list[str | None]], None] = lambda secrets: None,
        opener: OpenSource = open_source,
        delivery: Delivery | None = None,
    ) -> None:
        """clips: records clips around events if the configuration asks for them. sink_for: makes further sinks.

        on_secrets: called with each password before the camera is opened, so that logs can redact it. delivery: sends
        their alerts; whoever made it starts and stops it.
        """
        self._scheduler = scheduler
        self._timeline = timeline
        self._clips = clips
        self._clock: Clock = clock or SystemClock()
        self._sink_for = sink_for
        self._on_secrets = on_secrets
        self._opener = opener
        self.delivery = delivery
        if delivery is not None:
            delivery.set_on_mute(self.mute_rule)
        self._cameras: dict[str, _Camera] = {}
        self._began_with: AppConfig | None = None
        self._restart_needed: tuple[str, ...] = ()
        self._lock = threading.RLock()
        """Held for moments, where the cameras are looked up or changed."""
        self._loading = threading.Lock()
        """Held while a configuration is applied or all are stopped, which waits for cameras to end."""
        self._mutes = RuleMutes(timeline, self._clock)
        self._camera_rules = CameraRules(lambda: self.channels, delivery, self._lock, self._mutes)

    @property
    def timeline(self) -> Timeline | None:
        """The timeline that stores their events; None if none does."""
        return self._timeline

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The cameras' channels, in the configuration's order."""
        with self._lock:
            return tuple(camera.channel for camera in self._cameras.values())

    @property
    def have_all_ended(self) -> bool:
        """Whether every camera has ended or failed."""
        over = (ChannelState.ENDED, ChannelState.FAILED)
        return all(channel.snapshot().state in over for channel in self.channels)

    @property
    def restart_needed(self) -> tuple[str, ...]:
        """Keys of the last configuration that take effect only when the program is restarted."""
        return self._restart_needed

    def snapshots(self) -> list[ChannelSnapshot]:
        """The current state of every camera."""
        return [channel.snapshot() for channel in self.channels]

    def load(self, config: AppConfig) -> ReloadResult:
        """Apply a configuration: start, stop and change cameras. Cameras that stay keep their memory.

        Keys that are read only at the start keep their first values, for cameras added later too.
        """
        with self._loading:
            return self._load(config)

    def _load(self, config: AppConfig) -> ReloadResult:
        began_with = self._began_with = self._began_with or config
        self._restart_needed = restart_needed = waiting_for_restart(began_with, config)
        config = self._mutes.applied(config)
        if self._timeline is not None:
            self._timeline.set_retention(config.timeline.retention())
        config = config.model_copy(update={"model": began_with.model, "timeline": began_with.timeline})
        wanted, refused = self._wanted(config)
        gone = [name for name in self._cameras if name not in config.cameras]
        over = [name for name in wanted if self._is_over(name)]
        self._stop([*gone, *over], timeout_s=10.0)
        added: list[str] = []
        changed: list[str] = []
        with self._lock:
            made_here = self._camera_rules.reset(config.armed(), tuple(config.cameras))
            for name, channel in wanted.items():
                if name not in self._cameras:
                    if self._start(channel, config, refused):
                        added.append(name)
                elif self._cameras[name].channel.config != channel and self._change(channel, refused):
                    changed.append(name)
            self._cameras = {name: self._cameras[name] for name in config.cameras if name in self._cameras}
            self._tell_rules_gone(made_here)
        for reason in refused:
            logger.error("not watched as configured: %s", reason)
        return ReloadResult(tuple(added), tuple(gone), tuple(changed), tuple(refused), restart_needed)

    def mute_rule(self, rule: str, is_muted: bool) -> None:
        """Mute a rule on every camera that has it, or hear it again; see `CameraRules.mute`."""
        self._camera_rules.mute(rule, muted=is_muted)

    def look_at_mutes(self) -> None:
        """Take up which rules another process muted or unmuted. Call it every second or so."""
        self._camera_rules.take_up(self._mutes.noted())

    def camera_rules(self) -> CameraRules:
        """The rules of all cameras, to be looked at and changed."""
        return self._camera_rules

    def stop(self, timeout_s: float = 9.0) -> bool:
        """Stop all cameras in parallel; return whether each stopped within `timeout_s`."""
        with self._loading:
            return self._stop(list(self._cameras), timeout_s)

    def stream(self, name: str) -> Channel:
        """The channel of a camera. Raises `ConfigError` if there is none of that name."""
        return self._named(name).channel

    def cards(self) -> list[CameraCard]:
        """The card of every camera, for the page's overview."""
        with self._lock:
            cameras = list(self._cameras.values())
        return [self._card(camera.channel, camera.configured) for camera in cameras]

    def draw(self, name: str, drawn: Sequence[Region]) -> None:
        """See `CameraViews.draw`; drawn regions last until the configuration is reloaded."""
        with self._lock:
            camera = self._named(name)
            shot = camera.channel.snapshot()
            masks, zones = with_drawn(camera.configured, drawn, (shot.source.width_px, shot.source.height_px))
            camera.channel.reconfigure(replace(camera.channel.config, masks=masks, zones=zones))

    def regions_yaml(self, name: str) -> str:
        """See `CameraViews.regions_yaml`."""
        config = self._named(name).channel.config
        return regions_yaml(name, config.masks, config.zones)

    def _named(self, name: str) -> _Camera:
        with self._lock:
            camera = self._cameras.get(name)
            known = ", ".join(self._cameras) or "none"
        if camera is None:
            raise ConfigError(f"camera {name!r}: no camera has this name; choose among {known}")
        return camera

    def reader(self) -> TimelineReader | None:
        """Reader of their events; None if none are stored."""
        return self._timeline.reader if self._timeline is not None else None

    def marks(self) -> AlertMarks | None:
        """What people say of their alerts, and how often each rule was right; None if no events are stored."""
        return self._timeline.marks if self._timeline is not None else None

    def _wanted(self, config: AppConfig) -> tuple[dict[str, ChannelConfig], list[str]]:
        """The channel configuration of each camera whose login could be read, and the reasons for the others."""
        wanted, refused = {}, []
        speaking, model = config.speaking, config.model
        for name, camera in config.cameras.items():
            try:
                login = camera.login(name)
                self._on_secrets([login[1]] if login is not None else [])
                wanted[name] = channel_config(
                    name,
                    camera,
                    talkative=speaking.talkative,
                    instruct=speaking.instruct,
                    rules=config.armed(),
                    pruning=model.pruning,
                    system=model.system,
                    stream=model.stream,
                )
            except ConfigError as error:
                refused.append(f"{name}: {error}")
        return wanted, refused

    def _tell_rules_gone(self, names: Sequence[str]) -> None:
        for rule in self._camera_rules.rules:
            for camera in self._cameras.values():
                camera.channel.mute_rule(rule.name, muted=rule.muted)
        if names:
            text = f"the configuration was reloaded, and rules that were made on the page are gone: {', '.join(names)}"
            logger.warning("%s", text)
            for camera in self._cameras.values():
                camera.channel.report(StatusKind.RULE, text)

    def _is_over(self, name: str) -> bool:
        camera = self._cameras.get(name)
        return camera is not None and camera.channel.failure is not None

    def _start(self, channel_config: ChannelConfig, config: AppConfig, refused: list[str]) -> bool:
        name, keeper = channel_config.name, EvidenceKeeper()
        sinks: list[EventSink] = []
        recorder, recall = None, None
        if self._timeline is not None:
            from assistant.timeline.recall import Recall
            from assistant.timeline.sink import ChannelSink

            recorder = self._recorder(name, config.timeline)
            sink = ChannelSink(self._timeline, name, keeper=keeper, recorder=recorder)
            sinks.append(sink)
            recall = Recall(self._timeline.reader, self._clock, camera=name, run=sink.run)
        sinks.extend(self._sink_for(name))
        channel = Channel(
            channel_config,
            self._scheduler,
            clock=self._clock,
            sinks=sinks,
            opener=self._opener,
            evidence=keeper,
            recall=recall,
        )
        if recorder is not None:
            channel.add_viewer(partial(_record, channel, recorder, config.timeline.keep_clips_s is not None))
        try:
            channel.start()
        except (AssistantError, StreamingError) as error:
            refused.append(f"{name}: {error}")
            return False
        self._cameras[name] = _Camera(channel_config, channel, tuple(sinks), recorder)
        return True

    def _change(self, channel_config: ChannelConfig, refused: list[str]) -> bool:
        """Reconfigure a camera's channel; return whether the change was accepted for trying."""
        name = channel_config.name
        camera = self._cameras[name]
        try:
            camera.channel.reconfigure(channel_config).add_done_callback(partial(_log_refusal, name))
        except (AssistantError, StreamingError) as error:
            refused.append(f"{name}: {error}")
            return False
        camera.configured = channel_config
        return True

    def _recorder(self, name: str, kept: TimelineConfig) -> ClipRecorder | None:
        keep_s, alerts_s = kept.keep_clips_s, kept.alert_clips_s
        if self._clips is None or self._timeline is None or (keep_s is None and alerts_s is None):
            return None
        from assistant.timeline.clips import ClipRecorder

        return ClipRecorder(self._timeline, name, self._clips, self._clock, keep_s=keep_s, alerts_s=alerts_s)

    def _stop(self, names: Sequence[str], timeout_s: float) -> bool:
        with self._lock:
            cameras = [self._cameras.pop(name) for name in names if name in self._cameras]
        if not cameras:
            return True
        with ThreadPoolExecutor(len(cameras), thread_name_prefix="stopping") as pool:
            in_time = list(pool.map(lambda camera: camera.channel.stop(timeout_s), cameras))
        for camera in cameras:
            for sink in camera.sinks:
                sink.close()
        return all(in_time)

    def _card(self, channel: Channel, configured: ChannelConfig) -> CameraCard:
        shot, config = channel.snapshot(), channel.config
        newest = channel.keeper.newest()
        _, events = channel.events(shot.counts.num_events - 50)
        now_s = shot.media_s
        masks = [("", region, region not in configured.masks) for region in config.masks]
        zones = [(name, region, (name, region) not in configured.zones) for name, region in config.zones]
        regions = [Region("mask", name, _relative(region, shot), is_drawn) for name, region, is_drawn in masks]
        regions += [Region("zone", name, _relative(region, shot), is_drawn) for name, region, is_drawn in zones]
        return CameraCard(
            name=shot.name,
            state=shot.state.value,
            reason=shot.state_reason,
            health=shot.health,
            has_alert=any(isinstance(event, Alert) and now_s - event.time_s < ALERT_S for event in events),
            said=shot.last_comment.text if shot.last_comment is not None else "",
            jpeg=newest.picture.data if newest is not None else b"",
            regions=tuple(regions),
        )


def _record(channel: Channel, recorder: ClipRecorder, records_all: bool, frame: Frame) -> None:
    """Keep a picture for clips; where only alerts have clips, while the camera is watched for rules."""
    if records_all or channel.config.rules:
        recorder.add_frame(frame)
    else:
        recorder.rest()


def _log_refusal(name: str, done: Future[None]) -> None:
    """Log why a camera's session refused its new configuration."""
    error = None if done.cancelled() else done.exception()
    if isinstance(error, AssistantError | ModelError):
        logger.error("not watched as configured: %s: %s", name, error)


def _relative(region: MaskRegion, shot: ChannelSnapshot) -> tuple[tuple[float, float], ...]:
    """A region's corners as fractions of the picture's width and height; empty if its size is not known."""
    if region.units == "relative" or not (shot.source.width_px and shot.source.height_px):
        return region.points if region.units == "relative" else ()
    return tuple((x / shot.source.width_px, y / shot.source.height_px) for x, y in region.points)
