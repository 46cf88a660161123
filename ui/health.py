"""The Health panel: figures, and plots of the last minute, updated once a second while it is open. Any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.viewers.recent_figures import STAGES, SecondOfFigures, resident_memory_bytes
from ui.handlers import QUICK, viewer_of
from ui.safe import literal

if TYPE_CHECKING:
    from assistant.serving.channel_types import ChannelSnapshot
    from assistant.viewers.backend import Backend

COLOURS = {
    "capture": "#94a3b8", "queue": "#f59e0b", "vision": "#0ea5e9", "prefill": "#14b8a6", "decode": "#8b5cf6",
}  # fmt: skip
KINDS = {"pinned": "#64748b", "text": "#8b5cf6", "vision": "#14b8a6"}
EVERY_S = 1.0


@dataclass(slots=True)
class HealthPanel:
    """The components of the Health panel."""

    fold: gr.Accordion
    figures: gr.HTML
    rates: gr.LinePlot
    delays: gr.BarPlot
    cache: gr.BarPlot
    timer: gr.Timer


def build_health() -> HealthPanel:
    """Add the panel to the page."""
    with gr.Accordion("Health", open=False, elem_id="sva-health") as fold:
        figures = gr.HTML("", elem_id="sva-figures")
        with gr.Row():
            common: dict[str, Any] = {
                "x": "second", "height": 200, "x_lim": [-59, 0], "x_title": "seconds ago", "min_width": 270,
                "buttons": [],
            }  # fmt: skip
            rates = gr.LinePlot(
                y="a second", color="frames", title="Frames a second", y_title=" ", **common,
                color_map={"in": "#94a3b8", "used": "#14b8a6"},
            )  # fmt: skip
            delays = gr.BarPlot(
                y="ms", color="stage", title="Delay, milliseconds", y_title=" ", color_map=COLOURS, **common
            )
            cache = gr.BarPlot(y="tokens", color="kind", title="Cache, tokens", y_title=" ", color_map=KINDS, **common)
        timer = gr.Timer(EVERY_S, active=False)
    return HealthPanel(fold, figures, rates, delays, cache, timer)


def wire_health(backend: Backend, panel: HealthPanel) -> None:
    """Update the figures while the panel is open."""

    def read(request: gr.Request) -> tuple[Any, ...]:
        viewer = viewer_of(backend, request)
        if viewer.stream is None:
            return '<p class="sva-none">Nothing is being watched.</p>', gr.skip(), gr.skip(), gr.skip()
        samples = viewer.history.samples()
        return figures_html(viewer.stream.snapshot()), _rates(samples), _delays(samples), _cache(samples)

    shown = [panel.figures, panel.rates, panel.delays, panel.cache]
    panel.timer.tick(read, None, shown, **QUICK)
    panel.fold.expand(lambda: gr.Timer(active=True), None, panel.timer, **QUICK)
    panel.fold.expand(read, None, shown, **QUICK)
    panel.fold.collapse(lambda: gr.Timer(active=False), None, panel.timer, **QUICK)


def figures_html(seen: ChannelSnapshot) -> str:
    """The figures as HTML."""
    rates, counts, memory, delays = seen.rates, seen.counts, seen.memory, seen.delays_ms
    cache = memory.cache
    saved = 1 - memory.tokens_per_frame / memory.tokens_unpruned if memory.tokens_unpruned else 0.0
    rate = f" (lowered to {rates.factor:g}×)" if rates.factor < 1 else ""
    rows = [
        ("Frames a second", f"{rates.fps_in:.1f} in, {rates.fps_used:.1f} of {rates.fps_wanted:g} used{rate}"),
        ("Frames", f"{counts.num_read} read, {counts.num_used} used, {counts.num_empty} empty, "
                   f"{counts.num_dropped} dropped"),
        ("Delay", ", ".join(f"{stage} {getattr(delays, stage):.0f} ms" for stage in STAGES)),
        ("Cache", f"{cache.pinned} pinned, {cache.text} text, {cache.vision} vision of {cache.capacity} tokens; "
                  f"{memory.evictions} evictions, {memory.rebases} rebases"),
        ("Tokens a frame", f"{memory.tokens_per_frame:.1f} against {memory.tokens_unpruned} unpruned, "
                           f"{saved:.0%} saved"),
        ("Memory", f"{cache.num_bytes / 2**20:.1f} MiB for this stream, "
                   f"{resident_memory_bytes() / 2**20:.0f} MiB for the program"),
    ]  # fmt: skip
    cells = "".join(f"<dt>{literal(name)}</dt><dd>{literal(value)}</dd>" for name, value in rows)
    return f'<dl class="sva-figures" data-testid="figures">{cells}</dl>'


def _ago(samples: list[SecondOfFigures]) -> list[int]:
    return [round(sample.at_s - samples[-1].at_s) for sample in samples]


def _frame(columns: dict[str, list[Any]]) -> Any:
    import pandas as pd  # type: ignore[import-untyped]

    return pd.DataFrame(columns)


def _rates(samples: list[SecondOfFigures]) -> Any:
    ago = _ago(samples)
    return _frame({
        "second": [*ago, *ago],
        "a second": [*(s.fps_in for s in samples), *(s.fps_used for s in samples)],
        "frames": ["in"] * len(samples) + ["used"] * len(samples),
    })  # fmt: skip


def _delays(samples: list[SecondOfFigures]) -> Any:
    ago = _ago(samples)
    return _frame({
        "second": [second for _ in STAGES for second in ago],
        "ms": [sample.delays_ms[number] for number in range(len(STAGES)) for sample in samples],
        "stage": [stage for stage in STAGES for _ in samples],
    })  # fmt: skip


def _cache(samples: list[SecondOfFigures]) -> Any:
    ago = _ago(samples)
    return _frame({
        "second": [second for _ in KINDS for second in ago],
        "tokens": [sample.cache[number] for number in range(len(KINDS)) for sample in samples],
        "kind": [kind for kind in KINDS for _ in samples],
    })  # fmt: skip
