"""Handlers of the page's components. Each runs on a thread of the server and returns soon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.errors import AssistantError
from assistant.viewers.backend import SAMPLES
from assistant.viewers.feed import Badge
from assistant.viewers.viewer_session import TimeLimits
from ui.handlers import QUICK, SLOW, banner, result_html, viewer_of
from ui.render import messages
from ui.uploads import sent_file

if TYPE_CHECKING:
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession, WatchRequest
    from ui.parts import Parts

CLEAR_BOX = "(typed) => [typed, {text: '', files: []}]"
"""Empties the question box in the browser at once, so that nothing typed afterwards is lost."""


Start = Callable[["ViewerSession", Callable[[], "WatchRequest"]], tuple[str, Any]]
"""Watches a request; returns the HTML of its result and an update of the list of sources."""


def wire(blocks: gr.Blocks, backend: Backend, parts: Parts) -> None:
    """Connect the page's components to the backend."""
    _wire_page(blocks, backend, parts)
    _wire_sources(backend, parts)
    _wire_stream(backend, parts)
    _wire_questions(backend, parts)


def _wire_page(blocks: gr.Blocks, backend: Backend, parts: Parts) -> None:
    controls = [
        parts.stop, parts.pause, parts.speed, parts.forget, parts.talkative, parts.instruction, parts.instruct,
        parts.banner,
    ]  # fmt: skip

    def enter(token: str, request: gr.Request) -> tuple[Any, ...]:
        viewer = backend.registry.enter(token or None, request.session_hash or "")
        # Only what differs: Gradio sets a folded component when it unfolds, and overwrites what was typed meanwhile.
        settings = (
            gr.update(value=viewer.talkative) if viewer.talkative else gr.skip(),
            gr.update(value=viewer.instruction) if viewer.instruction else gr.skip(),
        )
        shown = _controls(backend, viewer)
        return viewer.token, *shown[:4], *settings, *shown[6:], gr.update(open=viewer.stream is None)

    def leave(request: gr.Request) -> None:
        backend.registry.end_key(request.session_hash or "")

    def show_controls(request: gr.Request) -> tuple[Any, ...]:
        viewer = viewer_of(backend, request)
        return *_controls(backend, viewer), gr.update(open=True) if _has_failed(viewer) else gr.skip()

    blocks.load(enter, parts.token, [parts.token, *controls, parts.chooser], js="() => sva.savedToken()", **QUICK).then(
        None, parts.token, None, js="(token) => sva.begin(token)"
    )
    blocks.unload(leave)
    parts.viewer.changed(show_controls, None, [*controls, parts.chooser], trigger_mode="always_last", **QUICK)


def _has_failed(viewer: ViewerSession) -> bool:
    """Whether what it watches failed, so that its source can be put right at once."""
    return viewer.stream is not None and viewer.stream.snapshot().state.value == "failed"


def _controls(backend: Backend, viewer: ViewerSession) -> tuple[Any, ...]:
    """Updates for stop, pause, speed, forget, talkativeness, instruction, its button and the banner."""
    stream = viewer.stream
    seen = stream.snapshot() if stream is not None else None
    own = seen is not None and not viewer.is_shared
    is_recording = own and seen is not None and seen.source.is_live is False
    paused = seen is not None and seen.source.is_paused
    may_set = seen is None or own
    return (
        gr.update(interactive=stream is not None or viewer.place > 0),
        gr.update(value="Resume" if paused else "Pause", interactive=own),
        gr.update(interactive=is_recording),
        gr.update(interactive=own),
        gr.update(interactive=may_set),
        gr.update(interactive=may_set),
        gr.update(interactive=may_set),
        banner(backend, viewer),
    )


