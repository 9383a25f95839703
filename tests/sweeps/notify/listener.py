"""A server on loopback that keeps what is posted to it, as a chat's webhook would get it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "T0ken-7f3c9a"
"""Stands in the path of its address; whoever knows it could post there."""


@dataclass
class Listener:
    """What was posted, and what is answered."""

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers of the next answers; then 200."""
    delay: float = 0.0
    """Seconds before each answer."""
    posted: list[dict] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{TOKEN}?key={TOKEN}"

    def of(self, event: str) -> list[dict]:
        return [each for each in self.posted if each["event"] == event]


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            listener.posted.append(json.loads(content))
            listener.headers.append(dict(self.headers))
            listener.paths.append(self.path)
            time.sleep(listener.delay)
            status, headers = listener.answers.pop(0) if listener.answers else (200, {})
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    listener.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    yield listener
    server.shutdown()
    server.server_close()
    thread.join()
