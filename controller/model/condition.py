"""Judged facts about workflows and sources, and the rows that carry them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from controller.model.run import Phase


class Status(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Sync(StrEnum):
    SYNCED = "Synced"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    MISSING = "Missing"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str  # Ready, Reconciling, Stalled, Suspended, Orphaned, Missed; see also sources
    status: Status
    reason: str  # PascalCase
    message: str = ""
    last_transition_time: datetime
    observed_generation: int = 0


MISSED = "Missed"
"""The condition of a workflow whose expected success is overdue."""

SUSPENDED = "Suspended"
"""The condition of what starts nothing by itself; its reason is each of `suspended_by`."""

ORPHANED = "Orphaned"
"""The condition of a workflow that goes on without a manifest: its source says `prune: false`."""


def put(conditions: Iterable[Condition], new: Condition) -> tuple[Condition, ...]:
    """Return `conditions` with `new` in place; its time moves only when the status does."""
    by_type = {condition.type: condition for condition in conditions}
    old = by_type.get(new.type)
    if old is not None and old.status == new.status:
        new = replace(new, last_transition_time=old.last_transition_time)
    return tuple({**by_type, new.type: new}.values())


def drop(conditions: Iterable[Condition], *types: str) -> tuple[Condition, ...]:
    """Return `conditions` without those types: negative ones stand only while they are true."""
    return tuple(condition for condition in conditions if condition.type not in types)


def standing(
    conditions: Iterable[Condition],
    type_: str,
    told: tuple[str, str],
    now: datetime,
    generation: int,
) -> tuple[Condition, ...]:
    """Return `conditions` with one of reason and message `told`, or where both are "" without."""
    reason, message = told
    if not reason:
        return drop(conditions, type_)
    one = Condition(
        type=type_,
        status=Status.TRUE,
        reason=reason,
        message=message,
        last_transition_time=now,
        observed_generation=generation,
    )
    return put(conditions, one)


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type_), None)


def suspended_by(conditions: Iterable[Condition]) -> tuple[str, ...]:
    """Return what suspends it, each apart from the others: Declaration, Command, Failures."""
    found = find(conditions, SUSPENDED)
    return tuple(found.reason.split(AND)) if found is not None else ()


AND = "And"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """Why nothing starts by itself, beside what the manifest says."""

    by: str  # a user's name, "token NAME", or "suspendAfter"
    reason: str = ""
    at: datetime
    until: datetime | None = None  # when it ends by itself

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        until = f", until {self.until:%Y-%m-%dT%H:%M:%SZ}" if self.until else ""
        return f"by {self.by} at {self.at:%Y-%m-%dT%H:%M:%SZ}{until}{reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowStatus:
    """Observed state of one workflow: what was seen of it, counted and judged."""

    source: str
    name: str
    file: str = ""  # of its last valid text, relative to the source's root
    blob: str = ""  # Git's id of that file: finds the last valid spec after a restart
    document: int = 0  # which document of that file
    generation: int = 0  # counts spec digests; 0: never valid
    observed_generation: int = 0
    change: int = 0  # counts spec or input digests
    answered_change: int = 0  # the newest change that has its run, or wanted none
    spec_digest: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests last seen
    revision: str = ""
    suspended: bool = False  # by the manifest or by hand
    suspension: Suspension | None = None  # beside what the manifest says
    retired: bool = False
    valid: bool = True  # of the newest text; the last valid spec keeps working
    conditions: tuple[Condition, ...] = ()
    sync: Sync = Sync.UNKNOWN
    health: Health = Health.UNKNOWN
    last_run: str | None = None
    last_phase: Phase | None = None
    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    failures: int = 0  # runs in a row that failed, since a success or a resumption
    watched_since: datetime | None = None  # when `expectEvery` began to count, or began again
    answered: Mapping[str, datetime] = field(default_factory=dict)  # schedule -> newest slot
    last_keys: Mapping[str, str] = field(default_factory=dict)  # schedule -> of its last success


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A revision of a source that was applied, and what it came to."""

    revision: str
    at: datetime
    workflows: int
    faults: int = 0
    signer: str = ""  # "" when nobody had to sign


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStatus:
    """Observed state of one source."""

    name: str
    kind: str
    location: str  # the URL without credentials, or the folder
    ref: str = ""
    generation: int = 1
    observed_generation: int = 0
    last_attempted_revision: str = ""
    last_applied_revision: str = ""
    suspended: bool = False
    conditions: tuple[Condition, ...] = ()
    sync: Sync = Sync.UNKNOWN
    health: Health = Health.UNKNOWN
    workflows: int = 0
    suspension: Suspension | None = None  # beside what the configuration says
    last_success_at: datetime | None = None
    history: tuple[Applied, ...] = ()  # the newest first, so many as `conditions.HISTORY`


def source_health(status: SourceStatus) -> Health:
    """Return how a source is: one that is suspended is not looked at, whatever it was before."""
    return Health.SUSPENDED if status.suspended else status.health


def message_of(status: WorkflowStatus | SourceStatus, type_: str) -> str:
    """Return the message of a condition; "" where it doesn't stand."""
    found = find(status.conditions, type_)
    return found.message if found is not None else ""
