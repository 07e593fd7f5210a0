"""Judgements about sources and workflows, in Flux's and Argo CD's manners."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from controller.errors import StalledError, TransientError, UnappliedError, UnverifiedError
from controller.model.condition import (
    MISSED,
    ORPHANED,
    SUSPENDED,
    Applied,
    Condition,
    Health,
    SourceStatus,
    Status,
    Suspension,
    Sync,
    WorkflowStatus,
    drop,
    find,
    message_of,
    put,
    standing,
)
from controller.model.run import Event, Phase
from controller.model.source import Fault, Snapshot
from controller.reconcile.desired import Loaded
from controller.reconcile.suspension import words

SHOWN_FAULTS = 3
SHOWN_ORPHANS = 10
VERIFIED = "SourceVerified"
HISTORY = 10  # revisions of a source that are remembered
NOWHERE = {"SourceMissing", "RepositoryNotFound", "RefNotFound"}
"""Reasons of a source that isn't there, as far as anybody can tell."""


def judged(status: WorkflowStatus, fault: Fault | None, now: datetime) -> WorkflowStatus:
    """Return the status with conditions, sync and health that follow from it."""
    status = replace(status, valid=fault is None, observed_generation=status.generation)
    status = replace(status, health=health_of(status))
    if fault is None:
        ready = condition("Ready", Status.TRUE, "Reconciled", "", now, status.generation)
        conditions = put(drop(status.conditions, "Stalled"), ready)
        orphaned = find(conditions, ORPHANED) is not None
        sync = Sync.OUT_OF_SYNC if orphaned else Sync.SYNCED
        return replace(status, conditions=conditions, sync=sync)
    reason = fault.reason
    ready = condition("Ready", Status.FALSE, reason, str(fault), now, status.generation)
    stalled = condition("Stalled", Status.TRUE, reason, str(fault), now, status.generation)
    conditions = put(put(status.conditions, ready), stalled)
    return replace(status, conditions=conditions, sync=Sync.OUT_OF_SYNC)


def health_of(status: WorkflowStatus) -> Health:
    """Return how its work goes, as far as finished runs tell; a view adds Progressing."""
    if status.retired:
        return Health.MISSING
    if status.suspended:
        return Health.SUSPENDED
    if find(status.conditions, MISSED) is not None:
        return Health.DEGRADED
    if status.last_phase is None:
        return Health.UNKNOWN
    return Health.HEALTHY if status.last_phase is Phase.SUCCEEDED else Health.DEGRADED


def applied(
    status: SourceStatus, loaded: Loaded, snapshot: Snapshot, now: datetime
) -> SourceStatus:
    """Return a source's status after a snapshot was loaded."""
    faults = loaded.all_faults
    generation = status.generation
    if faults:
        message = count_words(faults)
        ready = condition("Ready", Status.FALSE, "PartiallyApplied", message, now, generation)
    else:
        message = snapshot.revision + orphan_words(loaded)
        ready = condition("Ready", Status.TRUE, "Applied", message, now, generation)
    one = Applied(
        revision=snapshot.revision,
        at=now,
        workflows=len(loaded.declarations),
        faults=len(faults),
        signer=snapshot.signer,
    )
    return replace(
        status,
        last_attempted_revision=snapshot.revision,
        last_applied_revision=snapshot.revision,
        history=remembered(status.history, one),
        observed_generation=generation,
        conditions=put(
            verified(
                drop(status.conditions, "FetchFailed", "Stalled", "Reconciling"),
                snapshot,
                now,
                generation,
            ),
            ready,
        ),
        sync=Sync.OUT_OF_SYNC if faults or loaded.orphans else Sync.SYNCED,
        health=Health.DEGRADED if faults else Health.HEALTHY,
        workflows=len(loaded.declarations),
        last_success_at=now,
    )


def remembered(history: tuple[Applied, ...], new: Applied) -> tuple[Applied, ...]:
    """Return the history with a revision; one that is applied once more keeps its time."""
    if history and history[0].revision == new.revision:
        return (replace(new, at=history[0].at), *history[1:])
    return (new, *history)[:HISTORY]


