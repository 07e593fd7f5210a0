"""A Dagger engine's double: the real SDK talks to it over a loopback socket.

It runs commands as processes of this host, keeps results by what they were made of, and streams
output as the engine does. Tests see every call, and can have it fail, fall silent or lose lines.
"""

import asyncio
import base64
import json
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from graphql import GraphQLError, graphql

from tests.dagger_double.containers import Publish, Ran, Thing, execute, export, inside
from tests.dagger_double.module import NAME, Module, below
from tests.dagger_double.schema import SCHEMA, WITH_MODULE
from tests.dagger_double.services import RunningService, beside
from tests.dagger_double.web import Request, Web

TOKEN = "double-token"
VERSION = "v0.21.7"
Info = Any  # GraphQL's own, of which the field's name and the context are used
SIGNALLED = range(128, 192)
IDS = {"source", "secret", "cache", "service"}


def as_key(value: Any) -> Any:
    """Return what counts when results are looked up: no volatile variable, secrets by key."""
    if isinstance(value, Thing):
        if value.kind == "Secret":
            return value.calls[0][1].get("cacheKey")
        calls = [call for call in value.calls if call[0] != "withVolatileVariable"]
        return [
            value.kind,
            [[name, {k: as_key(v) for k, v in args.items()}] for name, args in calls],
        ]
    return value


ZERO = f"sha256:{'0' * 64}"


