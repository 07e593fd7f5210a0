"""What a change of a manifest brings besides a run: other times, other rights."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.reconcile.schedule import upto

NEXT = 5  # slots that are shown
MONTH = timedelta(days=30)
MOST = 50_000  # slots that are counted: some more than one a minute makes in a month


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTimes:
    """A schedule whose slots are other ones; in UTC, without jitter."""

    schedule: str  # its name, else what it says
    before: tuple[datetime, ...]
    after: tuple[datetime, ...]
    runs_per_month: int  # more than before; below 0: fewer. Each side counts as 50,000 at most


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grant:
    """Something that a workflow names now and did not name before."""

    kind: str  # Secret, Agent, Alert, Receiver, Upstream, Workflow
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    times: tuple[NewTimes, ...] = ()
    grants: tuple[Grant, ...] = ()


def consequences(
    before: Declaration | None, after: Declaration | None, now: datetime
) -> Consequences:
    """Return what follows from `after` in the place of `before`; None is a manifest not there."""
    if before == after:
        return Consequences()
    return Consequences(
        times=tuple(new_times(before, after, now)),
        grants=tuple(sorted({*named(after)} - {*named(before)})),
    )


def new_times(
    before: Declaration | None, after: Declaration | None, now: datetime
) -> Iterator[NewTimes]:
    old, new = ticking(before), ticking(after)
    for identity in sorted({*old, *new}):
        was, becomes = old.get(identity), new.get(identity)
        if beat(was) != beat(becomes):
            yield NewTimes(
                schedule=shown(becomes or was),
                before=upcoming(was, now, NEXT),
                after=upcoming(becomes, now, NEXT),
                runs_per_month=a_month(becomes, now) - a_month(was, now),
            )


def ticking(declaration: Declaration | None) -> dict[str, Schedule]:
    """Return the schedules that start anything, by identity."""
    if declaration is None or declaration.suspended:
        return {}
    return {one.identity: one for one in declaration.schedules}


def beat(schedule: Schedule | None) -> tuple[str, str] | None:
    """Return what decides on a schedule's slots."""
    return (schedule.cron, schedule.time_zone) if schedule else None


def shown(schedule: Schedule | None) -> str:
    return (schedule.name or f"{schedule.cron} {schedule.time_zone}") if schedule else ""


def upcoming(schedule: Schedule | None, now: datetime, most: int) -> tuple[datetime, ...]:
    # A year, and not for ever: a schedule may come once in 28 years.
    return upto(schedule, now, now + timedelta(days=366), most) if schedule else ()


def a_month(schedule: Schedule | None, now: datetime) -> int:
    return len(upto(schedule, now, now + MONTH, MOST)) if schedule else 0


def named(declaration: Declaration | None) -> Iterator[Grant]:
    """Yield what a workflow may use, by naming it."""
    if declaration is None:
        return
    names = {
        "Secret": declaration.secrets,
        "Agent": declaration.agents,
        "Alert": declaration.alerts,
        "Receiver": tuple(one.receiver for one in declaration.webhooks),
        "Upstream": tuple(one.workflow for one in declaration.upstreams),
        "Workflow": declaration.calls,
    }
    for kind, those in names.items():
        for name in those:
            yield Grant(kind=kind, name=name)
