"""The two ends of a pass: what is known of one workflow, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.model.changes import Change
from controller.model.condition import WorkflowStatus
from controller.model.run import Phase, Run
from controller.model.source import Fault

CLOCK_ERROR = timedelta(days=1)
"""What is answered so far ahead was answered by a wrong clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What is known of one workflow at this moment."""

    key: tuple[str, str]  # source, workflow
    status: WorkflowStatus | None
    active: tuple[Run, ...] = ()  # Pending and Running
    inputs: Mapping[str, str] = field(default_factory=dict)  # digests as they are now
    revision: str = ""
    ends: tuple[Run, ...] = ()  # of upstreams' runs, not answered yet
    fault: Fault | None = None  # of its newest text
    orphaned: bool = False  # declared by no manifest any more: see `desired.is_orphaned`
    held: bool = False  # not declared, and yet not known to be gone: see `desired.holds`


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes in the order they are written; then cancels; then sleep until `wake_at`."""

    changes: tuple[Change, ...] = ()
    cancels: tuple[tuple[str, str], ...] = ()  # (run id, reason); repeated until the run has ended
    wake_at: datetime | None = None


def is_waiting(run: Run) -> bool:
    """Tell whether nobody has claimed the run yet."""
    return run.phase is Phase.PENDING and run.instance is None


def is_delayed(run: Run) -> bool:
    """Tell whether the run waits for its own moment, slot + jitter.

    One that was put back (`reason` says why) has been judged before: it holds its place.
    """
    return is_waiting(run) and run.not_before is not None and not run.reason
