"""What tests of sources share: folders, repositories, and someone who follows a source."""

import asyncio
import base64
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from controller.clock import SystemClock
from controller.model.settings import DirectorySource, GitSource
from controller.model.source import Snapshot
from controller.source import open_source
from controller.source.ports import Source

LONG = timedelta(hours=1)  # an interval that no test waits for
PATIENCE = 20.0  # seconds until a test gives up


class Follower:
    """Takes what a source yields, in order."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.looks: asyncio.Queue[Snapshot | Exception] = asyncio.Queue()

    async def pump(self) -> None:
        async for look in self.source.snapshots():
            self.looks.put_nowait(look)

    async def next(self) -> Any:
        return await asyncio.wait_for(self.looks.get(), PATIENCE)

    async def snapshot(self) -> Snapshot:
        """Return the next snapshot; a failure fails the test."""
        look = await self.next()
        assert isinstance(look, Snapshot), look
        return look

    async def until(self, wanted: Any) -> Snapshot:
        """Return the first snapshot for which `wanted` holds."""
        while True:
            look = await self.next()
            if isinstance(look, Snapshot) and wanted(look):
                return look

    async def quiet(self, seconds: float = 0.3) -> bool:
        """Tell whether nothing more came for a while."""
        await asyncio.sleep(seconds)
        return self.looks.empty()


@asynccontextmanager
async def following(source: Source) -> AsyncIterator[Follower]:
    follower = Follower(source)
    task = asyncio.create_task(follower.pump())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()


def directory(root: Path, *, interval: timedelta = LONG, ignore: tuple[str, ...] = ()) -> Source:
    settings = DirectorySource(name="here", path=str(root), interval=interval, ignore=ignore)
    state = root.parent / f"{root.name}-state"  # beside it: a state directory is never watched
    return open_source(settings, state_dir=state, clock=SystemClock())


def git_source(
    url: str, state: Path, secrets: Any = None, applied: str = "", **more: Any
) -> Source:
    fields: dict[str, Any] = {"interval": LONG, "name": "there"} | more
    return open_source(
        GitSource(url=url, **fields),
        state_dir=state,
        clock=SystemClock(),
        secrets=secrets,
        applied=applied,
    )


def write(root: Path, **files: str) -> None:
    """Write files by rename, `__` in a name standing for `/` and `_yaml` for `.yaml`."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_yaml", ".yaml")
        put(path, text)


def put(path: Path, text: str) -> None:
    """Replace a file as a careful writer does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.draft"
    draft.write_text(text)
    draft.replace(path)


AS_TESTER = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.com",
    "GIT_COMMITTER_NAME": "Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.com",
}


class Repository:
    """A real repository with a work tree."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options` are those of `git init`."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "-b", "main", *options)

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.folder), *words],
            env={**os.environ, **AS_TESTER},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, message: str = "change", **files: str) -> str:
        """Commit everything in the work tree, with these files; return the commit."""
        for name, text in files.items():
            put(self.folder / name.replace("__", "/").replace("_yaml", ".yaml"), text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def tree(self, commit: str = "HEAD") -> dict[str, tuple[str, str]]:
        """Return path -> (mode, blob) of a commit, as git lists it."""
        lines = self.git("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
        parts = [line.split("\t", 1) for line in lines if line]
        return {path: (head.split()[0], head.split()[2]) for head, path in parts}


class GitServer(ThreadingHTTPServer):
    """Git's own HTTP backend on the loopback; may ask for a login, hang, or send elsewhere."""

    daemon_threads = True

    def __init__(self, root: Path, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), GitHandler)
        self.scheme = "https" if tls is not None else "http"
        if tls is not None:
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.root = root
        self.login = ""
        self.redirect = ""
        self.hang = threading.Event()
        self.released = threading.Event()
        self.answering = threading.Event()  # cleared: answers are made, and sent later
        self.answering.set()
        self.withheld = threading.Event()  # one such answer is made
        self.requests: list[tuple[str, str]] = []  # path, Authorization

    def url(self, name: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: object, address: object) -> None:
        """A client that goes away, or isn't let in, is no news; all else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, address)  # type: ignore[arg-type]  # as it was given


class GitHandler(BaseHTTPRequestHandler):
    server: GitServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.server.requests.append((self.path, self.headers.get("Authorization", "")))
        if self.server.hang.is_set():
            self.server.released.wait(60)
            return
        if self.server.redirect:
            self.send_response(302)
            self.send_header("Location", self.server.redirect + self.path)
            self.end_headers()
            return
        if self.server.login and not self.may_enter():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.backend()

    def may_enter(self) -> bool:
        wanted = base64.b64encode(self.server.login.encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def backend(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        done = subprocess.run(
            ["git", "http-backend"],
            input=self.rfile.read(length),
            env={
                **os.environ,
                **AS_TESTER,
                "GIT_PROJECT_ROOT": str(self.server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
            capture_output=True,
            check=False,  # what it has to say of a failure, it has said to the client
        )
        if self.command == "POST" and not self.server.answering.is_set():
            self.server.withheld.set()
            self.server.answering.wait(60)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((value for name, value in lines if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(root: Path, tls: ssl.SSLContext | None = None) -> Iterator[GitServer]:
    server = GitServer(root, tls)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.answering.set()
        server.shutdown()
        thread.join()
        server.server_close()
