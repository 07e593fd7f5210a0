"""What the run engine needs of the world: executors below, ledger, blobs and inputs beside it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from controller import digest
from controller.model.cache import CacheEntry, Scope
from controller.model.changes import Change
from controller.model.run import Run
from controller.model.workflow import CacheSharing, Input, ModuleCall, Workflow


class Ledger(Protocol):
    """Keeps what happened. One call is one transaction, on disk before it returns."""

    async def record(self, *changes: Change) -> tuple[bool, ...]:
        """Write the changes with their events; return which were applied."""
        ...


class Blobs(Protocol):
    """Content named by its sha256, written whole or not at all, verified on read."""

    async def put(self, data: bytes) -> str:
        """Keep `data`; return its digest."""
        ...

    async def put_path(self, path: Path) -> str:
        """Keep a file or a folder (no links out of it); return its digest."""
        ...

    async def get(self, digest: str) -> bytes:
        """Return the bytes. Raises StalledError (BlobDamaged, BlobMissing)."""
        ...

    async def verify(self, digests: Collection[str]) -> None:
        """Read each through. Raises StalledError (BlobDamaged, BlobMissing)."""
        ...

    async def restore(self, digest: str, target: Path) -> None:
        """Write the file or folder of that digest to `target`, which must not exist."""
        ...


class Results(Protocol):
    """Results of steps, kept by their keys. They are written by the ledger's changes."""

    async def look_up(
        self, scopes: Sequence[Scope], keys: Collection[str]
    ) -> Mapping[str, CacheEntry]:
        """Return key -> its result, of the first scope that has one; expired ones too."""
        ...

    async def newest(
        self, scopes: Sequence[Scope], workflow: str, steps: Collection[str]
    ) -> Mapping[str, Sequence[CacheEntry]]:
        """Return step -> the newest results of each of these steps of a workflow."""
        ...


class KeptInputs(Protocol):
    """Remembers which inputs were kept as blobs."""

    async def kept_inputs(self, digests: Collection[str]) -> dict[str, str]:
        """Return digest -> blob of those that are kept."""
        ...


class Inputs(Protocol):
    """Materialises what a run reads from its source."""

    def lasting(self, source: str) -> bool:
        """Tell whether a revision's inputs can be had again later, as Git's can."""
        ...

    async def materialise(self, source: str, revision: str, wanted: Input, target: Path) -> str:
        """Write the input's files below `target`; return the digest of what was written.

        An input that is one file becomes `target` itself being that file.

        Raises:
            StalledError: InputMissing, SourceGone.
            TransientError: SourceUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretValue:
    """A secret as one step sees it; `identity` is "<source>/<secret>@<version>"."""

    identity: str
    value: str
    name: str | None = None  # environment variable
    file: str | None = None  # path, relative to the workspace

    def __repr__(self) -> str:
        return f"SecretValue({self.identity})"


class Secrets(Protocol):
    async def resolve(self, source: str, names: tuple[str, ...]) -> Mapping[str, tuple[str, str]]:
        """Return name -> (identity, value) for what `source` may use.

        Raises:
            StalledError: SecretUnknown, SecretRefused, SecretUnavailable.
        """
        ...


class Output(Protocol):
    """Takes a step's live output; scrubs it and appends it to the attempt's log segment."""

    def write(self, stream: str, data: bytes) -> None:
        """Append raw bytes of `stdout` or `stderr`; lines may be split anywhere."""
        ...

    def note(self, text: str) -> None:
        """Append Rondel's own words about the attempt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A materialised file or folder on this host, to be copied into the workspace at `path`."""

    source: Path
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """A folder that outlives the attempt, at `path` of the workspace."""

    key: str
    path: str  # relative to the workspace; absolute: dagger only
    sharing: CacheSharing = CacheSharing.SHARED
    scope: str = ""  # names source and ref; another scope's folder is another one

    @property
    def identity(self) -> str:
        """Return 64 hex digits that stand for scope and key, the folder's name."""
        return digest.of_value([self.scope, self.key]).removeprefix("sha256:")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRequest:
    """A process beside the step, in an environment and a workspace of its own."""

    name: str
    argv: tuple[str, ...] | None = None  # None: what its image runs; dagger only
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    ready_port: int | None = None  # None: the step doesn't wait for it

    @property
    def host_variable(self) -> str:
        """Return the variable that tells the step where the service is: `my-db`, MY_DB_HOST."""
        return self.name.upper().replace("-", "_") + "_HOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRequest:
    """One step attempt, everything evaluated: what an executor gets."""

    run: str
    step: str
    index: int
    number: int
    nonce: str
    argv: tuple[str, ...]
    module: ModuleCall | None = None  # in place of a command: a function, called with its args
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)  # RONDEL_*: never in a cache key
    secrets: tuple[SecretValue, ...] = ()
    workdir: str = "."
    user: str | None = None  # None: the image's, or who this executor's steps run as
    mounts: tuple[Placement, ...] = ()
    caches: tuple[CacheMount, ...] = ()
    services: tuple[ServiceRequest, ...] = ()
    collect: Mapping[str, str] = field(default_factory=dict)  # path at workdir -> itself, wanted
    inputs: bytes | None = None  # an agent's inputs as JSON: written, named by RONDEL_INPUTS
    cacheable: bool = False  # False: the engine's own cache is defeated for this attempt
    staging: Path  # an empty folder for what is collected; goes with the attempt


class Verdict(StrEnum):
    COMPLETED = "Completed"  # the process ended by itself, see exit_code
    TRANSIENT = "Transient"  # infrastructure: may be tried again by the daemon
    STALLED = "Stalled"  # infrastructure: a person must act


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt returned; `collected` maps each wanted path that exists to its copy here."""

    verdict: Verdict = Verdict.COMPLETED
    exit_code: int | None = None
    reason: str = ""  # PascalCase when not completed: SessionLost, ImageNotFound, LoginFailed
    error: str = ""
    collected: Mapping[str, Path] = field(default_factory=dict)


class Session(Protocol):
    """A run's place to execute. Opened for one run, closed at its end."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions to record with the run: engine, cli, sdk, images by digest."""
        ...

    async def resolve_image(self, image: str) -> str:
        """Return the image's name with its digest; where images aren't used, the text itself.

        Raises:
            TransientError: RegistryUnavailable, SessionLost; the daemon may retry.
            StalledError: ImageNotFound, LoginFailed.
        """
        ...

    async def attempt(self, request: AttemptRequest, output: Output) -> Outcome:
        """Run one attempt to its end.

        A failed step is an Outcome, not an exception. Cancelling the awaiting task ends every
        process of the attempt before control returns.
        """
        ...

    async def close(self) -> None:
        """Release everything; bounded in time, never raises for what is already gone."""
        ...


class Executor(Protocol):
    """Opens sessions. The only doorway to an engine or to this host's processes."""

    @property
    def name(self) -> str:
        """`dagger` or `local`."""
        ...

    @property
    def up(self) -> bool:
        """Whether the last session that was opened could be; True where there is no engine."""
        ...

    def refusal(self, workflow: Workflow) -> tuple[str, str] | None:
        """Return (reason, message) when this executor can't run `workflow`, e.g. NeedsDagger."""
        ...

    async def start(self) -> None:
        """Make ready to open sessions (the keeper, a session ahead of need)."""
        ...

    async def open(self, run: Run, workflow: Workflow) -> Session:
        """Open a session.

        Raises:
            TransientError: EngineUnavailable; the daemon may retry.
            StalledError: a person must act.
        """
        ...

    async def stop(self) -> None:
        """End everything this executor started."""
        ...
