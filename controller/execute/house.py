"""What every run of this process shares."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controller.clock import Clock
from controller.execute.ports import Blobs, Inputs, Ledger, Secrets
from controller.execute.slots import Slots
from controller.model.settings import InfrastructureRetry

LineTold = Callable[[str, str, int, str | None, str], None]
"""Told of each log line: run, step (with its combination in brackets), attempt, stream, text."""


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
    on_line: LineTold | None = None
