"""What happened: runs, their steps, attempts and events."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controller import digest
from controller.model.workflow import Json

LONGEST_SHOWN = 40  # letters of one value in a label


class Phase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"  # a step said no
    ERROR = "Error"  # Rondel or the engine couldn't
    CANCELLED = "Cancelled"
    INTERRUPTED = "Interrupted"
    SKIPPED = "Skipped"

    @property
    def terminal(self) -> bool:
        return self not in {Phase.PENDING, Phase.RUNNING}

    @property
    def bad(self) -> bool:
        return self in {Phase.FAILED, Phase.ERROR, Phase.CANCELLED, Phase.INTERRUPTED}


FAILURES = frozenset({Phase.FAILED, Phase.ERROR, Phase.INTERRUPTED})
"""Ends that say that something is wrong; a person's cancel doesn't."""


class Trigger(StrEnum):
    SCHEDULE = "Schedule"
    CHANGE = "Change"
    UPSTREAM = "Upstream"
    WEBHOOK = "Webhook"
    MANUAL = "Manual"
    BACKFILL = "Backfill"
    RERUN = "Rerun"


class Section(StrEnum):
    """Where in the manifest a step stands."""

    STEPS = "steps"
    ON_SUCCESS = "onSuccess"
    ON_FAILURE = "onFailure"
    ON_CANCEL = "onCancel"
    FINALLY = "finally"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of one workflow. `id` is derived from what triggered it, so it is the lock."""

    id: str
    source: str
    workflow: str
    trigger: Trigger
    identity: str  # of the trigger: "slot:<schedule>:<time>", "change:<n>", "manual:<key>"
    phase: Phase = Phase.PENDING
    reason: str = ""
    message: str = ""
    revision: str = ""
    spec_digest: str = ""
    generation: int = 0
    change: int = 0
    schedule: str | None = None  # the schedule's identity
    scheduled_time: datetime | None = None  # the slot, in UTC
    time_zone: str = "UTC"  # of run.date
    not_before: datetime | None = None  # slot + jitter, or the end of a back-off
    params: Mapping[str, Json] = field(default_factory=dict)
    priority: int = 0
    fresh: bool = False
    rerun_of: str | None = None
    parent: str | None = None  # the run whose step this one is
    executor: str | None = None
    instance: str | None = None  # who runs it
    group: str | None = None  # the concurrency group in which it holds a place while it is claimed
    spec: str = ""  # canonical JSON {"metadata", "spec"}: pinned; "" in listings
    inputs: Mapping[str, str] = field(default_factory=dict)  # name -> digest, once materialised
    versions: Mapping[str, str] = field(default_factory=dict)  # rondel, engine, cli, images
    outputs: Mapping[str, Json] = field(default_factory=dict)
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def key(self) -> str:
        """What decides its result: two runs of one key do the same."""
        return run_key(self.spec_digest, self.inputs, self.params)

    @property
    def logical_time(self) -> datetime:
        """The slot's time; of an unscheduled run, its creation. In UTC."""
        return self.scheduled_time or self.created_at


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """One step, hook or finally step of a run; a matrix step has one for each combination."""

    run: str
    name: str
    section: Section = Section.STEPS
    index: int = 0  # of the combination
    position: int = 0  # order in the manifest, through all sections
    matrix: Mapping[str, Json] | None = None
    phase: Phase = Phase.PENDING
    reason: str = ""
    exit_code: int | None = None
    attempts: int = 0
    cached: bool = False
    # What the ledger of results said: {"result": "Hit|Miss|Fresh", "key", ...}; {}: not asked.
    cache: Mapping[str, Json] = field(default_factory=dict)
    outputs: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> blob digest
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def label(self) -> str:
        """Its name as people read it: `render[format=html,os=linux]`."""
        return labelled(self.name, self.matrix)


def run_key(spec_digest: str, inputs: Mapping[str, str], params: Mapping[str, Json]) -> str:
    return digest.of_value([spec_digest, dict(inputs), dict(params)])


def labelled(step: str, matrix: Mapping[str, Json] | None) -> str:
    """Return a step's name with the values of its combination, long ones cut."""
    if not matrix:
        return step
    values = ",".join(f"{name}={shown(value)}" for name, value in matrix.items())
    return f"{step}[{values}]"


def shown(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SHOWN else line[: LONGEST_SHOWN - 3] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one step. `nonce` marks its processes."""

    run: str
    step: str
    index: int = 0
    number: int  # from 1, goes on through `retry`
    nonce: str
    phase: Phase = Phase.RUNNING
    reason: str = ""
    exit_code: int | None = None
    error: str = ""
    log: str | None = None  # blob digest of the sealed log
    log_truncated: bool = False
    started_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the append-only history, written with the state it tells of."""

    id: int = 0
    at: datetime
    reason: str  # PascalCase: RunCreated, StepFinished, InvalidManifest
    source: str = ""
    workflow: str = ""
    run: str = ""
    step: str = ""
    message: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)
