"""Synthetic scenes with their ground truth (`Scene`), and a source that plays one like a recording.

Only one thread at a time may read a `Scene`, as it caches what it has painted. Frames can be rendered in any order;
each depends only on the seed, the settings and the time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from streaming.buffer import Item
from streaming.clock import Clock
from streaming.errors import OptionError, SourceError
from streaming.scenes.planning import plan
from streaming.scenes.rendering import Renderer
from streaming.scenes.scenario import EventKind, Family, Scenario, SceneSettings, Thing, TruthEvent
from streaming.scenes.state import SceneState, ThingState, third, third_is_sure
from streaming.sources.base import BaseSource, FrameChooser, SourceOptions
from streaming.sources.pacing import Pacer
from streaming.types import NoticeKind, SourceInfo


class Scene:
    """One synthetic scene: its pictures and their ground truth."""

    def __init__(self, seed: int, settings: SceneSettings | None = None) -> None:
        self.seed = seed
        self.settings = settings or SceneSettings()
        self.scenario: Scenario = plan(seed, self.settings)
        self._renderer = Renderer(self.scenario)

    @property
    def width_px(self) -> int:
        """Width of its pictures."""
        return self.scenario.width_px

    @property
    def height_px(self) -> int:
        """Height of its pictures."""
        return self.scenario.height_px

    @property
    def truth(self) -> tuple[TruthEvent, ...]:
        """All events that are worth a remark, in order of time."""
        return self.scenario.truth

    @property
    def duration_s(self) -> float:
        """Length of the scene."""
        return self.scenario.duration_s

    def times(self, fps: float | None = None) -> np.ndarray:
        """The times of its sampled frames, seconds: float64 `[num_frames]`."""
        rate = fps or self.settings.fps
        return np.arange(int(np.floor(self.duration_s * rate + 1e-9))) / rate

    def frame(self, t_s: float) -> np.ndarray:
        """The picture at a time: uint8 RGB `[height, width, 3]`."""
        return self._renderer.frame(t_s)

    def clean_frame(self, t_s: float) -> np.ndarray:
        """The ground and things only, without light, effects, noise or artefacts: uint8 RGB `[height, width, 3]`."""
        return self._renderer.clean_frame(t_s)

    def _thing_state(self, thing: Thing, t_s: float) -> ThingState:
        share, x, y = self.scenario.seen_part(thing, t_s)
        settle = max(0.3, 1.0 / self.settings.fps)
        motion = next((m for m in thing.motions if m.start_s + 0.1 <= t_s <= m.end_s - 0.1), None)
        edges = [edge for m in thing.motions for edge in (m.start_s, m.end_s)]
        edges += [edge for change in thing.changes for edge in (change.start_s, change.end_s)]
        quiet = all(not edge - 0.05 <= t_s < edge + settle + 0.05 for edge in edges)
        return ThingState(
            thing_id=thing.thing_id,
            colour=thing.colour_at(t_s),
            shape=thing.shape,
            x_px=x,
            y_px=y,
            share_in=share,
            side=third(x, self.width_px, ("left", "centre", "right")),
            level=third(y, self.height_px, ("top", "middle", "bottom")),
            moving=motion is not None,
            direction=motion.direction if motion else None,
            settled=quiet and share > 0.97,
            side_sure=third_is_sure(x, self.width_px),
            name=thing.name,
        )

    def state(self, t_s: float) -> SceneState:
        """The ground truth at a time: what is in view, and what has happened so far."""
        scenario = self.scenario
        alive = [thing for thing in scenario.things if thing.born_s <= t_s < thing.gone_s]
        states = [self._thing_state(thing, t_s) for thing in alive]
        things = tuple(sorted((s for s in states if s.share_in > 0.02), key=lambda s: s.x_px))
        covered = any(cover.ramp.at(t_s) >= 0.7 for cover in scenario.covers)
        gain = scenario.gain.at(t_s)
        kinds_of_view = [e for e in self.truth if e.thing_id is None]
        settle = max(0.3, 1.0 / self.settings.fps)
        calm = all(not event.time_s - 0.7 <= t_s < event.visible_s + settle for event in kinds_of_view)
        moving = any(m.start_s <= t_s <= m.end_s for m in scenario.camera_moves)
        return SceneState(
            t_s=t_s,
            things=things,
            covered=covered,
            dark=gain < 0.7,
            bright=gain > 1.25,
            blurred=scenario.blur_px.at(t_s) > 2.0 * scenario.scale,
            camera_moving=moving,
            shot=scenario.shot_at(t_s),
            settled=calm and not moving and all(s.settled for s in things),
            events=tuple(event for event in self.truth if event.visible_s <= t_s),
        )


class SyntheticSource(BaseSource):
    """Plays a scene as a recording: every frame once, with exact media time."""

    is_live = False

    def __init__(
        self,
        seed: int,
        options: SourceOptions | None = None,
        *,
        fps: float = 25.0,
        settings: SceneSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`seed` and `settings` determine the scene; `fps` is the number of frames rendered a second, at most 240."""
        super().__init__(f"synthetic:{seed}", options or SourceOptions(), clock)
        if not 0 < fps <= 240:
            raise OptionError(f"fps={fps:g}", "a scene is rendered at above 0 to 240 frames a second", "25 is usual")
        self.seed, self.fps = seed, fps
        self.settings = settings or SceneSettings(duration_s=60.0, view_sizes=((448, 280),))
        self._scene: Scene | None = None

    @property
    def scene(self) -> Scene:
        """The scene that is played, with its ground truth. Raises `SourceError` if the source is not open."""
        if self._scene is None:
            raise SourceError(self._name, "it is not open", "call open() first")
        return self._scene

    def open(self) -> SourceInfo:
        """Plan the scene. Raises `OptionError` if `start_s` lies after its end."""
        self.close()
        self._start()
        if self._options.start_s >= self.settings.duration_s:
            raise OptionError(
                f"start_s={self._options.start_s:g}",
                f"{self._name} is {self.settings.duration_s:.1f} s long",
                "start earlier",
            )
        self._scene = Scene(self.seed, self.settings)
        return self._describe(self._scene)

    def frames(self) -> Iterator[Item]:
        """The frames that the options select, and notices of beginning, repetition and end, in order."""
        scene, options, closed = self.scene, self._options, self._closed
        yield self._opened(self._describe(scene))
        sampler = options.frame_chooser()
        pacer = Pacer(self._clock, options.speed, closed, options.playback)
        end_s = scene.duration_s if options.end_s is None else min(options.end_s, scene.duration_s)
        wanted = [float(t_s) for t_s in scene.times(self.fps) if options.start_s <= t_s < end_s]
        for number in itertools.count(1):
            for t_s in wanted:
                pts_s = t_s + (number - 1) * (end_s - options.start_s)
                yield from self._play(scene, t_s, pts_s, sampler, pacer)
                if closed.is_set():
                    return
            if number == options.loop or not wanted:
                break
            yield self._notice(NoticeKind.LOOPED, f"played {number} time{'s' * (number > 1)}, starting again", number)
        yield self._notice(
            NoticeKind.ENDED,
            f"{self._num_decoded} frames read",
            self._num_decoded,
            broken=False,
            num_frames=self._num_decoded,
            num_lost=0,
            slowed_s=pacer.total_slowed_s,
        )

    def _play(self, scene: Scene, t_s: float, pts_s: float, sampler: FrameChooser, pacer: Pacer) -> Iterator[Item]:
        """One picture as a frame when it is due, if it is sampled."""
        index, self._num_decoded = self._num_decoded, self._num_decoded + 1
        if not sampler.wants(pts_s):
            self._last_pts_s = pts_s
            return
        late_s = pacer.wait(pts_s)
        if late_s:
            yield self._notice(
                NoticeKind.SLOWED,
                f"frames are used slower than speed {pacer.speed:g}; the media clock waits for them",
                behind_s=late_s,
            )
        picture = self._with_decoder(lambda: scene.frame(t_s))
        if picture is not None:
            yield from self._framed(picture, pts_s, index)

    def _describe(self, scene: Scene) -> SourceInfo:
        return SourceInfo(
            name=self._name,
            is_live=False,
            width_px=scene.width_px,
            height_px=scene.height_px,
            fps_declared=self.fps,
            duration_s_declared=scene.duration_s,
            codec="synthetic",
        )

    def _release(self) -> None:
        """Discard the scene; the source can be opened again."""
        self._scene = None


__all__ = ["EventKind", "Family", "Scene", "SceneSettings", "SceneState", "SyntheticSource", "TruthEvent"]
