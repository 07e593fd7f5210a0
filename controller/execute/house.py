"""What every run of this process shares."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.clock import Clock
from controller.execute.ports import Blobs, Inputs, KeptInputs, Ledger, Results, Secrets
from controller.execute.slots import Slots
from controller.model.cache import Scope
from controller.model.settings import InfrastructureRetry

LineTold = Callable[[str, str, int, str | None, str], None]
"""Told of each log line: run, step (with its combination in brackets), attempt, stream, text."""

AlertProblem = Callable[[str, str], str | None]
"""Says what is wrong with hooks of a source naming an alert, None when nothing is."""


def no_alert(_: str, name: str) -> str:
    """There are no alerts here."""
    return f"there is no alert {name!r} in the configuration"


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What every run of this process shares."""

    ledger: Ledger
    blobs: Blobs
    inputs: Inputs
    secrets: Secrets
    clock: Clock
    state_dir: Path
    slots: Slots
    log_max_size: int
    infrastructure: InfrastructureRetry
    kept: KeptInputs | None = None  # None: inputs are not kept
    input_max_size: int = 256 << 20  # bytes; a larger input is not kept
    results: Results | None = None  # None: every step runs
    scopes: Callable[[str], Sequence[Scope]]  # a source's own, then those it may read
    cache_scope: Callable[[str], str]  # of a source's cache volumes
    on_line: LineTold | None = None
    alert_problem: AlertProblem = no_alert
