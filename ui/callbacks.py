"""What happens when something on the page is used. Each handler runs on a thread of the server and returns soon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.desk import SAMPLES
from assistant.errors import AssistantError
from assistant.feed import Badge
from assistant.tabs import TimeLimits
from ui.render import messages
from ui.safe import literal
from ui.uploads import sent_file

if TYPE_CHECKING:
    from assistant.desk import Desk
    from assistant.tabs import Tab, Wish
    from ui.build import Parts

QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Handlers that only hand something on: no place in Gradio's queue, so nobody waits behind another tab."""
SLOW: dict[str, Any] = {"concurrency_limit": 16, "show_progress": "hidden", "api_visibility": "private"}
CLEAR_BOX = "(typed) => [typed, {text: '', files: []}]"
"""At once and in the browser, so that nothing typed after it is lost."""


Start = Callable[["Tab", Callable[[], "Wish"]], tuple[str, Any]]
"""Watches what is made, and gives what is to be shown in its place and the list of sources."""


def tab_of(desk: Desk, request: gr.Request) -> Tab:
    """The session behind a request."""
    return desk.tabs.of(request.session_hash or "")


def wire(blocks: gr.Blocks, desk: Desk, parts: Parts) -> None:
    """Connect the page to the desk."""
    _wire_page(blocks, desk, parts)
    _wire_sources(desk, parts)
    _wire_stream(desk, parts)
    _wire_questions(desk, parts)


def banner(desk: Desk, tab: Tab | None = None) -> str:
    """Which model is watching, and what it can and cannot know; folded once something is watched."""
    about, news = desk.about(), desk.model_news()
    if news.state == "failed":
        return f'<div class="sva-about failed" role="alert"><strong>{literal(news.text)}</strong></div>'
    is_watching = desk.gallery is not None or (tab is not None and tab.stream is not None)
    doing_now = "is being loaded" if news.state == "loading" else "is watching" if is_watching else "is ready"
    title = about.title.replace("is watching", doing_now)
    loading = '<progress aria-label="Loading the model" max="1"></progress> <span class="sva-loading"></span>'
    doing = f" {loading}" if news.state == "loading" else ""
    other = f"<p>{literal(about.other)}</p>" if about.other else ""
    is_open = "" if tab is not None and tab.stream is not None else " open"
    return (
        f'<details class="sva-about"{is_open}><summary><strong>{literal(title)}</strong>'
        f"{doing}</summary>"
        f"<p>{literal(about.can)} <b>{literal(about.cannot)}</b></p>{other}</details>"
    )


def _wire_page(blocks: gr.Blocks, desk: Desk, parts: Parts) -> None:
    controls = [
        parts.stop, parts.pause, parts.speed, parts.forget, parts.talkative, parts.instruction, parts.instruct,
        parts.banner,
    ]  # fmt: skip

    def enter(token: str, request: gr.Request) -> tuple[Any, ...]:
        tab = desk.tabs.enter(token or None, request.session_hash or "")
        # Only what is not so already: Gradio sets a folded component as it unfolds, over what was typed meanwhile.
        settings = (
            gr.update(value=tab.talkative) if tab.talkative else gr.skip(),
            gr.update(value=tab.instruction) if tab.instruction else gr.skip(),
        )
        shown = _controls(desk, tab)
        return tab.token, *shown[:4], *settings, *shown[6:], gr.update(open=tab.stream is None)

    def leave(request: gr.Request) -> None:
        desk.tabs.leave(request.session_hash or "")

    def show_controls(request: gr.Request) -> tuple[Any, ...]:
        tab = tab_of(desk, request)
        has_failed = tab.stream is not None and tab.stream.snapshot().state.value == "failed"
        return *_controls(desk, tab), gr.update(open=True) if has_failed else gr.skip()

    blocks.load(
        enter, parts.token, [parts.token, *controls, parts.chooser], js="() => sva.savedToken()", **QUICK
    ).then(None, parts.token, None, js="(token) => sva.begin(token)")
    blocks.unload(leave)
    parts.viewer.changed(show_controls, None, [*controls, parts.chooser], trigger_mode="always_last", **QUICK)


def _controls(desk: Desk, tab: Tab) -> tuple[Any, ...]:
    """Stop, pause, speed, forget, talkativeness, instruction, its button, banner."""
    stream = tab.stream
    seen = stream.snapshot() if stream is not None else None
    own = seen is not None and not tab.is_shared
    is_recording = own and seen is not None and seen.is_live is False
    paused = seen is not None and seen.is_paused
    may_set = seen is None or own
    return (
        gr.update(interactive=stream is not None or tab.place > 0),
        gr.update(value="Resume" if paused else "Pause", interactive=own),
        gr.update(interactive=is_recording),
        gr.update(interactive=own),
        gr.update(interactive=may_set),
        gr.update(interactive=may_set),
        gr.update(interactive=may_set),
        banner(desk, tab),
    )