def _wire_sources(backend: Backend, parts: Parts) -> None:
    results = parts.results

    def start(viewer: ViewerSession, make: Callable[[], WatchRequest]) -> tuple[str, Any]:
        try:
            place = backend.watch(viewer, make())
        except AssistantError as error:
            return result_html(False, str(error)), gr.skip()
        if place:
            return result_html(True, f"All places are taken. You are number {place} in the queue."), gr.skip()
        # A camera may have failed already, and the page been told so: then this must not fold its address away.
        return "", gr.update(open=_has_failed(viewer))

    def start_sample(name: str) -> Callable[..., Any]:
        def click(speed: float, request: gr.Request) -> tuple[str, Any]:
            return start(viewer_of(backend, request), lambda: replace(backend.sample(name), speed=speed or None))

        return click

    for name, button in parts.samples:
        button.click(start_sample(name), parts.speed, [results["sample"], parts.chooser], **QUICK)

    def test_samples() -> str:
        found = [backend.test_source(backend.sample(name)) for name in SAMPLES]
        return result_html(all(each.ok for each in found), "\n".join(each.text for each in found))

    parts.samples_test.click(lambda: result_html(None, "Testing…"), None, results["sample"], **QUICK).then(
        test_samples, None, results["sample"], **SLOW
    )

    def start_webcam(wrong: str, request: gr.Request) -> tuple[str, Any]:
        if wrong:
            return result_html(False, wrong), gr.skip()
        return start(viewer_of(backend, request), backend.webcam)

    parts.webcam_start.click(None, None, parts.webcam_error, js="() => sva.webcam.start()").then(
        start_webcam, parts.webcam_error, [results["webcam"], parts.chooser], **QUICK
    )
    parts.webcam_test.click(None, None, parts.webcam_error, js="() => sva.webcam.test()").then(
        lambda said: result_html("works" in said, said), parts.webcam_error, results["webcam"], **QUICK
    )
    _wire_urls(backend, parts, start)
    _wire_files(backend, parts, start)


def _wire_urls(backend: Backend, parts: Parts, start: Start) -> None:
    # Gradio passes the request to a parameter of that type, and to none among `*arguments`.
    def start_url(url: str, open_s: float, read_s: float, picture_s: float, request: gr.Request) -> tuple[str, Any]:
        limits = partial(TimeLimits, open_s, read_s, picture_s)
        return start(viewer_of(backend, request), lambda: backend.camera(url, limits()))

    def test_url(url: str, *limits_s: float) -> str:
        try:
            found = backend.test_source(backend.camera(url, TimeLimits(*limits_s)))
        except AssistantError as error:
            return result_html(False, str(error))
        return result_html(found.ok, found.text)

    wanted, result = [parts.url, *parts.limits], parts.results["url"]
    parts.url_start.click(start_url, wanted, [result, parts.chooser], **SLOW)
    parts.url.submit(start_url, wanted, [result, parts.chooser], **SLOW)
    parts.url_test.click(lambda: result_html(None, "Testing…"), None, result, **QUICK).then(
        test_url, wanted, result, **SLOW
    )
    # A result for another address must not stay under this one.
    gr.on([parts.url.change, *(limit.change for limit in parts.limits)], lambda: "", None, result, **QUICK)


def _wire_files(backend: Backend, parts: Parts, start: Start) -> None:
    def start_file(path: str | None, request: gr.Request) -> tuple[str, Any, Any]:
        if not path:
            return result_html(False, "No file was chosen: choose a video file first."), gr.skip(), gr.skip()
        viewer = viewer_of(backend, request)
        shown, chooser = start(viewer, lambda: backend.file(viewer, sent_file(path), Path(path).name))
        return shown, chooser, gr.skip() if shown else None

    def test_file(path: str | None) -> str:
        if not path:
            return result_html(False, "No file was chosen: choose a video file first.")
        try:
            found = backend.test_upload(sent_file(path), Path(path).name)
        except AssistantError as error:
            return result_html(False, str(error))
        return result_html(found.ok, found.text)

    result = parts.results["file"]
    parts.file_start.click(start_file, parts.file, [result, parts.chooser, parts.file], **SLOW)
    parts.file_test.click(test_file, parts.file, result, **SLOW)
    gr.on([parts.file.upload, parts.file.clear, parts.file.delete], lambda: "", None, result, **QUICK)


