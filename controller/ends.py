"""Ends of upstream runs, each in the inbox of every workflow that waits for it until answered."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeAlias

from controller.model.changes import AnswerSchedule, Change
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase, Run
from controller.model.source import Declaration
from controller.observations import Key
from controller.reconcile import upstream
from controller.store import Store

End: TypeAlias = tuple[str, str]
"""(run id, when it ended)"""
OVER = frozenset(phase for phase in Phase if phase.terminal)


class Ends:
    """What the planner is told of upstreams: read once from the store, then followed in memory."""

    def __init__(self, store: Store, enqueue: Callable[[Iterable[Key]], None]) -> None:
        self._store = store
        self._enqueue = enqueue
        self._followed: dict[Key, frozenset[Key]] = {}  # downstream -> its upstreams
        self._followers: dict[Key, set[Key]] = {}  # upstream -> its downstreams
        self._inboxes: dict[Key, dict[End, Run]] = {}

    def of(self, key: Key) -> tuple[Run, ...]:
        """Return the ends that a workflow has not answered."""
        return tuple(self._inboxes.get(key, {}).values())

    def take(self, run: Run) -> None:
        """A run has ended: whoever waits for it is looked at."""
        followers = self._followers.get((run.source, run.workflow), ())
        for key in followers:
            self._put(key, run)
        self._enqueue(followers)

    async def follow(
        self, key: Key, declaration: Declaration | None, status: WorkflowStatus | None
    ) -> None:
        """Follow what is declared; of an upstream that is new here, the store knows the past.

        Raises:
            TransientError: the store can't be read; what was not followed is asked for again.
        """
        triggers = declaration.upstreams if declaration else ()
        if not triggers and key not in self._followed:
            return
        wanted = {upstream.key_of(key[0], one): one for one in triggers}
        before = self._followed.get(key, frozenset())
        for gone in before - {*wanted}:
            self._leave(key, gone)
        for new in sorted({*wanted} - before):
            self._followers.setdefault(new, set()).add(key)  # before reading: nothing between
            marker = upstream.marker(key[0], wanted[new])
            if status and (through := status.answered.get(marker)):
                for run in await self._past(new, through):
                    self._put(key, run)
            self._followed[key] = self._followed.get(key, frozenset()) | {new}

    async def _past(self, key: Key, through: datetime) -> list[Run]:
        source, name = key
        runs = await self._store.read(
            lambda reader: reader.runs(source=source, workflow=name, phases=OVER)
        )
        return [one for one in runs if one.parent is None and upstream.ended_at(one) > through]

    def settle(self, key: Key, given: Iterable[Run], changes: Iterable[Change]) -> None:
        """Drop the ends that a written plan was given and has answered."""
        through = {one.schedule: one.through for one in changes if isinstance(one, AnswerSchedule)}
        inbox = self._inboxes.get(key, {})
        for run in given:
            until = through.get(f"{upstream.PREFIX}{run.source}/{run.workflow}")
            if until is not None and upstream.ended_at(run) <= until:
                inbox.pop(name_of(run), None)
        if not inbox:
            self._inboxes.pop(key, None)

    def _put(self, key: Key, run: Run) -> None:
        self._inboxes.setdefault(key, {})[name_of(run)] = run

    def _leave(self, key: Key, gone: Key) -> None:
        self._followers[gone].discard(key)
        if not self._followers[gone]:
            del self._followers[gone]
        self._followed[key] -= {gone}
        inbox = self._inboxes.get(key, {})
        for name in [one for one, run in inbox.items() if (run.source, run.workflow) == gone]:
            del inbox[name]


def name_of(run: Run) -> End:
    return run.id, upstream.ended_at(run).isoformat()
