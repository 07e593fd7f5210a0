"""Frozen settings: config/rondel.yaml and config/dagger.yaml, checked, every default filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePath

from controller.model.agent import Agent
from controller.model.word import OCCASIONS, Occasion
from controller.model.workflow import Backoff, CachePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxParallel:
    runs: int = 10
    steps: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InfrastructureRetry:
    """How the daemon retries what the user's step is not to blame for."""

    limit: int = 3
    backoff: Backoff = field(
        default_factory=lambda: Backoff(
            duration=timedelta(seconds=5), max_duration=timedelta(minutes=2)
        )
    )
    patterns: tuple[str, ...] = ()  # further error texts (regular expressions) that are transient


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRef:
    """The first of commit, name, semver, tag, branch that is set; none: the remote's HEAD."""

    commit: str | None = None
    name: str | None = None
    semver: str | None = None  # a range; the highest version among the tags
    tag: str | None = None
    branch: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The kinds that are set; the first one counts."""
        kinds = ("commit", "name", "semver", "tag", "branch")
        return tuple(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def text(self) -> str:
        """The ref as configured: `branch:main`; "" for the remote's HEAD."""
        return f"{self.given[0]}:{getattr(self, self.given[0])}" if self.given else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitAuth:
    type: str  # token, basic, ssh
    secret: str
    username: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A certificate chain and its key, as PEM files."""

    cert: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """What must be signed, and the files of the keys that may."""

    mode: str = "HEAD"  # HEAD, Tag, TagAndHEAD
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statuses:
    """Where the commits of a source are told what became of them."""

    type: str  # github, gitlab, gitea
    secret: str
    api: str  # the API's address, without a slash at its end
    repository: str  # as the API names it: owner/name
    target_url: str = ""  # {source}, {workflow}, {run}, {commit} are filled in


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    name: str
    url: str
    ref: GitRef = field(default_factory=GitRef)
    path: str = ""
    ignore: tuple[str, ...] = ()  # gitignore patterns, from the repository's root
    interval: timedelta = timedelta(minutes=1)
    timeout: timedelta = timedelta(seconds=60)
    auth: GitAuth | None = None
    known_hosts: str | None = None
    ca_file: str | None = None
    client_cert: Tls | None = None  # shown to the remote
    verify: Verify | None = None
    proxy: str | None = None
    submodules: bool = False  # their files are part of the source
    lfs: bool = False  # objects of Git LFS stand for their pointers
    statuses: Statuses | None = None
    trusted: bool = False
    exports: bool = False
    prune: bool = True
    allow_empty: bool = False
    atomic: bool = False  # a commit with any fault is not applied
    suspend: bool = False
    read_from: tuple[str, ...] = ()  # sources whose results of steps may serve this one's
    share_caches: str | None = None  # cache volumes are those of every source that says so


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySource:
    name: str
    path: str  # absolute
    ignore: tuple[str, ...] = ()  # gitignore patterns
    interval: timedelta = timedelta(minutes=1)  # of the full rescan, the safety net
    trusted: bool = True
    exports: bool = False
    prune: bool = True
    allow_empty: bool = False
    suspend: bool = False
    read_from: tuple[str, ...] = ()  # sources whose results of steps may serve this one's
    share_caches: str | None = None  # cache volumes are those of every source that says so

    @property
    def ref(self) -> GitRef:
        """No ref: a folder has one state."""
        return GitRef()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRef:
    """Where a secret's value comes from; exactly one of env, file and command."""

    name: str
    env: str | None = None
    file: str | None = None
    command: tuple[str, ...] | None = None
    version: str = ""
    sources: tuple[str, ...] = ()  # which may use it; () is the operator's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A door for webhooks: how they are signed, and whose workflows may name it."""

    name: str
    type: str  # github, gitlab, gitea, generic
    secret: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Somebody who is told of what happens, at the address that a secret holds."""

    name: str
    secret: str
    events: tuple[Occasion, ...] = OCCASIONS
    sources: tuple[str, ...] = ()  # whom it serves; () is told only of sources themselves


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    host: str
    username: str
    secret: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DaggerSettings:
    engines: tuple[str, ...] = ()
    cli: str = "dagger"
    registries: tuple[Registry, ...] = ()
    default_registry: str = "docker.io"
    workflow_timeout: timedelta = timedelta(hours=1)
    retry_limit: int = 0
    cache: CachePolicy = field(default_factory=CachePolicy)
    cache_enabled: bool = True  # the cache of results
    cache_max_size: int = 10 << 30  # bytes of all results
    max_concurrent_runs: int = 10
    agents: Mapping[str, Agent] = field(default_factory=dict)


DaggerConfig = DaggerSettings
"""The exported name of the settings in config/dagger.yaml."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    state_dir: PurePath
    store_url: str = ""  # "" is sqlite in the state directory
    listen: str | None = None  # HOST:PORT of the API's TCP listener
    tls: Tls | None = None
    insecure: bool = False  # a TCP address beyond loopback without TLS
    hosts: tuple[str, ...] = ()  # further names that the TCP listener answers to
    executor: str = "dagger"
    max_parallel: MaxParallel = field(default_factory=MaxParallel)
    shutdown_grace: timedelta = timedelta(seconds=60)
    infrastructure_retry: InfrastructureRetry = field(default_factory=InfrastructureRetry)
    log_max_size: int = 64 << 20  # bytes, per attempt
    input_max_size: int = 256 << 20  # bytes
    local_user: str | None = None
    groups: Mapping[str, int] = field(default_factory=dict)  # concurrency group -> its limit
    sources: tuple[GitSource | DirectorySource, ...] = ()
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    history_successful: int = 10
    history_failed: int = 20
    history_ttl: timedelta = timedelta(days=90)
    dagger: DaggerSettings = field(default_factory=DaggerSettings)
    file: str | None = None  # where it was read, for messages
