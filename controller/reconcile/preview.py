"""Which work follows from a change of desired state, and because of which file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from controller.model.source import Declaration, Entry, Fault
from controller.model.workflow import Input
from controller.reconcile.consequences import Consequences, consequences
from controller.reconcile.keys import Index, normal


class ChangeKind(StrEnum):
    ADDED = "Added"
    CHANGED = "Changed"
    REMOVED = "Removed"
    NONE = "None"


class Action(StrEnum):
    RUN = "Run"
    AT_SLOT = "AtSlot"
    NOTHING = "Nothing"
    RETIRE = "Retire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison. `entries` is None when only digests are remembered."""

    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # workflow -> input
    entries: Mapping[str, Entry] | None = None
    invalid: Mapping[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    message: str
    file: str | None = None
    input: str | None = None
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What becomes of one workflow."""

    name: str
    change: ChangeKind
    action: Action
    causes: tuple[Cause, ...] = ()
    follows: Consequences = field(default_factory=Consequences)


def digests_of(
    declarations: Mapping[str, Declaration], entries: Mapping[str, Entry]
) -> dict[str, dict[str, str]]:
    """Return the digests of every workflow's inputs; absent ones are left out."""
    index = Index(entries)
    found: dict[str, dict[str, str]] = {}
    for name, one in declarations.items():
        pairs = ((wanted.name, index.digest(wanted)) for wanted in one.inputs)
        found[name] = {key: digest for key, digest in pairs if digest is not None}
    return found


def preview(base: Side, head: Side, now: datetime) -> list[Preview]:
    """Return every workflow of either side, by name.

    A manifest that is invalid at the head keeps its last valid spec: nothing follows from it.
    """
    names = sorted({*base.declarations, *head.declarations} - {*head.invalid})
    return [
        replace(
            one(name, base, head),
            follows=consequences(base.declarations.get(name), head.declarations.get(name), now),
        )
        for name in names
    ]


def one(name: str, base: Side, head: Side) -> Preview:
    before, after = base.declarations.get(name), head.declarations.get(name)
    if after is None:
        cause = Cause(file=before.file if before else None, message="the manifest was removed")
        return Preview(name=name, change=ChangeKind.REMOVED, action=Action.RETIRE, causes=(cause,))
    causes = tuple(causes_of(name, before, after, base, head))
    if before is None:
        return Preview(
            name=name, change=ChangeKind.ADDED, action=action_of(after, causes), causes=causes
        )
    if not causes:
        return Preview(name=name, change=ChangeKind.NONE, action=Action.NOTHING)
    return Preview(
        name=name, change=ChangeKind.CHANGED, action=action_of(after, causes), causes=causes
    )


def action_of(after: Declaration, causes: tuple[Cause, ...]) -> Action:
    """Return what follows at once: a run, a run at the next slot, or nothing."""
    if after.suspended:
        return Action.NOTHING
    trigger = after.on_change
    by_spec = any(cause.input is None for cause in causes)
    by_input = any(cause.input is not None for cause in causes)
    if trigger is not None and ((trigger.spec and by_spec) or (trigger.inputs and by_input)):
        return Action.RUN
    return Action.AT_SLOT if after.schedules else Action.NOTHING


def causes_of(
    name: str, before: Declaration | None, after: Declaration, base: Side, head: Side
) -> Iterator[Cause]:
    if before is None:
        yield Cause(file=after.file, message="the manifest is new")
        return
    if before.spec_digest != after.spec_digest:
        yield Cause(file=after.file, message="the spec changed")
    for wanted in after.inputs:
        old = base.digests.get(name, {}).get(wanted.name)
        new = head.digests.get(name, {}).get(wanted.name)
        if old != new:
            yield from input_causes(wanted, base, head)


def input_causes(wanted: Input, base: Side, head: Side) -> Iterator[Cause]:
    """Yield the files of an input that differ; the input alone when the base has only digests."""
    if base.entries is None or head.entries is None:
        yield Cause(input=wanted.name, file=wanted.path, message="its files changed")
        return
    before, after = Index(base.entries).select(wanted), Index(head.entries).select(wanted)
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) != after.get(path):
            place = "/".join(part for part in (normal(wanted.path), path) if part)
            yield Cause(input=wanted.name, file=place, message=word(path, before, after))


def word(path: str, before: Mapping[str, Entry], after: Mapping[str, Entry]) -> str:
    if path not in before:
        return "the file was added"
    return "the file changed" if path in after else "the file was removed"
