"""As much of HTTP as the SDK and the telemetry reader speak; a client that leaves ends its work."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def token(self) -> str:
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        return base64.b64decode(value).decode().partition(":")[0] if kind == "Basic" else ""

    @property
    def trace(self) -> str:
        parts = self.headers.get("traceparent", "").split("-")
        return parts[1] if len(parts) > 1 else ""


Answer = Callable[[Request], Awaitable[tuple[int, dict[str, Any]]]]
Stream = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


class Web:
    """POST is answered by JSON, GET by a stream of events."""

    def __init__(self, answer: Answer, stream: Stream) -> None:
        self._answer, self._stream = answer, stream
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await read(reader)) is not None:
                if request.method == "GET":
                    await self._stream(request, writer)
                    return
                await self._reply(request, reader, writer)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _reply(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        work = asyncio.ensure_future(self._answer(request))
        left = asyncio.ensure_future(reader.read(1))  # the SDK sends nothing before its answer
        try:
            await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ConnectionResetError
            status, answer = work.result()
        finally:
            for task in (work, left):
                task.cancel()
            await asyncio.wait({work, left})
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


async def read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)
