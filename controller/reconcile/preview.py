"""Which work follows from a change of desired state, and because of which file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from controller.manifest import raw
from controller.model.agent import Agent
from controller.model.source import Declaration, Entry, Fault
from controller.model.workflow import Input, Json
from controller.reconcile.keys import Index, normal
from controller.reconcile.status import fires


class ChangeKind(StrEnum):
    ADDED = "Added"
    CHANGED = "Changed"
    REMOVED = "Removed"
    NONE = "None"


class Action(StrEnum):
    RUN = "Run"
    AT_SLOT = "AtSlot"
    CACHED = "Cached"  # a run starts, and kept results serve all of it
    UNKNOWN = "Unknown"  # a run starts; whether kept results serve it isn't known
    NOTHING = "Nothing"
    RETIRE = "Retire"


class Fate(StrEnum):
    """What becomes of a step of a run that starts now."""

    RUN = "Run"
    CACHED = "Cached"
    SKIPPED = "Skipped"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPreview:
    """One step, or one combination of it; `message` says which result serves it, or why none."""

    name: str
    fate: Fate
    matrix: Mapping[str, Json] | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison. `entries` is None when only digests are remembered."""

    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    digests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # workflow -> input
    entries: Mapping[str, Entry] | None = None
    bodies: Mapping[str, str] = field(default_factory=dict)  # workflow -> canonical JSON, if known
    invalid: Mapping[str, Fault] = field(default_factory=dict)
    agents: Mapping[str, Agent] = field(default_factory=dict)  # of the source's own files


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A chain from a file to a step; `uses` is the called workflow that it goes through."""

    message: str
    file: str | None = None
    input: str | None = None
    step: str | None = None
    uses: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What becomes of one workflow."""

    name: str
    change: ChangeKind
    action: Action
    causes: tuple[Cause, ...] = ()
    steps: tuple[StepPreview, ...] = ()  # of a run that starts now, where results are kept


def forecast_of(found: Preview, steps: tuple[StepPreview, ...]) -> Preview:
    """Return a preview of a run with what becomes of its steps."""
    return replace(found, action=foreseen(steps), steps=steps)


def foreseen(steps: tuple[StepPreview, ...]) -> Action:
    """Return what a run comes to: one step that runs is a run, one nobody knows leaves it open."""
    fates = {one.fate for one in steps}
    if Fate.RUN in fates:
        return Action.RUN
    if Fate.UNKNOWN in fates:
        return Action.UNKNOWN
    return Action.CACHED if Fate.CACHED in fates else Action.NOTHING


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """What a source's configuration says of its commits."""

    prune: bool = True
    allow_empty: bool = False
    atomic: bool = False


def preview(base: Side, head: Side, manners: Manners = Manners()) -> list[Preview]:
    """Return every workflow of either side, by name.

    A manifest that is invalid at the head keeps its last valid spec: nothing follows from it.
    """
    names = sorted({*base.declarations, *head.declarations} - {*head.invalid})
    found = {name: one(name, base, head) for name in names}
    changed = {name for name, each in found.items() if each.change is not ChangeKind.NONE}
    every = [with_called(each, changed, head) for each in found.values()]
    if manners.atomic and head.invalid:
        return [held_back(each, "the source is atomic and this has faults") for each in every]
    kept = why_kept(head, manners)
    return [
        held_back(each, kept) if kept and each.action is Action.RETIRE else each for each in every
    ]


def why_kept(head: Side, manners: Manners) -> str:
    """Return why workflows whose manifests are gone work on; "" when they retire."""
    if not manners.prune:
        return "the source says prune: false"
    if not head.declarations and not manners.allow_empty:
        return "an empty source retires nothing without allowEmpty"
    return ""


def held_back(found: Preview, why: str) -> Preview:
    """Return a preview from which nothing follows, and why."""
    if found.action is Action.NOTHING:
        return found
    return replace(found, action=Action.NOTHING, causes=(*found.causes, Cause(message=why)))


def one(name: str, base: Side, head: Side) -> Preview:
    before, after = base.declarations.get(name), head.declarations.get(name)
    if after is None:
        cause = Cause(file=before.file if before else None, message="the manifest was removed")
        return Preview(name=name, change=ChangeKind.REMOVED, action=Action.RETIRE, causes=(cause,))
    causes = tuple(causes_of(name, before, after, base, head))
    if before is None:
        action = action_of(after, new_spec=True, new_inputs=True)  # a first sighting is both
        return Preview(name=name, change=ChangeKind.ADDED, action=action, causes=causes)
    new_spec = before.spec_digest != after.spec_digest
    new_inputs = dict(base.digests.get(name, {})) != dict(head.digests.get(name, {}))
    if not new_spec and not new_inputs:
        return Preview(name=name, change=ChangeKind.NONE, action=Action.NOTHING)
    action = action_of(after, new_spec=new_spec, new_inputs=new_inputs)
    return Preview(name=name, change=ChangeKind.CHANGED, action=action, causes=causes)


