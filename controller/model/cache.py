"""Results of steps, kept by what made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from controller.model.workflow import Json

Scope: TypeAlias = tuple[str, str]
"""A source and its configured ref's text ("branch:main"; "" for a Directory and for exec)."""


class CacheResult(StrEnum):
    """What the ledger said to one step of one run."""

    OFF = "Off"  # the step takes no part
    FRESH = "Fresh"  # the run was asked to compute anew
    MISS = "Miss"
    HIT = "Hit"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """The result of a step that succeeded. (`source`, `ref`, `key`) is its identity.

    `parts` is what the key is the digest of, each part by its name, so that two keys can be
    compared in words: "image", "script", "env.REGION", "mounts.src", ...
    """

    source: str
    ref: str  # the configured one's text, "branch:main"; "" for a Directory and for exec
    key: str  # "sha256:..."
    parts: Mapping[str, Json]
    workflow: str
    step: str
    run: str  # that made it
    exit_code: int = 0
    outputs: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> blob digest
    log: str | None = None  # blob digest
    log_truncated: bool = False
    seconds: float = 0.0  # that it took
    size: int = 0  # bytes of its row and its blobs; the store knows
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Which results to forget: those that have expired, or another choice of them."""

    source: str | None = None  # of this one only
    workflow: str | None = None
    unused_for: timedelta | None = None  # those not used for so long, in place of the expired
    everything: bool = False  # all of them, in place of the expired


def origin(entry: CacheEntry) -> Mapping[str, Json]:
    """Return what a step that the entry serves says of it: "run", "step", "madeAt", its log."""
    made = entry.created_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    found: dict[str, Json] = {"run": entry.run, "step": entry.step, "madeAt": made}
    if entry.log is not None:
        found |= {"log": entry.log, "logTruncated": entry.log_truncated}
    return found


def note(told: Mapping[str, Json]) -> str:
    """Return the first line of a replayed log; `told` is the row's `cache`."""
    return f"cached: result of run {told['run']}, step {told['step']}, made at {told['madeAt']}"
