"""A run engine on the real store and, where processes matter, the real local executor."""

from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controller.clock import SystemClock
from controller.errors import StalledError
from controller.execute.engine import RunEngine
from controller.execute.local import LocalExecutor
from controller.model.changes import Change, ClaimRun, CreateRun
from controller.model.run import Attempt, Phase, Run, StepRun, Trigger
from controller.model.settings import InfrastructureRetry
from controller.model.workflow import Backoff, Input, Retry, Step, Workflow
from controller.store import Store

AT_ONCE = Backoff(duration=timedelta(0), jitter=False)


def step(name: str, script: str = "true", **words: Any) -> Step:
    if "args" in words:
        return Step(name=name, **words)
    return Step(name=name, script=script, **words)


def retry(limit: int, **words: Any) -> Retry:
    return Retry(limit=limit, backoff=AT_ONCE, **words)


def workflow(*steps: Step, **words: Any) -> Workflow:
    return Workflow(name="w", steps=steps, **words)


class Folder:
    """Inputs from a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def lasting(self, source: str) -> bool:
        return source == "git"

    async def materialise(self, source: str, revision: str, wanted: Input, target: Path) -> str:
        del source, revision
        data = (self.root / wanted.path).read_bytes()
        target.write_bytes(data)
        return "sha256:" + str(hash(data))


class KnownSecrets:
    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    async def resolve(self, source: str, names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
        missing = [name for name in names if name not in self.values]
        if missing:
            raise StalledError(f"no secret {missing[0]}", reason="SecretUnknown")
        return {name: (f"{source}/{name}@1", self.values[name]) for name in names}


class Watched:
    """The store's ledger, with every call kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.calls: list[tuple[Change, ...]] = []

    async def record(self, *changes: Change) -> tuple[bool, ...]:
        self.calls.append(changes)
        return await self._store.record(*changes)


class Lab:
    def __init__(self, store: Store, root: Path, **words: Any) -> None:
        self.store = store
        self.ledger = Watched(store)
        self.state_dir = root / "state"
        self.executor = words.pop("executor", None) or LocalExecutor(state_dir=self.state_dir)
        settings: dict[str, Any] = {"max_steps": 20, "log_max_size": 1 << 20}
        settings |= words
        self.secrets = KnownSecrets(settings.pop("secrets", {}))
        self.engine = RunEngine(
            ledger=self.ledger,
            blobs=store.blobs,
            inputs=Folder(root),
            secrets=self.secrets,
            executors={self.executor.name: self.executor},
            clock=SystemClock(),
            state_dir=self.state_dir,
            infrastructure_retry=InfrastructureRetry(limit=2, backoff=AT_ONCE),
            **settings,
        )
        self._count = 0

    async def claimed(self, **words: Any) -> Run:
        """Return a run that is this instance's to execute."""
        self._count += 1
        now = datetime.now(UTC)
        facts: dict[str, Any] = {
            "id": f"w-{self._count:010x}",
            "source": "s",
            "workflow": "w",
            "trigger": Trigger.MANUAL,
            "identity": f"manual:{self._count}",
            "revision": "r1",
            "spec": "{}",
            "created_at": now,
        }
        run = Run(**(facts | words))
        applied = await self.store.record(
            CreateRun(run=run), ClaimRun(run=run.id, instance=self.store.instance, at=now)
        )
        assert all(applied)
        return replace(run, instance=self.store.instance)

    async def execute(self, wanted: Workflow, **words: Any) -> "Story":
        run = await self.claimed(**words)
        await self.engine.execute(run, wanted)
        return await self.story(run.id)

    async def story(self, run_id: str) -> "Story":
        run = await self.store.read(lambda reader: reader.run(run_id))
        assert run is not None
        steps = await self.store.read(lambda reader: reader.steps(run_id))
        attempts = await self.store.read(lambda reader: reader.attempts(run_id))
        return Story(self, run, steps, list(attempts))


class Story:
    """What the store holds of a run."""

    def __init__(self, lab: Lab, run: Run, rows: list[StepRun], attempts: list[Attempt]) -> None:
        self.lab, self.run, self.rows, self.attempts = lab, run, rows, attempts
        self.steps = {row.name: row for row in rows}

    @property
    def phase(self) -> Phase:
        return self.run.phase

    def told(self) -> dict[str, str]:
        """Return step -> "Phase" or "Phase/Reason"."""
        return {
            name: f"{one.phase}/{one.reason}" if one.reason else str(one.phase)
            for name, one in self.steps.items()
        }

    def each(self, name: str) -> list[str]:
        """Return "Phase" or "Phase/Reason" of every combination of a step."""
        return [
            f"{one.phase}/{one.reason}" if one.reason else str(one.phase)
            for one in self.rows
            if one.name == name
        ]

    def attempt(self, name: str, number: int = 1) -> Attempt:
        return next(a for a in self.attempts if a.step == name and a.number == number)

    async def log(self, name: str, number: int = 1) -> list[dict[str, Any]]:
        import json

        found = self.attempt(name, number).log
        if found is None:
            return []
        return [json.loads(line) for line in (await self.lab.store.blobs.get(found)).splitlines()]

    async def text(self, name: str, number: int = 1) -> str:
        return "\n".join(line["line"] for line in await self.log(name, number))


@asynccontextmanager
async def lab(root: Path, **words: Any):
    store = await Store.open(root / "state", clock=SystemClock())
    found = Lab(store, root, **words)
    await found.engine.start()
    try:
        yield found
    finally:
        await found.engine.stop()
        await store.close()
