"""The backend of the browser app: sources, questions, evidence, events and the model's state, in one class.

Any thread may call it. It owns the viewers' sessions; the scheduler and the watched cameras are passed in.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.config.bounds import check_text
from assistant.errors import AssistantError, ConfigError
from assistant.events import Comment
from assistant.inputs.probe import SourceProbe, probe
from assistant.inputs.snapshots import picture_from_jpeg
from assistant.inputs.source_names import SourceKind, source_kind
from assistant.serving.contracts import ModelState, OpenQuestion, WatchableStream
from assistant.serving.file_questions import FileQuestions
from assistant.viewers.model_status import ModelStatus
from assistant.viewers.registry import SessionRegistry
from assistant.viewers.viewer_marks import ViewerMarks
from assistant.viewers.viewer_rules import ViewerRules
from assistant.viewers.viewer_session import TimeLimits, ViewerSession, ViewerSessionError, WatchRequest
from streaming.clock import Clock, SystemClock
from streaming.errors import StreamingError
from streaming.redact import redact_text, redact_url

if TYPE_CHECKING:
    from assistant.cameras.views import CameraViews, Region
    from assistant.delivery.delivery import Delivery
    from assistant.evidence import EvidenceFrame
    from assistant.inputs.limits import CameraPolicy, UploadLimits
    from assistant.serving.scheduler import Scheduler
    from assistant.timeline.search import TimelineReader
    from assistant.viewers.feed import FeedItem
    from models.session.media_turns import Attachment

SCENE = "scene"
"""Short name of a rendered scene in which something happens early."""
ANOTHER_SCENE = "another scene"
SAMPLES = {SCENE: "synthetic:3", "clip": "sample:a", "world": "sample:world"}
"""Sources of the page's sample buttons, by short name."""
SAMPLE_TITLES = {SCENE: "Synthetic scene", "clip": "Real clip (a title)", "world": "Real clip (the earth)"}
CARRIED = (SourceKind.SAMPLE, SourceKind.SYNTHETIC)
"""Kinds of sources that come with the program."""
MOST_SEEDS = 1_000_000
"""Seeds of random scenes lie below this; training uses seeds from here on."""
REFUSAL_S = 3.0
"""Seconds to wait whether the model refuses a new standing instruction."""
MOST_FILES = 4
"""Most files attached to one question."""
CLIP_FPS = 1.0
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".pgm", ".ppm"}


