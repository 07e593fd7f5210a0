"""A workflow's status: what is declared taken in, its numbers counted, written when it differs."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from controller.model.changes import PutWorkflow
from controller.model.condition import (
    MISSED,
    ORPHANED,
    SUSPENDED,
    WorkflowStatus,
    find,
    message_of,
    standing,
)
from controller.model.run import Event
from controller.model.source import Declaration
from controller.model.workflow import OnChange
from controller.reconcile import expectation, suspension
from controller.reconcile.observed import Observed


def sighted(
    before: WorkflowStatus, declaration: Declaration, observed: Observed, now: datetime
) -> WorkflowStatus:
    """Return the status with the declaration taken in: numbers rise with what differs.

    A change that starts no run is answered here; one that is wanted stays unanswered until its run
    is made, which suspension may put off.
    """
    new_spec = before.spec_digest != declaration.spec_digest
    new_inputs = dict(before.inputs) != dict(observed.inputs)
    after = replace(
        before,
        file=declaration.file,
        blob=declaration.blob,
        document=declaration.document,
        generation=before.generation + new_spec,
        change=before.change + (new_spec or new_inputs),
        spec_digest=declaration.spec_digest,
        inputs=dict(observed.inputs),
        revision=observed.revision,
        suspended=suspension.is_suspended(before, declaration),
        retired=False,
        conditions=standing(
            before.conditions, ORPHANED, orphan_words(before, observed), now, before.generation
        ),
    )
    told = suspension.words(suspension.declared_by(declaration), before.suspension)
    noted = standing(after.conditions, SUSPENDED, told, now, after.generation)
    after = replace(after, conditions=noted)
    held_back = before.answered_change < before.change
    if declaration.on_change is None or not (held_back or wants(declaration, before, after)):
        after = replace(after, answered_change=after.change)
    return expectation.watched(before, after, declaration, now)


def orphan_words(before: WorkflowStatus, observed: Observed) -> tuple[str, str]:
    """Return reason and message while no manifest is there any more; two "" while one is."""
    if not observed.orphaned:
        return "", ""
    return "PruneDisabled", (
        f"{before.file} doesn't declare it any more; it goes on as it was, because its"
        " source says `prune: false`"
    )


def wants(declaration: Declaration, before: WorkflowStatus, after: WorkflowStatus) -> bool:
    """Tell whether `onChange` asks for a run of what just changed; a first sighting is both."""
    if before.change == after.change:
        return False
    first = before.generation == 0
    new_spec = first or before.spec_digest != after.spec_digest
    new_inputs = first or dict(before.inputs) != dict(after.inputs)
    return fires(declaration.on_change, new_spec=new_spec, new_inputs=new_inputs)


def fires(trigger: OnChange | None, *, new_spec: bool, new_inputs: bool) -> bool:
    """Tell whether `onChange` asks for a run of such a change."""
    if trigger is None:
        return False
    return (trigger.spec and new_spec) or (trigger.inputs and new_inputs)


def at_rest(declaration: Declaration, observed: Observed) -> bool:
    """Tell whether nothing is declared that isn't in the status already: the usual pass."""
    status = observed.status
    return (
        status is not None
        and observed.fault is None
        and status.valid
        and not status.retired
        and status.observed_generation == status.generation
        and status.answered_change == status.change
        and status.spec_digest == declaration.spec_digest
        and (status.file, status.blob, status.document)
        == (declaration.file, declaration.blob, declaration.document)
        and status.suspended == suspension.is_suspended(status, declaration)
        and suspension.is_told(status, declaration)
        and (status.watched_since is None) == (declaration.expect_every is None)
        and is_orphaned(status) == observed.orphaned
        and dict(status.inputs) == dict(observed.inputs)
    )


def put_if_new(
    before: WorkflowStatus | None, after: WorkflowStatus, now: datetime
) -> Iterator[PutWorkflow]:
    """Write the status only when something but the revision differs: at rest nothing is written."""
    if before is not None and replace(after, revision=before.revision) == before:
        return
    yield PutWorkflow(status=after, event=told(before, after, now))


def told(before: WorkflowStatus | None, after: WorkflowStatus, now: datetime) -> Event | None:
    """Return the event worth keeping, if any."""
    reason, message = words(before, after)
    if not reason:
        return None
    return Event(at=now, reason=reason, source=after.source, workflow=after.name, message=message)


def words(before: WorkflowStatus | None, after: WorkflowStatus) -> tuple[str, str]:
    """Return the event's reason and message: the first of these that is true, or nothing."""
    old = before or WorkflowStatus(source=after.source, name=after.name)
    first = before is None or old.generation == 0 < after.generation
    table = (
        (is_orphaned(after) and not is_orphaned(old), ORPHANED, message_of(after, ORPHANED)),
        (old.valid and not after.valid, "InvalidManifest", message_of(after, "Ready")),
        (first, "WorkflowLoaded", after.file),
        (after.retired and not old.retired, "WorkflowRetired", ""),
        (old.retired and not after.retired, "WorkflowRestored", after.file),
        (is_orphaned(old) and not is_orphaned(after), "WorkflowRestored", after.file),
        (after.generation > old.generation, "SpecChanged", f"generation {after.generation}"),
        (after.change > old.change, "InputsChanged", f"change {after.change}"),
        (after.suspended and not old.suspended, SUSPENDED, message_of(after, SUSPENDED)),
        (old.suspended and not after.suspended, "Resumed", ""),
        (
            message_of(old, SUSPENDED) != message_of(after, SUSPENDED),
            "SuspensionChanged",
            message_of(after, SUSPENDED),
        ),
        (after.valid and not old.valid, "ManifestRepaired", after.file),
        (is_missed(after) and not is_missed(old), "Missed", message_of(after, MISSED)),
        (is_missed(old) and not is_missed(after), "SuccessSeen", ""),
        (old.file != after.file, "ManifestMoved", f"from {old.file} to {after.file}"),
    )
    return next(((reason, message) for true, reason, message in table if true), ("", ""))


def is_orphaned(status: WorkflowStatus) -> bool:
    return find(status.conditions, ORPHANED) is not None


def is_missed(status: WorkflowStatus) -> bool:
    return find(status.conditions, MISSED) is not None
