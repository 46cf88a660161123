"""The page's actions for programs, through `gradio_client`: named, typed, documented. One client is one session."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import gradio as gr

from assistant.errors import AssistantError
from ui.callbacks import tab_of
from ui.media import read_regions
from ui.pulse import cameras_of
from ui.uploads import sent_file

if TYPE_CHECKING:
    from assistant.desk import Desk

MOST_EVENTS = 500
LONGEST_ANSWER_S = 600.0


def add_api(desk: Desk) -> None:
    """Give the actions their names."""
    for actions in (_sources(desk), _stream(desk), _words(desk), _events(desk), _cameras(desk)):
        for action in actions:
            gr.api(_clear(action), api_name=action.__name__, concurrency_limit=16)


def _clear(action: Callable[..., Any]) -> Callable[..., Any]:
    """An action whose errors reach the client in words."""
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


def _sources(desk: Desk) -> list[Callable[..., Any]]:
    def watch(source: str, request: gr.Request, speed: float = 1.0, fps: float = 0.0) -> dict:
        """Watch a source: `sample:world`, `synthetic:7`, or an rtsp(s) or http(s) address. Gives the session's state.

        speed: media seconds a second for recordings, 0 for as fast as the model can. fps: frames a second for the
        model, 0 for what it asks for.
        """
        tab = tab_of(desk, request)
        wish = desk.sample(source) if source.startswith(("sample:", "synthetic:")) else desk.camera(source)
        desk.watch(tab, replace(wish, speed=speed or None, fps=fps or None))
        return _state(desk, request)

    def watch_file(file: gr.FileData, request: gr.Request, speed: float = 1.0) -> dict:
        """Watch a video file that is sent along: `handle_file("clip.mp4")`. Gives the session's state."""
        tab = tab_of(desk, request)
        path = sent_file(file)
        desk.watch(tab, replace(desk.file(tab, path, path.name), speed=speed or None))
        return _state(desk, request)

    def test_source(source: str) -> dict:
        """Try a source without watching it: whether it works, and in words what is there or what is wrong."""
        wish = desk.sample(source) if source.startswith(("sample:", "synthetic:")) else desk.camera(source)
        found = desk.test(wish)
        return {"ok": found.ok, "text": found.text}

    def stop(request: gr.Request) -> dict:
        """Stop watching; memory and threads of the stream are freed. Gives the session's state."""
        desk.tabs.stop(tab_of(desk, request))
        return _state(desk, request)

    def state(request: gr.Request) -> dict:
        """How the session is doing: source, state, media time, place in the queue, figures."""
        return _state(desk, request)

    return [watch, watch_file, test_source, stop, state]


def _stream(desk: Desk) -> list[Callable[..., Any]]:
    def pause(request: gr.Request) -> dict:
        """Pause: a recording stands still; of a live source the model sees nothing until `resume`."""
        desk.pause(tab_of(desk, request), paused=True)
        return _state(desk, request)

    def resume(request: gr.Request) -> dict:
        """Go on after `pause`."""
        desk.pause(tab_of(desk, request), paused=False)
        return _state(desk, request)

    def seek(seconds: float, request: gr.Request) -> dict:
        """Play a recording from this media time on."""
        desk.seek(tab_of(desk, request), seconds)
        return _state(desk, request)

    def speed(factor: float, request: gr.Request) -> dict:
        """Play a recording this many times as fast; 0 for as fast as the model can, without drops."""
        desk.set_speed(tab_of(desk, request), factor or None)
        return _state(desk, request)

    def forget(request: gr.Request) -> dict:
        """Forget all that was seen and said but the standing instruction."""
        desk.forget(tab_of(desk, request))
        return _state(desk, request)

    return [pause, resume, seek, speed, forget]


def _words(desk: Desk) -> list[Callable[..., Any]]:
    def talkative(value: float, request: gr.Request) -> dict:
        """How much is said, log-odds from -20 to 20: 0 is usual, more speaks more. Acts at once."""
        tab_of(desk, request).tune(talkative=value)
        return _state(desk, request)

    def instruct(text: str, request: gr.Request) -> dict:
        """Replace the standing instruction; an empty text takes it away. Acts at once."""
        desk.instruct(tab_of(desk, request), text.strip() or None)
        return _state(desk, request)

    def ask(question: str, request: gr.Request) -> Iterator[str]:
        """Ask about what is seen; the answer grows word by word."""
        tab = tab_of(desk, request)
        news: SimpleQueue[None] = SimpleQueue()
        item, asked = desk.ask(tab, question)
        answered = asked.future
        leave = tab.feed.listen(lambda: news.put(None))
        try:
            ends_s = time.monotonic() + LONGEST_ANSWER_S
            said = ""
            while not answered.done() and time.monotonic() < ends_s:
                try:
                    news.get(timeout=0.5)
                except Empty:
                    continue
                now = tab.feed.get(item.id)
                if now is not None and now.text != said:
                    said = now.text
                    yield said
            yield answered.result(timeout=1.0).text
        finally:
            leave()
            if not answered.done():
                asked.cancel()  # the client went, or cancelled its job

    def stop_answers(request: gr.Request) -> int:
        """Leave off every answer under way in this session; gives how many there were."""
        return tab_of(desk, request).stop_answers()

    return [talkative, instruct, ask, stop_answers]


