"""The nouns of a manifest: what a person asked for, checked, before anything has run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeAlias

from controller import digest

Json: TypeAlias = Any
"""A value of JSON: None, bool, int, float, str, list or dict of such."""


class Unset(StrEnum):
    """Tells "no default" from a default of null."""

    UNSET = "UNSET"


UNSET = Unset.UNSET


class ParamType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LIST = "list"
    OBJECT = "object"


class OutputType(StrEnum):
    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


class ConcurrencyPolicy(StrEnum):
    FORBID = "Forbid"
    ALLOW = "Allow"
    REPLACE = "Replace"
    QUEUE = "Queue"


class CatchUp(StrEnum):
    NONE = "None"
    LATEST = "Latest"
    ALL = "All"


class RunPolicy(StrEnum):
    ALWAYS = "Always"
    IF_CHANGED = "IfChanged"  # only when spec, inputs or params differ from the last success


class OnInterrupt(StrEnum):
    FAIL = "Fail"
    RERUN = "Rerun"


class RetryPolicy(StrEnum):
    ON_FAILURE = "OnFailure"
    ON_ERROR = "OnError"
    ALWAYS = "Always"


class CacheMode(StrEnum):
    OFF = "Off"
    AUTO = "Auto"
    REQUIRE = "Require"


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    name: str
    type: ParamType = ParamType.STRING
    enum: tuple[Json, ...] | None = None
    default: Json = UNSET
    description: str = ""

    @property
    def required(self) -> bool:
        return self.default is UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    cron: str  # as written: five fields, six with leading seconds, or a macro
    time_zone: str = "UTC"  # IANA
    name: str | None = None
    jitter: timedelta = timedelta(0)
    params: Mapping[str, Json] = field(default_factory=dict)
    run_policy: RunPolicy = RunPolicy.ALWAYS  # no part of its identity

    @property
    def identity(self) -> str:
        """Its name, else the digest of what makes it fire: a moved schedule stays itself."""
        if self.name:
            return self.name
        return digest.of_value([self.cron, self.time_zone, dict(self.params)])[:23]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChange:
    """Run when the spec or a declared input changes."""

    spec: bool = True
    inputs: bool = True
    cancel_in_progress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Run when a run of another workflow ends in one of `phases`."""

    workflow: str  # of the same source, or an exported `source/name`
    phases: tuple[str, ...] = ("Succeeded",)
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Run when a receiver of the configuration takes a delivery."""

    receiver: str
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """A group whose workflows share a limit of active runs."""

    group: str
    limit: int | None = None  # None: another workflow's, or the configuration's


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How many ended runs are kept. None: as many as the configuration says."""

    successful: int | None = None
    failed: int | None = None
    keep_last_successful: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    name: str
    path: str  # relative to the snapshot's root; a file or a folder
    ignore: tuple[str, ...] = ()  # gitignore patterns, relative to `path`


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    duration: timedelta = timedelta(seconds=10)
    factor: float = 2.0
    max_duration: timedelta = timedelta(minutes=5)
    jitter: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    limit: int = 0  # attempts after the first
    policy: RetryPolicy = RetryPolicy.ON_FAILURE
    exit_codes: tuple[int, ...] | None = None  # None: any
    max_elapsed: timedelta | None = None
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """An input or another step's artifact, placed in the workspace. Exactly one of the two."""

    path: str  # relative to the workspace; absolute needs the dagger executor
    input: str | None = None
    artifact: str | None = None  # "step.artifact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    name: str
    path: str  # starts at workdir
    type: OutputType = OutputType.STRING
    default: Json = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    name: str
    path: str  # starts at workdir; a file or a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretUse:
    """A secret as a step sees it: in the environment variable `name`, or in the file `file`."""

    secret: str
    name: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePolicy:
    mode: CacheMode = CacheMode.OFF
    ttl: timedelta = timedelta(days=7)


