"""A comparison as a tree of lines, and as JSON; what prints it stands beside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from controller.model import view
from controller.model.run import labelled
from controller.reconcile.consequences import ImageMove, ScheduleChange, Widening
from controller.reconcile.preview import (
    Action,
    Cause,
    ChangeKind,
    Fate,
    Preview,
    StepPreview,
)
from controller.sides import Comparison

SIGNS = {
    ChangeKind.ADDED: "+",
    ChangeKind.CHANGED: "~",
    ChangeKind.REMOVED: "-",
    ChangeKind.NONE: ">",  # reached through another one
}
WORDS = {
    Action.RUN: "runs now",
    Action.AT_SLOT: "runs at its next slot",
    Action.CACHED: "is served from the cache",
    Action.UNKNOWN: "runs now, maybe from the cache",
    Action.NOTHING: "nothing runs by itself",
    Action.RETIRE: "is retired",
}
FATES = {
    Fate.RUN: "runs",
    Fate.CACHED: "is cached",
    Fate.SKIPPED: "is skipped",
    Fate.UNKNOWN: "isn't known yet",
}
WIDER = {
    Widening.SECRET: "asks for the secret",
    Widening.REGISTRY: "pulls from the registry",
    Widening.RECEIVER: "is started by the receiver",
    Widening.ALERT: "sends the alert",
    Widening.MODULE: "runs the module",
    Widening.CACHE: "shares the cache",
    Widening.ROOT: "runs as root in the step",
}
MOST_CAUSES = 10  # told of one workflow; JSON has all


@dataclass(frozen=True, slots=True)
class Line:
    """A line and what belongs under it."""

    text: str
    below: tuple["Line", ...] = ()


def printable(text: str) -> str:
    """Return text of a branch nobody trusts without what moves a terminal's cursor."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def moved(found: Comparison) -> list[Preview]:
    return [one for one in found.previews if one.causes]


def summary(found: Comparison) -> str:
    changed = moved(found)
    same = len(found.previews) - len(changed)
    return f"{len(changed)} changed, {same} unchanged, {len(found.invalid)} faults"


def lines(found: Comparison) -> Iterator[Line]:
    """Yield a line for each workflow that moves, its causes and consequences under it."""
    for one in moved(found):
        head = f"{SIGNS[one.change]} {found.source}/{one.name}: {WORDS[one.action]}"
        below = (*causes(one.causes), *steps(one.steps), *consequences(found, one.name))
        yield Line(printable(head), below)
    for fault in found.invalid:
        yield Line(printable(f"! {fault}"))


def causes(listed: Sequence[Cause]) -> Iterator[Line]:
    for one in listed[:MOST_CAUSES]:
        yield Line(printable(cause(one)))
    if len(listed) > MOST_CAUSES:
        yield Line(f"and {len(listed) - MOST_CAUSES} more causes")


def steps(listed: Sequence[StepPreview]) -> Iterator[Line]:
    """Yield what becomes of each step, and why."""
    for one in listed[:MOST_CAUSES]:
        label = labelled(one.name, one.matrix)
        yield Line(printable(f"step {label} {FATES[one.fate]}: {one.message}"))
    if len(listed) > MOST_CAUSES:
        yield Line(f"and {len(listed) - MOST_CAUSES} more steps")


def cause(one: Cause) -> str:
    """Return the chain: file -> input -> step."""
    chain = [one.file, one.input and f"input {one.input}", one.step and f"step {one.step}"]
    return f"{one.message}: {' -> '.join(part for part in chain if part)}"


def consequences(found: Comparison, name: str) -> Iterator[Line]:
    also = found.consequences
    for slots in also.schedules:
        if slots.workflow == name:
            yield Line(printable(f"schedule {slots.schedule}: {runs(slots)}"), times(slots))
    for image in also.images:
        if image.workflow == name:
            yield Line(printable(image_text(image)))
    for wider in also.widened:
        if wider.workflow == name:
            yield Line(printable(f"wider: {WIDER[wider.kind]} {wider.name}"))


def image_text(one: ImageMove) -> str:
    return f"image of {one.place}: {one.before} -> {one.after}"


def runs(one: ScheduleChange) -> str:
    if one.monthly is None:
        return "too many runs to count in 30 days"
    if one.monthly == 0:
        return "as many runs in 30 days"
    return f"{abs(one.monthly)} runs {'more' if one.monthly > 0 else 'fewer'} in 30 days"


def times(one: ScheduleChange) -> tuple[Line, ...]:
    return (Line(f"before: {listed(one.before)}"), Line(f"after:  {listed(one.after)}"))


def listed(moments: Sequence[Any]) -> str:
    return ", ".join(str(view.time(one)) for one in moments) or "none"