def with_called(found: Preview, changed: set[str], head: Side) -> Preview:
    """Add what reaches a workflow through those that its steps use.

    A change of a called workflow is none of its caller's: no `onChange` fires, but its next run
    is another one.
    """
    after = head.declarations.get(found.name)
    if after is None or found.change is ChangeKind.ADDED:
        return found
    called = [name for name in reached(after, head) if name in changed]
    causes = (*found.causes, *(call_cause(found.name, name, head) for name in called))
    if found.action is Action.NOTHING and called:
        return replace(found, causes=causes, action=at_slot(after))
    return replace(found, causes=causes)


def reached(declaration: Declaration, head: Side) -> list[str]:
    """Return every workflow that runs as a part of this one, the nearest first."""
    found: list[str] = []
    waiting = list(declaration.calls)
    while waiting:
        name = waiting.pop(0)
        if name not in found and name != declaration.name:
            found.append(name)
            waiting += head.declarations[name].calls if name in head.declarations else ()
    return found


def call_cause(caller: str, called: str, head: Side) -> Cause:
    one = head.declarations.get(called)
    using = (
        step["name"]
        for step in steps_of(caller, head)
        if raw.mapping(step, "uses").get("workflow") == called
    )
    return Cause(
        message=f"the workflow {called} that it uses changed",
        file=one.file if one else None,
        step=next(using, None),
        uses=called,
    )


def action_of(after: Declaration, *, new_spec: bool, new_inputs: bool) -> Action:
    """Return what follows at once, as the planner does: a run, a run at the next slot, nothing."""
    if not after.suspended and fires(after.on_change, new_spec=new_spec, new_inputs=new_inputs):
        return Action.RUN
    return at_slot(after)


def at_slot(after: Declaration) -> Action:
    return Action.AT_SLOT if after.schedules and not after.suspended else Action.NOTHING


def causes_of(
    name: str, before: Declaration | None, after: Declaration, base: Side, head: Side
) -> Iterator[Cause]:
    if before is None:
        yield Cause(file=after.file, message="the manifest is new")
        return
    if before.spec_digest != after.spec_digest:
        yield Cause(file=after.file, message="the spec changed")
        yield from step_causes(name, after, base, head)
    for wanted in after.inputs:
        old = base.digests.get(name, {}).get(wanted.name)
        new = head.digests.get(name, {}).get(wanted.name)
        if old != new:
            for cause in input_causes(wanted, base, head):
                yield from at_steps(cause, name, head)


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
    return f"the file {how(path in before, path in after)}"


def how(was: bool, remains: bool) -> str:
    if not was:
        return "was added"
    return "changed" if remains else "was removed"


def steps_of(name: str, side: Side) -> list[dict[str, Json]]:
    """Return a workflow's steps, hooks and finally steps as written; none when nobody knows them.

    A step without mounts has those of the workflow's defaults.
    """
    body = side.bodies.get(name)
    if body is None:
        return []
    spec = json.loads(body)["spec"]
    defaults = raw.mapping(spec, "defaults")
    shared: dict[str, Json] = {key: defaults[key] for key in ("mounts", "image") if key in defaults}
    return [{**shared, **step} for _, _, step in raw.steps(spec)]


def step_causes(name: str, after: Declaration, base: Side, head: Side) -> Iterator[Cause]:
    """Yield the steps that differ, where both texts are known."""
    if name not in base.bodies or name not in head.bodies:
        return
    before = {step["name"]: step for step in steps_of(name, base)}
    now = {step["name"]: step for step in steps_of(name, head)}
    for step in [*now, *(gone for gone in before if gone not in now)]:
        if before.get(step) != now.get(step):
            message = f"the step {how(step in before, step in now)}"
            yield Cause(message=message, file=after.file, step=step)


def at_steps(cause: Cause, name: str, head: Side) -> Iterator[Cause]:
    """Yield the cause once for each step that mounts its input; once alone when none does."""
    mounting = [
        step["name"]
        for step in steps_of(name, head)
        if any(mount.get("input") == cause.input for _, mount in raw.entries(step, "mounts"))
    ]
    yield from (replace(cause, step=step) for step in mounting or [None])
