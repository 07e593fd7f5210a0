"""Sources to desired state: snapshots come in, what they declare is kept, what changed is told."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

import structlog

from controller import collector
from controller.clock import Clock
from controller.errors import (
    RefusedError,
    RondelError,
    StalledError,
    TransientError,
    UnappliedError,
)
from controller.model.changes import PutSource
from controller.model.condition import (
    SUSPENDED,
    SourceStatus,
    Suspension,
    WorkflowStatus,
    message_of,
)
from controller.model.run import Event
from controller.model.settings import Alert, DaggerSettings, DirectorySource, GitSource, Receiver
from controller.model.source import Declaration, Fault, Snapshot
from controller.naming import name_fault
from controller.observations import Key
from controller.place import (
    Place,
    is_moved,
    is_trustworthy,
    renewed,
    told,
    touched,
    unread,
)
from controller.places import Places
from controller.racing import unless
from controller.reading import Reading
from controller.reconcile import conditions, desired
from controller.reconcile.sharing import with_shared
from controller.recorder import Recorder
from controller.secrets import ConfiguredSecrets
from controller.source.ports import Source
from controller.store import Store

log = structlog.get_logger()

NOTHING: Mapping[str, str] = {}
AGAIN_SECONDS = 5.0  # before a source that crashed is looked at anew
Enqueue: TypeAlias = Callable[[Iterable[Key]], None]


class Loading(Places):
    """Follows every source, and keeps what is loaded of it up to date."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        enqueue: Enqueue,
        arrived: Callable[[], None],
        dagger: DaggerSettings,
        groups: Mapping[str, int],
        secrets: ConfiguredSecrets,
        receivers: Callable[[], Mapping[str, Receiver]],
        alerts: Callable[[], Mapping[str, Alert]],
        touched: Callable[[str, Collection[str]], None],
    ) -> None:
        super().__init__(store, dagger=dagger, groups=groups)
        self._secrets = secrets
        self._receivers = receivers
        self._alerts = alerts
        self._touched = touched  # told what a snapshot touches, once it is loaded
        self._recorder = recorder
        self._clock = clock
        self._enqueue = enqueue
        self._arrived = arrived  # a first look is over: what waited for it may be claimed

    def add(
        self,
        settings: GitSource | DirectorySource,
        source: Source,
        *,
        status: SourceStatus | None,
        remembered: Iterable[WorkflowStatus],
    ) -> None:
        """Take a source in; `status` and `remembered` are what the store knows of it."""
        fresh = unread(settings, source.location)
        known = {one.name: one for one in remembered}
        before = renewed(status, fresh)
        self._places[settings.name] = Place(
            settings=settings,
            source=source,
            reading=Reading(self._store, source, self._dagger.agents, self._name_fault),
            status=conditions.suspended(
                before, before.suspension, declared=settings.suspend, now=self._clock.now()
            ),
            loaded=desired.Loaded.empty(
                settings.name,
                prune=settings.prune,
                allow_empty=settings.allow_empty,
                owners={name: one.file for name, one in known.items()},
                groups=self._groups,
            ),
            remembered=known,
        )

    async def remove(self, name: str) -> None:
        """Forget a source that isn't followed any more, and close it."""
        place = self._places.pop(name)
        place.gone = True
        await place.tell()
        await place.source.close()
        await self._note_shared()

    def use_groups(self, groups: Mapping[str, int]) -> None:
        """Limit by these groups of the configuration from now on."""
        self._groups = groups

    async def follow(self, name: str) -> None:
        """Load each snapshot of one source, until cancelled."""
        place = self._places[name]
        while True:
            try:
                if place.status.suspended:
                    await self._recorder.record(PutSource(status=place.status))
                    await self._recall(place)
                await self._rest(place)
                if not place.settings.suspend:  # a reload, which makes another place of it, ends it
                    await self._follow(place)
                else:
                    place.moved.clear()
                    await place.moved.wait()
            except Exception:
                # A defect met in one source stops no other; its last good state keeps working.
                log.exception("source_crashed", source=name, again_seconds=AGAIN_SECONDS)
                self._looked(place)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _follow(self, place: Place) -> None:
        """Load each snapshot until a person suspends the source."""
        place.moved.clear()
        async with aclosing(place.source.snapshots()) as looks:
            while place.status.suspension is None:
                look = await unless(place.moved, anext(looks))
                if look is None:
                    return
                await self._take(place, look)

    def _looked(self, place: Place) -> None:
        if not place.seen.is_set():
            place.seen.set()
            self._arrived()

    async def _recall(self, place: Place) -> None:
        """Take up every last valid spec, where a first snapshot doesn't come (yet).

        Schedules and limits go on as they were, and runs can be asked for. Where commits have to
        be verified, only what is known to have been.
        """
        if place.snapshot is None and not place.loaded.declarations and is_trustworthy(place):
            known = await self._last_valid(place.remembered.values())
            place.loaded = desired.remembered(place.loaded, known)
            self._enqueue(one.key for one in known)
        self._looked(place)  # nothing is waited for that isn't looked at

    async def _rest(self, place: Place) -> None:
        """Return when the source isn't suspended by a person any more."""
        while (held := place.status.suspension) is not None:
            place.moved.clear()
            left = held.until - self._clock.now() if held.until else None
            try:
                async with asyncio.timeout(left.total_seconds() if left is not None else None):
                    await place.moved.wait()
            except TimeoutError:
                await self.suspend(place.settings.name, None)

    async def suspend(self, name: str, suspension: Suspension | None) -> str | None:
        """Look at a source no more, or with None again; what is loaded of it stays as it is.

        Returns:
            What suspends it still, in words, after a resumption.

        Raises:
            KeyError: there is no such source.
            RefusedError: it is the configuration alone that suspends it.
        """
        place = self._places[name]
        still = "the configuration says `suspend: true`" if place.settings.suspend else None
        if still and suspension is None and place.status.suspension is None:
            raise RefusedError(still, where=f"source {name}", remedy="change it there")
        now = self._clock.now()
        place.status = conditions.suspended(
            place.status, suspension, declared=place.settings.suspend, now=now
        )
        event = Event(
            at=now,
            reason="SourceSuspended" if place.status.suspended else "SourceResumed",
            source=name,
            message=message_of(place.status, SUSPENDED),
        )
        await self._recorder.record(PutSource(status=place.status, event=event))
        place.moved.set()
        if not place.status.suspended:
            place.source.look()
        return still if suspension is None else None

    async def _take(self, place: Place, look: Snapshot | Exception) -> None:
        try:
            await self._take_in(place, look)
        except RondelError as error:
            log.error("load_failed", source=place.settings.name, error=str(error))  # noqa: TRY400  # its words say it all
            place.source.look(tell=True)  # the store could not take it: once more
            await asyncio.sleep(1)
        except Exception:
            log.exception("load_crashed", source=place.settings.name)
        else:
            place.answered = place.source.answered()
        self._looked(place)
        await place.tell()

    async def _take_in(self, place: Place, look: Snapshot | Exception) -> None:
        if not isinstance(look, Snapshot):
            await self._failed(place, look)
            return
        try:
            with place.whole(look.changed) as changed:
                await self._load(place, replace(look, changed=changed))
        except UnappliedError as error:
            await self._failed(place, error)

    def look(self, name: str) -> int:
        """Ask a source for a look now; return the request's number.

        Raises:
            KeyError: there is no such source.
            RefusedError: it is suspended.
        """
        place = self._places[name]
        if place.status.suspended:
            raise RefusedError(
                "is suspended", where=f"source {name}", remedy=f"rondel resume {name}"
            )
        return place.source.look(tell=True)

    async def answer(self, name: str, request: int) -> SourceStatus:
        """Return the source's status once what a look found that began after a request is loaded.

        Raises:
            KeyError: there is no such source.
            RefusedError: it was taken away, or configured anew, meanwhile.
        """
        place = self._places[name]
        async with place.told:
            await place.told.wait_for(lambda: place.answered >= request or place.gone)
        if place.gone:
            raise RefusedError(
                "was configured anew meanwhile", where=f"source {name}", remedy="ask again"
            )
        return place.status

    def _name_fault(self, declaration: Declaration) -> Fault | None:
        return name_fault(
            declaration,
            secrets=self._secrets,
            exports=self._exports,
            alerts=self._alerts(),
            receivers=self._receivers(),
        )

    # One look at a source.

    async def _load(self, place: Place, snapshot: Snapshot) -> None:
        began = self._clock.monotonic()
        place.status = replace(place.status, last_attempted_revision=snapshot.revision)
        gone = {*place.remembered}
        if place.snapshot is None:
            place.loaded = await self._remember(place, snapshot)
        with collector.off():
            known = place.loaded.files
            parsed = await place.reading.read(snapshot, touched(place, snapshot), known)
            place.loaded = desired.advance(place.loaded, told(place, snapshot), parsed)
        place.refuse_a_part(snapshot.revision)
        moved = place.take_inputs(snapshot)
        place.snapshot = snapshot
        name = place.settings.name
        await self._put(
            place, conditions.applied(place.status, place.loaded, snapshot, self._clock.now())
        )
        await self._note_shared()
        gone -= place.loaded.declarations.keys()  # what was there before the first look
        changed = {*place.loaded.changed, *moved, *gone}
        self._touched(name, changed)
        self._enqueue((name, workflow) for workflow in changed)
        log.info(
            "source_loaded",
            source=name,
            revision=snapshot.revision,
            workflows=len(place.loaded.declarations),
            changed=len(changed),
            faults=len(place.loaded.faults),
            seconds=round(self._clock.monotonic() - began, 3),
        )

    async def _failed(self, place: Place, error: Exception) -> None:
        if not isinstance(error, StalledError | TransientError):
            raise error
        log.warning(
            "source_failed", source=place.settings.name, reason=error.reason, error=str(error)
        )
        attempted = place.source.attempted() or place.status.last_attempted_revision
        status = replace(place.status, last_attempted_revision=attempted)
        now = self._clock.now()
        after = conditions.failed(status, error, now)
        await self._put(place, after, conditions.refusal(place.status, after, now))
        await self._recall(place)

    async def _put(self, place: Place, status: SourceStatus, event: Event | None = None) -> None:
        if status != place.status or place.snapshot is None:
            await self._recorder.record(PutSource(status=status, event=event))
        place.status = status

    async def _note_shared(self) -> None:
        """Say at each source which others read its manifests; nothing is written at rest."""
        shared = self._shared()
        for name, place in self._places.items():
            others = shared.get(name, ())
            noted = with_shared(place.status, others, self._clock.now())
            if noted != place.status:
                log.warning("manifests_shared", source=name, others=others)
                await self._put(place, noted)

    async def _remember(self, place: Place, snapshot: Snapshot) -> desired.Loaded:
        """Take up what was loaded before a restart, where the files say something else by now.

        A manifest that is broken or can't be read keeps its last valid spec; one that is gone
        retires as it would have done while we looked.
        """
        moved = [one for one in place.remembered.values() if is_moved(one, snapshot)]
        place.remembered = {}
        return desired.remembered(place.loaded, await self._last_valid(moved))
