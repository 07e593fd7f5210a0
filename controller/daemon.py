"""The loop: sources, passes, claims, runs, doors; the one place that connects the rooms."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from controller import assembly, collector
from controller.alarms import Alarms
from controller.clock import Clock, SystemClock
from controller.deliveries import Deliveries
from controller.dispatcher import Dispatcher, most_runs
from controller.ends import Ends
from controller.errors import RondelError
from controller.following import Following
from controller.housekeeping import housekeep
from controller.loading import Loading
from controller.model.settings import Settings
from controller.model.workflow import ConcurrencyPolicy, Json
from controller.narration import narrate
from controller.observations import Key, Observations
from controller.planning import Planning
from controller.reconciler import Outlet, Reconciler
from controller.recorder import Recorder
from controller.recovery import Recovery
from controller.reload import Reload
from controller.requests import Requests
from controller.secrets import ConfiguredSecrets
from controller.serve.ports import Readiness
from controller.sockets import Sockets
from controller.store import ServeLock, Store
from controller.supervisor import Supervisor
from controller.words import Words

if TYPE_CHECKING:
    from controller.serve.metrics import Metrics

log = structlog.get_logger()

RESYNC = timedelta(minutes=10)
HOUSEKEEPING = timedelta(minutes=15)
STORE_SECONDS = 2.0  # for a trivial read, when somebody asks whether we are ready
CONFIGURATION = timedelta(seconds=2)  # how soon a changed file is noticed, or twice that
JUMP = timedelta(seconds=5)  # how soon a jump of the wall clock is noticed


def run(settings: Settings, read: Callable[[], Settings]) -> int:
    """Serve until a signal ends it; return the exit code. `read` gives the settings anew."""
    state_dir = Path(settings.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ServeLock(state_dir):
        asyncio.run(Daemon(settings, read=read).serve())
    return 0


class Daemon:
    """One controller on one state directory."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        read: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self._read = read or (lambda: settings)
        self.clock = clock or SystemClock()
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._now = asyncio.Event()  # a second signal: cancel at once
        self._turn = asyncio.Lock()
        self._alarms = Alarms()
        self._secrets = ConfiguredSecrets(settings.secrets)
        self._metrics: Metrics | None = None
        self._sockets = Sockets(settings)
        self._jump_base = 0.0
        self._supervisor = Supervisor.found()

    async def serve(self) -> None:
        """Start everything, run until `stop`, end everything in order."""
        async with AsyncExitStack() as stack:
            collector.pause()  # until everything is loaded
            stack.callback(collector.resume)
            self._sockets.bind(stack)
            await self._assemble(stack)
            self._catch_signals()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(task, name=name) for name, task in self._loops().items()]
                tasks.append(group.create_task(self._reload.run(group, self.ready), name="reload"))
                for one in self.settings.sources:
                    self._following.follow(group, one)
                tasks.append(group.create_task(self._open_doors(stack), name="doors"))
                await self._stop.wait()
                await self._wind_down()
                for task in tasks:
                    task.cancel()
                self._following.stop()
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
        self._words = Words(
            store=self.store,
            observations=self._observations,
            settings=lambda: self.settings,
            secrets=self._secrets,
            clock=self.clock,
        )
        self._recorder.accompany(self._words)
        self._loading = Loading(
            store=self.store,
            recorder=self._recorder,
            clock=self.clock,
            enqueue=self._enqueue,
            arrived=self._dispatch,
            dagger=settings.dagger,
            groups=settings.groups,
            secrets=self._secrets,
            receivers=lambda: self.settings.receivers,
            alerts=lambda: self.settings.alerts,
            touched=self._words.touched,
        )
        stack.push_async_callback(self._loading.close)
        self._engine = assembly.run_engine(
            settings,
            store=self.store,
            ledger=self._recorder,
            inputs=self._loading,
            secrets=self._secrets,
            clock=self.clock,
            current=lambda: self.settings,
        )
        self._ends = Ends(self.store, self._observations, self._recorder, self._enqueue)
        self._dispatcher = self._new_dispatcher()
        self._reconciler = self._new_reconciler()
        self._following = self._new_following()
        for one in settings.sources:
            self._following.add(await self._following.open(one))
        self._reload = self._new_reload()
        self._recovery = self._new_recovery()
        await self._recovery.set_aside()
        await self._engine.start()
        stack.push_async_callback(self._engine.stop)
        self._start_alarms()
        stack.callback(self._alarms.stop)

    async def _remembered(self) -> Observations:
        """Runs that a lost instance had claimed are settled first: they are ours from here on."""
        self._lost = await self.store.recover_candidates()
        statuses, active = await self.store.read(
            lambda reader: (reader.workflows(retired=True), reader.active())
        )
        ours = [one for one in active if one.source != "exec" and one.parent is None]
        return Observations(statuses, ours)

    def _new_recovery(self) -> Recovery:
        return Recovery(
            lost=self._lost,
            store=self.store,
            recorder=self._recorder,
            engine=self._engine,
            clock=self.clock,
            state_dir=Path(self.settings.state_dir),
            most=most_runs(self.settings),
            ended=self._ended,
        )

    def _new_dispatcher(self) -> Dispatcher:
        return Dispatcher(
            store=self.store,
            recorder=self._recorder,
            observations=self._observations,
            engine=self._engine,
            clock=self.clock,
            turn=self._turn,
            max_runs=most_runs(self.settings),
            policy=self._policy,
            group_limit=self._loading.group_limit,
            expected=self._loading.expected,
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
            ends=self._ends,
            outlet=Outlet(
                dispatch=self._dispatcher.look,
                cancel=lambda run_id, reason: self._engine.cancel(run_id, reason=reason),
                wake_at=self._alarms.at,
                observe=self._observe,
                passed=self._words.passed,
            ),
        )

    def _new_following(self) -> Following:
        return Following(
            loading=self._loading,
            observations=self._observations,
            store=self.store,
            secrets=self._secrets,
            clock=self.clock,
            settings=lambda: self.settings,
        )

    def _new_reload(self) -> Reload:
        return Reload(
            read=self._read,
            current=lambda: self.settings,
            use=self._use,
            following=self._following,
            loading=self._loading,
            secrets=self._secrets,
            observations=self._observations,
            recorder=self._recorder,
            reconciler=self._reconciler,
            dispatcher=self._dispatcher,
            clock=self.clock,
            turn=self._turn,
        )

    def _use(self, settings: Settings) -> None:
        self.settings = settings

    def _loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        return {
            "recovery": self._recovery.run(),
            "reconciler": self._reconciler.run(),
            "dispatcher": self._dispatcher.run(),
            "clock": self._watch_the_clock(),
            "supervisor": self._supervisor.keep_alive(),
            "words": self._words.run(),
        }

    def _start_alarms(self) -> None:
        self._alarms.start()
        self._alarms.every("resync", RESYNC, self._reconciler.resync)
        self._alarms.every("configuration", CONFIGURATION, self._reload.notice)
        self._alarms.every("housekeeping", HOUSEKEEPING, self._housekeep)
        self._jump_base = self._offset()

    def _offset(self) -> float:
        return self.clock.now().timestamp() - self.clock.monotonic()

    async def _watch_the_clock(self) -> None:
        """By the loop's own time, which nobody sets."""
        while True:
            await asyncio.sleep(JUMP.total_seconds())
            self._notice_a_jump()

    def _notice_a_jump(self) -> None:
        """A wall clock that was set leaves timers waiting for the old time."""
        moved = self._offset() - self._jump_base
        if abs(moved) > 1:
            log.warning("clock_jumped", seconds=round(moved, 3))
            self._jump_base += moved
            self._alarms.set_right()
            self._reconciler.resync()
            self._dispatcher.look()

    def _enqueue(self, keys: Iterable[Key]) -> None:
        self._reconciler.enqueue(keys)

    def _dispatch(self) -> None:
        self._dispatcher.look()

    def _ended(self, keys: Iterable[Key]) -> None:
        self._enqueue(keys)
        self._dispatcher.look()

    def _observe(self, kind: str, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.reconciled(kind, seconds)

    async def _open_doors(self, stack: AsyncExitStack) -> None:
        """The API comes after the first load: its imports must not delay a single run."""
        await self._loading.loaded()
        # What was loaded is enqueued already; what is only remembered may have left its source.
        self._enqueue({*self._observations.keys()} - {*self._loading.keys()})
        self._dispatcher.look()
        collector.settle()
        self.ready.set()
        log.info(
            "ready",
            sources=len(self.settings.sources),
            workflows=len(self._loading.keys()),
            executor=self.settings.executor,
            instance=self.store.instance,
        )
        self._supervisor.tell(READY="1", STATUS=f"workflows: {len(self._loading.keys())}")
        # In a thread: a third of a second of imports must not hold up the loop.
        doors = await asyncio.to_thread(import_module, "controller.serve.doors")
        self._metrics = doors.Metrics()
        self._metrics.take(self._observations.unfinished())
        if self.settings.executor == "dagger":
            self._metrics.watch_engine(lambda: self._engine.up)
        self._metrics.watch_queue(self._dispatcher.waiting)
        self._recorder.follow(self._metrics.follow)
        app = doors.create_app(self._requests(), self.store, self._metrics, self._deliveries())
        await self._sockets.open(stack, doors, app, self.store, self.clock)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.ask)

    async def _wind_down(self) -> None:
        grace = self.settings.shutdown_grace.total_seconds()
        self._supervisor.tell(STOPPING="1", STATUS=f"ending, runs: {self._dispatcher.running}")
        log.info("stopping", running=self._dispatcher.running, grace_seconds=grace)
        await first(self._dispatcher.wind_down(grace), self._now.wait())
        await self._dispatcher.cancel_all(now=self._now.is_set())

    async def _housekeep(self) -> None:
        await housekeep(self.settings, self.store, self.clock, self._loading.histories())
        await self._following.prune()

    def _policy(self, key: Key) -> ConcurrencyPolicy:
        declaration = self._loading.declaration(key)
        return declaration.concurrency_policy if declaration else ConcurrencyPolicy.FORBID

    def _requests(self) -> Requests:
        return Requests(
            store=self.store,
            recorder=self._recorder,
            observations=self._observations,
            loading=self._loading,
            engine=self._engine,
            clock=self.clock,
            turn=self._turn,
            policy=self._policy,
            enqueue=self._enqueue,
            dispatcher=self._dispatcher,
            readiness=self.readiness,
            planning=Planning(
                loading=self._loading,
                store=self.store,
                settings=lambda: self.settings,
                clock=self.clock,
            ),
        )

    def _deliveries(self) -> Deliveries:
        return Deliveries(
            store=self.store,
            recorder=self._recorder,
            loading=self._loading,
            reconciler=self._reconciler,
            secrets=self._secrets,
            clock=self.clock,
            turn=self._turn,
            receivers=lambda: self.settings.receivers,
            dispatch=self._dispatcher.look,
        )

    async def readiness(self) -> Readiness:
        stopping = self._stop.is_set()
        needed = {
            "loaded": self.ready.is_set(),
            "store": await self._store_answers(),
            "engine": self._engine.up,
        }
        draining = self._dispatcher.draining
        ok = all(needed.values()) and not stopping and not draining
        checks: dict[str, Json] = {**needed, "stopping": stopping, "draining": draining}
        if self._reload.trouble:
            checks["configuration"] = self._reload.trouble  # the old one still does its work
        return Readiness(ok=ok, checks=checks)

    async def _store_answers(self) -> bool:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self.store.read(lambda reader: reader.sources())
        except (RondelError, TimeoutError) as error:
            log.warning("store_not_read", error=str(error) or "it took too long")
            return False
        return True


async def first(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when one of these is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
