"""The page's actions for programs, through `gradio_client`: named, typed, documented. One client is one session."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
from gradio.events import api

from assistant.errors import AssistantError
from ui.handlers import viewer_of
from ui.media import read_regions
from ui.pulse import cameras_of
from ui.rule_rows import rules_of
from ui.uploads import sent_file

if TYPE_CHECKING:
    from assistant.viewers.backend import Backend

MOST_EVENTS = 500
LONGEST_ANSWER_S = 600.0


def add_api(backend: Backend) -> None:
    """Add the actions to the page's API, each by its function's name."""
    for group in (_sources, _stream, _words, _events, _cameras, _rules):
        for action in group(backend):
            api(_clear(action), api_name=action.__name__, concurrency_limit=16)


def _clear(action: Callable[..., Any]) -> Callable[..., Any]:
    """An action whose errors reach the client with their message."""
    if inspect.isgeneratorfunction(action):

        @functools.wraps(action)
        def steps(*values: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from action(*values, **named)
            except AssistantError as error:
                raise gr.Error(str(error), print_exception=False) from error

        return steps

    @functools.wraps(action)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return action(*values, **named)
        except AssistantError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return call


def _sources(backend: Backend) -> list[Callable[..., Any]]:
    def watch(source: str, request: gr.Request, speed: float = 1.0, fps: float = 0.0) -> dict[str, Any]:
        """Watch a source: `sample:world`, `synthetic:7`, or an rtsp(s) or http(s) address. Returns the session's state.

        speed: media seconds a second for recordings, 0 for as fast as the model can. fps: frames a second for the
        model, 0 for the checkpoint's own rate.
        """
        viewer = viewer_of(backend, request)
        wanted = backend.named(source)
        backend.watch(viewer, replace(wanted, speed=speed or None, fps=fps or None))
        return _state(backend, request)

    def watch_file(file: gr.FileData, request: gr.Request, speed: float = 1.0) -> dict[str, Any]:
        """Watch a video file that is uploaded with the call: `handle_file("clip.mp4")`. Returns the session's state."""
        viewer = viewer_of(backend, request)
        path = sent_file(file)
        backend.watch(viewer, replace(backend.file(viewer, path, path.name), speed=speed or None))
        return _state(backend, request)

    def test_source(source: str) -> dict[str, Any]:
        """Test a source without watching it: `ok`, and `text` that describes the source or says what is wrong."""
        wanted = backend.named(source)
        found = backend.test_source(wanted)
        return {"ok": found.ok, "text": found.text}

    def stop(request: gr.Request) -> dict[str, Any]:
        """Stop watching and free the stream's memory and threads. Returns the session's state."""
        backend.registry.stop(viewer_of(backend, request))
        return _state(backend, request)

    def state(request: gr.Request) -> dict[str, Any]:
        """How the session is doing: source, state, media time, place in the queue, figures."""
        return _state(backend, request)

    return [watch, watch_file, test_source, stop, state]


def _stream(backend: Backend) -> list[Callable[..., Any]]:
    def pause(request: gr.Request) -> dict[str, Any]:
        """Pause: a recording stops; the model sees no frames of a live source until `resume`."""
        backend.pause(viewer_of(backend, request), paused=True)
        return _state(backend, request)

    def resume(request: gr.Request) -> dict[str, Any]:
        """Continue after `pause`."""
        backend.pause(viewer_of(backend, request), paused=False)
        return _state(backend, request)

    def seek(seconds: float, request: gr.Request) -> dict[str, Any]:
        """Continue a recording from this media time."""
        backend.seek(viewer_of(backend, request), seconds)
        return _state(backend, request)

    def speed(factor: float, request: gr.Request) -> dict[str, Any]:
        """Set a recording's speed: media seconds a second, 0 for as fast as the model can. Nothing is dropped."""
        backend.set_speed(viewer_of(backend, request), factor or None)
        return _state(backend, request)

    def forget(request: gr.Request) -> dict[str, Any]:
        """Empty the model's memory except for the standing instruction."""
        backend.forget(viewer_of(backend, request))
        return _state(backend, request)

    return [pause, resume, seek, speed, forget]


def _words(backend: Backend) -> list[Callable[..., Any]]:
    def talkative(value: float, request: gr.Request) -> dict[str, Any]:
        """Set how much is said, as log-odds from -20 to 20: 0 by default, more speaks more. Takes effect at once."""
        viewer_of(backend, request).tune(talkative=value)
        return _state(backend, request)

    def instruct(text: str, request: gr.Request) -> dict[str, Any]:
        """Replace the standing instruction; an empty text removes it. Takes effect at once."""
        backend.instruct(viewer_of(backend, request), text.strip() or None)
        return _state(backend, request)

    def ask(question: str, request: gr.Request) -> Iterator[str]:
        """Ask about what is seen; the answer grows word by word."""
        viewer = viewer_of(backend, request)
        news: SimpleQueue[None] = SimpleQueue()
        item, asked = backend.ask(viewer, question)
        answered = asked.future
        leave = viewer.feed.listen(lambda: news.put(None))
        try:
            ends_s = time.monotonic() + LONGEST_ANSWER_S
            said = ""
            while not answered.done() and time.monotonic() < ends_s:
                try:
                    news.get(timeout=0.5)
                except Empty:
                    continue
                now = viewer.feed.get(item.id)
                if now is not None and now.text != said:
                    said = now.text
                    yield said
            yield answered.result(timeout=1.0).text
        finally:
            leave()
            if not answered.done():
                asked.cancel()  # the client disconnected or cancelled its job

    def stop_answers(request: gr.Request) -> int:
        """Stop every answer under way in this session; returns how many there were."""
        return viewer_of(backend, request).stop_answers()

    return [talkative, instruct, ask, stop_answers]


