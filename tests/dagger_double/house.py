"""The dagger executor with the real SDK, on an engine's double, and what its tests ask of both."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from controller import ids
from controller.clock import SystemClock
from controller.execute.dagger import DaggerExecutor
from controller.execute.dagger.folder import PREFIX
from controller.execute.ports import AttemptRequest
from controller.model.run import Run, Trigger
from controller.model.settings import DaggerSettings
from controller.model.workflow import Step, Workflow
from tests.dagger_double.cli import Cli

WORKFLOW = Workflow(name="w", steps=(Step(name="a", script="true", image="busybox"),))


class Page:
    """An Output that keeps what it is given."""

    def __init__(self):
        self.written = {"stdout": b"", "stderr": b""}
        self.notes: list[str] = []
        self.wrote = asyncio.Event()

    def write(self, stream, data):
        self.written[stream] += data
        self.wrote.set()

    def note(self, text):
        self.notes.append(text)


class Passwords:
    async def operator(self, name):
        return f"the password {name}"


class House:
    """An executor on a double, and what tests need around it."""

    def __init__(self, tmp_path, engine, port):
        self.engine = engine
        self.cli = Cli(tmp_path, port)
        self.memory = tmp_path / "memory"
        self.memory.mkdir()
        self.tmp_path = tmp_path

    def executor(self, **settings):
        return DaggerExecutor(
            DaggerSettings(cli=str(self.cli.path), **settings),
            secrets=Passwords(),
            state_dir=self.tmp_path / "state",
            clock=SystemClock(),
        )

    @asynccontextmanager
    async def session(self, *, source="test", **settings):
        executor = self.executor(**settings)
        await executor.start()
        try:
            yield await executor.open(a_run(source), WORKFLOW)
        finally:
            await executor.stop()

    def request(self, script, **fields):
        nonce = ids.nonce()
        staging = self.tmp_path / "staging" / nonce
        staging.mkdir(parents=True)
        fields.setdefault("image", "busybox")
        return AttemptRequest(
            run="r",
            step="s",
            index=0,
            number=1,
            nonce=nonce,
            argv=("sh", "-c", script),
            staging=staging,
            **fields,
        )

    @property
    def folders(self):
        return list(self.memory.glob(f"{PREFIX}*"))

    def query(self, word):
        return [query for query in self.engine.requests if word in query]


def a_run(source="test"):
    clock = SystemClock()
    return Run(
        id="r",
        source=source,
        workflow="w",
        trigger=Trigger.MANUAL,
        identity="i",
        created_at=clock.now(),
    )


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def once(condition):
    """Return a condition that holds the first time only."""
    seen = []

    def first(query):
        if condition(query):
            seen.append(query)
            return len(seen) == 1
        return False

    return first


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
