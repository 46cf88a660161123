"""What the browser app asks for, in one place: sources to watch, questions, evidence, events and news of the model.

Any thread may call it. It owns the sessions of all tabs; the host, and the cameras where there are any, are given.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.errors import AssistantError, ConfigError
from assistant.events import Answer, Comment
from assistant.inputs.probe import SourceProbe, probe
from assistant.inputs.snapshots import picture_from_jpeg
from assistant.serving.contracts import OpenQuestion, WatchableStream
from assistant.serving.model_faults import ModelBroken
from assistant.serving.scheduler import ModelState
from assistant.viewers.model_about import EMBEDDED, ModelAbout, about_model
from assistant.viewers.registry import SessionRegistry
from assistant.viewers.viewer_session import TimeLimits, ViewerSession, ViewerSessionError, WatchRequest
from models.session.steps import StepGenerator, as_steps
from streaming.clock import Clock, SystemClock
from streaming.errors import StreamingError
from streaming.redact import redact_text, redact_url

if TYPE_CHECKING:
    from assistant.cameras.views import CameraViews, Region
    from assistant.evidence import EvidenceFrame
    from assistant.inputs.limits import CameraPolicy, UploadLimits
    from assistant.serving.scheduler import Scheduler
    from assistant.stream.spoken_turns import SpokenTurn
    from assistant.timeline.search import TimelineReader
    from assistant.viewers.feed import FeedItem
    from models.checkpoint.progress import Loading
    from models.checkpoint.types import ModelInfo
    from models.session.media_turns import Attachment

SCENE = "scene"
"""A rendered scene that begins with something to say."""
ANOTHER_SCENE = "another scene"
SAMPLES = {SCENE: "synthetic:3", "clip": "sample:a", "world": "sample:world"}
"""What can be watched with one click."""
SAMPLE_TITLES = {SCENE: "Synthetic scene", "clip": "Real clip (a title)", "world": "Real clip (the earth)"}
MOST_SEEDS = 1_000_000
"""Training takes its scenes from here on."""
MOST_QUESTION = 2000
"""Letters of a question, or of a standing instruction."""
REFUSAL_S = 3.0
"""How long somebody who sets an instruction waits for its refusal."""
MOST_FILES = 4
"""Files that come with one question."""
CLIP_FPS = 1.0
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".pgm", ".ppm"}


@dataclass(frozen=True, slots=True)
class ModelNews:
    """What becomes of the model."""

    state: str
    """`loading`, `ready`, `stalled`, `failed` or `stopped`."""
    text: str
    """For a person."""
    seconds: float
    """How long it has been loading, or took."""
    share: float | None = None
    """How much of the loading is done, in [0, 1]; None where that is not known, or it is over."""


class Backend:
    """What the page calls."""

    def __init__(
        self,
        host: Scheduler,
        model_name: str,
        *,
        policy: CameraPolicy,
        uploads: UploadLimits,
        max_sessions: int | None = None,
        views: CameraViews | None = None,
        clips_s: float | None = None,
        folder: Path | None = None,
        may_draw: bool = True,
        clock: Clock | None = None,
        make_stream: Callable[[ViewerSession, WatchRequest], WatchableStream] | None = None,
    ) -> None:
        """clips_s: the cameras' clips are recorded so many seconds round each event; None where nothing is recorded.

        folder: where tabs keep their files, each in its own. may_draw: whether viewers may draw masks and zones on
        cameras, which all viewers share. make_stream: for tests; `Channel`s on the host otherwise.
        """
        self.host = host
        self.model_name = model_name
        self.policy = policy
        self.uploads = uploads
        self.views = views
        self.clips_s = clips_s
        self.may_draw = may_draw
        self._clock: Clock = clock or SystemClock()
        self._make_stream = make_stream or self._channel
        self._began_s: float | None = None
        self._took_s: float | None = None
        self._loading: Loading | None = None
        self.tabs = SessionRegistry(self._open_stream, clock=self._clock, max_sessions=max_sessions, folder=folder)

    def begin_loading(self) -> None:
        """Load the model now; the page is there already."""
        if self._began_s is None:
            self._began_s = self._clock.now_s()
            self.host.start()

    def note_loading(self, loading: Loading) -> None:
        """The loading has come so far; for the thread that loads."""
        self._loading = loading

    def model_news(self) -> ModelNews:
        """How the model is doing."""
        state = self.host.state.value
        now_s = self._clock.now_s()
        seconds = now_s - self._began_s if self._began_s is not None else 0.0
        if state == "loading":
            loading = self._loading
            doing = f": {loading.doing}" if loading is not None else ""
            return ModelNews(
                state, f"Loading {self.model_name}{doing}", seconds, loading.share if loading is not None else None
            )
        if self._took_s is None:
            self._took_s = seconds
        if state == "failed":
            failure = self.host.failure
            worked = isinstance(failure, ModelBroken)
            what = "The model does not work any more" if worked else "The model could not be loaded"
            return ModelNews(state, redact_text(f"{what}: {failure}"), self._took_s)
        if state == "stopped":
            return ModelNews(state, "The model was stopped", self._took_s)
        info = self.host.describe()
        shown = f"{info.name} · {info.device} · {info.dtype}"
        return ModelNews(state, f"{shown}, not answering" if state == "stalled" else shown, self._took_s)

    def about(self) -> ModelAbout:
        """What the model can and cannot know; a guess by its name while it is being loaded."""
        info = self.model_info()
        if info is None:
            is_embedded = self.model_name == "embedded"
            return EMBEDDED if is_embedded else about_model(self.model_name, embedded=False, decision="stand_in")
        return about_model(info.name, embedded=info.embedded, decision=info.decision, reason=info.decision_reason)

    def model_info(self) -> ModelInfo | None:
        """The model's facts; None before it is there."""
        return self.host.describe() if self.host.state.value in ("ready", "stalled") else None

    # Sources.

    def sample(self, name: str) -> WatchRequest:
        """A sample by its short name, or any `synthetic:SEED` or `sample:NAME`. Raises `ConfigError`."""
        if name == ANOTHER_SCENE:
            seed = random.randrange(MOST_SEEDS)
            return WatchRequest("sample", f"synthetic:{seed}", f"Synthetic scene {seed}")
        spec = SAMPLES.get(name, name)
        if not spec.startswith(("synthetic:", "sample:")):
            raise ConfigError(f"sample {name!r}: one of {', '.join(SAMPLES)}, or synthetic:SEED; choose one")
        return WatchRequest("sample", spec, SAMPLE_TITLES.get(name, spec))

    def camera(self, url: str, limits: TimeLimits | None = None) -> WatchRequest:
        """A camera by its address, and how long it is waited for. Raises where viewers may not reach it."""
        url = url.strip()
        if not url:
            raise ConfigError("camera address '': it is empty; give one as rtsp://user:password@192.168.1.20/stream")
        with translated():
            self.policy.check(url)
        return WatchRequest("camera", url, redact_url(url), limits=limits or TimeLimits())

    def file(self, viewer: ViewerSession, path: Path, name: str) -> WatchRequest:
        """A clip that was sent; it moves into the tab's own folder. Raises `UploadRefused`."""
        self.uploads.check_clip(path, name)
        return WatchRequest("file", str(viewer.keep_file(path, name)), name)

    def webcam(self) -> WatchRequest:
        """The browser's own camera."""
        return WatchRequest("webcam", "push:webcam", "Webcam")

    def shared(self, name: str) -> WatchRequest:
        """A camera of the configuration. Raises `ConfigError`."""
        if self.views is None:
            raise ConfigError(f"camera {name!r}: no cameras are configured; start with --config cameras.yaml")
        self.views.stream(name)
        return WatchRequest("shared", name, name)

    def test(self, wanted: WatchRequest) -> SourceProbe:
        """Try a source; takes as long as it takes to answer, for a camera as long as its limits allow."""
        from assistant.inputs.sample_clips import resolve_sample
        from streaming.sources.base import SourceOptions

        try:
            limits = SourceOptions(**asdict(wanted.limits))
            return probe(resolve_sample(wanted.spec), guard=self._guard(wanted), name=wanted.title, options=limits)
        except AssistantError as error:
            return SourceProbe(False, str(error))

    def look_at(self, path: Path, name: str) -> SourceProbe:
        """Try a clip that was sent."""
        try:
            facts = self.uploads.check_clip(path, name)
        except AssistantError as error:
            return SourceProbe(False, str(error))
        length = f", {facts.duration_s:.1f} s long" if facts.duration_s else ""
        return SourceProbe(True, f"{name} works: {facts.width_px} x {facts.height_px} pixels, {facts.codec}{length}.")

    def watch(self, viewer: ViewerSession, wanted: WatchRequest) -> int:
        """Watch it with the tab's settings; 0, or the place in the queue. Raises what is wrong with it."""
        with translated():
            return self.tabs.watch(viewer, viewer.settled(wanted))

    def push(self, stream: WatchableStream, jpeg: bytes, sent_s: float) -> None:
        """A picture of a browser's camera; one that is none is left out."""
        try:
            stream.push(picture_from_jpeg(jpeg), sent_s)
        except StreamingError:
            return

    def seek(self, viewer: ViewerSession, media_s: float) -> None:
        """Play the tab's recording from there. Raises what forbids it."""
        with translated():
            viewer.require_own("where it plays").seek(media_s)

    def set_speed(self, viewer: ViewerSession, speed: float | None) -> None:
        """Media seconds a second; None for as fast as the model can."""
        with translated():
            viewer.require_own("its speed").set_speed(speed)

    def pause(self, viewer: ViewerSession, *, paused: bool) -> None:
        """Pause or go on."""
        with translated():
            stream = viewer.require_own("pausing")
            if paused:
                stream.pause()
            else:
                stream.resume()

    def forget(self, viewer: ViewerSession) -> None:
        """Forget what was seen and said."""
        with translated():
            viewer.require_own("forgetting").forget()

    def instruct(self, viewer: ViewerSession, text: str | None) -> None:
        """Replace the standing instruction. Raises where it is refused; the one before stays in force then.

        Where the model is busy for longer than `REFUSAL_S`, or not there yet, a refusal is an event alone.
        """
        if text and len(text) > MOST_QUESTION:
            raise ConfigError(f"an instruction of {len(text)} letters: at most {MOST_QUESTION} are read; shorten it")
        with translated():
            told = viewer.instruct(text)
        try:
            told.result(REFUSAL_S if self.host.state is ModelState.READY else 0.0)
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
        """Ask about what is seen, with pictures or short clips; the answer grows in the tab's feed.

        files: paths with the names people gave them. Without a stream, the question is about the files alone.
        """
        text = text.strip()
        if not text:
            raise ConfigError("question '': it is empty; ask in words")
        if len(text) > MOST_QUESTION:
            raise ConfigError(f"a question of {len(text)} letters: at most {MOST_QUESTION} are read; shorten it")
        if len(files) > MOST_FILES:
            raise ConfigError(f"{len(files)} files: at most {MOST_FILES} come with a question; leave some out")
        warnings: list[str] = []
        attachments = [self._attachment(path, name, warnings.append) for path, name in files]
        for line in warnings:
            viewer.feed.note(line)
        attached = ", ".join(name for _, name in files)
        with translated():
            if viewer.stream is not None:
                return viewer.ask(text, attachments, attached)
            if not attachments:
                raise ViewerSessionError("nothing is being watched; start a source, or attach a picture to ask about")
            return self._ask_alone(viewer, text, attachments, attached)

    def evidence(
        self, viewer: ViewerSession, item: FeedItem | None, moment_s: float | None
    ) -> tuple[EvidenceFrame, ...]:
        """The frames behind an item, or about a moment of the stream."""
        stream = viewer.stream
        if stream is None or (item is not None and item.id <= viewer.first_item):
            return ()  # another stream's: its frames are found with its events
        if item is not None and item.event is not None:
            return stream.evidence(item.event)
        at_s = item.time_s if item is not None else moment_s or 0.0
        return stream.evidence(Comment(source="", time_s=at_s, text=""))

    # Cameras.

    def draw(self, name: str, drawn: Sequence[Region]) -> str:
        """Put masks and zones on a camera beside those of its configuration; gives all of them as YAML.

        Those that were drawn before go; those of the configuration cannot be taken away from here. Raises `ConfigError`
        and `ViewerSessionError`.
        """
        if not self.may_draw:
            raise ViewerSessionError(
                "masks and zones: this app is open to everybody, so nobody may draw them on shared cameras; write them "
                "into the configuration, or start with --auth-file"
            )
        views = self._views()
        with translated():
            views.draw(name, drawn)
        return views.regions_yaml(name)

    def regions_yaml(self, name: str) -> str:
        """A camera's masks and zones as a configuration file has them. Raises `ConfigError`."""
        return self._views().regions_yaml(name)

    def _views(self) -> CameraViews:
        if self.views is None:
            raise ConfigError("cameras: none are configured; start with --config cameras.yaml")
        return self.views

    # Events.

    def timeline(self, viewer: ViewerSession, *, of_cameras: bool) -> TimelineReader | None:
        """The events of the cameras, or of the tab itself; None where there are none yet."""
        if of_cameras:
            return self.views.reader() if self.views is not None else None
        return viewer.timeline.reader if viewer.has_timeline else None

    def close(self) -> None:
        """End every session."""
        self.tabs.close()

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
            keep_trying=False,
            **asdict(wanted.limits),
        )
        sink = ChannelSink(viewer.timeline, wanted.title, keeper=keeper)
        recall = Recall(viewer.timeline.reader, self._clock, camera=wanted.title, run=sink.run)
        return Channel(
            config, self.host, clock=self._clock, sinks=[sink], opener=opener, evidence=keeper, recall=recall
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

    def _ask_alone(
        self, viewer: ViewerSession, text: str, attachments: Sequence[Attachment], attached: str
    ) -> tuple[FeedItem, OpenQuestion]:
        """A question about files, without a stream."""
        from assistant.stream.question_queue import PendingQuestion, Unanswered
        from assistant.stream.spoken_turns import TurnStream
        from models.session.media_turns import Clip

        pictures = [a for a in attachments if not isinstance(a, Clip)]
        clips = [(a.frames, a.times_s) for a in attachments if isinstance(a, Clip)]

        def begin(item: FeedItem) -> OpenQuestion:
            asked = PendingQuestion(text, lambda piece: viewer.feed.say(item.id, piece))

            @as_steps
            def steps(engine: Any) -> StepGenerator[SpokenTurn | None]:
                if not asked.begin():
                    return None
                listener = TurnStream(self._clock, asked.say)
                utterance = yield from listener.left_off(engine.ask(text, pictures, clips), lambda: asked.is_cancelled)
                return listener.said(utterance, cut=utterance is None)

            def on_done(future: Future[SpokenTurn | None]) -> None:
                error = Unanswered("the model was stopped") if future.cancelled() else future.exception()
                if error is not None:
                    asked.failed(error)
                elif (said := future.result()) is not None:
                    reason = "cut_short" if said.cut else "asked"
                    asked.answered(
                        Answer(source="", time_s=0.0, text=said.text, reason=reason, question=text, asked_at_s=0.0)
                    )

            submitted = self.host.submit(steps, size=lambda engine: engine.ask_bytes(text, pictures, clips))
            submitted.add_done_callback(on_done)
            return asked

        return viewer.ask_alone(text, attached, begin)


@contextmanager
def translated() -> Iterator[None]:
    """What is wrong with a source is said as this room's own error, so that the page need not know the others."""
    try:
        yield
    except StreamingError as error:
        raise ViewerSessionError(str(error)) from error
