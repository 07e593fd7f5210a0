"""One run, here and now, beside any daemon: what `rondel exec` and the Python API share."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from controller import assembly, ids, manifest
from controller.clock import SystemClock
from controller.execute.engine import RunEngine
from controller.manifest.configuration import RESERVED_SOURCE
from controller.model.changes import ClaimRun, CreateRun
from controller.model.run import Run, StepRun
from controller.model.settings import DirectorySource, Settings
from controller.model.workflow import Input, Json
from controller.reconcile.runs import manual_run
from controller.secrets import ConfiguredSecrets
from controller.source import open_source
from controller.store import Store
from controller.store.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, with its steps."""

    run: Run
    steps: list[StepRun]


class FolderInputs:
    """Reads inputs from one folder; implements `execute.ports.Inputs`."""

    def __init__(self, root: Path, clock: SystemClock) -> None:
        settings = DirectorySource(name=RESERVED_SOURCE, path=str(root.absolute()))
        self._source = open_source(settings, state_dir=root, clock=clock)

    def lasting(self, source: str) -> bool:
        """A folder has only its present."""
        del source
        return False

    async def materialise(self, source: str, revision: str, wanted: Input, target: Path) -> str:
        del source
        return await self._source.materialise(revision, wanted, target)


class Oneshot:
    """A run engine of this process on the shared store; it never schedules."""

    def __init__(self, store: Store, engine: RunEngine, clock: SystemClock) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock

    async def execute(
        self,
        body: str,
        params: Mapping[str, Json],
        *,
        fresh: bool = False,
        begun: Callable[[Run], None] | None = None,
    ) -> Ended:
        """Run a workflow to its end; `begun` is told of the run before it starts.

        Raises:
            UsageError: a param is wrong; no run was made.
        """
        workflow = manifest.workflow(body)
        now = self._clock.now()
        run = manual_run(
            RESERVED_SOURCE, workflow.name, key=ids.nonce(), now=now, fresh=fresh, spec=body
        )
        run = replace(run, params=manifest.resolve_params(workflow, params, run))
        instance = self._store.instance
        await self._store.record(
            CreateRun(run=run), ClaimRun(run=run.id, instance=instance, at=now)
        )
        run = replace(run, instance=instance)  # the workflows that it calls are claimed for it too
        if begun is not None:
            begun(run)
        await self._engine.execute(run, workflow)
        return await self.ended(run.id)

    async def ended(self, run_id: str) -> Ended:
        run, steps = await self._store.read(lambda r: (r.run(run_id), r.steps(run_id)))
        assert run is not None  # noqa: S101 - it was created above
        return Ended(run, steps)

    def cancel(self, run_id: str, *, now: bool = False) -> bool:
        return self._engine.cancel(run_id, message="interrupted", now=now)


@asynccontextmanager
async def oneshot(
    settings: Settings,
    *,
    root: Path,
    kind: str,
    on_line: Callable[..., Any] | None = None,
) -> AsyncIterator[Oneshot]:
    """Open the store and an engine on it; settle what a killed process of this kind has left."""
    clock = SystemClock()
    store = await Store.open(
        Path(settings.state_dir), clock=clock, url=settings.store_url, kind=kind
    )
    secrets = ConfiguredSecrets(settings.secrets)
    engine = assembly.run_engine(
        settings,
        store=store,
        ledger=store,
        inputs=FolderInputs(root, clock),
        secrets=secrets,
        clock=clock,
        on_line=on_line,
    )
    try:
        await engine.start()
        yield Oneshot(store, engine, clock)
    finally:
        await engine.stop()
        await tell(settings, store, secrets)
        await asyncio.shield(store.close())


async def tell(settings: Settings, store: Store, secrets: ConfiguredSecrets) -> None:
    """Send what hooks have said; without alerts nothing is looked for."""
    if any(RESERVED_SOURCE in one.sources for one in settings.alerts.values()):
        from controller.notify.once import tell_once  # noqa: PLC0415 - only where there are alerts

        await tell_once(Outbox(store), secrets, settings.alerts, RESERVED_SOURCE)