def count_words(faults: Sequence[Fault]) -> str:
    """Return how many faults there are, and the first ones."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return f"{count}: " + " | ".join(map(str, faults[:SHOWN_FAULTS]))


def orphan_words(loaded: Loaded) -> str:
    """Return what to add about workflows whose manifests are gone; "" where none is."""
    if not loaded.orphans:
        return ""
    count, shown = len(loaded.orphans), ", ".join(loaded.orphans[:SHOWN_ORPHANS])
    return f" | without a manifest: {shown}" + (", ..." if count > SHOWN_ORPHANS else "")


def verified(
    conditions: tuple[Condition, ...], snapshot: Snapshot, now: datetime, generation: int
) -> tuple[Condition, ...]:
    """Return the conditions with who signed; without, where nobody has to."""
    if not snapshot.signer:
        return drop(conditions, VERIFIED)
    message = f"{snapshot.revision} is signed by {snapshot.signer}"
    one = condition(VERIFIED, Status.TRUE, "Verified", message, now, generation)
    return put(conditions, one)


def failed(
    status: SourceStatus, error: StalledError | TransientError, now: datetime
) -> SourceStatus:
    """Return a source's status after a look of which nothing is applied."""
    if isinstance(error, UnverifiedError):
        return unverified(status, error, now)
    if isinstance(error, UnappliedError):
        return unapplied(status, error, now)
    return fetch_failed(status, error, now)


def unverified(status: SourceStatus, error: StalledError, now: datetime) -> SourceStatus:
    """Return a source's status after a commit whose signature doesn't hold: it isn't applied."""
    told = condition(VERIFIED, Status.FALSE, error.reason, str(error), now, status.generation)
    return unapplied(replace(status, conditions=put(status.conditions, told)), error, now)


def unapplied_words(status: SourceStatus, error: StalledError) -> str:
    """Return why a commit isn't applied, and what works meanwhile."""
    works = status.last_applied_revision
    rest = f"{works} works on" if works else "nothing of this source runs until one is applied"
    return f"{error} | {rest}"


def unapplied(status: SourceStatus, error: StalledError, now: datetime) -> SourceStatus:
    """Return a source's status after a commit that isn't applied; what was loaded works on."""
    conditions = drop(status.conditions, "FetchFailed", "Reconciling")
    message = unapplied_words(status, error)
    for type_, value in (("Ready", Status.FALSE), ("Stalled", Status.TRUE)):
        one = condition(type_, value, error.reason, message, now, status.generation)
        conditions = put(conditions, one)
    return replace(
        status,
        conditions=conditions,
        observed_generation=status.generation,
        sync=Sync.OUT_OF_SYNC,
        health=Health.DEGRADED,
    )


def is_refused(status: SourceStatus) -> bool:
    """Tell whether the revision that was tried last was fetched, and isn't applied."""
    stalled = find(status.conditions, "Stalled")
    fetched = find(status.conditions, "FetchFailed") is None
    tried = status.last_attempted_revision != status.last_applied_revision
    return tried and fetched and stalled is not None and stalled.status is Status.TRUE


def refusal(before: SourceStatus, after: SourceStatus, now: datetime) -> Event | None:
    """Return the event of a revision that isn't applied: one for each, and for each reason."""

    def told(one: SourceStatus) -> tuple[str, str]:
        return one.last_attempted_revision, message_of(one, "Stalled")

    if not is_refused(after) or (is_refused(before) and told(before) == told(after)):
        return None
    revision, why = told(after)
    return Event(at=now, reason="RevisionRefused", source=after.name, message=f"{revision}: {why}")


def suspended(
    status: SourceStatus, suspension: Suspension | None, *, declared: bool, now: datetime
) -> SourceStatus:
    """Return a source's status with who suspends it: the configuration, a person, or both."""
    told = words("the configuration" if declared else "", suspension)
    return replace(
        status,
        suspension=suspension,
        suspended=declared or suspension is not None,
        conditions=standing(status.conditions, SUSPENDED, told, now, status.generation),
    )


def fetch_failed(
    status: SourceStatus, error: StalledError | TransientError, now: datetime
) -> SourceStatus:
    """Return a source's status after a look that failed; what was loaded keeps working."""
    generation, message = status.generation, str(error)
    conditions = status.conditions
    for type_, value in (("FetchFailed", Status.TRUE), ("Ready", Status.FALSE)):
        conditions = put(
            conditions, condition(type_, value, error.reason, message, now, generation)
        )
    if isinstance(error, StalledError):
        stalled = condition("Stalled", Status.TRUE, error.reason, message, now, generation)
        conditions = put(drop(conditions, "Reconciling"), stalled)
    else:
        again = condition(
            "Reconciling", Status.TRUE, "ProgressingWithRetry", message, now, generation
        )
        conditions = put(drop(conditions, "Stalled"), again)
    return replace(
        status,
        conditions=conditions,
        observed_generation=generation,
        sync=Sync.UNKNOWN,
        health=Health.MISSING if error.reason in NOWHERE else Health.DEGRADED,
    )


def condition(  # noqa: PLR0917 - a row of a table
    type_: str, status: Status, reason: str, message: str, now: datetime, generation: int
) -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=now,
        observed_generation=generation,
    )
