"""A server on loopback that takes words: it records what it is sent and answers as it is told."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Taken:
    """One request."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    code: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    after_seconds: float = 0.0


class FarSide:
    """Takes POSTs of JSON. `answer` decides what each is answered; one that fails isn't taken."""

    def __init__(self) -> None:
        self.tried: list[Taken] = []
        self.taken: list[Taken] = []
        self.answer: Callable[[Taken], Answer] = lambda _: Answer()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen, on the port it had before."""
        far = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                taken = Taken(self.path, headers, json.loads(self.rfile.read(length)))
                answer = far.answer(taken)
                far.tried.append(taken)
                time.sleep(answer.after_seconds)
                if answer.code < 300:
                    far.taken.append(taken)
                data = json.dumps(answer.body).encode()
                try:
                    self.send_response(answer.code)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except ConnectionError:
                    pass  # who asked did not wait

            def log_message(self, *_: Any) -> None:
                """Requests are recorded, not printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Be down: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def titles(self) -> list[str]:
        """What alerts were told, by their titles."""
        return [one.body["title"] for one in self.taken]

    def states(self, context: str) -> list[str]:
        """The states that commits were told under a name, in turn."""
        named = ((one.body, one.body.get("context", one.body.get("name"))) for one in self.taken)
        return [body["state"] for body, name in named if name == context]