class Engine:
    def __init__(self) -> None:
        self.requests: list[str] = []
        self.executions: list[Thing] = []  # each container whose command really ran
        self.users: dict[str, str] = {}  # image -> the user its commands run as
        self.digests: dict[str, str] = {}  # image -> the digest its tag has now
        self.refusals: dict[str, str] = {}  # image -> why it can't be pulled
        self.broken: Callable[[str], int | None] = lambda _: None  # a status instead
        self.silent: Callable[[str], bool] = lambda _: False
        self.loses: Callable[[str], bool] = lambda _: False  # live output
        self._things: dict[str, Thing] = {}
        self._results: dict[str, Ran] = {}
        self.services: dict[str, RunningService] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._listeners: set[asyncio.Queue[str]] = set()
        self._history: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="double-")
        self.module = Module(Path(self._folder.name))
        self._web = Web(self._answer, self._logs)

    async def start(self) -> int:
        return await self._web.start()

    async def stop(self) -> None:
        await self._web.stop()
        for one in self.services.values():
            one.kill()
            await asyncio.wait({one.process, one.up})
        self._folder.cleanup()

    async def _answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        document = json.loads(request.body)
        query = document["query"]
        self.requests.append(query)
        if (status := self.broken(query)) is not None:
            return status, {}
        if self.silent(query):
            await asyncio.Event().wait()
        if request.token != TOKEN:
            return 401, {}
        result = await graphql(
            WITH_MODULE if self.module.served else SCHEMA,
            query,
            variable_values=document.get("variables"),
            context_value=request.trace,
            field_resolver=self._resolve,
            type_resolver=lambda thing, *_: thing.kind,
        )
        return 200, dict(result.formatted)

    def _resolve(self, source: Thing | None, info: Info, /, **args: Any) -> Any:
        known = {
            name: self._things[value] if name in IDS else value for name, value in args.items()
        }
        if isinstance(source, Thing) and source.kind == "ReportModule":
            return self.module.call(info.field_name, known)
        if hasattr(self, f"_{info.field_name}"):
            return getattr(self, f"_{info.field_name}")(source, info, **known)
        kind = str(info.return_type).rstrip("!")
        if source is None:
            begun = info.field_name not in {"container", "directory", "host"}
            return Thing(kind, ((info.field_name, known),) if begun else ())
        return source.then(info.field_name, known)

    def _version(self, *_: Any) -> str:
        return VERSION

    def _node(self, _: None, __: Info, *, id: str) -> Thing:  # noqa: A002 - its name
        return self._things[id]

    def _id(self, source: Thing, _: Info) -> str:
        name = f"{source.kind}-{len(self._things)}"
        self._things[name] = source
        return name

    def _asModule(self, source: Thing, _: Info) -> Thing:  # noqa: N802
        return Thing("Module", source.calls)

    def _name(self, *_: Any) -> str:
        return NAME

    def _commit(self, source: Thing, _: Info) -> str:
        ((_, args),) = source.calls
        if args["refPin"] in self.refusals:
            raise GraphQLError(self.refusals[args["refPin"]])
        commit: str = args["refPin"]
        return commit

    def _serve(self, source: Thing, _: Info) -> None:
        ((_, args),) = source.calls
        assert args["requireKind"] == "GIT_SOURCE"
        self.module.serve(f"{args['refString']}@{args['refPin']}")

    async def _sync(self, source: Thing, info: Info) -> str:
        if source.kind != "Container":
            return self._id(source, info)
        self._pull(source)
        if source.args("withExec"):
            await self._ran(source, info)
        return self._id(source, info)

    def _pull(self, source: Thing) -> str:
        address: str = source.args("from")[-1]["address"]
        if address in self.refusals:
            raise GraphQLError(self.refusals[address])
        return address

    def _imageRef(self, source: Thing, _: Info) -> str:  # noqa: N802 - the schema's
        address = self._pull(source)
        return address if "@" in address else f"{address}@{self.digests.get(address, ZERO)}"

    def _user(self, source: Thing, _: Info) -> str:
        return self.users.get(self._pull(source), "")

    async def _ran(self, source: Thing, info: Info) -> Ran:
        key = json.dumps(as_key(source), sort_keys=True)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if key in self._results:
                return self._results[key]
            self.executions.append(source)
            ran = await self._execute(source, info)
            expect = source.args("withExec")[-1].get("expect", "SUCCESS")
            if ran.code and (expect != "ANY" or ran.code in SIGNALLED):
                raise GraphQLError(f"exit code: {ran.code}", extensions=failure(source, ran))
            self._results[key] = ran
            return ran

    async def _execute(self, source: Thing, info: Info) -> Ran:
        async with AsyncExitStack() as stack:
            for args in source.args("withMountedCache"):
                if args.get("sharing", "SHARED") != "SHARED":  # a private one waits, too
                    name = f"cache {args['cache'].calls[0][1]['key']}"
                    await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            bound = {
                args["alias"]: await self._up(args["service"], info)
                for args in source.args("withServiceBinding")
            }
            work = execute(source, self._publisher(info.context), self._folder.name)
            return await beside(bound, asyncio.create_task(work))

    async def _up(self, service: Thing, info: Info) -> RunningService:
        key = json.dumps(as_key(service), sort_keys=True)
        if key not in self.services or self.services[key].over:
            publish = self._publisher(info.context)
            self.services[key] = RunningService(service, publish, self._folder.name)
        await asyncio.shield(self.services[key].up)
        return self.services[key]

    def _asService(self, source: Thing, _: Info, **words: Any) -> Thing:  # noqa: N802
        return Thing("Service", (("asService", {"container": source, **words}),))

    async def _start(self, source: Thing, info: Info) -> str:
        await self._up(source, info)
        return self._id(source, info)

    async def _stop(self, source: Thing, info: Info, **_: Any) -> str:
        running = self.services.get(json.dumps(as_key(source), sort_keys=True))
        if running is not None:
            await running.stop()
        return self._id(source, info)

    async def _exitCode(self, source: Thing, info: Info) -> int:  # noqa: N802
        return (await self._ran(source, info)).code

    async def _stdout(self, source: Thing, info: Info) -> str:
        return (await self._ran(source, info)).texts[1]

    async def _stderr(self, source: Thing, info: Info) -> str:
        return (await self._ran(source, info)).texts[2]

    async def _exists(self, source: Thing, info: Info, *, path: str, **words: str) -> bool:
        if source.kind == "Directory":
            at = below(source, path)
            return at.is_dir() if words.get("expectedType") == "DIRECTORY_TYPE" else at.is_file()
        for args in source.args("withMountedCache"):
            if Path(path).is_relative_to(args["path"]):
                raise GraphQLError(f"failed to locate path {path}: cannot retrieve path from cache")
        at = inside((await self._ran(source, info)).root, path)
        return at.is_dir() if words.get("expectedType") == "DIRECTORY_TYPE" else at.is_file()

    async def _file(self, source: Thing, info: Info, *, path: str, **words: Any) -> Thing:
        if source.kind == "Host":
            return Thing("File", (("host.file", {"path": path, **words}),))
        return await self._taken("File", source, info, path)

    async def _directory(
        self, source: Thing | None, info: Info, *, path: str = "", **words: Any
    ) -> Thing:
        if source is None:
            return Thing("Directory")
        if source.kind == "Host":
            return Thing("Directory", (("host.directory", {"path": path, **words}),))
        return await self._taken("Directory", source, info, path)

    async def _taken(self, kind: str, source: Thing, info: Info, path: str) -> Thing:
        if source.kind == "Directory":
            return Thing(kind, (("taken", {"from": str(below(source, path))}),))
        at = inside((await self._ran(source, info)).root, path)
        return Thing(kind, (("taken", {"from": str(at)}),))

    def _export(self, source: Thing, _: Info, *, path: str) -> str:
        export(source, Path(path))
        return path

    def _publisher(self, trace: str) -> Publish:
        def publish(stream: int, text: str) -> None:
            if text and self.loses(text):
                return
            event = f"data: {json.dumps(record(trace, stream, text))}\n\n"
            self._history.append(event)
            for listener in self._listeners:
                listener.put_nowait(event)

        return publish

    async def _logs(self, request: Request, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        for event in self._history:
            queue.put_nowait(event)
        self._listeners.add(queue)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while request.token == TOKEN:
                writer.write((await queue.get()).encode())
                await writer.drain()
        finally:
            self._listeners.discard(queue)


def failure(source: Thing, ran: Ran) -> dict[str, Any]:
    return {
        "_type": "EXEC_ERROR",
        "cmd": source.args("withExec")[-1]["args"],
        "exitCode": ran.code,
        "stdout": ran.texts[1].strip(),
        "stderr": ran.texts[2].strip(),
    }


def record(trace: str, stream: int, text: str) -> dict[str, Any]:
    attributes: list[dict[str, Any]] = [{"key": "stdio.stream", "value": {"intValue": str(stream)}}]
    if not text:
        attributes.append({"key": "stdio.eof", "value": {"boolValue": True}})
    one = {
        "traceId": base64.b64encode(bytes.fromhex(trace)).decode(),
        "body": {"stringValue": text},
        "attributes": attributes,
    }
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [one]}]}]}
