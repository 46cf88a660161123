"""A tab's voice: a WebSocket that brings sound to the browser, and spoken questions from its microphone.

Runs on the server's event loop; speech is made and recognised on other threads. The microphone's sound is kept
only until its words are known.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from assistant.errors import AssistantError
from assistant.speech.aloud import SpeechLog
from assistant.speech.announcer import Announcer, Caption
from assistant.speech.browser import BrowserOutput
from assistant.speech.heard import Intent, understood
from assistant.speech.listener import obey
from assistant.speech.recognisers import recogniser_named, why_deaf
from assistant.speech.sound import Sound, from_pcm16
from assistant.speech.voices import voice_named
from assistant.viewers.feed_aloud import FeedAloud
from ui.media import HELLO_S, MOST_TEXT, is_same_origin

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from assistant.config.voice import VoiceConfig
    from assistant.viewers.backend import Backend
    from assistant.viewers.viewer_session import ViewerSession

MOST_LISTEN_S = 30.0
"""Longest spoken question."""
LEAST_LISTEN_S = 0.3
PARTIAL_S = 1.5
"""New sound after which the words so far are recognised once more."""
RATES_HZ = range(8_000, 96_001)
MOST_MESSAGE_BYTES = 1 << 20


class PageVoice:
    """The voice and the recogniser that all tabs share, one at a time. Any thread."""

    def __init__(self, config: VoiceConfig) -> None:
        self._config = config
        self._voice = voice_named(config.name)
        self._recogniser = recogniser_named(config.recogniser)
        self._speaking = threading.Lock()
        self._hearing = threading.Lock()
        self.name = config.name

    @property
    def why_deaf(self) -> str:
        """What listening lacks, in one line; empty if nothing."""
        return why_deaf(self._config.recogniser)

    def prepare(self) -> None:
        """Load the voice."""
        with self._speaking:
            self._voice.prepare()

    def speak(self, text: str, rate: float) -> Sound:
        """The sound of a clause."""
        with self._speaking:
            return self._voice.speak(text, rate)

    def transcribe(self, sound: Sound) -> str:
        """The words of a spoken question."""
        with self._hearing:
            return self._recogniser.transcribe(sound)

    def announcer(self, output: BrowserOutput, log: SpeechLog) -> Announcer:
        """An announcer to a browser."""
        config = self._config
        return Announcer(self, output, log, rate=config.rate, volume=config.volume, name="speech:page")


def voice_routes(backend: Backend, config: VoiceConfig) -> list[BaseRoute]:
    """The route of the page's voice."""
    voice = PageVoice(config)

    async def connect(socket: WebSocket) -> None:
        if not is_same_origin(socket.headers.get("origin"), socket.headers.get("host")):
            await socket.close(code=4403)
            return
        await socket.accept()
        try:
            hello = await asyncio.wait_for(socket.receive_json(), HELLO_S)
            token = hello.get("token") if isinstance(hello, dict) else None
            viewer = backend.registry.by_token(token) if isinstance(token, str) else None
            if viewer is not None:
                await _TabVoice(voice, viewer, socket).run()
        except (TimeoutError, WebSocketDisconnect, ValueError, KeyError, RuntimeError):
            pass
        finally:
            with suppress(RuntimeError):
                await socket.close()

    return [WebSocketRoute("/sva/voice", connect)]


