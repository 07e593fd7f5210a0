"""Runs before they start: their ids, who may start now, and why the others wait."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import heapify, heappop
from typing import NamedTuple

from controller import digest
from controller.model.run import Attempt, Phase, Run, Trigger
from controller.model.workflow import CacheMode, ConcurrencyPolicy, Json, OnInterrupt, Workflow

ID_DIGITS = 10


def run_id(source: str, workflow: str, identity: str) -> str:
    """Return the id of the run that a trigger starts: the same trigger, the same id."""
    digits = digest.of_value([source, workflow, identity]).removeprefix("sha256:")
    return f"{workflow}-{digits[:ID_DIGITS]}"


def manual_run(
    source: str,
    workflow: str,
    *,
    key: str,
    now: datetime,
    params: Mapping[str, Json] | None = None,
    fresh: bool = False,
    spec: str = "",
) -> Run:
    """Return a Pending run that a person asked for; `key` tells one wish from another."""
    identity = f"manual:{key}"
    return Run(
        id=run_id(source, workflow, identity),
        source=source,
        workflow=workflow,
        trigger=Trigger.MANUAL,
        identity=identity,
        params=params or {},
        fresh=fresh,
        spec=spec,
        created_at=now,
    )


def called_run(parent: Run, workflow: str, attempt: Attempt, now: datetime) -> Run:
    """Return the run that is one attempt of a step of `parent`, without its spec and params.

    Trigger, time and revision are the caller's: to what it does, it is the same occasion.
    """
    identity = f"call:{parent.id}:{attempt.step}.{attempt.index}.{attempt.number}"
    return Run(
        id=run_id(parent.source, workflow, identity),
        source=parent.source,
        workflow=workflow,
        trigger=parent.trigger,
        identity=identity,
        parent=parent.id,
        revision=parent.revision,
        scheduled_time=parent.logical_time,
        time_zone=parent.time_zone,
        priority=parent.priority,
        fresh=parent.fresh,
        created_at=now,
    )


def interrupted_rerun(lost: Run, workflow: Workflow, now: datetime) -> Run | None:
    """Return the one new run that answers an interrupted run's trigger; None when none shall."""
    if lost.parent is not None:
        return None  # its caller is what a trigger started
    if lost.rerun_of is not None or on_interrupt(workflow) is not OnInterrupt.RERUN:
        return None
    identity = f"interrupted:{lost.id}"
    if lost.trigger is Trigger.BACKFILL:  # it stays in its backfill
        identity = f"{lost.identity}:interrupted"
    return replace(
        lost,
        id=run_id(lost.source, lost.workflow, identity),
        identity=identity,
        phase=Phase.PENDING,
        reason="",
        message="",
        rerun_of=lost.id,
        instance=None,
        inputs={},
        versions={},
        outputs={},
        not_before=None,
        created_at=now,
        started_at=None,
        finished_at=None,
    )


def on_interrupt(workflow: Workflow) -> OnInterrupt:
    """Return what an interruption calls for; unsaid, only steps that all cache run again."""
    if workflow.on_interrupt is not None:
        return workflow.on_interrupt
    caches = all(step.cache.mode is not CacheMode.OFF for step in workflow.steps)
    return OnInterrupt.RERUN if workflow.steps and caches else OnInterrupt.FAIL


class GroupLimit(NamedTuple):
    """A concurrency group that a run has to find room in."""

    group: str  # "source/name"; the bare name of a group of the configuration
    limit: int  # claimed runs at once


def no_group(key: tuple[str, str]) -> None:
    """Return the limit of a workflow without a group."""
    del key


@dataclass(frozen=True, slots=True)
class Choice:
    """Runs to start now, in order; the others and why each waits; when a wait ends by itself."""

    start: tuple[Run, ...]  # with the group in which each takes a place
    rest: tuple[Run, ...]
    why: Callable[[Run], str]
    wake_at: datetime | None

    @property
    def waiting(self) -> Mapping[str, str]:
        """Return run id -> why it waits; worked out when somebody asks."""
        return {run.id: self.why(run) for run in self.rest}