def _wire_stream(backend: Backend, parts: Parts) -> None:
    def guarded(action: Callable[..., None]) -> Callable[..., None]:
        """A handler that shows errors in the feed."""

        def handle(*values: Any) -> None:
            *given, request = values
            viewer = viewer_of(backend, request)
            try:
                action(viewer, *given)
            except AssistantError as error:
                viewer.feed.note(str(error), is_error=True)

        return handle

    def stop(request: gr.Request) -> Any:
        backend.registry.stop(viewer_of(backend, request))
        return gr.update(open=True)

    def pause(request: gr.Request) -> Any:
        viewer = viewer_of(backend, request)
        if viewer.stream is not None:
            guarded(
                lambda viewer: backend.pause(viewer, paused=not viewer.require_stream().snapshot().source.is_paused)
            )(request)
        return _controls(backend, viewer)[1]

    def forget(request: gr.Request) -> None:
        guarded(backend.forget)(request)

    def speed(value: float, request: gr.Request) -> None:
        guarded(lambda viewer, value: backend.set_speed(viewer, value or None))(value, request)

    def talkative(value: float, request: gr.Request) -> None:
        guarded(lambda viewer, value: viewer.tune(talkative=value))(value, request)

    def instruct(text: str, request: gr.Request) -> None:
        guarded(lambda viewer, text: backend.instruct(viewer, text.strip() or None))(text, request)

    parts.stop.click(stop, None, parts.chooser, **QUICK).then(None, js="() => sva.webcam.stop()")
    parts.pause.click(pause, None, parts.pause, **QUICK)
    parts.forget.click(forget, None, None, **QUICK)
    parts.speed.input(speed, parts.speed, None, **QUICK)
    parts.talkative.input(talkative, parts.talkative, None, trigger_mode="always_last", **QUICK)
    gr.on([parts.instruct.click, parts.instruction.submit], instruct, parts.instruction, None, **QUICK)

    def open_camera(data: gr.EventData, request: gr.Request) -> Any:
        viewer = viewer_of(backend, request)
        try:
            backend.watch(viewer, backend.shared(str(data._data.get("name", ""))))
        except AssistantError as error:
            viewer.feed.note(str(error), is_error=True)
        return gr.update(selected="watch"), gr.update(open=False)

    parts.grid.opened(open_camera, None, [parts.tabs, parts.chooser], **QUICK)


def _wire_questions(backend: Backend, parts: Parts) -> None:
    def show_feed(shown: list[str], request: gr.Request) -> tuple[Any, Any]:
        feed = viewer_of(backend, request).feed
        badges = {Badge(value) for value in shown}
        return messages(feed.items(badges)), gr.update(visible=feed.num_open > 0)

    def ask(typed: dict[str, Any] | None, request: gr.Request) -> None:
        viewer = viewer_of(backend, request)
        text = str((typed or {}).get("text") or "")
        names = [Path(str(path)).name for path in (typed or {}).get("files") or []]
        if not text.strip() and not names:
            return
        before = viewer.feed.last_id
        try:
            files = [sent_file(path) for path in (typed or {}).get("files") or []]
            backend.ask(viewer, text or "What is this?", list(zip(files, names, strict=True)))
        except AssistantError as error:
            if viewer.feed.last_id == before:  # keep the question in the feed, with its error
                item = viewer.feed.begin_answer(text, 0.0, ", ".join(names))
                viewer.feed.fail_answer(item.id, str(error))

    def suggest(number: int) -> Callable[..., None]:
        def click(request: gr.Request) -> None:
            ask({"text": backend.model.about().questions[number]}, request)

        return click

    def stop_answers(request: gr.Request) -> None:
        viewer_of(backend, request).stop_answers()

    def clear(request: gr.Request) -> None:
        viewer_of(backend, request).feed.clear()

    shown = [parts.feed, parts.stop_answer]
    parts.viewer.fresh(show_feed, parts.filters, shown, trigger_mode="always_last", **QUICK)
    parts.filters.change(show_feed, parts.filters, shown, **QUICK)
    parts.box.submit(None, parts.box, [parts.sent, parts.box], js=CLEAR_BOX).then(ask, parts.sent, None, **QUICK)
    for number, button in enumerate(parts.suggestions):
        button.click(suggest(number), None, None, **QUICK)
    parts.stop_answer.click(stop_answers, None, None, **QUICK)
    parts.feed.clear(clear, None, None, **QUICK)
