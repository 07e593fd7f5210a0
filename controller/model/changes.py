"""State changes: what the planner and the run engine decide and the store writes.

Each is written in one transaction with its event. Every change is safe to repeat: a repeated one
is not applied and says so (`Store.record` returns one bool for each).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from controller.model.cache import CacheEntry
from controller.model.condition import SourceStatus, Suspension, WorkflowStatus
from controller.model.delivery import Delivery
from controller.model.run import Attempt, Event, Phase, Run, StepRun
from controller.model.token import Token
from controller.model.word import CommitStatus, Word
from controller.model.workflow import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSchedule:
    """All slots of a schedule up to `through` (UTC) are dealt with; also its first sighting."""

    source: str
    workflow: str
    schedule: str
    through: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRun:
    """A new run row: Pending, or Skipped with its reason. Not applied when its id exists.

    `steps` are rows that it begins with: results of the run that it runs again. `opens` as in
    `FinishRun`.
    """

    run: Run
    steps: tuple[StepRun, ...] = ()
    opens: tuple[AnswerSchedule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetSchedule:
    source: str
    workflow: str
    schedule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutWorkflow:
    """Replace a workflow's observed state, but for what runs, slots and suspensions leave in it.

    `event` is written with it; None for a mere refresh.
    """

    status: WorkflowStatus
    event: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSuspension:
    """Suspend a workflow, or with None resume it: then its failures are counted anew."""

    source: str
    workflow: str
    suspension: Suspension | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutSource:
    status: SourceStatus
    event: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSource:
    """A source left the configuration: its row goes, its workflows retire, history stays."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRun:
    """A Pending run belongs to `instance` from now on; not applied when it isn't Pending.

    With a `group` it takes a place in it; not applied when `limit` runs that are claimed hold one.
    """

    run: str
    instance: str
    at: datetime
    group: str | None = None
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRun:
    """A claimed run is Running: what it is pinned to is known. Its step rows are created."""

    run: str
    at: datetime
    executor: str
    revision: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepRun, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueRun:
    """A run goes back to Pending under its id, e.g. SourceChanged, or an infrastructure retry."""

    run: str
    reason: str
    message: str = ""
    at: datetime
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRun:
    """An ended run is Pending again as `run` says, its rows as `steps` do; not while it goes on."""

    run: Run
    steps: tuple[StepRun, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepInput:
    """An input's content is kept as a blob, so that a run can be run again as it was."""

    digest: str  # of the input
    blob: str
    size: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """Committed before the process is started. Its step becomes Running."""

    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishAttempt:
    """`attempt` is terminal; its log may follow later by `SealLog`."""

    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class SealLog:
    run: str
    step: str
    index: int
    number: int
    log: str  # blob digest
    size: int
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutStep:
    """Replace a step's row (insert when new); an event is written when its phase is terminal."""

    step: StepRun
    at: datetime
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRun:
    """The run is terminal. Updates the last_* fields of its workflow in the same transaction.

    `opens` are the ends that it opens for the workflows that wait for it, if it is applied.
    """

    run: str
    phase: Phase
    reason: str = ""
    message: str = ""
    outputs: Mapping[str, Json] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)  # as known by now; {}: as they were
    at: datetime
    opens: tuple[AnswerSchedule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEvent:
    event: Event


CacheKey: TypeAlias = tuple[str, str, str]
"""An entry's identity: source, ref, key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutCacheEntry:
    """Keep a step's result; one of the same identity is replaced."""

    entry: CacheEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCacheEntry:
    """A result served a step: it is used last `at`. Written without an event of its own."""

    source: str
    ref: str
    key: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DropCacheEntries:
    """Forget results; the event says how many and why. Not applied when none was there."""

    keys: tuple[CacheKey, ...]
    reason: str  # PascalCase: Removed, Pruned, Damaged
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeDelivery:
    """A webhook was taken, and `runs` runs come of it. Not applied when its id was seen before."""

    delivery: Delivery
    runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PutToken:
    """A token is valid from now on. Not applied when its name is taken."""

    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class DropToken:
    """A token is valid no more. Not applied when there is none of that name."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PutWord:
    """An alert has something to tell. Not applied when it was kept before."""

    word: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class PutTrouble:
    """Something is wrong, and `words` tell of it. Not applied when it is known as it is.

    What is wrong is known by source, workflow ("" for the source itself) and subject: one state
    at a time, until it ends or becomes another.
    """

    source: str
    workflow: str
    subject: str  # runs, slots, success, spec
    state: str
    at: datetime
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTroubles:
    """Nothing is wrong with these subjects (any more), and `words` tell of it.

    Not applied when nothing was.
    """

    source: str
    workflow: str
    subjects: tuple[str, ...]
    words: tuple[Word, ...] = ()


class Unless(StrEnum):
    """What of a commit's workflow keeps a status from being put."""

    NOTHING = ""
    KNOWN = "known"  # the first word on it counts
    UNKNOWN = "unknown"  # a commit that was told nothing of it isn't told now


@dataclass(frozen=True, slots=True, kw_only=True)
class PutCommitStatus:
    """A commit is to be told this. Not applied when it is what it is to be told already."""

    status: CommitStatus
    unless: Unless = Unless.NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class OvertakeCommits:
    """Commits of a source that nobody has looked at yet won't be: `commit` took their place."""

    source: str
    commit: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """A change, and what is written with it if it is applied."""

    change: "Change"
    beside: tuple["Change", ...]


Change: TypeAlias = (
    CreateRun
    | AnswerSchedule
    | ForgetSchedule
    | PutWorkflow
    | PutSuspension
    | PutSource
    | DropSource
    | ClaimRun
    | StartRun
    | RequeueRun
    | RetryRun
    | KeepInput
    | StartAttempt
    | FinishAttempt
    | SealLog
    | PutStep
    | FinishRun
    | RecordEvent
    | PutCacheEntry
    | UseCacheEntry
    | DropCacheEntries
    | TakeDelivery
    | PutToken
    | DropToken
    | PutWord
    | PutTrouble
    | EndTroubles
    | PutCommitStatus
    | OvertakeCommits
    | Together
)
