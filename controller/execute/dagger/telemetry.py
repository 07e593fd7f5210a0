"""A session's live output: the engine's log records, each to the attempt whose trace it names."""

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from controller import ids
from controller.execute.dagger.command import Address
from controller.execute.dagger.said import Listener
from controller.execute.ports import Output

STREAMS = {"1": "stdout", "2": "stderr"}
VERBOSE = "dagger.io/logs.verbose"  # the engine's own words about a call

log = structlog.get_logger()


class Telemetry:
    """Reads the session's log stream and hands each record to its listener."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._listeners: dict[str, Listener] = {}
        self._task = asyncio.create_task(self._read(), name="dagger telemetry")

    @contextmanager
    def trace(self, output: Output) -> Iterator[Listener]:
        """Ask the engine inside a trace of its own; what that prints goes to `output`."""
        from opentelemetry import context, trace  # noqa: PLC0415 - comes with the SDK

        number = int(ids.nonce(), 16)
        span = trace.SpanContext(
            trace_id=number,
            span_id=number & 0xFFFFFFFFFFFFFFFF or 1,
            is_remote=False,
            trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
        )
        name = base64.b64encode(number.to_bytes(16, "big")).decode()
        listener = self._listeners[name] = Listener(output)
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(span)))
        try:
            yield listener
        finally:
            context.detach(token)
            del self._listeners[name]

    async def _read(self) -> None:
        """Read until the session ends. Without live output, attempts ask for theirs at the end."""
        import httpx  # noqa: PLC0415 - comes with the SDK

        quiet = httpx.Timeout(10, read=None)  # nobody may say anything for hours
        url = f"http://127.0.0.1:{self._address.port}/v1/logs"
        auth = (self._address.token, "")
        try:
            async with (
                httpx.AsyncClient(timeout=quiet, auth=auth, trust_env=False) as client,
                client.stream("GET", url) as response,
            ):
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if line.startswith("data:"):
                        self._take(json.loads(line[5:]))
        except httpx.TransportError:
            return  # the session is gone: its attempts say so themselves
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            log.warning("dagger_live_output_lost", error=str(error))

    def _take(self, data: dict[str, Any]) -> None:
        for record in records(data):
            listener = self._listeners.get(record.get("traceId", ""))
            attributes = {one["key"]: one["value"] for one in record.get("attributes", ())}
            stream = STREAMS.get(str(attributes.get("stdio.stream", {}).get("intValue")))
            if listener is None or stream is None or VERBOSE in attributes:
                continue
            text = record.get("body", {}).get("stringValue", "")
            listener.take(stream, text, ended="stdio.eof" in attributes)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


def records(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in data.get("resourceLogs", ()):
        for scope in resource.get("scopeLogs", ()):
            yield from scope.get("logRecords", ())
