"""A place, its files at one moment, that moment's name; and the faults found in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from controller.model.workflow import (
    CatchUp,
    Concurrency,
    ConcurrencyPolicy,
    History,
    Input,
    OnChange,
    Schedule,
    Upstream,
    Webhook,
)


class Entry(NamedTuple):
    """One file of a snapshot, as Git sees it."""

    mode: str  # "100644", "100755"
    blob: str  # Git's blob id, 40 hex; the same for Git and Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing wrong, and what to do about it. Lines and columns count from 1; 0 is unknown."""

    file: str  # relative to the source's root
    line: int = 0
    column: int = 0
    pointer: str = ""  # JSON pointer to the field, "" for the document
    problem: str
    remedy: str = ""
    reason: str = "InvalidManifest"  # of the condition it makes

    def __str__(self) -> str:
        file = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in self.file)
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        where = f"{place}: {self.pointer}" if self.pointer else place
        return f"{where}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Every file of a source at one moment. Paths are relative to its root, with `/`.

    `root` for Git is the repository's root, for a Directory the folder itself. `manifests` is the
    folder (relative, "" for the root) below which manifests are read.
    """

    source: str
    revision: str  # "main@sha1:<40 hex>" or "sha256:<tree digest>"
    entries: Mapping[str, Entry]
    manifests: str = ""
    changed: frozenset[str] | None = None  # paths that differ from the one before; None: unknown
    faults: tuple[Fault, ...] = ()  # of single paths: a link out of the snapshot, a socket
    unreadable: tuple[str, ...] = ()  # folders and files below which nothing counts as removed
    signer: str = ""  # whose signature was checked; "" when none had to be


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the planner needs of a loaded workflow; its steps stay in the parse cache."""

    source: str
    name: str
    file: str  # relative to the source's root
    document: int  # which document of the file, from 0
    blob: str  # Git's id of the file's content; behind a "+" what it was read with, if anything
    spec_digest: str
    suspended: bool = False  # spec.suspend
    schedules: tuple[Schedule, ...] = ()
    on_change: OnChange | None = None
    upstreams: tuple[Upstream, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    inputs: tuple[Input, ...] = ()
    secrets: tuple[str, ...] = ()  # every secret's name that the manifest uses
    agents: tuple[str, ...] = ()  # every agent's name that its steps use
    alerts: tuple[str, ...] = ()  # every alert's name that its hooks send
    calls: tuple[str, ...] = ()  # every workflow that its steps use, as written
    concurrency: Concurrency | None = None
    concurrency_policy: ConcurrencyPolicy = ConcurrencyPolicy.FORBID
    priority: int = 0
    starting_deadline: timedelta | None = None
    catch_up: CatchUp = CatchUp.NONE
    max_catch_up: int = 100
    queue_timeout: timedelta | None = None  # how long a run may wait for its turn
    history: History = field(default_factory=History)
    suspend_after: int | None = None  # failed runs in a row
    expect_every: timedelta | None = None  # tell when no success was seen for so long

    @property
    def key(self) -> tuple[str, str]:
        return (self.source, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """One manifest of a file: its declaration and, as canonical JSON, what a run is pinned to.

    `body` is `{"metadata": {...}, "spec": {...}}` of one valid document; only a Workflow has a
    declaration. Faulty documents have `faults` and neither. `name` is "" when it can't be read.
    """

    kind: str
    name: str
    document: int
    line: int
    declaration: Declaration | None = None
    body: str | None = None
    faults: tuple[Fault, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile:
    """All that one file says: its documents, and the faults that belong to no document."""

    blob: str
    documents: tuple[ParsedDocument, ...] = ()
    faults: tuple[Fault, ...] = ()
    ignored: int = 0  # documents of other kinds of YAML

    @property
    def all_faults(self) -> tuple[Fault, ...]:
        return (*self.faults, *(fault for one in self.documents for fault in one.faults))