def claimable(
    pending: Iterable[Run],
    running: Iterable[Run],
    *,
    max_runs: int,
    now: datetime,
    policy: Callable[[tuple[str, str]], ConcurrencyPolicy],
    group_limit: Callable[[tuple[str, str]], GroupLimit | None] = no_group,
) -> Choice:
    """Choose which Pending runs start: by priority, then time, as far as the limits allow.

    Args:
        pending: runs that nobody has claimed.
        running: claimed ones, of every workflow.
        max_runs: how many may be claimed at once (maxParallel.runs).
        now: the pass's single reading of the clock.
        policy: of a workflow (source, name); but for Allow one of its runs is active at a time.
        group_limit: of a workflow; a full group holds back its own workflows' runs, and no others.
    """
    waiting, active = list(pending), list(running)
    room = Room(active, policy, group_limit)
    free = max_runs - len(active)
    start: dict[str, Run] = {}
    for run in in_order(waiting, now) if free > 0 else ():
        if not room.is_busy(run) and room.full_group(run) is None:
            start[run.id] = room.taken_by(run)
            if len(start) == free:
                break

    def why(run: Run) -> str:
        if is_early(run, now):
            return f"not before {run.not_before:%Y-%m-%dT%H:%M:%SZ}"
        if room.is_busy(run):
            return "another run of this workflow is active"
        if (full := room.full_group(run)) is not None:
            return f"the group {full.group} is full ({full.limit})"
        return f"maxParallel.runs ({max_runs}) are running"

    rest = tuple(run for run in waiting if run.id not in start)
    return Choice(tuple(start.values()), rest, why, next_moment(waiting, now))


class Room:
    """What the runs that are active leave to others."""

    def __init__(
        self,
        active: Iterable[Run],
        policy: Callable[[tuple[str, str]], ConcurrencyPolicy],
        group_limit: Callable[[tuple[str, str]], GroupLimit | None],
    ) -> None:
        self._policy = policy
        self._group_limit = group_limit
        self._busy: set[tuple[str, str]] = set()
        self._filling: set[tuple[str, str]] = set()  # workflows with an active run of a backfill
        self._held: Counter[str | None] = Counter()
        for run in active:
            self._note(run)

    def _note(self, run: Run) -> None:
        self._busy.add(key_of(run))
        if run.trigger is Trigger.BACKFILL:
            self._filling.add(key_of(run))
        self._held[run.group] += 1

    def is_busy(self, run: Run) -> bool:
        """Tell whether another run of the workflow is in the way; backfills go one by one."""
        key = key_of(run)
        if run.trigger is Trigger.BACKFILL and key in self._filling:
            return True
        return key in self._busy and self._policy(key) is not ConcurrencyPolicy.ALLOW

    def full_group(self, run: Run) -> GroupLimit | None:
        """Return the run's group when it has no place left."""
        limit = self._group_limit(key_of(run))
        return limit if limit is not None and self._held[limit.group] >= limit.limit else None

    def taken_by(self, run: Run) -> Run:
        """Return the run with the place that it takes."""
        limit = self._group_limit(key_of(run))
        run = replace(run, group=limit.group if limit else None)
        self._note(run)
        return run


def in_order(pending: Iterable[Run], now: datetime) -> Iterator[Run]:
    """Yield what may start by its own time; only as many as are asked for are sorted."""
    ripe = (run for run in pending if not is_early(run, now))
    heap = [(order(run), number, run) for number, run in enumerate(ripe)]
    heapify(heap)
    while heap:
        yield heappop(heap)[2]


def key_of(run: Run) -> tuple[str, str]:
    return (run.source, run.workflow)


def is_early(run: Run, now: datetime) -> bool:
    return run.not_before is not None and run.not_before > now


def order(run: Run) -> tuple[int, bool, datetime, str]:
    """Backfills come last of their priority: what is due now does not wait for the past."""
    backfill = run.trigger is Trigger.BACKFILL
    return (-run.priority, backfill, run.scheduled_time or run.created_at, run.id)


def next_moment(pending: Iterable[Run], now: datetime) -> datetime | None:
    moments = (run.not_before for run in pending if run.not_before and run.not_before > now)
    return min(moments, default=None)