class Backend:
    """Everything that the page's callbacks and the API call."""

    def __init__(
        self,
        scheduler: Scheduler,
        model_name: str,
        *,
        policy: CameraPolicy,
        uploads: UploadLimits,
        max_sessions: int | None = None,
        views: CameraViews | None = None,
        alerts: Delivery | None = None,
        clips_s: float | None = None,
        alert_clips_s: float | None = None,
        folder: Path | None = None,
        may_draw: bool = True,
        clock: Clock | None = None,
        make_stream: Callable[[ViewerSession, WatchRequest], WatchableStream] | None = None,
    ) -> None:
        """alerts: sends alerts to the configured targets; None without any.

        clips_s: seconds that the cameras' clips begin before and end after an event; None if none are recorded.

        alert_clips_s: the same of clips that are recorded around alerts alone.

        folder: where sessions make folders for their files. may_draw: whether viewers may draw masks and zones on
        watched cameras, which all viewers share. make_stream: replaces `Channel` in tests.
        """
        self.scheduler = scheduler
        self.policy = policy
        self.uploads = uploads
        self.views = views
        self.alerts = alerts
        self._clips_s = clips_s
        self._alert_clips_s = alert_clips_s
        self.may_draw = may_draw
        self._clock: Clock = clock or SystemClock()
        self._make_stream = make_stream or self._channel
        self.model = ModelStatus(scheduler, model_name, self._clock)
        self.rules = ViewerRules(scheduler, views, alerts, may_change_cameras=may_draw)
        self.marks = ViewerMarks(views, self._clock, may_change_cameras=may_draw)
        self.registry = SessionRegistry(self._open_stream, clock=self._clock, max_sessions=max_sessions, folder=folder)

    @property
    def recording(self) -> str:
        """What is recorded of the watched cameras, as a sentence; empty if nothing is."""
        if self._clips_s is not None:
            return f"Recording: {self._clips_s:g} s before and after each event are kept."
        if self._alert_clips_s is not None and self.views is not None and self.views.camera_rules().rules:
            return f"Recording: {self._alert_clips_s:g} s before and after each alert are kept."
        return ""

    # Sources.

    def sample(self, name: str) -> WatchRequest:
        """The request for a sample: short name, `synthetic:SEED` or `sample:NAME`. Raises `ConfigError` for others."""
        if name == ANOTHER_SCENE:
            seed = random.randrange(MOST_SEEDS)
            return WatchRequest("sample", f"synthetic:{seed}", f"Synthetic scene {seed}")
        spec = SAMPLES.get(name, name)
        if source_kind(spec) not in CARRIED:
            raise ConfigError(f"sample {name!r}: it must be one of {', '.join(SAMPLES)}, or synthetic:SEED; choose one")
        return WatchRequest("sample", spec, SAMPLE_TITLES.get(name, spec))

    def named(self, source: str) -> WatchRequest:
        """A sample, or a camera by its address. Raises what is wrong with it."""
        return self.sample(source) if source_kind(source) in CARRIED else self.camera(source)

    def camera(self, url: str, limits: TimeLimits | None = None) -> WatchRequest:
        """The request for a camera at `url` with time limits. Raises if viewers may not reach the address."""
        url = url.strip()
        if not url:
            raise ConfigError("camera address '': it is empty; give one as rtsp://user:password@192.168.1.20/stream")
        with translated():
            self.policy.check(url)
        return WatchRequest("camera", url, redact_url(url), limits=limits or TimeLimits())

    def file(self, viewer: ViewerSession, path: Path, name: str) -> WatchRequest:
        """The request for an uploaded clip, which moves into the session's folder. Raises `UploadRefused`."""
        self.uploads.check_clip(path, name)
        return WatchRequest("file", str(viewer.keep_file(path, name)), name)

    def webcam(self) -> WatchRequest:
        """The request for the browser's own camera, whose pictures the page sends."""
        return WatchRequest("webcam", "push:webcam", "Webcam")

    def shared(self, name: str) -> WatchRequest:
        """The request for a camera of the configuration. Raises `ConfigError` if there is none of that name."""
        if self.views is None:
            raise ConfigError(f"camera {name!r}: no cameras are configured; start with --config cameras.yaml")
        self.views.stream(name)
        return WatchRequest("shared", name, name)

    def test_source(self, wanted: WatchRequest) -> SourceProbe:
        """Open a source and report whether it gives a picture; blocks up to the request's time limits."""
        from assistant.inputs.sample_clips import resolve_sample
        from streaming.sources.base import SourceOptions

        try:
            limits = SourceOptions(**asdict(wanted.limits))
            return probe(resolve_sample(wanted.spec), guard=self._guard(wanted), name=wanted.title, options=limits)
        except AssistantError as error:
            return SourceProbe(False, str(error))

    def test_upload(self, path: Path, name: str) -> SourceProbe:
        """Check an uploaded clip and report its size, codec and length, or what is wrong with it."""
        try:
            facts = self.uploads.check_clip(path, name)
        except AssistantError as error:
            return SourceProbe(False, str(error))
        length = f", {facts.duration_s:.1f} s long" if facts.duration_s else ""
        return SourceProbe(True, f"{name} works: {facts.width_px} x {facts.height_px} pixels, {facts.codec}{length}.")

    def watch(self, viewer: ViewerSession, wanted: WatchRequest) -> int:
        """Start watching with the session's settings; return 0, or the session's place in the queue.

        Raises an `AssistantError` if the source cannot be opened or memory does not suffice.
        """
        with translated():
            return self.registry.watch(viewer, viewer.with_settings(wanted))

    def push(self, stream: WatchableStream, jpeg: bytes, sent_s: float) -> None:
        """Pass on a picture of the browser's camera; data that is not a JPEG is ignored."""
        try:
            stream.push(picture_from_jpeg(jpeg), sent_s)
        except StreamingError:
            return

    def seek(self, viewer: ViewerSession, media_s: float) -> None:
        """Play the session's recording from `media_s`. Raises if it is shared, live or not running."""
        with translated():
            viewer.require_own("where it plays").seek(media_s)

    def set_speed(self, viewer: ViewerSession, speed: float | None) -> None:
        """Set the playing speed, media seconds per second; None for as fast as the model can."""
        with translated():
            viewer.require_own("its speed").set_speed(speed)

    def pause(self, viewer: ViewerSession, *, paused: bool) -> None:
        """Pause or resume the session's stream."""
        with translated():
            stream = viewer.require_own("pausing")
            if paused:
                stream.pause()
            else:
                stream.resume()

    def forget(self, viewer: ViewerSession) -> None:
        """Clear the model's memory of the session's stream."""
        with translated():
            viewer.require_own("forgetting").forget()

    def instruct(self, viewer: ViewerSession, text: str | None) -> None:
        """Replace the standing instruction. Raises if it is refused; the previous one then stays in force.

        If the model is busy for longer than `REFUSAL_S` or still loading, a refusal is reported by an event only.
        """
        check_text(text or "", "an instruction")
        with translated():
            accepted = viewer.instruct(text)
        try:
            accepted.result(REFUSAL_S if self.scheduler.state is ModelState.READY else 0.0)
        except TimeoutError:
            return
        except CancelledError:
            raise ViewerSessionError(
                "the standing instruction: the stream ended before it was set; start it again"
            ) from None
        except AssistantError:
            raise
        except Exception as error:
            raise ViewerSessionError(f"the standing instruction stays as it was: {redact_text(str(error))}") from error

    # Questions.

    def ask(
        self, viewer: ViewerSession, text: str, files: Sequence[tuple[Path, str]] = ()
    ) -> tuple[FeedItem, OpenQuestion]:
        """Ask about the stream, with attached pictures or clips; the answer grows in the session's feed.

        files: paths with the names that users see. Without a stream, the question is about the files only.
        """
        text = text.strip()
        if not text:
            raise ConfigError("question '': it is empty; ask in words")
        check_text(text, "a question")
        if len(files) > MOST_FILES:
            raise ConfigError(f"{len(files)} files: at most {MOST_FILES} may be attached to a question; leave some out")
        warnings: list[str] = []
        attachments = [self._attachment(path, name, warnings.append) for path, name in files]
        for line in warnings:
            viewer.feed.note(line)
        attached = ", ".join(name for _, name in files)
        if viewer.stream is None and not attachments:
            raise ViewerSessionError("nothing is being watched; start a source, or attach a picture to ask about")
        with translated():
            return viewer.ask(text, attachments, attached, about_files=FileQuestions(self.scheduler, self._clock))

    def evidence(
        self, viewer: ViewerSession, item: FeedItem | None, moment_s: float | None
    ) -> tuple[EvidenceFrame, ...]:
        """The frames behind a feed item, or around media time `moment_s` of the stream; empty for an earlier stream."""
        stream = viewer.stream
        if stream is None or (item is not None and item.id <= viewer.first_item):
            return ()  # an earlier stream's item: its frames are in the timeline
        if item is not None and item.event is not None:
            return stream.evidence(item.event)
        at_s = item.time_s if item is not None else moment_s or 0.0
        return stream.evidence(Comment(source="", time_s=at_s, text=""))

    # Cameras.

    def draw(self, name: str, drawn: Sequence[Region]) -> str:
        """Replace the masks and zones drawn on a camera; return all of them, configured ones included, as YAML.

        Configured masks and zones cannot be removed here. Raises `ConfigError`, and `ViewerSessionError` if viewers
        may not draw.
        """
        if not self.may_draw:
            raise ViewerSessionError(
                "masks and zones: this app needs no login, so viewers cannot draw on shared cameras; write them "
                "into the configuration, or start with --auth-file"
            )
        views = self._views()
        with translated():
            views.draw(name, drawn)
        return views.regions_yaml(name)

    def regions_yaml(self, name: str) -> str:
        """All masks and zones of a camera in the form of a configuration file. Raises `ConfigError`."""
        return self._views().regions_yaml(name)

    def _views(self) -> CameraViews:
        if self.views is None:
            raise ConfigError("cameras: none are configured; start with --config cameras.yaml")
        return self.views

    # Events.

    def timeline(self, viewer: ViewerSession, *, of_cameras: bool) -> TimelineReader | None:
        """Reader of the cameras' events, or of the session's own; None if there are none yet."""
        if of_cameras:
            return self.views.reader() if self.views is not None else None
        return viewer.timeline.reader if viewer.has_timeline else None

    def close(self) -> None:
        """End every session."""
        self.registry.close()

    def _open_stream(self, viewer: ViewerSession, wanted: WatchRequest) -> tuple[WatchableStream, bool]:
        if wanted.kind == "shared":
            assert self.views is not None, "a camera without cameras"
            return self.views.stream(wanted.spec), True
        return self._make_stream(viewer, wanted), False

    def _channel(self, viewer: ViewerSession, wanted: WatchRequest) -> WatchableStream:
        from assistant.evidence import EvidenceKeeper
        from assistant.serving.channel import Channel
        from assistant.serving.channel_types import ChannelConfig
        from assistant.timeline.recall import Recall
        from assistant.timeline.sink import ChannelSink
        from streaming.open_source import open_source

        guard = self._guard(wanted)

        def opener(spec: str, *, options: Any = None, clock: Any = None) -> Any:
            return open_source(spec, options=guard(options) if guard is not None else options, clock=clock)

        keeper = EvidenceKeeper()
        config = ChannelConfig(
            name=wanted.title,
            spec=wanted.spec,
            fps=wanted.fps,
            speed=wanted.speed,
            loop=wanted.loop,
            talkative=wanted.talkative,
            instruct=wanted.instruct,
            rules=viewer.rules,
            keep_trying=False,
            **asdict(wanted.limits),
        )
        sink = ChannelSink(viewer.timeline, wanted.title, keeper=keeper)
        recall = Recall(viewer.timeline.reader, self._clock, camera=wanted.title, run=sink.run)
        return Channel(
            config, self.scheduler, clock=self._clock, sinks=[sink], opener=opener, evidence=keeper, recall=recall
        )

    def _guard(self, wanted: WatchRequest) -> Callable[[Any], Any] | None:
        return self.policy.guard if wanted.kind == "camera" else None

    def _attachment(self, path: Path, name: str, warn: Callable[[str], None]) -> Attachment:
        from assistant.inputs.attachments import is_animated, read_clip
        from models.session.media_turns import Clip

        if path.suffix.lower() in PICTURES and not is_animated(path):
            return self.uploads.read_picture(path, name, warn)
        self.uploads.check_clip(path, name)
        with translated():
            return Clip(*read_clip(str(path), CLIP_FPS, warn, shown=name))


@contextmanager
def translated() -> Iterator[None]:
    """Within this context, a `StreamingError` becomes a `ViewerSessionError`, the only kind that the page handles."""
    try:
        yield
    except StreamingError as error:
        raise ViewerSessionError(str(error)) from error