class CacheSharing(StrEnum):
    SHARED = "Shared"  # several steps may hold it at once
    PRIVATE = "Private"  # a step that finds it held gets an empty one of its own
    LOCKED = "Locked"  # a step waits until nobody holds it


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheVolume:
    """A folder that outlives its step, kept by key. Not a cached result: see CachePolicy."""

    key: str
    path: str  # relative to the workspace; absolute needs the dagger executor
    sharing: CacheSharing = CacheSharing.SHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A process that runs beside a step, reached by its name. At most one of args and script."""

    name: str
    image: str | None = None
    args: tuple[str, ...] | None = None
    script: str | None = None
    env: Mapping[str, Json] = field(default_factory=dict)
    ready_port: int | None = None  # the step starts when something listens there


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One step, many combinations: the product of `axes` and of a list known later.

    Values may hold expressions. `each` is an expression for a list, one more axis called `item`.
    """

    axes: Mapping[str, Json] = field(default_factory=dict)  # name -> list, or an expression for one
    each: str | None = None  # `from`
    item: str = "item"  # `as`
    include: tuple[Mapping[str, Json], ...] = ()
    exclude: tuple[Mapping[str, Json], ...] = ()
    max_parallel: int | None = None
    fail_fast: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCall:
    """A function of a Dagger module, pinned to a commit."""

    ref: str
    version: str  # 40 hex
    call: str
    args: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCall:
    """Another workflow of the same source, or an exported `source/name`, run as a step."""

    workflow: str
    params: Mapping[str, Json] = field(default_factory=dict)
    body: str = ""  # canonical JSON of the called one, once its caller is pinned


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of the graph. Exactly one of script, args, agent, module, uses says what it does.

    Strings may hold `${{ }}` expressions, except `script`. `needs` holds the declared and the
    implied ones (steps named by an expression or by an artifact mount).
    """

    name: str
    image: str | None = None
    script: str | None = None
    args: tuple[str, ...] | None = None
    agent: str | None = None
    inputs: Mapping[str, Json] | None = None  # an agent's, may hold expressions
    inputs_schema: Mapping[str, Json] | None = None  # the agent's JSON Schema for them
    module: ModuleCall | None = None
    uses: WorkflowCall | None = None
    alert: str | None = None  # of a hook: an alert of the configuration in place of a process
    matrix: Matrix | None = None
    shell: tuple[str, ...] = ("sh", "-eu", "-c")
    env: Mapping[str, Json] = field(default_factory=dict)  # null unsets
    workdir: str | None = None
    user: str | None = None
    needs: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    caches: tuple[CacheVolume, ...] = ()
    services: tuple[Service, ...] = ()
    outputs: tuple[Output, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    secrets: tuple[SecretUse, ...] = ()
    retry: Retry = field(default_factory=Retry)
    timeout: timedelta | None = None  # of one attempt
    when: str | None = None  # "${{ ... }}"
    continue_on_error: bool | tuple[int, ...] = False  # the exit codes that are forgiven
    success_exit_codes: tuple[int, ...] = (0,)
    cache: CachePolicy = field(default_factory=CachePolicy)
    expressive: bool = True  # false: nothing in its manifest is an expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A checked manifest with its workflow-level defaults applied to every step."""

    name: str
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    suspend: bool = False
    when: str | None = None
    params: tuple[Param, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    on_change: OnChange | None = None
    upstreams: tuple[Upstream, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    concurrency: Concurrency | None = None
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    priority: int = 0
    max_parallel: int | None = None  # steps of one run at once
    starting_deadline: timedelta | None = None  # None: 5 minutes with catchUp None, else none
    catch_up: CatchUp = CatchUp.NONE
    max_catch_up: int = 100
    timeout: timedelta = timedelta(hours=1)
    finally_timeout: timedelta = timedelta(minutes=5)
    queue_timeout: timedelta | None = None  # how long a run may wait for its turn
    on_interrupt: OnInterrupt | None = None  # None: Rerun when every step caches, else Fail
    history: History = field(default_factory=History)
    suspend_after: int | None = None  # failed runs in a row
    expect_every: timedelta | None = None  # tell when no success was seen for so long
    inputs: tuple[Input, ...] = ()
    secrets: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    on_success: tuple[Step, ...] = ()
    on_failure: tuple[Step, ...] = ()
    on_cancel: tuple[Step, ...] = ()
    finally_: tuple[Step, ...] = ()

    @property
    def every_step(self) -> tuple[Step, ...]:
        """Steps, hooks and finally steps, in the order of the manifest."""
        return (
            *self.steps,
            *self.on_success,
            *self.on_failure,
            *self.on_cancel,
            *self.finally_,
        )

    def step(self, name: str) -> Step:
        """Return the step, hook or finally step of that name; KeyError when there is none."""
        return {step.name: step for step in self.every_step}[name]
