"""Words to the outside: what alerts tell, and what commits are told of their work."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Occasion(StrEnum):
    """Why an alert is sent. A hook's comes from its manifest, the others from what happened."""

    FAILED = "Failed"
    ERROR = "Error"
    RECOVERED = "Recovered"
    MISSED = "Missed"
    STALLED = "Stalled"
    HOOK = "Hook"


OCCASIONS = tuple(one for one in Occasion if one is not Occasion.HOOK)
"""Those that an alert of the configuration may choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One thing that an alert has to tell, kept until it is told or given up."""

    id: str
    alert: str  # its name in the configuration
    occasion: Occasion
    source: str
    workflow: str = ""  # "": it is about the source
    run: str = ""
    text: str = ""
    at: datetime

    @property
    def subject(self) -> str:
        """Return whom it is about: `source/workflow`, or `source main`."""
        return f"{self.source}/{self.workflow}" if self.workflow else f"source {self.source}"


class CommitState(StrEnum):
    PENDING = "Pending"
    SUCCESS = "Success"
    FAILURE = "Failure"  # the work said no, or the manifest is invalid
    ERROR = "Error"  # Rondel or the engine couldn't
    CANCELLED = "Cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitStatus:
    """What a commit is to be told of one workflow; with workflow "", of its source as a whole."""

    source: str
    commit: str  # 40 hex digits
    workflow: str = ""
    state: CommitState
    text: str = ""
    run: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaid:
    """A commit status that its forge may not know yet; `number` counts its changes."""

    status: CommitStatus
    number: int
    told: str = ""  # what the forge was told last
