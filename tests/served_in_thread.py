"""What the small servers of tests have in common: a thread, a free port on loopback, an end that waits for nobody."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Self


class ServedInThread:
    """Serves between the two ends of a `with`; `closing` is set first, for handlers that wait."""

    def __init__(self, server: socketserver.TCPServer, name: str) -> None:
        self.closing = threading.Event()
        self.port: int = server.server_address[1]
        self._tcp_server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), name=name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._tcp_server.shutdown()
        self._tcp_server.server_close()
        self._thread.join()