def _wire_sources(desk: Desk, parts: Parts) -> None:
    results = parts.results

    def start(tab: Tab, make: Callable[[], Wish]) -> tuple[str, Any]:
        try:
            place = desk.watch(tab, make())
        except AssistantError as error:
            return result_html(False, str(error)), gr.skip()
        if place:
            return result_html(True, f"All places are taken. You are number {place} in the queue."), gr.skip()
        return "", gr.update(open=False)

    def start_sample(name: str) -> Callable[..., Any]:
        def click(speed: float, request: gr.Request) -> tuple[str, Any]:
            return start(tab_of(desk, request), lambda: replace(desk.sample(name), speed=speed or None))

        return click

    for name, button in parts.samples:
        button.click(start_sample(name), parts.speed, [results["sample"], parts.chooser], **QUICK)

    def test_samples() -> str:
        found = [desk.test(desk.sample(name)) for name in SAMPLES]
        return result_html(all(each.ok for each in found), "\n".join(each.text for each in found))

    parts.samples_test.click(lambda: result_html(None, "Trying…"), None, results["sample"], **QUICK).then(
        test_samples, None, results["sample"], **SLOW
    )

    def start_webcam(wrong: str, request: gr.Request) -> tuple[str, Any]:
        if wrong:
            return result_html(False, wrong), gr.skip()
        return start(tab_of(desk, request), desk.webcam)

    parts.webcam_start.click(None, None, parts.webcam_error, js="() => sva.webcam.start()").then(
        start_webcam, parts.webcam_error, [results["webcam"], parts.chooser], **QUICK
    )
    parts.webcam_test.click(None, None, parts.webcam_error, js="() => sva.webcam.test()").then(
        lambda said: result_html("works" in said, said), parts.webcam_error, results["webcam"], **QUICK
    )
    _wire_urls(desk, parts, start)
    _wire_files(desk, parts, start)


def _wire_urls(desk: Desk, parts: Parts, start: Start) -> None:
    def start_url(url: str, *given: Any) -> tuple[str, Any]:
        *limits_s, request = given
        return start(tab_of(desk, request), lambda: desk.camera(url, TimeLimits(*limits_s)))

    def test_url(url: str, *limits_s: float) -> str:
        try:
            found = desk.test(desk.camera(url, TimeLimits(*limits_s)))
        except AssistantError as error:
            return result_html(False, str(error))
        return result_html(found.ok, found.text)

    wanted, result = [parts.url, *parts.limits], parts.results["url"]
    parts.url_start.click(start_url, wanted, [result, parts.chooser], **SLOW)
    parts.url.submit(start_url, wanted, [result, parts.chooser], **SLOW)
    parts.url_test.click(lambda: result_html(None, "Trying…"), None, result, **QUICK).then(
        test_url, wanted, result, **SLOW
    )
    # What was said of another address is not to stand under this one.
    gr.on([parts.url.change, *(limit.change for limit in parts.limits)], lambda: "", None, result, **QUICK)


def _wire_files(desk: Desk, parts: Parts, start: Start) -> None:
    def start_file(path: str | None, request: gr.Request) -> tuple[str, Any, Any]:
        if not path:
            return result_html(False, "No file was chosen: choose a video file first."), gr.skip(), gr.skip()
        tab = tab_of(desk, request)
        shown, chooser = start(tab, lambda: desk.file(tab, sent_file(path), Path(path).name))
        return shown, chooser, gr.skip() if shown else None

    def test_file(path: str | None) -> str:
        if not path:
            return result_html(False, "No file was chosen: choose a video file first.")
        try:
            found = desk.look_at(sent_file(path), Path(path).name)
        except AssistantError as error:
            return result_html(False, str(error))
        return result_html(found.ok, found.text)

    result = parts.results["file"]
    parts.file_start.click(start_file, parts.file, [result, parts.chooser, parts.file], **SLOW)
    parts.file_test.click(test_file, parts.file, result, **SLOW)
    gr.on([parts.file.upload, parts.file.clear, parts.file.delete], lambda: "", None, result, **QUICK)


