"""Serves metrics in Prometheus' format and a health endpoint, on its own thread, on the loopback address by default."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from assistant.errors import ConfigError
from assistant.serving.channel_types import ChannelState
from assistant.serving.contracts import ModelState

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from assistant.serving.channel_types import ChannelSnapshot
    from assistant.serving.scheduler import Scheduler
    from assistant.timeline.store import Timeline

PREFIX = "assistant_"

_COUNTERS: dict[str, tuple[str, Callable[[ChannelSnapshot], float]]] = {
    "frames_read": ("Pictures decoded.", lambda shot: shot.counts.num_read),
    "frames_sampled": ("Frames that the model has looked at, used or not.", lambda shot: shot.counts.num_sampled),
    "frames_used": ("Frames appended to the stream that the model sees.", lambda shot: shot.counts.num_used),
    "frames_empty": ("Frames left out because they look like those before them.", lambda shot: shot.counts.num_empty),
    "frames_dropped": (
        "Frames dropped because they came faster than the model used them.",
        lambda shot: shot.counts.num_dropped,
    ),
    "frames_damaged": ("Frames that could not be decoded.", lambda shot: shot.counts.num_damaged),
    "comments": ("Remarks.", lambda shot: shot.counts.num_comments),
    "answers": ("Answers.", lambda shot: shot.counts.num_answers),
    "reconnects": ("Attempts to reconnect after a lost connection.", lambda shot: shot.source.num_reconnects),
    "model_faults": ("Steps of the model that failed.", lambda shot: shot.counts.num_faults),
    "listener_faults": ("Exceptions raised by subscribers and viewers.", lambda shot: shot.counts.num_listener_faults),
    "evictions": ("Evictions of old tokens from the cache.", lambda shot: shot.memory.evictions),
    "events": ("Events of all kinds.", lambda shot: shot.counts.num_events),
    "events_not_stored": ("Events that a sink failed to store.", lambda shot: shot.counts.num_unstored),
}
_GAUGES: dict[str, tuple[str, Callable[[ChannelSnapshot], float | None]]] = {
    "newest_seen_age_seconds": (
        "Age of the newest frame that the model has seen.",
        lambda shot: shot.newest_seen_age_s,
    ),
    "fps_in": ("Pictures per second from the source.", lambda shot: shot.rates.fps_in),
    "fps_wanted": ("Frames per second wanted for the model.", lambda shot: shot.rates.fps_wanted),
    "fps_used": ("Frames per second that the model has seen.", lambda shot: shot.rates.fps_used),
    "rate_factor": ("Fraction of fps_wanted that is left under overload.", lambda shot: shot.rates.factor),
    "tokens_per_frame": ("Visual tokens per frame, on average.", lambda shot: shot.memory.tokens_per_frame),
    "cache_bytes": ("Memory of the session's KV cache.", lambda shot: shot.memory.cache.num_bytes),
    "questions_waiting": ("Questions that wait to be answered.", lambda shot: shot.counts.num_waiting),
    "up": ("1 if the model sees the camera, else 0.", lambda shot: float(shot.health != "down")),
}


class MonitoredCameras(Protocol):
    """The cameras that are monitored (`assistant.cameras.cameras.Cameras`)."""

    def snapshots(self) -> list[ChannelSnapshot]:
        """The current state of every camera."""

    @property
    def restart_needed(self) -> tuple[str, ...]:
        """Keys of the configuration that take effect only when the program is restarted."""


class _Facts(Collector):
    """Collects all metrics when they are requested."""

    def __init__(self, scheduler: Scheduler, watched: MonitoredCameras, timeline: Timeline | None) -> None:
        self._scheduler = scheduler
        self._watched = watched
        self._timeline = timeline

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        shots = self._watched.snapshots()
        for name, (help_text, counted) in _COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + name, help_text, labels=["camera"])
            for shot in shots:
                counter.add_metric([shot.name], counted(shot))
            yield counter
        for name, (help_text, measured) in _GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, help_text, labels=["camera"])
            for shot in shots:
                if (value := measured(shot)) is not None:
                    gauge.add_metric([shot.name], value)
            yield gauge
        yield from self._of_parts(shots)
        yield from self._of_all()

    def _of_parts(self, shots: list[ChannelSnapshot]) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            PREFIX + "state", "1 for the camera's current state, else 0.", labels=["camera", "state"]
        )
        delays = GaugeMetricFamily(
            PREFIX + "delay_milliseconds", "Time that the last frame spent in each stage.", labels=["camera", "stage"]
        )
        tokens = GaugeMetricFamily(PREFIX + "cache_tokens", "Tokens in the cache.", labels=["camera", "kind"])
        for shot in shots:
            for state in ChannelState:
                states.add_metric([shot.name, state.value], float(shot.state is state))
            for stage in ("capture", "queue", "vision", "prefill", "decode"):
                delays.add_metric([shot.name, stage], getattr(shot.delays_ms, stage))
            for kind in ("pinned", "text", "vision", "capacity"):
                tokens.add_metric([shot.name, kind], getattr(shot.memory.cache, kind))
        yield from (states, delays, tokens)

    def _of_all(self) -> Iterator[Metric]:
        model = GaugeMetricFamily(PREFIX + "model_state", "1 for the model's current state, else 0.", labels=["state"])
        for state in ModelState:
            model.add_metric([state.value], float(self._scheduler.state is state))
        yield model
        yield CounterMetricFamily(PREFIX + "busy_seconds", "Time spent in steps of the model.", self._scheduler.busy_s)
        yield GaugeMetricFamily(
            PREFIX + "reserved_bytes", "Memory reserved for all caches and one step.", self._scheduler.reserved_bytes
        )
        waiting = "Number of configuration keys that take effect only when the program is restarted."
        yield GaugeMetricFamily(PREFIX + "restart_needed", waiting, len(self._watched.restart_needed))
        timeline = self._timeline
        if timeline is not None:
            waiting = "Events that the timeline has not written yet."
            yield GaugeMetricFamily(PREFIX + "timeline_waiting", waiting, timeline.num_waiting)
            yield CounterMetricFamily(PREFIX + "timeline_late", "Events written late.", timeline.num_late)
            yield CounterMetricFamily(PREFIX + "timeline_lost", "Events that could not be stored.", timeline.num_lost)


def health(scheduler: Scheduler, watched: MonitoredCameras, timeline: Timeline | None) -> tuple[bool, dict[str, Any]]:
    """Whether the program works, and the state of its parts.

    A lost camera is reported but does not make the program unhealthy: a restart would not bring it back.
    """
    shots = watched.snapshots()
    trouble = timeline.trouble if timeline is not None else ""
    alive = scheduler.state in (ModelState.LOADING, ModelState.READY)
    poor = trouble or scheduler.rate_factor < 1 or any(shot.health != "ok" for shot in shots)
    return alive, {
        "status": "down" if not alive else "degraded" if poor else "ok",
        "model": scheduler.state.value,
        "timeline": trouble or "ok",
        "rate_factor": scheduler.rate_factor,
        "restart_needed": list(watched.restart_needed),
        "cameras": {
            shot.name: {
                "health": shot.health,
                "state": shot.state.value,
                "reason": shot.state_reason,
                "newest_seen_age_s": None if shot.newest_seen_age_s is None else round(shot.newest_seen_age_s, 3),
            }
            for shot in shots
        },
    }


class Monitor:
    """Serves `/metrics` and `/healthz` from `start` to `stop`."""

    def __init__(
        self,
        scheduler: Scheduler,
        watched: MonitoredCameras,
        timeline: Timeline | None = None,
        *,
        port: int,
        address: str = "127.0.0.1",
    ) -> None:
        """port: 0 for any free port. Raises `ConfigError` if it cannot listen."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Facts(scheduler, watched, timeline))
        ProcessCollector(registry=registry)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                path = self.path.split("?", 1)[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path == "/healthz":
                    alive, facts = health(scheduler, watched, timeline)
                    self._answer(200 if alive else 503, "application/json", json.dumps(facts).encode())
                else:
                    self._answer(
                        404, "text/plain; charset=utf-8", b"not found; this server has /metrics and /healthz\n"
                    )

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Log no requests: scrapers send one every few seconds."""

        try:
            self._server = ThreadingHTTPServer((address, port), Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(
                f"monitor {address}:{port}: {reason}; it needs a free port of this machine; name another"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.server_address[1]

    def start(self) -> None:
        """Start serving, on its own thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5.0)
        self._server.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