def _events(backend: Backend) -> list[Callable[..., Any]]:
    def events(request: gr.Request, after: int = 0) -> list[dict[str, Any]]:
        """Items of this session's feed with an id above `after`, oldest first.

        Each has `id`, `badge`, `time_s`, `text` and, if it was made from one, the whole `event`.
        """
        items = viewer_of(backend, request).feed.items(after_id=after)[-MOST_EVENTS:]
        return [
            {
                "id": item.id, "badge": item.badge.value, "time_s": item.time_s, "text": item.text,
                "question": item.question, "is_open": item.is_open,
                "event": item.event.as_dict() if item.event is not None else None,
            }
            for item in items
        ]  # fmt: skip

    def search(request: gr.Request, text: str = "", since: str = "", cameras: bool = False) -> list[dict[str, Any]]:
        """Find events of this session, or of the cameras, newest first. since: `2h`, `30m`, `10:15` or a date."""
        from assistant.viewers.event_browser import EventSearch, find

        reader = backend.timeline(viewer_of(backend, request), of_cameras=cameras)
        return [found.as_dict() for found in find(reader, EventSearch(text, since), time.time())] if reader else []

    def export(request: gr.Request, form: str = "jsonl", text: str = "", since: str = "", cameras: bool = False) -> str:
        """Events as text: `jsonl`, `srt` or `vtt`."""
        from assistant.viewers.event_browser import EventSearch, export_file, find

        reader = backend.timeline(viewer_of(backend, request), of_cameras=cameras)
        if reader is None or form == "md":
            return ""
        return export_file(reader, find(reader, EventSearch(text, since), time.time()), form)[1].decode()

    return [events, search, export]


def _cameras(backend: Backend) -> list[Callable[..., Any]]:
    def watch_camera(name: str, request: gr.Request) -> dict[str, Any]:
        """Watch a camera of the configuration; all viewers share its memory. Returns the session's state."""
        backend.watch(viewer_of(backend, request), backend.shared(name))
        return _state(backend, request)

    def cameras() -> list[dict[str, Any]]:
        """The cameras of the configuration: `name`, `state`, `reason`, `health`, `alert`, last words, regions."""
        found = cameras_of(backend.views.cards() if backend.views is not None else [], backend.recording)["cameras"]
        return [{key: value for key, value in card.items() if key != "jpeg"} for card in found]

    def draw(camera: str, regions: list[dict[str, Any]]) -> str:
        """Add masks and zones to a camera's configured ones until the program ends; returns all of them as YAML.

        regions: each `{"kind": "mask" or "zone", "name": "steps", "points": [[x, y], …]}` with corners as fractions of
        the picture. They replace those drawn before. The configuration file is not changed.
        """
        return backend.draw(camera, read_regions(regions))

    return [cameras, watch_camera, draw]


def _rules(backend: Backend) -> list[Callable[..., Any]]:
    def rules(request: gr.Request) -> list[dict[str, Any]]:
        """The rules of the cameras, and of this session's own streams: `place` (`cameras`, `own`), `name`, `when`, …"""
        return rules_of(backend, viewer_of(backend, request))

    def put_rule(rule: dict[str, Any], request: gr.Request, cameras: bool = False, replaces: str = "") -> str:
        """Arm a rule from the next frame on, until the program ends; returns all rules there as YAML.

        rule: keys of `rules` in the configuration, and `name`; `{"when": "the view is covered"}` suffices. cameras: of
        the watched cameras, in place of this session's own streams. replaces: name of the rule that it replaces.
        """
        viewer, place = viewer_of(backend, request), _place(cameras)
        backend.rules.put(viewer, place, rule, replaces=replaces or None)
        return backend.rules.yaml(viewer, place)

    def mute_rule(name: str, request: gr.Request, muted: bool = True, cameras: bool = False) -> list[dict[str, Any]]:
        """Mute a rule, or hear it again; returns all rules."""
        backend.rules.mute(viewer_of(backend, request), _place(cameras), name, muted=muted)
        return rules(request)

    def remove_rule(name: str, request: gr.Request, cameras: bool = False) -> list[dict[str, Any]]:
        """Remove a rule until the program ends; returns the others."""
        backend.rules.remove(viewer_of(backend, request), _place(cameras), name)
        return rules(request)

    return [rules, put_rule, mute_rule, remove_rule]


def _place(cameras: bool) -> Literal["own", "cameras"]:
    return "cameras" if cameras else "own"


def _state(backend: Backend, request: gr.Request) -> dict[str, Any]:
    """The session's state as plain JSON values."""
    viewer = viewer_of(backend, request)
    stream = viewer.stream
    values: dict[str, Any] = {
        "source": viewer.wanted.title if viewer.wanted is not None else "",
        "state": "queued" if viewer.place else "idle",
        "place": viewer.place,
        "model": backend.model.news().text,
        "talkative": viewer.talkative,
        "instruction": viewer.instruction or "",
    }
    if stream is not None:
        seen = stream.snapshot()
        counts, cache = seen.counts, seen.memory.cache
        values |= {
            "state": "paused" if seen.source.is_paused else seen.state.value,
            "reason": seen.state_reason, "media_s": seen.media_s, "duration_s": seen.source.duration_s,
            "newest_seen_age_s": seen.newest_seen_age_s, "fps_in": seen.rates.fps_in, "fps_used": seen.rates.fps_used,
            "num_dropped": counts.num_dropped, "num_used": counts.num_used, "num_empty": counts.num_empty,
            "cache_tokens": cache.pinned + cache.text + cache.vision,
        }  # fmt: skip
    return values
