"""What else follows from a change: other slots, new secrets, moved images, wider permissions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from controller.model.source import Declaration
from controller.model.workflow import Schedule
from controller.reconcile.preview import Side, steps_of
from controller.reconcile.schedule import judged, slots, upto

NEXT = 5  # slots shown of each side
MONTH = timedelta(days=30)
MOST = 45_000  # slots counted in a month: one a minute still is
HUB = "docker.io"  # whose images are written without a registry
ROOT = {"0", "root"}


class Widening(StrEnum):
    """What a workflow may reach at the head that it could not before."""

    SECRET = "NewSecret"  # noqa: S105 - a word, no password
    REGISTRY = "NewRegistry"
    RECEIVER = "NewReceiver"
    ALERT = "NewAlert"
    MODULE = "NewModule"
    CACHE = "NewCache"
    ROOT = "RunsAsRoot"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """One schedule's next starts on both sides; empty where it doesn't exist or is suspended.

    `monthly` is how many slots the 30 days from now gain; None: there are too many to count.
    """

    workflow: str
    schedule: str
    before: tuple[datetime, ...]
    after: tuple[datetime, ...]
    monthly: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMove:
    """An image whose text changed: `place` is the step, or step/service."""

    workflow: str
    place: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A permission that widens: what is newly named, and where."""

    workflow: str
    kind: Widening
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    schedules: tuple[ScheduleChange, ...] = ()
    images: tuple[ImageMove, ...] = ()
    widened: tuple[Finding, ...] = ()


def consequences(base: Side, head: Side, now: datetime) -> Consequences:
    """Return what follows from the change beside runs; of workflows that differ alone."""
    names = [
        name
        for name in sorted({*base.declarations, *head.declarations})
        if name not in head.invalid and differs(name, base, head)
    ]
    return Consequences(
        schedules=tuple(one for name in names for one in moved_slots(name, base, head, now)),
        images=tuple(one for name in names for one in moved_images(name, base, head)),
        widened=tuple(one for name in names for one in widened(name, base, head)),
    )


def differs(name: str, base: Side, head: Side) -> bool:
    before, after = base.declarations.get(name), head.declarations.get(name)
    if before is None or after is None:
        return True
    return (before.spec_digest, before.suspended) != (after.spec_digest, after.suspended)


# Schedules.


def moved_slots(name: str, base: Side, head: Side, now: datetime) -> Iterator[ScheduleChange]:
    """Yield each schedule that starts at other times; a renamed one is one gone and one new."""
    before, after = base.declarations.get(name), head.declarations.get(name)
    old, new = scheduled(before), scheduled(after)
    for identity in sorted({*old, *new}):
        was, will = old.get(identity), new.get(identity)
        if starts(was) == starts(will):
            continue
        yield ScheduleChange(
            workflow=name,
            schedule=shown(will or was),
            before=coming(before, was, now),
            after=coming(after, will, now),
            monthly=gained(monthly(was, now), monthly(will, now)),
        )


def scheduled(declaration: Declaration | None) -> Mapping[str, Schedule]:
    """Return the schedules that fire, by identity; a suspended workflow's don't."""
    if declaration is None or declaration.suspended:
        return {}
    return {one.identity: one for one in declaration.schedules}


def shown(schedule: Schedule | None) -> str:
    """Return what people call it: its name, else when it fires."""
    return (schedule.name or f"{schedule.cron} {schedule.time_zone}") if schedule else ""


def starts(schedule: Schedule | None) -> object:
    """Return all that decides when a schedule's runs start."""
    return schedule and (schedule.cron, schedule.time_zone, schedule.jitter)


def coming(
    declaration: Declaration | None, schedule: Schedule | None, now: datetime
) -> tuple[datetime, ...]:
    """Return when the next runs start: slot + jitter."""
    if declaration is None or schedule is None:
        return ()
    following = islice(slots(schedule, now), NEXT)
    return tuple(judged(declaration, schedule, slot) for slot in following)


def monthly(schedule: Schedule | None, now: datetime) -> int | None:
    """Return how many slots the 30 days from now have; None: more than are counted."""
    if schedule is None:
        return 0
    found = len(upto(schedule, now, now + MONTH, MOST + 1))
    return found if found <= MOST else None


def gained(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


# Images.


def moved_images(name: str, base: Side, head: Side) -> Iterator[ImageMove]:
    """Yield the images whose text differs where both sides have one."""
    before, after = images(name, base), images(name, head)
    for place in after:
        if place in before and before[place] != after[place]:
            yield ImageMove(workflow=name, place=place, before=before[place], after=after[place])


def images(name: str, side: Side) -> Mapping[str, str]:
    """Return the images as they are written, by step or step/service."""
    found: dict[str, str] = {}
    for step in steps_of(name, side):
        if isinstance(step.get("image"), str):
            found[step["name"]] = step["image"]
        for service in step.get("services", ()):
            if isinstance(service.get("image"), str):
                found[f"{step['name']}/{service['name']}"] = service["image"]
    return found


def registry_of(image: str) -> str:
    """Return the registry that an image's name says, as Docker reads names."""
    first, slash, _ = image.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    return first if named else HUB


# Permissions.


def widened(name: str, base: Side, head: Side) -> Iterator[Finding]:
    """Yield what the head names and the base doesn't.

    What only a body says is not judged against a base whose body nobody has.
    """
    after = head.declarations.get(name)
    if after is None:
        return
    before = base.declarations.get(name)
    old = set(declared(before)) if before is not None else set()
    new = set(declared(after))
    if before is None or name in base.bodies:
        old |= set(written(name, base))
        new |= set(written(name, head))
    for kind, what in sorted(new - old):
        yield Finding(workflow=name, kind=kind, name=what)


def declared(one: Declaration) -> Iterator[tuple[Widening, str]]:
    yield from ((Widening.SECRET, name) for name in one.secrets)
    yield from ((Widening.RECEIVER, hook.receiver) for hook in one.webhooks)
    yield from ((Widening.ALERT, name) for name in one.alerts)


def written(name: str, side: Side) -> Iterator[tuple[Widening, str]]:
    yield from ((Widening.REGISTRY, registry_of(image)) for image in images(name, side).values())
    for step in steps_of(name, side):
        if "module" in step:
            yield Widening.MODULE, step["module"]["ref"]
        yield from ((Widening.CACHE, cache["key"]) for cache in step.get("caches", ()))
        if str(step.get("user", "")).partition(":")[0] in ROOT:
            yield Widening.ROOT, step["name"]
