"""The model's state while it loads and works, with texts for the page. Any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.serving.model_faults import ModelBroken
from assistant.viewers.model_about import ModelAbout, about_embedded, about_model
from streaming.redact import redact_text

if TYPE_CHECKING:
    from assistant.serving.scheduler import Scheduler
    from models.checkpoint.progress import Loading
    from models.checkpoint.types import ModelInfo
    from streaming.clock import Clock


@dataclass(frozen=True, slots=True)
class ModelNews:
    """State of the model, for the page."""

    state: str
    """`loading`, `ready`, `stalled`, `failed` or `stopped`."""
    text: str
    """Text to show."""
    seconds: float
    """Seconds that loading has taken so far, or took in all."""
    share: float | None = None
    """Fraction of the loading that is done, in [0, 1]; None if unknown or done."""


class ModelStatus:
    """What the page says about the model."""

    def __init__(self, scheduler: Scheduler, name: str, clock: Clock) -> None:
        """name: of the checkpoint that is loaded, as it was asked for."""
        self.name = name
        self._scheduler = scheduler
        self._clock = clock
        self._began_s: float | None = None
        self._took_s: float | None = None
        self._loading: Loading | None = None

    def begin_loading(self) -> None:
        """Start loading the model, once; the page is served meanwhile."""
        if self._began_s is None:
            self._began_s = self._clock.now_s()
            self._scheduler.start()

    def note_loading(self, loading: Loading) -> None:
        """Store the progress of loading; called by the thread that loads."""
        self._loading = loading

    def news(self) -> ModelNews:
        """The model's state with a text about it."""
        state = self._scheduler.state.value
        now_s = self._clock.now_s()
        seconds = now_s - self._began_s if self._began_s is not None else 0.0
        if state == "loading":
            loading = self._loading
            doing = f": {loading.doing}" if loading is not None else ""
            return ModelNews(
                state, f"Loading {self.name}{doing}", seconds, loading.share if loading is not None else None
            )
        if self._took_s is None:
            self._took_s = seconds
        if state == "failed":
            failure = self._scheduler.failure
            worked = isinstance(failure, ModelBroken)
            what = "The model does not work any more" if worked else "The model could not be loaded"
            return ModelNews(state, redact_text(f"{what}: {failure}"), self._took_s)
        if state == "stopped":
            return ModelNews(state, "The model was stopped", self._took_s)
        info = self._scheduler.describe()
        shown = f"{info.name} · {info.device} · {info.dtype}"
        return ModelNews(state, f"{shown}, not answering" if state == "stalled" else shown, self._took_s)

    def about(self) -> ModelAbout:
        """What the model can and cannot do; guessed from its name while it is loading."""
        info = self.info()
        if info is None:
            is_embedded = self.name == "embedded"
            return about_embedded() if is_embedded else about_model(self.name, embedded=False, decision="stand_in")
        return about_model(info.name, embedded=info.embedded, decision=info.decision, reason=info.decision_reason)

    def info(self) -> ModelInfo | None:
        """The loaded model's name, device, dtype and settings; None before it is loaded."""
        return self._scheduler.describe() if self._scheduler.state.value in ("ready", "stalled") else None
