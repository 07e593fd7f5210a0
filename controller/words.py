"""What happened to words for the outside: decided beside each change, kept with it, told later."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from datetime import datetime

import structlog

from controller.clock import Clock
from controller.errors import RondelError
from controller.model.changes import (
    Change,
    CreateRun,
    EndTroubles,
    FinishRun,
    PutCommitStatus,
    PutSource,
    PutTrouble,
    PutWord,
    PutWorkflow,
    RetryRun,
    Together,
)
from controller.model.condition import SourceStatus, find
from controller.model.run import Run
from controller.model.settings import DirectorySource, GitSource, Settings, Statuses
from controller.notify.pace import Bucket, Pace
from controller.notify.postman import Postman
from controller.notify.rounds import AlertRound, ForgeRound
from controller.observations import Key, Observations
from controller.reconcile import alerting, statuses
from controller.reconcile.conditions import is_refused
from controller.secrets import ConfiguredSecrets
from controller.store import Store
from controller.store.outbox import Outbox

log = structlog.get_logger()

AGAIN_SECONDS = 1.0  # after the store could not be written
TOLD = (PutWord, PutTrouble, EndTroubles, PutCommitStatus)


class Words:
    """Says what the outside is to be told of each change.

    Implements `recorder.Companion`.
    """

    def __init__(
        self,
        *,
        store: Store,
        observations: Observations,
        settings: Callable[[], Settings],
        secrets: ConfiguredSecrets,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._store = store
        self._observations = observations
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._pace = pace or Pace()
        self._buckets: dict[str, Bucket] = {}  # by alert
        self._sources: dict[str, SourceStatus] = {}  # as applied last
        self._open: dict[str, set[str]] = {}  # source -> workflows that its commit touches
        self._moved = asyncio.Event()  # fewer of them are left, or a commit touches none
        self._postman = Postman(
            Outbox(store), alert=self._alert, forge=self._forge, pace=self._pace
        )

    async def run(self) -> None:
        """Tell what waits until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._postman.run(), name="postman")
            group.create_task(self._settle_in_turn(), name="commits")

    # What is to be told.

    def accompanied(self, changes: Collection[Change]) -> tuple[Change, ...]:
        """Return the changes, each with what the outside is to be told of it."""
        settings = self._settings()
        if not settings.alerts and not any(map(place_of, settings.sources)):
            return tuple(changes)
        answered = alerting.answered_runs(changes)
        return tuple(self._accompanied(one, answered) for one in changes)

    def _accompanied(self, change: Change, answered: Collection[str]) -> Change:
        """What happened is recorded, whatever a defect makes of the words for it."""
        try:
            beside = self._beside(change, answered)
        except Exception:
            log.exception("words_crashed", change=type(change).__name__)
            return change
        return Together(change=change, beside=beside) if beside else change

    def _beside(self, change: Change, answered: Collection[str]) -> tuple[Change, ...]:
        alerts, now = self._settings().alerts, self._clock.now()
        match change:
            case CreateRun(run=run) | RetryRun(run=run):
                return (*alerting.of_run(run, alerts), *self._of_run(run, now))
            case FinishRun():
                return self._of_end(change, answered)
            case PutWorkflow():
                return (*alerting.of_workflow(change, alerts, now), *self._of_fault(change, now))
            case PutSource(status=status):
                return (*alerting.of_source(change, alerts, now), *self._of_commit(status, now))
            case _:
                return ()

    def _of_end(self, change: FinishRun, answered: Collection[str]) -> tuple[Change, ...]:
        """A run that is a step of another, or of `exec`, is not observed: it tells nothing."""
        run = self._observations.run(change.run)
        if run is None:
            return ()
        run, alerts = alerting.as_ended(run, change), self._settings().alerts
        told = alerting.of_run(run, alerts, answered=run.id in answered)
        return (*told, *self._of_run(run, change.at))

    def _of_run(self, run: Run, at: datetime) -> tuple[Change, ...]:
        return statuses.of_run(run, at) if self._place(run.source) else ()

    def _of_fault(self, change: PutWorkflow, now: datetime) -> tuple[Change, ...]:
        source, name = change.status.source, change.status.name
        if self._place(source) is None:
            return ()
        before = self._observations.status((source, name))
        return statuses.of_workflow(before, change, self._commit(source), now)

    def _of_commit(self, status: SourceStatus, now: datetime) -> tuple[Change, ...]:
        if self._place(status.name) is None:
            return ()
        before = self._commit(status.name) if status.name in self._sources else None
        commit = statuses.commit_of(status.last_applied_revision)
        applied = statuses.applied(status.name, commit, before, now)
        return (*applied, *statuses.refused(status, now))

    def _commit(self, source: str) -> str:
        """Return the commit that is applied, "" before the first."""
        known = self._sources.get(source)
        return statuses.commit_of(known.last_applied_revision) if known else ""

    def _place(self, source: str) -> Statuses | None:
        return next((place_of(one) for one in self._settings().sources if one.name == source), None)

    # What was written.

    def follow(self, change: Change) -> None:
        """A change was written, or what stands beside one."""
        if isinstance(change, PutSource):
            self._note(change.status)
        elif isinstance(change, TOLD):
            self._postman.wake()

    def _note(self, status: SourceStatus) -> None:
        """A look of which nothing is applied says nothing of the commit that is."""
        failed = find(status.conditions, "FetchFailed") is not None or is_refused(status)
        if status.name not in self._sources or not failed:
            self._sources[status.name] = status

    def touched(self, source: str, workflows: Collection[str]) -> None:
        """A snapshot was loaded, and touches these workflows: each will be passed."""
        if self._place(source) is not None:
            self._open.setdefault(source, set()).update(workflows)
            self._moved.set()

    def passed(self, keys: Iterable[Key]) -> None:
        """These workflows were looked at; what follows from their commit is recorded."""
        if self._open:
            for source, workflow in keys:
                self._open.get(source, set()).discard(workflow)
            self._moved.set()

    async def _settle_in_turn(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                await self._settle()
            except RondelError as error:
                log.warning("commits_not_settled", error=str(error))
                self._moved.set()
                await asyncio.sleep(AGAIN_SECONDS)

    async def _settle(self) -> None:
        """Have sources say their own word on a commit once nothing of it is left to look at."""
        for source in [name for name, left in self._open.items() if not left]:
            del self._open[source]  # first: another snapshot may be loaded meanwhile
            if not (commit := self._commit(source)):
                continue
            told = statuses.looked_at(self._sources[source], commit, self._clock.now())
            try:
                await self._store.record(*told)
            except RondelError:
                self._open.setdefault(source, set())
                raise
            self._postman.wake()

    # Who is told.

    def _alert(self, name: str) -> AlertRound:
        return AlertRound(
            name,
            alert=lambda: self._settings().alerts.get(name),
            outbox=Outbox(self._store),
            secrets=self._secrets,
            bucket=self._buckets.setdefault(name, Bucket(self._pace)),
            pace=self._pace,
            clock=self._clock,
        )

    def _forge(self, source: str) -> ForgeRound:
        known = next((one for one in self._settings().sources if one.name == source), None)
        return ForgeRound(
            source,
            place=lambda: self._place(source),
            proxy=known.proxy if isinstance(known, GitSource) else None,
            outbox=Outbox(self._store),
            secrets=self._secrets,
            pace=self._pace,
            clock=self._clock,
        )


def place_of(source: GitSource | DirectorySource) -> Statuses | None:
    return source.statuses if isinstance(source, GitSource) else None