class _TabVoice:
    """One tab's connection."""

    def __init__(self, voice: PageVoice, viewer: ViewerSession, socket: WebSocket) -> None:
        self._voice, self._viewer, self._socket = voice, viewer, socket
        self._loop = asyncio.get_running_loop()
        self._outgoing: asyncio.Queue[tuple[dict[str, Any], bytes | None]] = asyncio.Queue()
        self._announcer: Announcer | None = None
        self._leave_feed: Callable[[], None] = lambda: None
        self._recording = bytearray()
        self._rate_hz = 0
        self._is_listening = False
        self._partial: asyncio.Task[None] | None = None
        self._num_partial_bytes = 0
        self._is_closed = False

    async def run(self) -> None:
        """Serve until the browser disconnects."""
        sending = asyncio.create_task(self._send_all())
        self._tell({"type": "hello", "deaf": self._voice.why_deaf}, None)
        try:
            while (message := await self._socket.receive())["type"] != "websocket.disconnect":
                data, text = message.get("bytes"), message.get("text")
                if data is not None and len(data) <= MOST_MESSAGE_BYTES:
                    self._hear(data)
                elif text is not None and len(text) <= MOST_TEXT:
                    with suppress(ValueError):
                        values = json.loads(text)
                        await self._take(values if isinstance(values, dict) else {})
        finally:
            self._is_closed = True
            sending.cancel()
            await self._mute()

    async def _take(self, values: dict[str, Any]) -> None:
        if isinstance(values.get("aloud"), bool):
            await (self._unmute() if values["aloud"] else self._mute())
        rate_hz = values.get("listen")
        if isinstance(rate_hz, int) and rate_hz in RATES_HZ:
            self._begin(rate_hz)
        if values.get("heard"):
            await self._finish()
        if values.get("hush") and self._announcer is not None:
            self._announcer.hush()

    async def _unmute(self) -> None:
        if self._announcer is not None:
            return
        log = SpeechLog(self._show, lambda news: self._tell({"type": "news", "text": news.text}, None))
        self._announcer = self._voice.announcer(BrowserOutput(self._send_from_thread), log)
        self._announcer.start()
        aloud = FeedAloud(self._viewer.feed, self._announcer)
        self._leave_feed = self._viewer.feed.listen(aloud.update)
        self._tell({"type": "aloud", "on": True}, None)

    async def _mute(self) -> None:
        self._leave_feed()
        announcer, self._announcer = self._announcer, None
        if announcer is not None:
            await asyncio.to_thread(announcer.stop)
            self._tell({"type": "aloud", "on": False}, None)

    def _show(self, caption: Caption | None) -> None:
        """Send what is being said; on the announcer's thread."""
        shown = {"text": "", "kind": ""} if caption is None else {"text": caption.text, "kind": caption.kind.word}
        self._send_from_thread({"type": "caption", **shown}, None)

    def _begin(self, rate_hz: int) -> None:
        """The microphone is on: whatever is being said makes room."""
        if self._voice.why_deaf:
            self._tell({"type": "deaf", "text": self._voice.why_deaf}, None)
            return
        if self._announcer is not None:
            self._announcer.hush()
        self._recording, self._rate_hz, self._is_listening = bytearray(), rate_hz, True
        self._num_partial_bytes = 0

    def _hear(self, data: bytes) -> None:
        """Add sound of the microphone, 16 bits a sample; too long a question is ended."""
        if not self._is_listening:
            return
        bytes_a_second = 2 * self._rate_hz
        room = int(MOST_LISTEN_S * bytes_a_second) - len(self._recording)
        self._recording += data[:room]
        if len(data) >= room:
            self._tell({"type": "full", "text": f"A spoken question may last {MOST_LISTEN_S:g} s."}, None)
        is_busy = self._partial is not None and not self._partial.done()
        if not is_busy and len(self._recording) - self._num_partial_bytes > PARTIAL_S * bytes_a_second:
            self._num_partial_bytes = len(self._recording)
            self._partial = asyncio.create_task(self._transcribe(bytes(self._recording), is_whole=False))

    async def _finish(self) -> None:
        """The microphone is off: recognise the question."""
        if not self._is_listening:
            return
        recording, self._recording, self._is_listening = bytes(self._recording), bytearray(), False
        if self._partial is not None:
            await self._partial
        if len(recording) < LEAST_LISTEN_S * 2 * self._rate_hz:
            self._tell({"type": "transcript", "text": "", "whole": True}, None)
            return
        await self._transcribe(recording, is_whole=True)

    async def _transcribe(self, recording: bytes, *, is_whole: bool) -> None:
        sound = from_pcm16(recording, self._rate_hz)
        try:
            text = await asyncio.to_thread(self._voice.transcribe, sound)
        except AssistantError as error:
            self._tell({"type": "deaf", "text": str(error)}, None)
            return
        heard = understood(text)
        if is_whole and self._announcer is not None and heard.intent in (Intent.STOP, Intent.REPEAT):
            obey(self._announcer, heard)
            text = ""
        self._tell({"type": "transcript", "text": text, "whole": is_whole}, None)

    def _tell(self, values: dict[str, Any], sound: bytes | None) -> None:
        self._loop.call_soon_threadsafe(self._outgoing.put_nowait, (values, sound))

    def _send_from_thread(self, values: dict[str, Any], sound: bytes | None) -> bool:
        with suppress(RuntimeError):  # the server is shutting down
            self._tell(values, sound)
        return not self._is_closed

    async def _send_all(self) -> None:
        while True:
            values, sound = await self._outgoing.get()
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._socket.send_json(values)
                if sound is not None:
                    await self._socket.send_bytes(sound)
