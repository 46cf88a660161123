"""Turns among the endpoint's clients: one question at a time, clients one after another. The server's event loop alone.

The model's own queue holds at most one question of the endpoint, so that the page's viewers never wait for more.
"""

from __future__ import annotations

import asyncio
from collections import deque

from assistant.chat.refusal import ChatRefused

MOST_WAITING = 16
"""Requests of all clients that may wait or be answered at once."""
MOST_OF_ONE = 8
"""Those of one client."""
USUAL_S = 2.0
"""How long an answer is thought to take before one was timed."""
LONGEST_RETRY_S = 120


class ChatPlace:
    """A request's place among those that wait."""

    def __init__(self, turns: FairTurns, client: str) -> None:
        self.client = client
        self._turns = turns
        self._called = asyncio.Event()

    async def turn(self) -> None:
        """Wait until it is this request's turn, which lasts until `leave`."""
        self._turns.queue(self)
        await self._called.wait()

    def call(self) -> None:
        """Give it its turn."""
        self._called.set()

    def leave(self) -> None:
        """Give the place up, and the turn to the next client. May be called twice."""
        self._turns.leave(self)


class FairTurns:
    """Lets one request at a time have the model. With several clients, each has a turn before one has its second."""

    def __init__(self, most: int = MOST_WAITING, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._places: set[ChatPlace] = set()
        self._waiting: dict[str, deque[ChatPlace]] = {}
        """By client; the client whose turn is next comes first."""
        self._served: ChatPlace | None = None
        self._began_s = 0.0
        self._usual_s = USUAL_S

    @property
    def num_places(self) -> int:
        """Requests that wait or are answered."""
        return len(self._places)

    def enter(self, client: str) -> ChatPlace:
        """A place for a client's request. Raises `ChatRefused` where there is none."""
        own = sum(place.client == client for place in self._places)
        if own >= self._most_of_one:
            raise ChatRefused(
                f"{own} requests of this client wait; {self._most_of_one} may; ask again when some are answered",
                429, code="rate_limit_exceeded", retry_after_s=self._retry_s(own),
            )  # fmt: skip
        if len(self._places) >= self._most:
            raise ChatRefused(
                f"{len(self._places)} requests wait for the model; {self._most} may; ask again when some are answered",
                503, code="busy", retry_after_s=self._retry_s(len(self._places)),
            )  # fmt: skip
        place = ChatPlace(self, client)
        self._places.add(place)
        return place

    def queue(self, place: ChatPlace) -> None:
        """Put a request behind its client's others."""
        self._waiting.setdefault(place.client, deque()).append(place)
        self._call_next()

    def leave(self, place: ChatPlace) -> None:
        """Remove a request; where it had its turn, the next client has it."""
        if place not in self._places:
            return
        self._places.remove(place)
        waiting = self._waiting.get(place.client)
        if waiting is not None and place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[place.client]
        if self._served is place:
            took_s = asyncio.get_running_loop().time() - self._began_s
            self._usual_s += 0.3 * (took_s - self._usual_s)
            self._served = None
            self._call_next()

    def _call_next(self) -> None:
        if self._served is not None or not self._waiting:
            return
        client, waiting = next(iter(self._waiting.items()))
        del self._waiting[client]
        self._served = waiting.popleft()
        if waiting:
            self._waiting[client] = waiting  # behind the other clients
        self._began_s = asyncio.get_running_loop().time()
        self._served.call()

    def _retry_s(self, num_ahead: int) -> int:
        return max(1, min(LONGEST_RETRY_S, round(num_ahead * self._usual_s / 2)))
