"""A double of a Dagger session: GraphQL over HTTP, commands run as plain processes of this host.

It speaks to the real SDK. Every object is the list of calls that made it; its id is that list. A
container is "run" in a temporary folder that stands for its root, so that exit codes, output, files
and live log records are real ones. It records the calls of every command that ran.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from graphql import GraphQLError, build_schema, graphql_sync

SDL = Path(__file__).with_name("schema.graphql").read_text(encoding="utf-8")
OBJECTS = {"Container", "Directory", "File", "Host", "Secret"}
DIGEST = "sha256:" + "ab" * 32
Call = tuple[str, dict[str, Any]]


def encoded(calls: list[Call]) -> str:
    return base64.b64encode(json.dumps(calls).encode()).decode()


def decoded(name: str) -> list[Call]:
    return [(field, arguments) for field, arguments in json.loads(base64.b64decode(name))]


class Engine:
    """Runs containers; remembers what was asked, and answers as it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[list[Call]] = []  # the calls of each command that ran
        self.logs: list[dict[str, Any]] = []
        self.done: dict[str, tuple[int, str, str, Path]] = {}
        self.behave = (
            json.loads((folder / "behave.json").read_text())
            if (folder / "behave.json").exists()
            else {}
        )
        self.lock = threading.Lock()

    def next_status(self) -> int:
        """Take the next of the HTTP statuses to answer with; the list is shared by sessions."""
        statuses = self.behave.get("status") or [200]
        status = int(statuses.pop(0))
        (self.folder / "behave.json").write_text(json.dumps(self.behave))
        return status

    def run(self, calls: list[Call], trace: str) -> tuple[int, str, str, Path]:
        """Return exit code, stdout, stderr and root of a container; each is run once."""
        name = encoded(calls)
        with self.lock:
            if name not in self.done:
                self.done[name] = self._run(calls, trace)
        return self.done[name]

    def _run(self, calls: list[Call], trace: str) -> tuple[int, str, str, Path]:
        root = Path(tempfile.mkdtemp(dir=self.folder))
        env = {"PATH": os.environ["PATH"]}
        workdir, result = "/", (0, "", "")
        for field, given in calls:
            at = root / str(given.get("path", "")).lstrip("/")
            match field:
                case "from":
                    self._pull(given["address"], calls)
                case "withDirectory" | "withMountedDirectory":
                    write_directory(decoded(given["source"]), at)
                case "withFile":
                    at.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(dict(decoded(given["source"]))["file"]["path"], at)
                case "withNewFile":
                    at.parent.mkdir(parents=True, exist_ok=True)
                    at.write_text(given["contents"])
                case "withEnvVariable" | "withVolatileVariable":
                    env[given["name"]] = given["value"].replace("/rondel/", f"{root}/rondel/")
                case "withSecretVariable":
                    env[given["name"]] = self._secret(given["secret"])
                case "withMountedSecret":
                    at.parent.mkdir(parents=True, exist_ok=True)
                    at.write_text(self._secret(given["source"]))
                case "withWorkdir":
                    workdir = given["path"]
                case "withExec":
                    result = self._exec(given, root / workdir.lstrip("/"), env, calls, trace)
                case _:
                    pass
        return (*result, root)

    def _pull(self, address: str, calls: list[Call]) -> None:
        if "missing" in address:
            raise GraphQLError(f"failed to resolve image: {address}: not found")
        if "private" in address and not any(field == "withRegistryAuth" for field, _ in calls):
            raise GraphQLError(f"{address}: pull access denied: authorization failed")

    def _secret(self, name: str) -> str:
        uri = dict(decoded(name))["secret"]["uri"]
        return Path(uri.removeprefix("file://")).read_text()

    def _exec(
        self,
        given: dict[str, Any],
        folder: Path,
        env: dict[str, str],
        calls: list[Call],
        trace: str,
    ) -> tuple[int, str, str]:
        self.commands.append(calls)
        (self.folder / "commands.json").write_text(json.dumps(self.commands))
        folder.mkdir(parents=True, exist_ok=True)
        ran = subprocess.Popen(
            given["args"],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert ran.stdout is not None
        assert ran.stderr is not None
        out = []
        for line in ran.stdout:
            out.append(line)
            self.say(trace, "1", line)
        err = ran.stderr.read()
        if err:
            self.say(trace, "2", err)
        code = ran.wait()
        for stream in ("1", "2"):
            self.say(trace, stream, "", eof=True)
        if (code and (given.get("expect") or "SUCCESS") != "ANY") or 128 <= code <= 191:
            raise GraphQLError(
                f'process "{given["args"]}" did not complete successfully: exit code: {code}',
                extensions={
                    "_type": "EXEC_ERROR",
                    "cmd": given["args"],
                    "exitCode": code,
                    "stdout": "".join(out),
                    "stderr": err,
                },
            )
        return code, "".join(out), err

    def say(self, trace: str, stream: str, text: str, *, eof: bool = False) -> None:
        if self.behave.get("silent"):
            return
        attributes: list[dict[str, Any]] = [{"key": "stdio.stream", "value": {"intValue": stream}}]
        if eof:
            attributes.append({"key": "stdio.eof", "value": {"boolValue": True}})
        self.logs.append(
            {"body": {"stringValue": text}, "attributes": attributes, "traceId": trace}
        )


def write_directory(calls: list[Call], target: Path) -> None:
    """Write what a Directory holds: of this host, or put together."""
    target.mkdir(parents=True, exist_ok=True)
    for field, given in calls:
        at = target / str(given.get("path", "")).lstrip("/")
        match field:
            case "directory" if given.get("path"):
                shutil.copytree(given["path"], target, dirs_exist_ok=True)
            case "withDirectory":
                write_directory(decoded(given["source"]), at)
            case "withFile":
                at.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(dict(decoded(given["source"]))["file"]["path"], at)
            case _:
                pass


def make_schema(engine: Engine, trace: list[str]) -> Any:
    schema = build_schema(SDL)
    for name in (*OBJECTS, "Query"):
        for field_name, field in schema.type_map[name].fields.items():  # type: ignore[attr-defined]
            field.resolve = resolver(engine, trace, field_name, str(field.type).rstrip("!"))
    schema.type_map["Node"].resolve_type = lambda calls, *_: type_of(schema, calls)  # type: ignore[attr-defined]
    return schema


def type_of(schema: Any, calls: list[Call]) -> str:
    """Return the type of the object that these calls made."""
    name = "Query"
    for field, _ in calls:
        name = str(schema.type_map[name].fields[field].type).rstrip("!")
    return name


def resolver(engine: Engine, trace: list[str], field: str, type_: str) -> Any:
    def resolve(parent: list[Call] | None, _: Any, **given: Any) -> Any:
        if field == "node":
            return decoded(given["id"])
        calls = [*(parent or []), (field, given)]
        if type_ in OBJECTS:
            return calls
        return scalar(engine, trace[0], field, parent or [], given)

    return resolve


def scalar(engine: Engine, trace: str, field: str, calls: list[Call], given: dict[str, Any]) -> Any:
    if field in {"id", "user", "version"}:
        return {"id": encoded(calls), "user": "", "version": "v0.21.7-double"}[field]
    if field == "imageRef":
        address = dict(calls)["from"]["address"]
        engine._pull(address, calls)
        return f"{address}@{DIGEST}"
    if field == "export":
        return export(engine.run(calls[:-1], trace)[3], calls[-1][1]["path"], given["path"])
    code, out, err, root = engine.run(calls, trace)
    if field == "exists":
        path = root / given["path"].lstrip("/")
        return path.is_dir() if given.get("expectedType") == "DIRECTORY_TYPE" else path.is_file()
    return {"exitCode": code, "stdout": out, "stderr": err, "sync": encoded(calls)}[field]


def export(root: Path, path: str, target: str) -> str:
    source = root / path.lstrip("/")
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return target


class Handler(BaseHTTPRequestHandler):
    engine: Engine
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.engine.next_status() if "withExec" in data["query"] else 200
        if status != 200:
            self.send_error(status)
            return
        trace = [self.trace()]
        result = graphql_sync(
            make_schema(self.engine, trace), data["query"], variable_values=data.get("variables")
        )
        self.answer(json.dumps(result.formatted).encode())

    def trace(self) -> str:
        parts = (self.headers.get("traceparent") or "").split("-")
        return base64.b64encode(bytes.fromhex(parts[1])).decode() if len(parts) > 1 else ""

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        sent = 0
        while True:
            for record in self.engine.logs[sent:]:
                data = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
                self.wfile.write(f"data: {json.dumps(data)}\n\n".encode())
                sent += 1
            self.wfile.flush()
            time.sleep(0.01)


def main() -> None:
    """What `dagger session` does: one line with the address, then serve until stdin closes."""
    engine = Engine(Path(sys.argv[1]))
    if engine.behave.get("mute"):
        time.sleep(600)
    handler = type("Bound", (Handler,), {"engine": engine})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (engine.folder / "environ.json").write_text(json.dumps(dict(os.environ)))
    print(json.dumps({"port": server.server_port, "session_token": "t"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