def _events(desk: Desk) -> list[Callable[..., Any]]:
    def events(request: gr.Request, after: int = 0) -> list[dict]:
        """What was said and what happened in this session after the item with this number, oldest first.

        Each has `id`, `badge`, `time_s`, `text` and, where it was made from one, the whole `event`.
        """
        items = tab_of(desk, request).feed.items(after_id=after)[-MOST_EVENTS:]
        return [
            {
                "id": item.id, "badge": item.badge.value, "time_s": item.time_s, "text": item.text,
                "question": item.question, "is_open": item.is_open,
                "event": item.event.as_dict() if item.event is not None else None,
            }
            for item in items
        ]  # fmt: skip

    def search(request: gr.Request, text: str = "", since: str = "", cameras: bool = False) -> list[dict]:
        """Find events of this session, or of the cameras, newest first. since: `2h`, `30m`, `10:15` or a date."""
        from assistant.eventbook import Search, find

        reader = desk.timeline(tab_of(desk, request), of_cameras=cameras)
        return [found.as_dict() for found in find(reader, Search(text, since), time.time())] if reader else []

    def export(request: gr.Request, form: str = "jsonl", text: str = "", since: str = "", cameras: bool = False) -> str:
        """Events as text: `jsonl`, `srt` or `vtt`."""
        from assistant.eventbook import Search, export_file, find

        reader = desk.timeline(tab_of(desk, request), of_cameras=cameras)
        if reader is None or form == "md":
            return ""
        return export_file(reader, find(reader, Search(text, since), time.time()), form)[1].decode()

    return [events, search, export]


def _cameras(desk: Desk) -> list[Callable[..., Any]]:
    def watch_camera(name: str, request: gr.Request) -> dict:
        """Look at a camera of the configuration, whose memory all viewers share. Gives the session's state."""
        desk.watch(tab_of(desk, request), desk.shared(name))
        return _state(desk, request)

    def cameras() -> list[dict]:
        """The cameras of the configuration: `name`, `state`, `reason`, `health`, `alert`, last words, regions."""
        found = cameras_of(desk.gallery.cards() if desk.gallery is not None else [], desk.clips_s)["cameras"]
        return [{key: value for key, value in card.items() if key != "jpeg"} for card in found]

    def draw(camera: str, regions: list[dict]) -> str:
        """Put masks and zones on a camera beside the configured ones, until the program ends; gives all as YAML.

        regions: each `{"kind": "mask" or "zone", "name": "steps", "points": [[x, y], …]}` with corners in parts of the
        picture. They take the place of those drawn before. The configuration file stays as it is.
        """
        return desk.draw(camera, read_regions(regions))

    return [cameras, watch_camera, draw]


def _state(desk: Desk, request: gr.Request) -> dict:
    """The session in plain values."""
    tab = tab_of(desk, request)
    stream = tab.stream
    values: dict[str, Any] = {
        "source": tab.wish.title if tab.wish is not None else "",
        "state": "queued" if tab.place else "idle",
        "place": tab.place,
        "model": desk.model_news().text,
        "talkative": tab.talkative,
        "instruction": tab.instruction or "",
    }
    if stream is not None:
        seen = stream.snapshot()
        values |= {
            "state": "paused" if seen.is_paused else seen.state.value,
            "reason": seen.state_reason, "media_s": seen.media_s, "duration_s": seen.duration_s,
            "newest_seen_age_s": seen.newest_seen_age_s, "fps_in": seen.fps_in, "fps_used": seen.fps_used,
            "num_dropped": seen.num_dropped, "num_used": seen.num_used, "num_empty": seen.num_empty,
            "cache_tokens": seen.cache.pinned + seen.cache.text + seen.cache.vision,
        }  # fmt: skip
    return values
