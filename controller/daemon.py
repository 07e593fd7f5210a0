"""The loop: sources, passes, claims, runs, doors; the one place that connects the rooms."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from controller import assembly, manifest
from controller.alarms import Alarms
from controller.clock import Clock, SystemClock
from controller.dispatcher import Dispatcher
from controller.errors import RefusedError, RondelError, UsageError
from controller.loading import Loading
from controller.model.changes import Change, CreateRun
from controller.model.run import Phase, Run, Trigger
from controller.model.settings import GitSource, Settings
from controller.narration import narrate
from controller.observations import Observations
from controller.reconcile.runs import interrupted_rerun, manual_run
from controller.reconciler import Outlet, Reconciler
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets
from controller.source import open_source
from controller.store import ServeLock, Store

log = structlog.get_logger()

RESYNC = timedelta(minutes=10)
HOUSEKEEPING = timedelta(minutes=15)
JUMP = timedelta(seconds=5)  # how soon a jump of the wall clock is noticed


def run(settings: Settings) -> int:
    """Serve until a signal ends it; return the exit code."""
    state_dir = Path(settings.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ServeLock(state_dir):
        asyncio.run(Daemon(settings).serve())
    return 0


class Daemon:
    """One controller on one state directory; implements `serve.ports.Controller`."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._now = asyncio.Event()  # a second signal: cancel at once
        self._turn = asyncio.Lock()
        self._alarms = Alarms()
        self._secrets = ConfiguredSecrets(settings.secrets)

    async def serve(self) -> None:
        """Start everything, run until `stop`, end everything in order."""
        async with AsyncExitStack() as stack:
            await self._assemble(stack)
            self._catch_signals()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(task, name=name) for name, task in self._loops().items()]
                tasks.append(group.create_task(self._open_doors(stack), name="doors"))
                await self._stop.wait()
                await self._wind_down()
                for task in tasks:
                    task.cancel()
        log.info("stopped")

    def stop(self) -> None:
        """End in order: claim nothing more, let runs end, cancel them after the grace."""
        if self._stop.is_set():
            self._now.set()
        self._stop.set()

    async def _assemble(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        self.store = await Store.open(
            Path(settings.state_dir), clock=self.clock, url=settings.store_url, kind="serve"
        )
        stack.push_async_callback(self.store.close)
        self._observations = await self._remembered()
        self._recorder = Recorder(self.store, self._observations, [narrate])
        self._loading = Loading(
            store=self.store, recorder=self._recorder, clock=self.clock, enqueue=self._enqueue
        )
        stack.push_async_callback(self._loading.close)
        self._engine = assembly.run_engine(
            settings,
            store=self.store,
            ledger=self._recorder,
            inputs=self._loading,
            secrets=self._secrets,
            clock=self.clock,
        )
        self._dispatcher = self._new_dispatcher()
        self._reconciler = self._new_reconciler()
        await self._add_sources()
        await self._engine.start()
        stack.push_async_callback(self._engine.stop)
        await self._recover()
        self._start_alarms()
        stack.callback(self._alarms.stop)

    async def _remembered(self) -> Observations:
        statuses, active = await self.store.read(
            lambda reader: (reader.workflows(retired=True), reader.active())
        )
        return Observations(statuses, [one for one in active if one.source != "exec"])

    def _new_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            store=self.store,
            recorder=self._recorder,
            observations=self._observations,
            engine=self._engine,
            clock=self.clock,
            turn=self._turn,
            max_runs=self.settings.max_parallel.runs,
            ended=lambda key: self._enqueue([key]),
            wake_at=self._alarms.at,
        )

    def _new_reconciler(self) -> Reconciler:
        return Reconciler(
            loading=self._loading,
            observations=self._observations,
            recorder=self._recorder,
            clock=self.clock,
            turn=self._turn,
            outlet=Outlet(
                dispatch=self._dispatcher.look,
                cancel=lambda run_id, reason: self._engine.cancel(run_id, reason=reason),
                wake_at=self._alarms.at,
                observe=self._observe,
            ),
        )

    async def _add_sources(self) -> None:
        known = {
            status.name: status for status in await self.store.read(lambda reader: reader.sources())
        }
        for settings in self.settings.sources:
            refuse_untrusted(settings, self.settings.executor)
            source = open_source(
                settings,
                state_dir=Path(self.settings.state_dir),
                clock=self.clock,
                secrets=self._secrets.operator,
            )
            self._loading.add(settings, source, known.get(settings.name))

    def _loops(self) -> dict[str, Awaitable[None]]:
        follows = {
            f"source {settings.name}": self._loading.follow(settings.name)
            for settings in self.settings.sources
            if not settings.suspend
        }
        return {
            **follows,
            "reconciler": self._reconciler.run(),
            "dispatcher": self._dispatcher.run(),
        }

    def _start_alarms(self) -> None:
        self._alarms.start()
        self._alarms.every("resync", RESYNC, self._reconciler.resync)
        self._alarms.every("jump", JUMP, self._notice_a_jump)
        self._jump_base = self._offset()

    def _offset(self) -> float:
        return self.clock.now().timestamp() - self.clock.monotonic()

    def _notice_a_jump(self) -> None:
        """A wall clock that was set leaves timers waiting for the old time."""
        moved = self._offset() - self._jump_base
        if abs(moved) > 1:
            log.warning("clock_jumped", seconds=round(moved, 3))
            self._jump_base += moved
            self._reconciler.resync()
            self._dispatcher.look()

    def _enqueue(self, keys: Any) -> None:
        self._reconciler.enqueue(keys)

    def _observe(self, kind: str, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.reconciled(kind, seconds)

    async def _recover(self) -> None:
        """Settle what an instance that is gone has left, before anything new starts."""
        for lost, steps, attempts in await self.store.recover_candidates():
            workflow = manifest.workflow(lost.spec)
            await self._engine.recover(lost, workflow, steps, attempts)
            rerun = interrupted_rerun(lost, workflow, self.clock.now())
            if rerun is not None:
                await self._recorder.record(CreateRun(run=rerun))

    async def _open_doors(self, stack: AsyncExitStack) -> None:
        """The API comes after the first load: its imports must not delay a single run."""
        await self._loading.loaded()
        self._reconciler.resync()
        self._dispatcher.look()
        self.ready.set()
        log.info(
            "ready",
            sources=len(self.settings.sources),
            workflows=len(self._loading.keys()),
            executor=self.settings.executor,
            instance=self.store.instance,
        )
        from controller.serve.metrics import Metrics  # noqa: PLC0415 - after the first load
        from controller.serve.server import serve_api  # noqa: PLC0415 - after the first load

        self._metrics = Metrics(self._observations_of_metrics())
        self._recorder.follow(self._metrics.follow)
        await stack.enter_async_context(
            serve_api(self, self.store, self._metrics, Path(self.settings.state_dir))
        )

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    async def _wind_down(self) -> None:
        grace = self.settings.shutdown_grace.total_seconds()
        log.info("stopping", running=self._dispatcher.running, grace_seconds=grace)
        await first(self._dispatcher.drain(grace), self._now.wait())
        await self._dispatcher.cancel_all(now=self._now.is_set())