def _wire_stream(desk: Desk, parts: Parts) -> None:
    def guarded(action: Callable[..., None]) -> Callable[..., None]:
        """A handler that says in the feed what went wrong."""

        def handle(*values: Any) -> None:
            *given, request = values
            tab = tab_of(desk, request)
            try:
                action(tab, *given)
            except AssistantError as error:
                tab.feed.note(str(error), is_error=True)

        return handle

    def stop(request: gr.Request) -> Any:
        desk.tabs.stop(tab_of(desk, request))
        return gr.update(open=True)

    def pause(request: gr.Request) -> Any:
        tab = tab_of(desk, request)
        if tab.stream is not None:
            guarded(lambda tab: desk.pause(tab, paused=not tab.require_stream().snapshot().is_paused))(request)
        return _controls(desk, tab)[1]

    def forget(request: gr.Request) -> None:
        guarded(desk.forget)(request)

    def speed(value: float, request: gr.Request) -> None:
        guarded(lambda tab, value: desk.set_speed(tab, value or None))(value, request)

    def talkative(value: float, request: gr.Request) -> None:
        guarded(lambda tab, value: tab.tune(talkative=value))(value, request)

    def instruct(text: str, request: gr.Request) -> None:
        guarded(lambda tab, text: desk.instruct(tab, text.strip() or None))(text, request)

    parts.stop.click(stop, None, parts.chooser, **QUICK).then(None, js="() => sva.webcam.stop()")
    parts.pause.click(pause, None, parts.pause, **QUICK)
    parts.forget.click(forget, None, None, **QUICK)
    parts.speed.input(speed, parts.speed, None, **QUICK)
    parts.talkative.input(talkative, parts.talkative, None, trigger_mode="always_last", **QUICK)
    gr.on([parts.instruct.click, parts.instruction.submit], instruct, parts.instruction, None, **QUICK)

    def open_camera(data: gr.EventData, request: gr.Request) -> Any:
        tab = tab_of(desk, request)
        try:
            desk.watch(tab, desk.shared(str(data._data.get("name", ""))))
        except AssistantError as error:
            tab.feed.note(str(error), is_error=True)
        return gr.update(selected="watch"), gr.update(open=False)

    parts.grid.opened(open_camera, None, [parts.tabs, parts.chooser], **QUICK)


def _wire_questions(desk: Desk, parts: Parts) -> None:
    def show_feed(shown: list[str], request: gr.Request) -> tuple[Any, Any]:
        feed = tab_of(desk, request).feed
        badges = {Badge(value) for value in shown}
        return messages(feed.items(badges)), gr.update(visible=feed.num_open > 0)

    def ask(typed: dict[str, Any] | None, request: gr.Request) -> None:
        tab = tab_of(desk, request)
        text = str((typed or {}).get("text") or "")
        names = [Path(str(path)).name for path in (typed or {}).get("files") or []]
        if not text.strip() and not names:
            return
        before = tab.feed.last_id
        try:
            files = [sent_file(path) for path in (typed or {}).get("files") or []]
            desk.ask(tab, text or "What is this?", list(zip(files, names, strict=True)))
        except AssistantError as error:
            if tab.feed.last_id == before:  # the question stays to be read, with what is wrong with it
                item = tab.feed.begin_answer(text, 0.0, ", ".join(names))
                tab.feed.fail_answer(item.id, str(error))

    def suggest(number: int) -> Callable[..., None]:
        def click(request: gr.Request) -> None:
            ask({"text": desk.about().questions[number]}, request)

        return click

    def stop_answers(request: gr.Request) -> None:
        tab_of(desk, request).stop_answers()

    def clear(request: gr.Request) -> None:
        tab_of(desk, request).feed.clear()

    shown = [parts.feed, parts.stop_answer]
    parts.viewer.fresh(show_feed, parts.filters, shown, trigger_mode="always_last", **QUICK)
    parts.filters.change(show_feed, parts.filters, shown, **QUICK)
    parts.box.submit(None, parts.box, [parts.sent, parts.box], js=CLEAR_BOX).then(
        ask, parts.sent, None, **QUICK
    )
    for number, button in enumerate(parts.suggestions):
        button.click(suggest(number), None, None, **QUICK)
    parts.stop_answer.click(stop_answers, None, None, **QUICK)
    parts.feed.clear(clear, None, None, **QUICK)


def result_html(ok: bool | None, text: str) -> str:
    """The result of a trial, or what is wrong with a source."""
    kind = "wait" if ok is None else "good" if ok else "bad"
    return f'<p class="sva-outcome {kind}" role="status" data-testid="result">{literal(text)}</p>'
